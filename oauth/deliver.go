package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/keys"
)

const (
	// maxAttempts and the waits between them span half a day.
	maxAttempts = 12
	firstWait   = 5 * time.Second
	longestWait = 4 * time.Hour

	// clientsAtOnce are served by one process, each by one hand, so that a slow one holds up nobody else.
	clientsAtOnce = 16
	batch         = 20
	// round is how long one hand serves one client before the others get a turn.
	round = 20 * time.Second
	// claimLife outlives a round and the attempt at its end; when it is over, somebody else may take the message up.
	claimLife = 2 * time.Minute
	// answerTime bounds an attempt.
	answerTime = 5 * time.Second
	// longestPause bounds how long an app that is down is left alone by a process.
	longestPause = time.Minute
)

// Deliver sets off the delivery of what is due and returns; serve calls it each second. Of several processes each message is
// claimed by one.
func (o *Outbox) Deliver(ctx context.Context) error {
	now := o.Now()
	var due []string
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		due = append(due, id)
		return err
	}, `SELECT client_id FROM deliveries WHERE status = 'waiting' AND due_at <= $1 GROUP BY client_id ORDER BY MIN(due_at) LIMIT 1000`, db.At(now))
	if err != nil {
		return fmt.Errorf("look for deliveries: %w", err)
	}
	for _, id := range due {
		if !o.running.take(id, now) {
			continue
		}
		o.running.hands.Go(func() {
			down, err := o.serve(ctx, id)
			if err != nil && ctx.Err() == nil {
				o.Log.ErrorContext(ctx, "delivery failed", "client_id", id, "err", err)
			}
			o.running.leave(id, down, o.Now())
		})
	}
	return nil
}

// Wait returns when nothing is being delivered by this process.
func (o *Outbox) Wait() { o.running.hands.Wait() }

// take reserves a client for one hand, if one is free and the client is neither served nor left alone.
func (r *running) take(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[id] || len(r.busy) >= clientsAtOnce || now.Before(r.pauses[id].until) {
		return false
	}
	r.busy[id] = true
	return true
}

func (r *running) leave(id string, down bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, id)
	if !down {
		delete(r.pauses, id)
		return
	}
	p := r.pauses[id]
	p.failures++
	p.until = now.Add(min(time.Second<<min(p.failures, 10), longestPause))
	r.pauses[id] = p
}

// serve delivers what is due to one client, for a round. down says that the client does not answer.
func (o *Outbox) serve(ctx context.Context, clientID string) (down bool, err error) {
	end := o.Now().Add(round)
	for {
		claimed, err := o.claim(ctx, clientID)
		if err != nil || len(claimed) == 0 {
			return false, err
		}
		for i, m := range claimed {
			failure := o.attempt(ctx, m)
			if ctx.Err() != nil { // the server is stopping
				return false, o.putBack(context.WithoutCancel(ctx), claimed[i:])
			}
			if err := o.settle(ctx, m, failure); err != nil {
				return false, err
			}
			if down = unreachable(failure); down || !o.Now().Before(end) {
				return down, o.putBack(ctx, claimed[i+1:])
			}
		}
	}
}

// claim takes some messages to a client that are due, each for this caller alone until claimLife has passed.
func (o *Outbox) claim(ctx context.Context, clientID string) ([]*delivery, error) {
	now := o.Now()
	var claimed []*delivery
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		m := &delivery{ClientID: clientID}
		var stream *string
		var made db.Time
		err := row.Scan(&m.ID, &m.Kind, &stream, &m.Subject, &m.SessionID, db.JSON(&m.Detail), &m.Attempts, &made)
		if stream != nil {
			m.StreamID = *stream
		}
		m.MadeAt = made.Time
		claimed = append(claimed, m)
		return err
	}, `UPDATE deliveries SET attempts = attempts + 1, due_at = $3
		WHERE id IN (SELECT id FROM deliveries WHERE client_id = $1 AND status = 'waiting' AND due_at <= $2 ORDER BY due_at LIMIT $4)
		AND status = 'waiting' AND due_at <= $2
		RETURNING id, kind, stream_id, subject, session_id, detail, attempts, made_at`, // the last line once more: who waited for another's claim finds it taken
		clientID, db.At(now), db.At(now.Add(claimLife)), batch)
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	return claimed, nil
}

// putBack returns claimed messages untried.
func (o *Outbox) putBack(ctx context.Context, claimed []*delivery) error {
	for _, m := range claimed {
		if _, err := o.DB.Exec(ctx, `UPDATE deliveries SET attempts = attempts - 1, due_at = $2 WHERE id = $1 AND status = 'waiting' AND attempts = $3`,
			m.ID, db.At(o.Now()), m.Attempts); err != nil {
			return fmt.Errorf("put back delivery: %w", err)
		}
	}
	return nil
}

// settle writes down what came of an attempt.
func (o *Outbox) settle(ctx context.Context, m *delivery, failure error) error {
	now := o.Now()
	status, due, note := DeliveryDelivered, now, ""
	if failure != nil {
		note = reason(failure)
		status, due = DeliveryWaiting, now.Add(wait(m.Attempts))
		if m.Attempts >= maxAttempts || errors.Is(failure, errNoAddress) {
			status = DeliveryFailed
		}
		o.Log.InfoContext(ctx, "app not told", "kind", m.Kind, "client_id", m.ClientID, "delivery", m.ID, "attempts", m.Attempts, "reason", note, "given_up", status == DeliveryFailed)
	}
	var done time.Time
	if status != DeliveryWaiting {
		done = now
	}
	return o.DB.Tx(ctx, func(ctx context.Context) error {
		n, err := o.DB.Exec(ctx, `UPDATE deliveries SET status = $2, due_at = $3, done_at = $4, note = $5 WHERE id = $1 AND status = 'waiting'`,
			m.ID, status, db.At(due), db.At(done), note)
		if err != nil {
			return fmt.Errorf("settle delivery: %w", err)
		}
		if n == 1 && status != DeliveryWaiting && m.Subject != "" {
			e := audit.Event{Action: "delivery.logout", UserID: m.Subject, ClientID: m.ClientID}
			if m.Kind != kindLogout {
				e = audit.Event{Action: "delivery.event", UserID: m.Subject, ClientID: m.ClientID}
			}
			e.Detail = map[string]string{"kind": m.Kind, "delivery": m.ID, "attempts": fmt.Sprint(m.Attempts)}
			if status == DeliveryFailed {
				e.Outcome, e.Detail["reason"] = audit.Failure, note
			}
			o.Audit.Record(ctx, e)
		}
		return nil
	})
}

// wait is the time until the next attempt: three times as long each time, up to longestWait, and shortened by up to half at
// random, so that what failed together does not come back together.
func wait(attempts int64) time.Duration {
	d := longestWait
	if attempts <= 8 {
		d = firstWait
		for range attempts - 1 {
			d *= 3
		}
		d = min(d, longestWait)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, guards nothing
}

// statusError is an answer that says no.
type statusError int

// Error implements error.
func (e statusError) Error() string { return fmt.Sprintf("the app answered %d", int(e)) }

// errNoAddress says that the app does not want to be told any more.
var errNoAddress = errors.New("the app has no address for this any more")

// unreachable reports whether a failure concerns the app as a whole, so that trying the next message now is of no use.
func unreachable(failure error) bool {
	var status statusError
	if errors.As(failure, &status) {
		return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
	}
	return failure != nil && !errors.Is(failure, errNoAddress)
}

// reason puts a failure into words that hold no address: they are shown to operators.
func reason(failure error) string {
	var status statusError
	var slow net.Error
	switch {
	case errors.Is(failure, errNoRecipient):
		return errNoRecipient.Error()
	case errors.Is(failure, errKeysNotThere):
		return errKeysNotThere.Error()
	case errors.As(failure, &status), errors.Is(failure, errNoAddress):
		return failure.Error()
	case errors.Is(failure, outbound.ErrAddress):
		return "the address is not public (GATEHOUSE_OUTBOUND_NETWORKS allows more)"
	case errors.Is(failure, outbound.ErrURL):
		return "the address needs https"
	case errors.Is(failure, outbound.ErrRedirect):
		return "the app answered with a redirect"
	case errors.As(failure, &slow) && slow.Timeout():
		return "no answer in time"
	}
	return "no connection"
}

// attempt makes one attempt to deliver a message.
func (o *Outbox) attempt(ctx context.Context, m *delivery) error {
	client, err := o.Clients.Get(ctx, m.ClientID)
	if errors.Is(err, db.ErrNotFound) {
		return errNoAddress
	}
	if err != nil {
		return err
	}
	if m.Kind == kindPing {
		return o.ping(ctx, client, m)
	}
	if m.Kind != kindLogout {
		return o.push(ctx, client, m)
	}
	if client.BackchannelLogoutURI == "" {
		return errNoAddress
	}
	token, err := o.logoutToken(ctx, client, m)
	if err != nil {
		return err
	}
	body := url.Values{"logout_token": {token}}.Encode()
	return o.send(ctx, client.BackchannelLogoutURI, "application/x-www-form-urlencoded", "", []byte(body), http.StatusOK, http.StatusNoContent)
}

// logoutClaims is the body of a logout token (Back-Channel Logout 1.0 §2.4). It never has a nonce, so that it cannot pass for an
// ID token.
type logoutClaims struct {
	Issuer   string              `json:"iss"`
	Subject  string              `json:"sub"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Session  string              `json:"sid,omitempty"`
	Events   map[string]struct{} `json:"events"`
}

const (
	typLogoutToken = "logout+jwt"
	eventLogout    = "http://schemas.openid.net/event/backchannel-logout"
	// logoutTokenLife is what §2.4 recommends. Each attempt has a fresh token with the same jti.
	logoutTokenLife = 2 * time.Minute
)

func (o *Outbox) logoutToken(ctx context.Context, client Client, m *delivery) (string, error) {
	now := o.Now()
	names, err := o.Clients.registration(ctx, client.ID)
	if err != nil {
		return "", err
	}
	token, err := o.Keys.Sign(ctx, keys.Alg(client.IDTokenAlg), typLogoutToken, &logoutClaims{
		Issuer: o.Site.Issuer(), Subject: names.subject(m.Subject), Audience: client.ID, IssuedAt: now.Unix(), Expires: now.Add(logoutTokenLife).Unix(), ID: m.ID,
		Session: names.session(m.SessionID), Events: map[string]struct{}{eventLogout: {}},
	})
	if err != nil {
		return "", err
	}
	return names.nested(ctx, o.keySets, names.IDTokenKeyAlg, names.IDTokenEnc, token) // as ID tokens are (§2.4)
}

// send posts a message to an app's address, which the guarded client holds to public networks (server-side request forgery).
func (o *Outbox) send(ctx context.Context, address, mediaType, authorization string, body []byte, good ...int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", outbound.ErrURL, err)
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := o.Ask.HTTP().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // for the connection's next use; what it says does not matter
	for _, status := range good {
		if resp.StatusCode == status {
			return nil
		}
	}
	return statusError(resp.StatusCode)
}
