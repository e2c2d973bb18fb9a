// Package audit writes down who did what to whom and from where, one row for each security-relevant act, and proves that no row was
// changed or removed. Rows carry ids, never names or secrets, so that they may outlive a person's erasure; what
// they hold of addresses and browsers can be read only as long as the person's own key exists.
package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Outcomes of an act.
const (
	Success = "success"
	Failure = "failure"
)

// Event is one act. Action is a dotted name such as "session.start" or "grant.theft". When, in which request and from where it
// was done is taken from clock and context.
type Event struct {
	Action   string
	Outcome  string // empty: Success
	Actor    string // who acted: user id, client id or "cli"
	UserID   string // whom it concerns
	ClientID string
	Detail   map[string]string // no personal data
}

// Log appends events and reads them.
type Log struct {
	db     *db.DB
	log    *slog.Logger
	now    func() time.Time
	places *places                   // nil: places are not kept
	actor  string                    // of events that name none
	heard  *atomic.Pointer[listener] // shared by the logs that By gives
}

// New gives a Log on d that keeps no places, for whoever has no master key; now may be nil.
func New(d *db.DB, log *slog.Logger, now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	return &Log{db: d, log: log, now: now, heard: new(atomic.Pointer[listener])}
}

// Open gives a Log on a migrated database that also keeps from where each act was done; now may be nil.
func Open(ctx context.Context, d *db.DB, s *seal.Sealer, log *slog.Logger, now func() time.Time) (*Log, error) {
	l := New(d, log, now)
	var err error
	l.places, err = openPlaces(ctx, d, s)
	return l, err
}

// By gives the same log for somebody who acts behind no request, such as "cli": every act in it is theirs, whomever it
// concerns.
func (l *Log) By(actor string) *Log {
	by := *l
	by.actor = actor
	return &by
}

// listener is told of events.
type listener func(ctx context.Context, e Event) error

// Tell has f told of every event that is recorded from now on, in the transaction that the event belongs to.
func (l *Log) Tell(f func(ctx context.Context, e Event) error) {
	told := listener(f)
	l.heard.Store(&told)
}

// maxText bounds each id in a row; some come from requests that were refused.
const maxText = 200

// patience is how long a row may take when its request is over.
const patience = 5 * time.Second

const auditInsert = `INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail, place)`

// Record appends e, by one INSERT that waits for no other. It belongs to the transaction in ctx, if there is one. An act
// that has happened cannot be refused because its row cannot be written; the failure goes to the log, loudly. Hanging up
// right after an act does not keep it out of the log.
func (l *Log) Record(ctx context.Context, e Event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	row, err := l.row(ctx, &e)
	if err == nil {
		_, err = l.db.Exec(ctx, auditInsert+` VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, row...)
	}
	if tell := l.heard.Load(); err == nil && tell != nil {
		if err := (*tell)(ctx, e); err != nil {
			l.log.ErrorContext(ctx, "event not passed on", "action", e.Action, "user_id", e.UserID, "client_id", e.ClientID, "err", err)
		}
	}
	if err != nil {
		l.log.ErrorContext(ctx, "audit row lost", "action", e.Action, "user_id", e.UserID, "client_id", e.ClientID, "err", err)
	}
}

// RecordAll appends many events at once. It reports what Record only logs: an import can be called off.
func (l *Log) RecordAll(ctx context.Context, events []Event) error {
	rows := make([][]any, 0, len(events))
	for _, e := range events {
		row, err := l.row(ctx, &e)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if err := l.db.InsertAll(ctx, auditInsert, rows); err != nil {
		return fmt.Errorf("write audit rows: %w", err)
	}
	return nil
}

// row completes e and gives the columns of auditInsert.
func (l *Log) row(ctx context.Context, e *Event) ([]any, error) {
	if e.Outcome == "" {
		e.Outcome = Success
	}
	if l.actor != "" {
		e.Actor = l.actor
	}
	if e.Detail == nil {
		e.Detail = map[string]string{}
	}
	e.Actor, e.UserID, e.ClientID = clean(e.Actor), clean(e.UserID), clean(e.ClientID)
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	place := l.sealPlace(ctx, id.String(), e.UserID)
	return []any{
		id.String(), db.At(l.now()), e.Action, e.Outcome, e.Actor, e.UserID, e.ClientID, web.RequestID(ctx), db.JSON(&e.Detail), place,
	}, nil
}

// clean makes text of a request storable: Postgres refuses NUL and broken UTF-8, and an attacker must not be able to
// keep his act out of the log by an id that has them.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
