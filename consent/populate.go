package consent

import (
	"context"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Given is one answer of a made-up person.
type Given struct{ UserID, ClientID string }

// Populate adds very many answers, to measure how the server fares with them.
func (s *Store) Populate(ctx context.Context, list []Given, scopes []string, at time.Time) error {
	rows := make([][]any, 0, len(list))
	for _, g := range list {
		rows = append(rows, []any{g.UserID, g.ClientID, db.JSON(&scopes), "load", db.At(at), db.At(at)})
	}
	return s.db.AddAll(ctx, "consents", []string{"user_id", "client_id", "scopes", "text_version", "granted_at", "updated_at"}, rows)
}
