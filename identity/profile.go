package identity

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Profile holds the standard claims that a person edits (OpenID Connect Core §5.1); e-mail has its own rules and is not
// among them. Fields are named after the claims in JSON.
type Profile struct {
	Name                string    `json:"name,omitempty"`
	GivenName           string    `json:"given_name,omitempty"`
	FamilyName          string    `json:"family_name,omitempty"`
	MiddleName          string    `json:"middle_name,omitempty"`
	Nickname            string    `json:"nickname,omitempty"`
	PreferredUsername   string    `json:"preferred_username,omitempty"`
	ProfileURL          string    `json:"profile,omitempty"`
	Picture             string    `json:"picture,omitempty"`
	Website             string    `json:"website,omitempty"`
	Gender              string    `json:"gender,omitempty"`
	Birthdate           string    `json:"birthdate,omitempty"` // YYYY-MM-DD, 0000-MM-DD or YYYY
	Zoneinfo            string    `json:"zoneinfo,omitempty"`  // IANA name
	Locale              string    `json:"locale,omitempty"`    // BCP 47
	PhoneNumber         string    `json:"phone_number,omitempty"`
	PhoneNumberVerified bool      `json:"phone_number_verified,omitempty"`
	Address             Address   `json:"address,omitzero"`
	UpdatedAt           time.Time `json:"-"`
}

// Address is the address claim (OpenID Connect Core §5.1.1). Formatted and StreetAddress may have several lines.
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// SetProfile replaces a person's profile, or reports FieldErrors named after the claims. Whether the phone number is
// verified is not the caller's to say: the flag survives as long as the number stays and falls when it changes
// (self-verification).
func (d *Directory) SetProfile(ctx context.Context, userID string, p Profile) error {
	wrong := FieldErrors{}
	p = p.normal(d.now(), wrong)
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
		var sealed []byte
		if err := d.db.QueryRow(ctx, `SELECT sealed FROM profiles WHERE user_id = $1`, userID).Scan(&sealed); err != nil {
			return err
		}
		old, err := openProfile(own, userID, sealed)
		if err != nil {
			return err
		}
		p.PhoneNumberVerified = old.PhoneNumberVerified && old.PhoneNumber == p.PhoneNumber
		if sealed, err = sealProfile(own, userID, p); err != nil {
			return err
		}
		if _, err := d.db.Exec(ctx, `UPDATE profiles SET sealed = $2, updated_at = $3 WHERE user_id = $1`, userID, sealed, db.At(d.now())); err != nil {
			return err
		}
		d.audit.Record(ctx, audit.Event{Action: "profile.set", Actor: userID, UserID: userID})
		return nil
	})
	if err != nil {
		return fmt.Errorf("set profile: %w", err)
	}
	return nil
}

// Longest values, in characters.
const (
	maxName   = 200
	maxText   = 500
	maxGender = 50
	maxURL    = 1000
)

// normal trims every field, brings it to its usual form and notes in wrong what cannot stand.
func (p Profile) normal(now time.Time, wrong FieldErrors) Profile {
	for _, f := range []struct {
		name  string
		value *string
		limit int
		lines bool // may hold line breaks
		check func(string) (normal, key string)
	}{
		{"name", &p.Name, maxName, false, nil},
		{"given_name", &p.GivenName, maxName, false, nil},
		{"family_name", &p.FamilyName, maxName, false, nil},
		{"middle_name", &p.MiddleName, maxName, false, nil},
		{"nickname", &p.Nickname, maxName, false, nil},
		{"preferred_username", &p.PreferredUsername, maxName, false, checkUsername},
		{"profile", &p.ProfileURL, maxURL, false, checkURL},
		{"picture", &p.Picture, maxURL, false, checkURL},
		{"website", &p.Website, maxURL, false, checkURL},
		{"gender", &p.Gender, maxGender, false, nil},
		{"birthdate", &p.Birthdate, maxGender, false, func(s string) (string, string) { return checkBirthdate(s, now) }},
		{"zoneinfo", &p.Zoneinfo, maxGender, false, checkZone},
		{"locale", &p.Locale, maxGender, false, checkLocale},
		{"phone_number", &p.PhoneNumber, maxGender, false, checkPhone},
		{"address.formatted", &p.Address.Formatted, maxText, true, nil},
		{"address.street_address", &p.Address.StreetAddress, maxText, true, nil},
		{"address.locality", &p.Address.Locality, maxName, false, nil},
		{"address.region", &p.Address.Region, maxName, false, nil},
		{"address.postal_code", &p.Address.PostalCode, maxGender, false, nil},
		{"address.country", &p.Address.Country, maxName, false, nil},
	} {
		text, key := checkText(*f.value, f.limit, f.lines)
		if key == "" && text != "" && f.check != nil {
			text, key = f.check(text)
		}
		if key != "" {
			wrong[f.name] = key
		}
		*f.value = text
	}
	return p
}

// checkText holds for every field: well-formed, trimmed, short enough, nothing that turns the direction of writing or
// hides in a terminal.
func checkText(s string, limit int, lines bool) (normal, key string) {
	if len(s) > 4*limit {
		return "", KeyTooLong
	}
	if !utf8.ValidString(s) {
		return "", KeyCharacters
	}
	s = norm.NFC.String(strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")))
	if strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && (!lines || r != '\n') || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	}) {
		return "", KeyCharacters
	}
	if utf8.RuneCountInString(s) > limit {
		return "", KeyTooLong
	}
	return s, ""
}

// checkURL allows http and https and nothing else, so that no page or app runs a javascript: or data: link.
func checkURL(s string) (normal, key string) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`<>"\^{|}`+"`", r) }) {
		return "", KeyURLInvalid
	}
	return u.String(), ""
}

// checkUsername refuses an "@": apps that know people by preferred_username must not mistake one for another's e-mail
// address (impersonation).
func checkUsername(s string) (normal, key string) {
	if strings.ContainsFunc(s, func(r rune) bool { return r == '@' || r == '＠' || unicode.IsSpace(r) || !unicode.IsGraphic(r) }) {
		return "", KeyUsernameInvalid
	}
	return s, ""
}

func checkBirthdate(s string, now time.Time) (normal, key string) {
	layout := time.DateOnly
	if len(s) == 4 {
		layout = "2006"
	}
	t, err := time.Parse(layout, s)
	if err != nil || t.After(now.Add(14*time.Hour)) || (t.Year() == 0 && len(s) == 4) || (t.Year() != 0 && t.Year() < 1800) {
		return "", KeyBirthdateInvalid // 14 hours: it may be tomorrow where the person lives
	}
	return s, ""
}

// zones lists the IANA time zone names, one a line (made by internal/words/gen). The server's own zone files may be missing in a container, and
// embedding time/tzdata for the names alone would cost half a megabyte.
//
//go:embed zones.txt
var zones string

// Zones lists the time zone names that a profile may have, in order.
func Zones() []string { return strings.Split(strings.TrimSpace(zones), "\n") }

func checkZone(s string) (normal, key string) {
	if strings.Contains(s, "\n") || !strings.Contains("\n"+zones, "\n"+s+"\n") {
		return "", KeyZoneinfoInvalid
	}
	return s, ""
}

func checkLocale(s string) (normal, key string) {
	tag, err := language.Parse(s) // the length is bounded by the caller
	if err != nil || tag == language.Und {
		return "", KeyLocaleInvalid
	}
	return tag.String(), ""
}

var phonePattern = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// checkPhone gives the number in E.164.
func checkPhone(s string) (normal, key string) {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -./()\u00a0\u2011", r) {
			return -1
		}
		return r
	}, s)
	if !phonePattern.MatchString(s) {
		return "", KeyPhoneInvalid
	}
	return s, ""
}
