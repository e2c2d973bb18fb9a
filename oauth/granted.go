package oauth

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Granted is what is kept about one authorization, for the person to read. It has no token, in whatever form.
type Granted struct {
	ID         string         `json:"id"`
	ClientID   string         `json:"client_id"`
	ClientName string         `json:"client_name,omitempty"`
	SessionID  string         `json:"session_id,omitempty"`
	Scopes     []string       `json:"scopes"`
	Details    map[string]any `json:"details"` // what later tokens repeat: when and how the person signed in, which claims the app asked for
	CreatedAt  time.Time      `json:"created_at"`
	UsedAt     time.Time      `json:"used_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	RevokedAt  time.Time      `json:"revoked_at,omitzero"`
	PausedAt   time.Time      `json:"paused_at,omitzero"`
	UsesLeft   *int64         `json:"uses_left,omitempty"`

	Delegations []Delegation `json:"delegations,omitempty"` // services that went on from it
}

// Granted lists everything that is kept about a person's authorizations, those that have ended among them.
func (g *Grants) Granted(ctx context.Context, userID string) ([]Granted, error) {
	list := []Granted{}
	ways, err := g.delegations(ctx, userID)
	if err != nil {
		return nil, err
	}
	err = g.db.Query(ctx, func(row db.Scanner) error {
		var one Granted
		var created, used, expires, revoked, paused db.Time
		var uses int64
		err := row.Scan(&one.ID, &one.ClientID, &one.SessionID, db.JSON(&one.Scopes), db.JSON(&one.Details), &created, &used, &expires, &revoked, &paused, &uses)
		one.PausedAt, one.Delegations = paused.Time, ways[one.ID]
		if uses >= 0 {
			one.UsesLeft = &uses
		}
		one.CreatedAt, one.UsedAt, one.ExpiresAt, one.RevokedAt = created.Time, used.Time, expires.Time, revoked.Time
		list = append(list, one)
		return err
	}, `SELECT id, client_id, session_id, scopes, session, created_at, used_at, expires_at, revoked_at, paused_at, COALESCE(uses_left, -1) FROM grants WHERE user_id = $1 ORDER BY id`, userID)
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	return list, nil
}
