package identity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// loginLife is how long a person has for the second factor.
const loginLife = 10 * time.Minute

// Login is a sign-in half done: the password is proven, the second factor is not. It is no session and opens nothing.
type Login struct {
	UserID      string    `json:"user_id"`
	AMR         []string  `json:"amr"` // proven so far
	StartedAt   time.Time `json:"started_at"`
	Attempts    int       `json:"attempts"`
	Interaction string    `json:"interaction"` // "" for a login without an app
	Via         Via       `json:"via,omitzero"`
}

// BeginLogin keeps a login for ten minutes and returns the ticket for the browser's cookie.
func (d *Directory) BeginLogin(ctx context.Context, l Login) (ticket string, expires time.Time, err error) {
	if l.StartedAt.IsZero() {
		l.StartedAt = d.now()
	}
	value, err := json.Marshal(l)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("begin login: %w", err)
	}
	ticket, hash := newToken()
	if err := d.cache.Put(ctx, loginKey(hash), value, loginLife); err != nil {
		return "", time.Time{}, fmt.Errorf("begin login: %w", err)
	}
	return ticket, d.now().Add(loginLife), nil
}

// Login returns the login behind a ticket, or ErrNotFound.
func (d *Directory) Login(ctx context.Context, ticket string) (l Login, err error) {
	if !validToken(ticket) {
		return Login{}, ErrNotFound
	}
	value, ok, err := d.cache.Get(ctx, loginKey(hashToken(ticket)))
	if err != nil {
		return Login{}, fmt.Errorf("read login: %w", err)
	}
	if !ok {
		return Login{}, ErrNotFound
	}
	if err := json.Unmarshal(value, &l); err != nil {
		return Login{}, fmt.Errorf("read login: %w", err)
	}
	return l, nil
}

// EndLogin forgets a login, done or given up; an absent one is no error.
func (d *Directory) EndLogin(ctx context.Context, ticket string) error {
	if !validToken(ticket) {
		return nil
	}
	if err := d.cache.Delete(ctx, loginKey(hashToken(ticket))); err != nil {
		return fmt.Errorf("end login: %w", err)
	}
	return nil
}

func loginKey(hash []byte) string { return "login:" + hex.EncodeToString(hash) }
