package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Security events that a receiver may ask for (CAEP 1.0 §3), and the one that shows that its stream works (SSF 1.0 §8.1.4).
const (
	eventSessionRevoked   = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	eventCredentialChange = "https://schemas.openid.net/secevent/caep/event-type/credential-change"
	eventVerification     = "https://schemas.openid.net/secevent/ssf/event-type/verification"
)

var eventsSupported = []string{eventSessionRevoked, eventCredentialChange}

// credentialChange is what an act in the audit log says about a credential (CAEP 1.0 §3.3).
type credentialChange struct{ kind, change, by string }

// credentialChanges are the acts that receivers hear of. Kinds that CAEP does not name are allowed by it.
var credentialChanges = map[string]credentialChange{
	"password.set":        {"password", "update", "user"},
	"password.reset":      {"password", "update", "user"},
	"password.one_time":   {"password", "update", "admin"},
	"totp.enrol":          {"app", "create", "user"},
	"totp.remove":         {"app", "delete", "user"},
	"recovery_code.renew": {"recovery-code", "update", "user"},
	"passkey.add":         {"fido2", "create", "user"},
	"passkey.remove":      {"fido2", "delete", "user"},
	"linked.add":          {"federated", "create", "user"},
	"linked.remove":       {"federated", "delete", "user"},
}

// Heard turns an act in the audit log into security events. It is called in the transaction of the act, so that
// neither happens without the other.
func (o *Outbox) Heard(ctx context.Context, e audit.Event) error {
	c, ok := credentialChanges[e.Action]
	if !ok || e.Outcome != audit.Success || e.UserID == "" {
		return nil
	}
	by := c.by
	if e.Actor == "cli" {
		by = "admin"
	}
	var streams []*stream
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		s, err := scanStream(row)
		streams = append(streams, s)
		return err
	}, `SELECT `+streamColumns+` FROM event_streams WHERE status <> 'disabled' AND (
		EXISTS (SELECT 1 FROM session_apps a WHERE a.user_id = $1 AND a.client_id = event_streams.client_id)
		OR EXISTS (SELECT 1 FROM consents c WHERE c.user_id = $1 AND c.client_id = event_streams.client_id)
		OR EXISTS (SELECT 1 FROM grants g WHERE g.user_id = $1 AND g.client_id = event_streams.client_id AND g.revoked_at IS NULL))`, e.UserID)
	for _, s := range streams {
		if err == nil {
			err = o.emit(ctx, s, &delivery{Kind: eventCredentialChange, Subject: e.UserID, Detail: map[string]any{
				"credential_type": c.kind, "change_type": c.change, "initiating_entity": by,
			}})
		}
	}
	if err != nil {
		return fmt.Errorf("security events: %w", err)
	}
	return nil
}

// emitRevoked tells an app's stream, if it has one, that a session is over.
func (o *Outbox) emitRevoked(ctx context.Context, client Client, userID, sessionID string) error {
	if !client.SecurityEvents {
		return nil
	}
	s, err := o.streamOf(ctx, client.ID)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return o.emit(ctx, s, &delivery{Kind: eventSessionRevoked, Subject: userID, SessionID: sessionID, Detail: map[string]any{}})
}

// emit posts an event to a stream that wants it.
func (o *Outbox) emit(ctx context.Context, s *stream, m *delivery) error {
	client, err := o.Clients.Get(ctx, s.ClientID)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	wanted := m.Kind == eventVerification || slices.Contains(s.Settings.Events, m.Kind)
	if !wanted || s.Status == streamDisabled || !client.SecurityEvents || client.Disabled {
		return nil
	}
	m.ClientID, m.StreamID = s.ClientID, s.ID
	m.Detail["event_timestamp"] = o.Now().Unix()
	if s.Status == streamPaused || s.Settings.Method == methodPoll {
		m.Status = DeliveryHeld
	}
	return o.post(ctx, m)
}

// securityEventToken is the body of a SET (RFC 8417 §2.2, SSF 1.0 §4.1). It has neither sub nor exp, so that it cannot pass for
// another token.
type securityEventToken struct {
	Issuer   string                    `json:"iss"`
	Audience string                    `json:"aud"`
	IssuedAt int64                     `json:"iat"`
	ID       string                    `json:"jti"`
	Subject  map[string]any            `json:"sub_id"`
	Events   map[string]map[string]any `json:"events"`
}

const typSecurityEvent = "secevent+jwt"

func (o *Outbox) securityEvent(ctx context.Context, client Client, m *delivery) (string, error) {
	names, err := o.Clients.registration(ctx, client.ID)
	if err != nil {
		return "", err
	}
	subject := map[string]any{"format": "opaque", "id": m.StreamID}
	if m.Subject != "" {
		subject = map[string]any{"format": "iss_sub", "iss": o.Site.Issuer(), "sub": names.subject(m.Subject)}
	}
	if m.SessionID != "" { // this session; the person alone would mean all of them
		subject = map[string]any{"format": "complex", "user": subject, "session": map[string]any{"format": "opaque", "id": names.session(m.SessionID)}}
	}
	return o.Keys.Sign(ctx, keys.Alg(client.IDTokenAlg), typSecurityEvent, &securityEventToken{
		Issuer: o.Site.Issuer(), Audience: client.ID, IssuedAt: m.MadeAt.Unix(), ID: m.ID, Subject: subject,
		Events: map[string]map[string]any{m.Kind: m.Detail},
	})
}

// push delivers an event by RFC 8935.
func (o *Outbox) push(ctx context.Context, client Client, m *delivery) error {
	s, err := o.stream(ctx, client.ID, m.StreamID)
	if errors.Is(err, db.ErrNotFound) || err == nil && (s.Settings.Method != methodPush || !client.SecurityEvents || client.Disabled) {
		return errNoAddress
	}
	if err != nil {
		return err
	}
	authorization := ""
	if s.secret != nil {
		plain, err := o.Seal.Open(s.secret, streamPurpose(s.ID))
		if err != nil {
			return fmt.Errorf("open the stream's authorization: %w", err)
		}
		authorization = string(plain)
	}
	token, err := o.securityEvent(ctx, client, m)
	if err != nil {
		return err
	}
	return o.send(ctx, s.Settings.Endpoint, "application/secevent+jwt", authorization, []byte(token), http.StatusAccepted, http.StatusOK, http.StatusNoContent)
}

// mostPolled bounds the events of one answer.
const mostPolled = 100

// polled is what a receiver fetches: the events that it has not acknowledged.
func (o *Outbox) polled(ctx context.Context, client Client, s *stream, most int) (sets map[string]string, more bool, err error) {
	sets = map[string]string{}
	if s.Status != streamEnabled || most == 0 {
		return sets, false, nil
	}
	var waiting []*delivery
	err = o.DB.Query(ctx, func(row db.Scanner) error {
		m := &delivery{ClientID: s.ClientID, StreamID: s.ID}
		var made db.Time
		err := row.Scan(&m.ID, &m.Kind, &m.Subject, &m.SessionID, db.JSON(&m.Detail), &made)
		m.MadeAt = made.Time
		waiting = append(waiting, m)
		return err
	}, `SELECT id, kind, subject, session_id, detail, made_at FROM deliveries WHERE stream_id = $1 AND status = 'held' ORDER BY id LIMIT $2`, s.ID, most+1)
	if err != nil {
		return nil, false, fmt.Errorf("read events: %w", err)
	}
	if len(waiting) > most {
		waiting, more = waiting[:most], true
	}
	for _, m := range waiting {
		if sets[m.ID], err = o.securityEvent(ctx, client, m); err != nil {
			return nil, false, err
		}
	}
	return sets, more, nil
}

// acknowledge notes what a receiver has, or ("why") cannot use. Ids of other streams are nothing to it.
func (o *Outbox) acknowledge(ctx context.Context, s *stream, id, why string) error {
	status := DeliveryDelivered
	if why != "" {
		status = DeliveryFailed
	}
	_, err := o.DB.Exec(ctx, `UPDATE deliveries SET status = $3, attempts = attempts + 1, done_at = $4, note = $5 WHERE id = $1 AND stream_id = $2 AND status = 'held'`,
		id, s.ID, status, db.At(o.Now()), why)
	return err
}

// verificationEvery is how often a receiver may ask for a verification event.
const verificationEvery = 30 * time.Second
