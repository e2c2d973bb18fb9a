package oauth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Ways of delivery (SSF 1.0 §6).
const (
	methodPush = "urn:ietf:rfc:8935"
	methodPoll = "urn:ietf:rfc:8936"
)

// States of a stream.
const (
	streamEnabled  = "enabled"
	streamPaused   = "paused"
	streamDisabled = "disabled"
)

// stream is where and how an app receives security events. Each app has one at most.
type stream struct {
	ID, ClientID   string
	Settings       streamSettings
	Status, Reason string
	secret         []byte // sealed
}

// streamSettings are the receiver's choices.
type streamSettings struct {
	Events      []string `json:"events"` // asked for and supported
	Requested   []string `json:"requested"`
	Method      string   `json:"method"`
	Endpoint    string   `json:"endpoint,omitempty"` // for pushes
	Description string   `json:"description,omitempty"`
}

func streamPurpose(id string) string { return "event-stream:" + id }

const streamColumns = `id, client_id, settings, secret, status, reason`

func scanStream(row db.Scanner) (*stream, error) {
	s := &stream{}
	err := row.Scan(&s.ID, &s.ClientID, db.JSON(&s.Settings), &s.secret, &s.Status, &s.Reason)
	return s, err
}

// stream reads a client's stream; that of another client is db.ErrNotFound.
func (o *Outbox) stream(ctx context.Context, clientID, id string) (*stream, error) {
	return scanStream(o.DB.QueryRow(ctx, `SELECT `+streamColumns+` FROM event_streams WHERE id = $1 AND client_id = $2`, id, clientID))
}

// streamOf reads the stream of a client.
func (o *Outbox) streamOf(ctx context.Context, clientID string) (*stream, error) {
	return scanStream(o.DB.QueryRow(ctx, `SELECT `+streamColumns+` FROM event_streams WHERE client_id = $1`, clientID))
}

// createStream makes a client's stream, or reports db.ErrConflict if it has one.
func (o *Outbox) createStream(ctx context.Context, clientID string, settings streamSettings, authorization string) (*stream, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("stream id: %w", err)
	}
	s := &stream{ID: id.String(), ClientID: clientID, Settings: settings, Status: streamEnabled}
	s.seal(o, authorization)
	now := db.At(o.Now())
	_, err = o.DB.Exec(ctx, `INSERT INTO event_streams (id, client_id, settings, secret, status, reason, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, '', $6, $6)`,
		s.ID, clientID, db.JSON(&s.Settings), s.secret, s.Status, now)
	return s, err
}

func (s *stream) seal(o *Outbox, authorization string) {
	s.secret = nil
	if authorization != "" {
		s.secret = o.Seal.Seal([]byte(authorization), streamPurpose(s.ID))
	}
}

// updateStream writes a stream, and lets what waits in it follow its state: to be pushed, to be fetched, or not at all.
func (o *Outbox) updateStream(ctx context.Context, s *stream) error {
	now := db.At(o.Now())
	return o.DB.Tx(ctx, func(ctx context.Context) error {
		if err := one(o.DB.Exec(ctx, `UPDATE event_streams SET settings = $3, secret = $4, status = $5, reason = $6, updated_at = $7 WHERE id = $1 AND client_id = $2`,
			s.ID, s.ClientID, db.JSON(&s.Settings), s.secret, s.Status, s.Reason, now)); err != nil {
			return err
		}
		var err error
		switch {
		case s.Status == streamDisabled: // SSF 1.0 §8.1.2: nothing is kept for it
			_, err = o.DB.Exec(ctx, `UPDATE deliveries SET status = 'failed', done_at = $2, note = 'the receiver has disabled its stream'
				WHERE stream_id = $1 AND status IN ('waiting', 'held')`, s.ID, now)
		case s.Status == streamEnabled && s.Settings.Method == methodPush:
			_, err = o.DB.Exec(ctx, `UPDATE deliveries SET status = 'waiting', due_at = $2 WHERE stream_id = $1 AND status = 'held'`, s.ID, now)
		default:
			_, err = o.DB.Exec(ctx, `UPDATE deliveries SET status = 'held' WHERE stream_id = $1 AND status = 'waiting'`, s.ID)
		}
		return err
	})
}

// deleteStream removes a client's stream with what waits in it.
func (o *Outbox) deleteStream(ctx context.Context, clientID, id string) error {
	return one(o.DB.Exec(ctx, `DELETE FROM event_streams WHERE id = $1 AND client_id = $2`, id, clientID))
}

// verify sends a verification event, with the receiver's state, unless it asked for one a moment ago: then it says how long to wait.
func (o *Outbox) verify(ctx context.Context, s *stream, state string) (wait time.Duration, err error) {
	now := o.Now()
	err = o.DB.Tx(ctx, func(ctx context.Context) error {
		n, err := o.DB.Exec(ctx, `UPDATE event_streams SET asked_at = $2 WHERE id = $1 AND (asked_at IS NULL OR asked_at <= $3)`, s.ID, db.At(now), db.At(now.Add(-verificationEvery)))
		if err != nil || n == 0 {
			wait = verificationEvery
			return err
		}
		wait = 0
		detail := map[string]any{}
		if state != "" {
			detail["state"] = state
		}
		return o.emit(ctx, s, &delivery{Kind: eventVerification, Detail: detail})
	})
	return wait, err
}

// configuration is a stream as the receiver sees it (SSF 1.0 §8.1.1).
type configuration struct {
	ID          string       `json:"stream_id,omitempty"`
	Issuer      string       `json:"iss,omitempty"`
	Audience    audience     `json:"aud,omitempty"`
	Supported   []string     `json:"events_supported,omitempty"`
	Requested   []string     `json:"events_requested,omitempty"`
	Delivered   []string     `json:"events_delivered,omitempty"`
	Delivery    *deliveryWay `json:"delivery,omitempty"`
	MinInterval int          `json:"min_verification_interval,omitempty"`
	Description string       `json:"description,omitempty"`
}

type deliveryWay struct {
	Method        string `json:"method"`
	Endpoint      string `json:"endpoint_url,omitempty"`
	Authorization string `json:"authorization_header,omitempty"`
}

func (o *Outbox) configuration(s *stream) configuration {
	way := &deliveryWay{Method: s.Settings.Method, Endpoint: s.Settings.Endpoint}
	if way.Method == methodPoll {
		way.Endpoint = o.Site.URL("/ssf/poll/" + s.ID)
	}
	return configuration{
		ID: s.ID, Issuer: o.Site.Issuer(), Audience: audience{s.ClientID}, Supported: eventsSupported, Requested: s.Settings.Requested,
		Delivered: s.Settings.Events, Delivery: way, MinInterval: int(verificationEvery.Seconds()), Description: s.Settings.Description,
	}
}

const (
	maxRequested   = 50
	maxStreamText  = 200
	maxHeaderValue = 1024
)

// apply takes over what a receiver asks for; with all, what it leaves out goes back to the beginning. It returns the Authorization header for pushes;
// keep says that the one before stays.
func (s *streamSettings) apply(c configuration, all bool) (authorization string, keep bool, err error) {
	bad := func(text string) (string, bool, error) { return "", false, newError("invalid_request", text) }
	if c.Requested != nil || all {
		if len(c.Requested) > maxRequested {
			return bad("There are too many events_requested.")
		}
		s.Requested, s.Events = c.Requested, []string{}
		for _, e := range eventsSupported {
			if slices.Contains(c.Requested, e) {
				s.Events = append(s.Events, e)
			}
		}
	}
	if c.Description != "" || all {
		if len(c.Description) > maxStreamText || !printable(c.Description) {
			return bad("The description is not text of at most 200 bytes.")
		}
		s.Description = c.Description
	}
	switch {
	case c.Delivery == nil && !all:
		return "", true, nil
	case c.Delivery == nil: // SSF 1.0 §8.1.1.1: polling is assumed
		s.Method, s.Endpoint = methodPoll, ""
		return "", false, nil
	case c.Delivery.Method == methodPoll:
		s.Method, s.Endpoint = methodPoll, ""
		return "", false, nil
	case c.Delivery.Method != methodPush:
		return bad("The delivery method must be urn:ietf:rfc:8935 or urn:ietf:rfc:8936.")
	case !webURL(c.Delivery.Endpoint) || strings.ContainsAny(c.Delivery.Endpoint, "#\\ "):
		return bad("The endpoint_url must be an https URL.")
	case len(c.Delivery.Authorization) > maxHeaderValue || strings.ContainsFunc(c.Delivery.Authorization, func(r rune) bool { return r < ' ' || r > '~' }):
		return bad("The authorization_header is not a header.")
	}
	s.Method, s.Endpoint = methodPush, c.Delivery.Endpoint
	return c.Delivery.Authorization, false, nil
}
