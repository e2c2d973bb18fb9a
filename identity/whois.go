package identity

import (
	"context"
	"fmt"
)

// WhoIs gives the person to whom an account elsewhere leads, or ErrNotFound. Unlike ByLinked it is no sign-in: nothing is noted, and
// whoever may not sign in, or whose provider is switched off, is not found.
func (d *Directory) WhoIs(ctx context.Context, e Elsewhere) (User, error) {
	var userID string
	err := d.db.QueryRow(ctx, `SELECT l.user_id FROM linked_accounts l JOIN providers p ON p.id = l.provider_id
		WHERE l.provider_id = $1 AND l.subject_index = $2 AND p.disabled = FALSE`, e.Provider, d.subjectIndex(e)).Scan(&userID)
	if err != nil {
		return User{}, fmt.Errorf("read linked account: %w", err)
	}
	return d.Active(ctx, userID)
}

// Active gives a person who may sign in, or ErrNotFound.
func (d *Directory) Active(ctx context.Context, userID string) (User, error) {
	u, err := d.User(ctx, userID)
	if err == nil && u.Status != StatusActive {
		err = fmt.Errorf("the account is %s: %w", u.Status, ErrNotFound)
	}
	if err != nil {
		return User{}, err
	}
	return u, nil
}
