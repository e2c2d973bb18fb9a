// Package consent remembers what a person allowed which app. Whether an app must ask is not its business.
package consent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// maxList bounds List; nobody allows this many apps by hand.
const maxList = 500

// Store keeps consents, one row for each person and app.
type Store struct {
	db    *db.DB
	audit *audit.Log
	now   func() time.Time
}

// Consent is what a person allowed an app.
type Consent struct {
	ClientID    string
	Scopes      []string // sorted
	TextVersion string   // which wording of the question the person saw last
	GrantedAt   time.Time
	UpdatedAt   time.Time
}

// New gives a Store on d; now may be nil.
func New(d *db.DB, a *audit.Log, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{db: d, audit: a, now: now}
}

// Covers reports whether the person allowed the app all of scopes before. No consent at all covers nothing, not even no
// scopes.
func (s *Store) Covers(ctx context.Context, userID, clientID string, scopes []string) (bool, error) {
	var remembered []string
	err := s.db.Query(ctx, func(row db.Scanner) error { return row.Scan(db.JSON(&remembered)) },
		`SELECT scopes FROM consents WHERE user_id = $1 AND client_id = $2`, userID, clientID)
	if err != nil {
		return false, fmt.Errorf("read consent: %w", err)
	}
	if remembered == nil {
		return false, nil
	}
	for _, scope := range scopes {
		if !slices.Contains(remembered, scope) {
			return false, nil
		}
	}
	return true, nil
}

// Remember adds scopes to what the person allowed the app. Two answers at once add up: the row is claimed by the first
// statement, so the second answer sees the first.
func (s *Store) Remember(ctx context.Context, userID, clientID string, scopes []string, textVersion string) error {
	err := s.db.Tx(ctx, func(ctx context.Context) error {
		now := db.At(s.now())
		union := []string{}
		if err := s.db.QueryRow(ctx, `INSERT INTO consents (user_id, client_id, scopes, text_version, granted_at, updated_at)
			VALUES ($1, $2, '[]', $3, $4, $4)
			ON CONFLICT (user_id, client_id) DO UPDATE SET text_version = excluded.text_version, updated_at = excluded.updated_at
			RETURNING scopes`, userID, clientID, textVersion, now).Scan(db.JSON(&union)); err != nil {
			return err
		}
		union = append(union, scopes...)
		slices.Sort(union)
		union = slices.Compact(union)
		if _, err := s.db.Exec(ctx, `UPDATE consents SET scopes = $3 WHERE user_id = $1 AND client_id = $2`, userID, clientID, db.JSON(&union)); err != nil {
			return err
		}
		s.audit.Record(ctx, audit.Event{Action: "consent.give", Actor: userID, UserID: userID, ClientID: clientID, Detail: map[string]string{"text_version": textVersion}})
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember consent: %w", err)
	}
	return nil
}

// Forget withdraws a person's consent to an app; an absent one is no error.
func (s *Store) Forget(ctx context.Context, userID, clientID string) error {
	err := s.db.Tx(ctx, func(ctx context.Context) error {
		n, err := s.db.Exec(ctx, `DELETE FROM consents WHERE user_id = $1 AND client_id = $2`, userID, clientID)
		if err == nil && n > 0 {
			s.audit.Record(ctx, audit.Event{Action: "consent.withdraw", Actor: userID, UserID: userID, ClientID: clientID})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("forget consent: %w", err)
	}
	return nil
}

// List gives what a person allowed, the newest first.
func (s *Store) List(ctx context.Context, userID string) ([]Consent, error) {
	var list []Consent
	err := s.db.Query(ctx, func(row db.Scanner) error {
		var c Consent
		var granted, updated db.Time
		err := row.Scan(&c.ClientID, db.JSON(&c.Scopes), &c.TextVersion, &granted, &updated)
		c.GrantedAt, c.UpdatedAt = granted.Time, updated.Time
		list = append(list, c)
		return err
	}, `SELECT client_id, scopes, text_version, granted_at, updated_at FROM consents WHERE user_id = $1 ORDER BY granted_at DESC, client_id LIMIT $2`, userID, maxList)
	if err != nil {
		return nil, fmt.Errorf("list consents: %w", err)
	}
	return list, nil
}
