package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Bounds on what a person is asked by apps without a browser, so that nobody can wear them down (prompt bombing).
const (
	waitingOfApp  = 2
	waitingInAll  = 5
	askedOfApp    = 10 // in an hour
	askedInAll    = 20
	firstCooldown = 5 * time.Minute // after a refusal; twice as long after each further one within keptRequests
	keptRequests  = 24 * time.Hour
)

// Requests remembers which requests of apps (CIBA) people were shown, and by which apps they do not want to be asked.
type Requests struct {
	db  *db.DB
	now func() time.Time
}

// OpenRequests gives the requests of a database.
func OpenRequests(d *db.DB, now func() time.Time) *Requests {
	if now == nil {
		now = time.Now
	}
	return &Requests{d, now}
}

// AskedOf is a request that a person was shown, for the person to read.
type AskedOf struct {
	ID         string    `json:"id"`
	ClientID   string    `json:"client_id"`
	AskedAt    time.Time `json:"asked_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	AnsweredAt time.Time `json:"answered_at,omitzero"`
	Denied     bool      `json:"denied,omitempty"`
}

// Muted is an app by which a person does not want to be asked.
type Muted struct {
	ClientID string    `json:"client_id"`
	MutedAt  time.Time `json:"muted_at"`
}

// add remembers a request that a person is to be shown, or says why they are not. What it reads, and that it writes a line by record, is
// the same for everybody, also for a person who is not there: the time that it takes must not tell who has an account (account enumeration).
func (q *Requests) add(ctx context.Context, id, userID, clientID string, expires time.Time, record func(ctx context.Context, hidden string)) (hidden string, err error) {
	now := q.now()
	err = q.db.Tx(ctx, func(ctx context.Context) error {
		// One after the other for each person, so that requests at the same moment cannot pass the bounds together.
		n, err := q.db.Exec(ctx, `UPDATE users SET status = status WHERE id = $1 AND status = 'active'`, userID)
		if err != nil {
			return err
		}
		var muted int64
		if err := q.db.QueryRow(ctx, `SELECT COUNT(*) FROM muted_apps WHERE user_id = $1 AND client_id = $2`, userID, clientID).Scan(&muted); err != nil {
			return err
		}
		list, err := q.since(ctx, userID, now.Add(-keptRequests))
		if err != nil {
			return err
		}
		switch hidden = tooMuch(list, clientID, now); {
		case n == 0:
			hidden = "unknown person"
		case muted > 0:
			hidden = "muted by the person"
		}
		record(ctx, hidden)
		if hidden != "" {
			return nil
		}
		_, err = q.db.Exec(ctx, `INSERT INTO login_requests (id, user_id, client_id, asked_at, expires_at, denied) VALUES ($1, $2, $3, $4, $5, FALSE)`,
			id, userID, clientID, db.At(now), db.At(expires))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("add request: %w", err)
	}
	return hidden, nil
}

// tooMuch says why a person who was asked all this should not be asked once more.
func tooMuch(list []AskedOf, clientID string, now time.Time) string {
	var waiting, waitingHere, asked, askedHere, denials int
	var denied time.Time
	for _, one := range list {
		here := one.ClientID == clientID
		if one.AnsweredAt.IsZero() && one.ExpiresAt.After(now) {
			waiting++
			if here {
				waitingHere++
			}
		}
		if now.Sub(one.AskedAt) < time.Hour {
			asked++
			if here {
				askedHere++
			}
		}
		if here && one.Denied {
			denials++
			if one.AnsweredAt.After(denied) {
				denied = one.AnsweredAt
			}
		}
	}
	switch {
	case denials > 0 && now.Sub(denied) < min(firstCooldown<<min(denials-1, 16), keptRequests):
		return "refused by the person a while ago"
	case waiting >= waitingInAll, waitingHere >= waitingOfApp:
		return "too much waits for the person"
	case asked >= askedInAll, askedHere >= askedOfApp:
		return "the person was asked too often"
	}
	return ""
}

func (q *Requests) since(ctx context.Context, userID string, from time.Time) ([]AskedOf, error) {
	list := []AskedOf{}
	err := q.db.Query(ctx, func(row db.Scanner) error {
		var one AskedOf
		var asked, expires, answered db.Time
		err := row.Scan(&one.ID, &one.ClientID, &asked, &expires, &answered, &one.Denied)
		one.AskedAt, one.ExpiresAt, one.AnsweredAt = asked.Time, expires.Time, answered.Time
		list = append(list, one)
		return err
	}, `SELECT id, client_id, asked_at, expires_at, answered_at, denied FROM login_requests WHERE user_id = $1 AND asked_at > $2 ORDER BY asked_at, id`,
		userID, db.At(from))
	if err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	return list, nil
}

// AskedOf lists everything that is kept about requests to a person.
func (q *Requests) AskedOf(ctx context.Context, userID string) ([]AskedOf, error) {
	return q.since(ctx, userID, time.Time{})
}

// Muted lists the apps by which a person does not want to be asked.
func (q *Requests) Muted(ctx context.Context, userID string) ([]Muted, error) {
	list := []Muted{}
	err := q.db.Query(ctx, func(row db.Scanner) error {
		var one Muted
		var at db.Time
		err := row.Scan(&one.ClientID, &at)
		one.MutedAt = at.Time
		list = append(list, one)
		return err
	}, `SELECT client_id, muted_at FROM muted_apps WHERE user_id = $1 ORDER BY client_id`, userID)
	if err != nil {
		return nil, fmt.Errorf("list muted apps: %w", err)
	}
	return list, nil
}

// Purge forgets requests that bound nothing any more.
func (q *Requests) Purge(ctx context.Context) error {
	_, err := q.db.Exec(ctx, `DELETE FROM login_requests WHERE asked_at <= $1`, db.At(q.now().Add(-keptRequests-maxRequestLife)))
	return err
}

// Request is a request of an app that waits for a person's decision.
type Request struct {
	ID        string
	Client    Client
	Message   string
	Scopes    []string
	AskedAt   time.Time
	ExpiresAt time.Time
}

// Requests are those of the server's database.
func (s *Server) Requests() *Requests { return s.requests }

// SetAsked calls f for each request that a person is shown, so that they can be told. f must not keep the client waiting.
func (s *Server) SetAsked(f func(ctx context.Context, user identity.User, client Client)) {
	s.asked = f
}

// requestID is by which a request is known in SQL and on pages: the hash of its code.
func (d *decoupled) requestID() string {
	return strings.TrimSuffix(strings.TrimPrefix(d.key, "decoupled:{"), "}")
}

func requestKey(id string) string { return "decoupled:{" + id + "}" }

// ownRequest gives a request that waits for this person, or db.ErrNotFound.
func (s *Server) ownRequest(ctx context.Context, userID, id string) (*decoupled, error) {
	if !validChallenge(id) {
		return nil, db.ErrNotFound
	}
	d, answered, err := s.loadDecoupled(ctx, requestKey(id))
	if err == nil && (answered || d.Grant != GrantCIBA || d.UserID == "" || d.UserID != userID || d.over(s.Now())) {
		err = db.ErrNotFound
	}
	return d, err
}

// Waiting lists the requests that wait for a person, the oldest first.
func (s *Server) Waiting(ctx context.Context, userID string) ([]Request, error) {
	now := s.Now()
	list, err := s.requests.since(ctx, userID, now.Add(-maxRequestLife))
	if err != nil {
		return nil, err
	}
	var waiting []Request
	for _, one := range list {
		if !one.AnsweredAt.IsZero() || !one.ExpiresAt.After(now) {
			continue
		}
		d, err := s.ownRequest(ctx, userID, one.ID)
		if errors.Is(err, db.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		client, err := s.Clients.Get(ctx, d.ClientID)
		if errors.Is(err, db.ErrNotFound) || err == nil && client.Disabled {
			continue
		}
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, Request{
			ID: one.ID, Client: client, Message: d.Message, Scopes: strings.Fields(d.Form.Get("scope")), AskedAt: d.CreatedAt, ExpiresAt: d.CreatedAt.Add(d.Life),
		})
	}
	return waiting, nil
}

// BeginRequest returns the interaction in which a person decides a request, or db.ErrNotFound for one that does not wait for them.
func (s *Server) BeginRequest(ctx context.Context, userID, id string) (interactionID string, err error) {
	d, err := s.ownRequest(ctx, userID, id)
	if err != nil {
		return "", err
	}
	return s.beginDecoupled(ctx, d.key)
}

// DenyRequest refuses a request. It takes no more than a session.
func (s *Server) DenyRequest(ctx context.Context, sess identity.Session, id string) error {
	d, err := s.ownRequest(ctx, sess.UserID, id)
	if err != nil {
		return err
	}
	if err := s.decide(ctx, d, decoupledAnswer{Denied: true}); err != nil {
		if errors.Is(err, errDecided) {
			return db.ErrNotFound
		}
		return err
	}
	s.recordDecision(ctx, d, &sess, strings.Fields(d.Form.Get("scope")), true)
	return nil
}

// MuteApp has a person not asked by an app any more, and refuses what waits of it. An app that does not exist is db.ErrNotFound.
func (s *Server) MuteApp(ctx context.Context, sess identity.Session, clientID string) error {
	client, err := s.Clients.Get(ctx, clientID)
	if err != nil {
		return err
	}
	err = s.DB.Tx(ctx, func(ctx context.Context) error {
		n, err := s.DB.Exec(ctx, `INSERT INTO muted_apps (user_id, client_id, muted_at) VALUES ($1, $2, $3) ON CONFLICT (user_id, client_id) DO NOTHING`,
			sess.UserID, client.ID, db.At(s.Now()))
		if n == 1 {
			s.Audit.Record(ctx, audit.Event{Action: "request.mute", Outcome: audit.Success, Actor: sess.UserID, UserID: sess.UserID, ClientID: client.ID})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("mute app: %w", err)
	}
	waiting, err := s.Waiting(ctx, sess.UserID)
	for _, one := range waiting {
		if one.Client.ID == client.ID && err == nil {
			if err = s.DenyRequest(ctx, sess, one.ID); errors.Is(err, db.ErrNotFound) {
				err = nil
			}
		}
	}
	return err
}

// UnmuteApp lets an app ask a person again, or reports db.ErrNotFound.
func (s *Server) UnmuteApp(ctx context.Context, sess identity.Session, clientID string) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		err := one(s.DB.Exec(ctx, `DELETE FROM muted_apps WHERE user_id = $1 AND client_id = $2`, sess.UserID, clientID))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "request.unmute", Outcome: audit.Success, Actor: sess.UserID, UserID: sess.UserID, ClientID: clientID})
		}
		return err
	})
}

// MutedApps lists the apps by which a person does not want to be asked.
func (s *Server) MutedApps(ctx context.Context, userID string) ([]Client, error) {
	muted, err := s.requests.Muted(ctx, userID)
	if err != nil {
		return nil, err
	}
	var apps []Client
	for _, m := range muted {
		client, err := s.Clients.Get(ctx, m.ClientID)
		if errors.Is(err, db.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		apps = append(apps, client)
	}
	return apps, nil
}

// decideRequest writes down that a request is answered and leaves the ping for its client, together with put, which lets the client
// fetch the answer. put comes last: should the rest be undone after it, the client still learns the answer by asking.
func (s *Server) decideRequest(ctx context.Context, d *decoupled, denied bool, put func(ctx context.Context) error) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		if _, err := s.DB.Exec(ctx, `UPDATE login_requests SET answered_at = $2, denied = $3 WHERE id = $1 AND answered_at IS NULL`,
			d.requestID(), db.At(s.Now()), denied); err != nil {
			return err
		}
		if len(d.Ping) > 0 && s.Outbox != nil {
			if err := s.Outbox.post(ctx, &delivery{Kind: kindPing, ClientID: d.ClientID, Detail: map[string]any{
				"note": base64.StdEncoding.EncodeToString(d.Ping), "until": d.CreatedAt.Add(2 * d.Life).Unix(),
			}}); err != nil {
				return err
			}
		}
		return put(ctx)
	})
}

// kindPing is the kind of deliveries that tell a client that an answer can be fetched (CIBA §10.2).
const kindPing = "ping"

const purposePing = "ping of a client"

// pingNote is what a ping needs and nobody else may read: it waits sealed.
type pingNote struct {
	AuthReqID string `json:"auth_req_id"`
	Token     string `json:"token"` // proves to the client that it comes from here
}

// ping tells a client that the answer to its request can be fetched. It says nothing of the answer, and nothing is heard of what the
// client says to it.
func (o *Outbox) ping(ctx context.Context, client Client, m *delivery) error {
	until, _ := m.Detail["until"].(float64)
	sealed, _ := m.Detail["note"].(string)
	if client.NotificationEndpoint == "" || o.Now().After(time.Unix(int64(until), 0)) {
		return errNoAddress
	}
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err == nil {
		b, err = o.Seal.Open(b, purposePing)
	}
	var note pingNote
	if err == nil {
		err = json.Unmarshal(b, &note)
	}
	if err != nil {
		return fmt.Errorf("open ping: %w", err)
	}
	body, err := json.Marshal(map[string]string{"auth_req_id": note.AuthReqID})
	if err != nil {
		return err
	}
	return o.send(ctx, client.NotificationEndpoint, "application/json", "Bearer "+note.Token, body, http.StatusOK, http.StatusNoContent)
}
