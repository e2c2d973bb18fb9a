package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Themes of the pages. The zero Theme follows the device.
const (
	ThemeLight = "light"
	ThemeDark  = "dark"
)

// Preferences are how a person wants to see our own pages and mails. Apps do not learn them: what they are told of language and
// time zone is in the Profile.
type Preferences struct {
	Language  string    `json:"language,omitempty"` // BCP 47; empty: as the browser says
	Zone      string    `json:"zone,omitempty"`     // IANA name; empty: UTC
	Theme     string    `json:"theme,omitempty"`    // ThemeLight, ThemeDark; empty: as the device does
	UpdatedAt time.Time `json:"-"`                  // zero: never set
}

// inForce are a person's preferences; until they have set any, what the profile says.
func (p Preferences) inForce(profile Profile) Preferences {
	if p.UpdatedAt.IsZero() {
		p.Language, p.Zone = profile.Locale, profile.Zoneinfo
	}
	return p
}

// SetPreferences replaces a person's preferences, or reports FieldErrors named "language" and "zone".
func (d *Directory) SetPreferences(ctx context.Context, userID string, p Preferences) error {
	wrong := FieldErrors{}
	if p.Language != "" {
		var key string
		if p.Language, key = checkLocale(p.Language); key != "" {
			wrong["language"] = key
		}
	}
	if p.Zone != "" {
		if _, key := checkZone(p.Zone); key != "" {
			wrong["zone"] = key
		}
	}
	if p.Theme != "" && p.Theme != ThemeLight && p.Theme != ThemeDark {
		return fmt.Errorf("set preferences: no theme %q", p.Theme)
	}
	if err := wrong.err(); err != nil {
		return err
	}
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		dataKey, err := d.lock(ctx, userID)
		if err != nil {
			return err
		}
		own, err := d.ownSealer(userID, dataKey)
		if err != nil {
			return err
		}
		plain, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `INSERT INTO preferences (user_id, sealed, updated_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`,
			userID, own.Seal(plain, preferencesPurpose(userID)), db.At(d.now())); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "preferences.set", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("set preferences: %w", err)
	}
	return nil
}

func preferencesPurpose(userID string) string { return "preferences:" + userID }

// openPreferences opens what a row of preferences holds; no row is the zero Preferences.
func openPreferences(own *seal.Sealer, userID string, sealed []byte, updated db.Time) (p Preferences, err error) {
	if len(sealed) == 0 {
		return p, nil
	}
	plain, err := own.Open(sealed, preferencesPurpose(userID))
	if err == nil {
		err = json.Unmarshal(plain, &p)
	}
	if err != nil {
		return Preferences{}, fmt.Errorf("preferences of user %s: %w", userID, err)
	}
	p.UpdatedAt = updated.Time
	return p, nil
}

// sessionPreferences opens what the pages of a session go by, so that they need not read the person for it.
func (d *Directory) sessionPreferences(userID string, dataKey, sealed []byte, updated db.Time, profile []byte) (Preferences, error) {
	own, err := d.ownSealer(userID, dataKey)
	if err != nil {
		return Preferences{}, err
	}
	p, err := openPreferences(own, userID, sealed, updated)
	if err != nil || !p.UpdatedAt.IsZero() {
		return p, err
	}
	of, err := openProfile(own, userID, profile)
	return p.inForce(of), err
}
