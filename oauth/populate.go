package oauth

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Issued is one grant of a made-up person.
type Issued struct{ UserID, ClientID, SessionID string }

// Populate adds very many grants, to measure how the server fares with them. Nobody has their refresh tokens.
func (g *Grants) Populate(ctx context.Context, list []Issued, scopes []string, at time.Time) error {
	rows := make([][]any, 0, len(list))
	for _, i := range list {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		held := &session{Subject: i.UserID, GrantID: id.String(), SessionID: i.SessionID, AuthTime: at, RequestedAt: at, AMR: []string{"pwd"}}
		hash := make([]byte, 32)
		_, _ = rand.Read(hash) // never fails (crypto/rand)
		rows = append(rows, []any{
			held.GrantID, i.UserID, i.ClientID, i.SessionID, db.JSON(&scopes), db.JSON(held), hash,
			[]byte{},
			int64(1),
			db.At(at), db.At(at), db.At(g.now().Add(180 * 24 * time.Hour)),
		})
	}
	return g.db.AddAll(ctx, "grants", []string{
		"id", "user_id", "client_id", "session_id", "scopes", "session", "refresh_hash", "previous_hash", "generation", "created_at", "used_at", "expires_at",
	}, rows)
}
