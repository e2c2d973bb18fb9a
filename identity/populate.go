package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Population makes people up by the thousand, to measure how the server fares with many. They differ in what a database sees
// (ids, addresses, keys, sealed texts) and share one password.
type Population struct {
	d    *Directory
	hash string
	at   time.Time
}

// Inhabitant is a made-up person with a session.
type Inhabitant struct {
	UserID    string
	SessionID string
}

// NewPopulation begins one whose people came at a time in the past and are still signed in.
func (d *Directory) NewPopulation(ctx context.Context, password string, at time.Time) (*Population, error) {
	hash, err := d.hasher.hash(ctx, password)
	return &Population{d, hash, at}, err
}

// InhabitantEmail is the address of the nth person. The domain belongs to nobody (RFC 2606).
func InhabitantEmail(n int) string { return fmt.Sprintf("person%d@load.example", n) }

// Add makes the people from first on. It may be called by several goroutines.
func (p *Population) Add(ctx context.Context, first, count int) ([]Inhabitant, error) {
	d, now := p.d, p.d.now()
	amr := []string{AMRPassword}
	var people []Inhabitant
	var users, dataKeys, profiles, sessions [][]any
	for n := first; n < first+count; n++ {
		ids := make([]string, 2)
		for i := range ids {
			id, err := uuid.NewV7()
			if err != nil {
				return nil, err
			}
			ids[i] = id.String()
		}
		h := Inhabitant{UserID: ids[0], SessionID: ids[1]}
		own, wrapped, err := d.seal.NewPerson(h.UserID)
		if err != nil {
			return nil, err
		}
		email := InhabitantEmail(n)
		profile, err := sealProfile(own, h.UserID, Profile{Name: fmt.Sprintf("Person %d", n), GivenName: "Person", FamilyName: fmt.Sprint(n), Locale: "en"})
		if err != nil {
			return nil, err
		}
		device, err := json.Marshal(Device{UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"})
		if err != nil {
			return nil, err
		}
		_, cookie := newToken()
		people = append(people, h)
		users = append(users, []any{
			h.UserID, d.emailIndex(email), own.Seal([]byte(email), emailPurpose(h.UserID)), true, p.hash, db.At(p.at), false, RoleUser, StatusActive, db.At(p.at), db.At(p.at),
		})
		dataKeys = append(dataKeys, []any{h.UserID, wrapped})
		profiles = append(profiles, []any{h.UserID, profile, db.At(p.at)})
		sessions = append(sessions, []any{
			h.SessionID, h.UserID, cookie, db.At(p.at), db.JSON(&amr), own.Seal(device, devicePurpose(h.UserID, h.SessionID)), db.At(p.at), db.At(now), db.At(now.Add(d.sessionMax)),
		})
	}
	for _, t := range []struct {
		table   string
		columns []string
		rows    [][]any
	}{
		{"users", []string{
			"id", "email_index", "email", "email_verified", "password_hash", "password_changed_at", "must_change_password",
			"role", "status", "created_at", "updated_at",
		}, users},
		{"data_keys", []string{"user_id", "wrapped"}, dataKeys},
		{"profiles", []string{"user_id", "sealed", "updated_at"}, profiles},
		{"sessions", []string{"id", "user_id", "token_hash", "auth_time", "amr", "device", "created_at", "last_seen_at", "expires_at"}, sessions},
	} {
		if err := d.db.AddAll(ctx, t.table, t.columns, t.rows); err != nil {
			return nil, fmt.Errorf("add to %s: %w", t.table, err)
		}
	}
	return people, nil
}
