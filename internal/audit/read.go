package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Entry is a row of the log.
type Entry struct {
	ID        string            `json:"id"`
	At        time.Time         `json:"at"`
	Action    string            `json:"action"`
	Outcome   string            `json:"outcome"`
	Actor     string            `json:"actor,omitempty"`
	UserID    string            `json:"user_id,omitempty"`
	ClientID  string            `json:"client_id,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Detail    map[string]string `json:"detail,omitempty"`
	Place     Place             `json:"place,omitzero"` // empty if unknown, or unreadable since an erasure
}

// Position is a place in the log between two rows. The zero Position is the beginning for Rows, the end for Trail.
type Position struct {
	At time.Time
	ID string
}

// Position is right behind e.
func (e Entry) Position() Position { return Position{e.At, e.ID} }

const entryColumns = `id, at, action, outcome, actor, user_id, client_id, request_id, detail, place`

// sealedEntry is an entry whose place is not opened: while rows are read, SQLite and a transaction take no other statement.
type sealedEntry struct {
	Entry
	place []byte
}

func scanEntry(row db.Scanner) (e sealedEntry, err error) {
	var at db.Time
	err = row.Scan(&e.ID, &at, &e.Action, &e.Outcome, &e.Actor, &e.UserID, &e.ClientID, &e.RequestID, db.JSON(&e.Detail), &e.place)
	e.At = at.Time
	return e, err
}

func (l *Log) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	var rows []sealedEntry
	if err := l.db.Query(ctx, func(row db.Scanner) error {
		e, err := scanEntry(row)
		rows = append(rows, e)
		return err
	}, query, args...); err != nil {
		return nil, fmt.Errorf("read audit rows: %w", err)
	}
	list := make([]Entry, len(rows))
	for i, r := range rows {
		r.Place = l.openPlace(ctx, r.ID, r.UserID, r.place)
		list[i] = r.Entry
	}
	return list, nil
}

// Trail lists what concerns a person, the newest first, from before on.
func (l *Log) Trail(ctx context.Context, userID string, before Position, limit int) ([]Entry, error) {
	if before.ID == "" {
		before.At = endOfTime
	}
	return l.entries(ctx, `SELECT `+entryColumns+` FROM audit WHERE user_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4`,
		userID, db.At(before.At), before.ID, limit)
}

// endOfTime is later than any row.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Filter picks rows for Rows; an empty field picks all.
type Filter struct {
	Since, Until     time.Time // from Since on, before Until
	Action, Outcome  string
	UserID, ClientID string
	Newest           bool // the newest first
}

// Rows lists rows, the oldest first unless the filter says otherwise, behind a position.
func (l *Log) Rows(ctx context.Context, f Filter, behind Position, limit int) ([]Entry, error) {
	if f.Since.IsZero() {
		f.Since = time.Unix(0, 0)
	}
	if f.Until.IsZero() {
		f.Until = endOfTime
	}
	order, compare := "at, id", ">"
	if f.Newest {
		order, compare = "at DESC, id DESC", "<"
	}
	if behind.ID == "" {
		behind.At = time.Unix(0, 0)
		if f.Newest {
			behind.At = endOfTime
		}
	}
	return l.entries(ctx, `SELECT `+entryColumns+` FROM audit WHERE at >= $1 AND at < $2 AND (at, id) `+compare+` ($3, $4)
		AND ($5 = '' OR action = $5) AND ($6 = '' OR outcome = $6) AND ($7 = '' OR user_id = $7) AND ($8 = '' OR client_id = $8)
		ORDER BY `+order+` LIMIT $9`,
		db.At(f.Since), db.At(f.Until), db.At(behind.At), behind.ID, f.Action, f.Outcome, f.UserID, f.ClientID, limit)
}
