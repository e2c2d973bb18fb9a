package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Outbox remembers which apps each session has let a person into and tells them what they must know of it, above all that it has
// ended. What is to be told is written in the transaction in which it happens, and delivered later, by whichever
// process claims it, until the app has it or the attempts are used up.
type Outbox struct {
	OutboxConfig
	running running
	keySets *keySets // of apps whose messages are encrypted
}

// OutboxConfig is what an Outbox is made of. Site, Keys and Ask are for processes that deliver.
type OutboxConfig struct {
	DB      *db.DB
	Audit   *audit.Log
	Log     *slog.Logger
	Seal    *seal.Sealer
	Clients *Clients
	Grants  *Grants
	Site    web.Site
	Keys    *keys.Ring
	Ask     *outbound.Client
	Now     func() time.Time // nil: time.Now
}

// OpenOutbox gives the outbox of a database.
func OpenOutbox(c OutboxConfig) *Outbox {
	if c.Now == nil {
		c.Now = time.Now
	}
	o := &Outbox{OutboxConfig: c, running: running{busy: map[string]bool{}, pauses: map[string]pause{}}}
	o.keySets = newKeySets(func(ctx context.Context, url string) ([]byte, error) { return fetchKeySet(ctx, c.Ask, url) }, c.Now)
	return o
}

// Kinds of deliveries beside the security events.
const kindLogout = "logout"

// States of a delivery.
const (
	DeliveryWaiting   = "waiting"
	DeliveryHeld      = "held" // until the receiver fetches it
	DeliveryDelivered = "delivered"
	DeliveryFailed    = "failed"
)

// hears reports whether an app wants to know when sessions end.
func (c Client) hears() bool {
	return c.BackchannelLogoutURI != "" || c.FrontchannelLogoutURI != "" || c.SecurityEvents
}

// enter records that a session lets its person into an app. It comes before the app's code can be redeemed, so that whoever
// ends the session meanwhile either finds the app here, or ends the code.
func (o *Outbox) enter(ctx context.Context, client *registration, userID, sessionID string) error {
	if o == nil || !client.hears() {
		return nil
	}
	_, err := o.DB.Exec(ctx, `INSERT INTO session_apps (session_id, client_id, user_id, entered_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (session_id, client_id) DO UPDATE SET entered_at = $4, ended_at = NULL`, sessionID, client.ID, userID, db.At(o.Now()))
	if err != nil {
		return fmt.Errorf("record app of session: %w", err)
	}
	return nil
}

// place is an app in a session.
type place struct{ sessionID, clientID string }

// EndUser ends what was issued to a person in one session, or in all of them if sessionID is empty, and has the apps told. It is
// called in the transaction that ends the session or disables the account.
func (o *Outbox) EndUser(ctx context.Context, userID, sessionID string) error {
	places, err := o.places(ctx, userID, sessionID)
	if err != nil {
		return fmt.Errorf("apps of session: %w", err)
	}
	if err := o.tell(ctx, userID, places); err != nil {
		return err
	}
	return o.Grants.EndUser(ctx, userID, sessionID)
}

// EndDevices ends what a person gave to devices without a browser and has the apps told. It is called in the transaction that ends all of
// the person's sessions but one.
func (o *Outbox) EndDevices(ctx context.Context, userID string) error {
	var list []place
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		var p place
		err := row.Scan(&p.sessionID, &p.clientID)
		list = append(list, p)
		return err
	}, `SELECT session_id, client_id FROM grants WHERE user_id = $1 AND session_id = id AND revoked_at IS NULL`, userID)
	if err != nil {
		return fmt.Errorf("apps of devices: %w", err)
	}
	for _, p := range list {
		if _, err := o.DB.Exec(ctx, `UPDATE session_apps SET ended_at = $3 WHERE session_id = $1 AND client_id = $2`, p.sessionID, p.clientID, db.At(o.Now())); err != nil {
			return fmt.Errorf("apps of devices: %w", err)
		}
	}
	if err := o.tell(ctx, userID, list); err != nil {
		return err
	}
	return o.Grants.EndDevices(ctx, userID)
}

// tell posts to apps that sessions of a person are over.
func (o *Outbox) tell(ctx context.Context, userID string, places []place) error {
	for _, p := range places {
		client, err := o.Clients.Get(ctx, p.clientID)
		if errors.Is(err, db.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if client.BackchannelLogoutURI != "" {
			if err := o.post(ctx, &delivery{Kind: kindLogout, ClientID: client.ID, Subject: userID, SessionID: p.sessionID}); err != nil {
				return err
			}
		}
		if err := o.emitRevoked(ctx, client, userID, p.sessionID); err != nil {
			return err
		}
	}
	return nil
}

// leave tells an app that a person has taken back what they allowed it, and forgets that they used it: from then on it hears nothing
// about them.
func (o *Outbox) leave(ctx context.Context, userID, clientID string) error {
	if o == nil {
		return nil
	}
	var living []place
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		p := place{clientID: clientID}
		var ended db.Time
		err := row.Scan(&p.sessionID, &ended)
		if ended.IsZero() {
			living = append(living, p)
		}
		return err
	}, `DELETE FROM session_apps WHERE user_id = $1 AND client_id = $2 RETURNING session_id, ended_at`, userID, clientID)
	if err != nil {
		return fmt.Errorf("leave app: %w", err)
	}
	return o.tell(ctx, userID, living)
}

// places lists the apps that a session, or any session, of a person let them into and that were not told of its end, and takes
// note that they are. Apps that took to hearing of it later are found by their grants.
func (o *Outbox) places(ctx context.Context, userID, sessionID string) ([]place, error) {
	var list []place
	add := func(row db.Scanner) error {
		var p place
		err := row.Scan(&p.sessionID, &p.clientID)
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
		return err
	}
	if sessionID != "" {
		err := o.DB.Query(ctx, add, `UPDATE session_apps SET ended_at = $3 WHERE session_id = $1 AND user_id = $2 AND ended_at IS NULL
			RETURNING session_id, client_id`, sessionID, userID, db.At(o.Now()))
		if err != nil {
			return nil, err
		}
		return list, o.DB.Query(ctx, add, `SELECT session_id, client_id FROM grants WHERE session_id = $1 AND user_id = $2 AND revoked_at IS NULL`, sessionID, userID)
	}
	err := o.DB.Query(ctx, add, `UPDATE session_apps SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL
		RETURNING session_id, client_id`, userID, db.At(o.Now()))
	if err != nil {
		return nil, err
	}
	return list, o.DB.Query(ctx, add, `SELECT session_id, client_id FROM grants WHERE user_id = $1 AND revoked_at IS NULL AND session_id <> ''`, userID)
}

// delivery is one row: a message to an app.
type delivery struct {
	ID, Kind, ClientID, StreamID string
	Subject, SessionID           string
	Detail                       map[string]any
	Status                       string // empty: waiting
	Attempts                     int64
	MadeAt                       time.Time
}

// post writes a message, in the transaction of ctx if there is one.
func (o *Outbox) post(ctx context.Context, m *delivery) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("delivery id: %w", err)
	}
	if m.Detail == nil {
		m.Detail = map[string]any{}
	}
	if m.Status == "" {
		m.Status = DeliveryWaiting
	}
	m.ID, m.MadeAt = id.String(), o.Now()
	var stream *string
	if m.StreamID != "" {
		stream = &m.StreamID
	}
	_, err = o.DB.Exec(ctx, `INSERT INTO deliveries (id, kind, client_id, stream_id, subject, session_id, detail, status, attempts, made_at, due_at, note)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9, '')`,
		m.ID, m.Kind, m.ClientID, stream, m.Subject, m.SessionID, db.JSON(&m.Detail), m.Status, db.At(m.MadeAt))
	if err != nil {
		return fmt.Errorf("post delivery: %w", err)
	}
	return nil
}

// FrontChannel lists the pages that apps of a living session want loaded where its person signs out, with iss and sid
// (Front-Channel Logout 1.0 §2).
func (o *Outbox) FrontChannel(ctx context.Context, userID, sessionID string) ([]string, error) {
	if o == nil {
		return nil, nil
	}
	var ids []string
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT client_id FROM session_apps WHERE session_id = $1 AND user_id = $2 AND ended_at IS NULL
		UNION SELECT client_id FROM grants WHERE session_id = $1 AND user_id = $2 AND revoked_at IS NULL ORDER BY client_id`, sessionID, userID)
	if err != nil {
		return nil, fmt.Errorf("apps of session: %w", err)
	}
	var pages []string
	for _, id := range ids {
		client, err := o.Clients.registration(ctx, id)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return nil, err
		}
		if err == nil && client.FrontchannelLogoutURI != "" {
			pages = append(pages, withParameters(client.FrontchannelLogoutURI, map[string]string{"iss": o.Site.Issuer(), "sid": client.session(sessionID)}))
		}
	}
	return pages, nil
}

const (
	// keptPlaces is how long after the last sign-in it is known that a person used an app, beyond the session itself.
	keptPlaces = 90 * 24 * time.Hour
	// keptDeliveries is how long messages are kept, for the operator to see what became of them.
	keptDeliveries = 7 * 24 * time.Hour
)

// Purge deletes what is too old: messages, delivered or not, and the memory of sessions that are over.
func (o *Outbox) Purge(ctx context.Context) error {
	now := o.Now()
	_, err := o.DB.Exec(ctx, `DELETE FROM deliveries WHERE made_at <= $1`, db.At(now.Add(-keptDeliveries)))
	_, also := o.DB.Exec(ctx, `DELETE FROM session_apps WHERE entered_at <= $1
		AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.id = session_apps.session_id)`, db.At(now.Add(-keptPlaces)))
	return errors.Join(err, also)
}

// Entered is what is kept about an app that a session let its person into, for the person to read.
type Entered struct {
	SessionID string    `json:"session_id"`
	ClientID  string    `json:"client_id"`
	EnteredAt time.Time `json:"entered_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// Entered lists everything that is kept about the apps a person's sessions let them into.
func (o *Outbox) Entered(ctx context.Context, userID string) ([]Entered, error) {
	list := []Entered{}
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		var one Entered
		var entered, ended db.Time
		err := row.Scan(&one.SessionID, &one.ClientID, &entered, &ended)
		one.EnteredAt, one.EndedAt = entered.Time, ended.Time
		list = append(list, one)
		return err
	}, `SELECT session_id, client_id, entered_at, ended_at FROM session_apps WHERE user_id = $1 ORDER BY entered_at, client_id`, userID)
	return list, err
}

// Delivery is a message to an app as an operator, or the person it is about, sees it.
type Delivery struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // logout, or the name of a security event
	ClientID  string    `json:"client_id"`
	UserID    string    `json:"user_id,omitempty"`
	SessionID string    `json:"session_id,omitempty"`
	Status    string    `json:"status"`
	Attempts  int64     `json:"attempts"`
	MadeAt    time.Time `json:"made_at"`
	DueAt     time.Time `json:"due_at,omitzero"` // next attempt
	DoneAt    time.Time `json:"done_at,omitzero"`
	Note      string    `json:"note,omitempty"` // why the last attempt failed
}

const deliveryColumns = `id, kind, client_id, subject, session_id, status, attempts, made_at, due_at, done_at, note`

func (o *Outbox) list(ctx context.Context, query string, args ...any) ([]Delivery, error) {
	list := []Delivery{}
	err := o.DB.Query(ctx, func(row db.Scanner) error {
		var one Delivery
		var made, due, done db.Time
		err := row.Scan(&one.ID, &one.Kind, &one.ClientID, &one.UserID, &one.SessionID, &one.Status, &one.Attempts, &made, &due, &done, &one.Note)
		one.MadeAt, one.DoneAt = made.Time, done.Time
		if one.Status == DeliveryWaiting {
			one.DueAt = due.Time
		}
		list = append(list, one)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

// List lists messages, the newest first, from the one before the given id on. Empty fields pick all.
func (o *Outbox) List(ctx context.Context, clientID, status, before string, limit int) ([]Delivery, error) {
	if before == "" {
		before = "g" // behind every id
	}
	where, args := `id < $1`, []any{before, limit}
	for column, value := range map[string]string{"client_id": clientID, "status": status} {
		if value != "" {
			args = append(args, value)
			where += fmt.Sprintf(` AND %s = $%d`, column, len(args))
		}
	}
	return o.list(ctx, `SELECT `+deliveryColumns+` FROM deliveries WHERE `+where+` ORDER BY id DESC LIMIT $2`, args...)
}

// About lists every message that speaks of a person.
func (o *Outbox) About(ctx context.Context, userID string) ([]Delivery, error) {
	return o.list(ctx, `SELECT `+deliveryColumns+` FROM deliveries WHERE subject = $1 ORDER BY id`, userID)
}

// Retry gives the messages that were given up, to one app or ("") to all, another round of attempts, and returns how many.
func (o *Outbox) Retry(ctx context.Context, clientID string) (int64, error) {
	where, args := `status = 'failed'`, []any{db.At(o.Now())}
	if clientID != "" {
		where, args = where+` AND client_id = $2`, append(args, clientID)
	}
	return o.DB.Exec(ctx, `UPDATE deliveries SET status = 'waiting', attempts = 0, due_at = $1, done_at = NULL WHERE `+where, args...)
}

// running is what this process is delivering.
type running struct {
	hands  sync.WaitGroup
	mu     sync.Mutex
	busy   map[string]bool  // clients that are being served
	pauses map[string]pause // clients that did not answer
}

// pause is how long an app that did not answer is left alone by this process.
type pause struct {
	failures int
	until    time.Time
}
