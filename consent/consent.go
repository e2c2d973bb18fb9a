// Package consent remembers what a person allowed which app. It does not decide whether an app must ask.
package consent

import (
	"context"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

type Store struct{}

type Consent struct {
	ClientID             string
	Scopes               []string
	TextVersion          string
	GrantedAt, UpdatedAt time.Time
}

func New(d *db.DB, a *audit.Log, now func() time.Time) *Store { panic("soon") }
func (s *Store) Covers(ctx context.Context, userID, clientID string, scopes []string) (bool, error) {
	panic("soon")
}
func (s *Store) Remember(ctx context.Context, userID, clientID string, scopes []string, textVersion string) error {
	panic("soon")
}
func (s *Store) Forget(ctx context.Context, userID, clientID string) error  { panic("soon") }
func (s *Store) List(ctx context.Context, userID string) ([]Consent, error) { panic("soon") }
