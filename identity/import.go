package identity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Arrival is a person as another system has them.
type Arrival struct {
	Row                int    // where in the file, for messages
	ExternalID         string // empty: the address stands in for it
	Email              string
	EmailVerified      bool
	PasswordHash       string // as ReadHash and the like give it; empty: none
	MustChangePassword bool
	Disabled           bool
	CreatedAt          time.Time // zero: now
	PasswordChangedAt  time.Time // zero: CreatedAt
	TOTP               []byte    // secret of an authenticator app (SHA-1, six digits, 30 seconds); nil: none
	Profile            Profile
}

// Problem says why a row cannot be taken, or what of it was left out.
type Problem struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// What became of an Arrival.
const (
	Admitted = "imported"
	Known    = "known" // an earlier import has brought the person
	Refused  = "refused"
)

// Admission is what became of an Arrival. Refused has Problems; Admitted may have some about values that were dropped.
type Admission struct {
	Outcome  string
	Problems []Problem
}

// ImportConfig says how people are taken over.
type ImportConfig struct {
	Source      string // names the other system; its ids are unique in it
	DryRun      bool   // tell, but change nothing
	TrustEmail  bool   // believe which addresses are verified
	KeepIDs     bool   // people keep the ids of the other system, which must be UUIDs
	DropInvalid bool   // leave out values of a profile that do not pass, instead of refusing the row
}

// Import takes people over from another system. It is for one goroutine. Each Add is one transaction; an import that was cut
// off is simply run again. It remembers about 100 bytes for each row, to find duplicates within a file.
type Import struct {
	d      *Directory
	c      ImportConfig
	ids    map[uint64]int32 // row by a hash of the id
	emails map[uint64]int32 // row by a hash of the address
}

// MaxArrivals bounds one call of Add.
const MaxArrivals = 500

// maxExternalID bounds an id of another system in bytes, maxSource its name.
const (
	maxExternalID = 255
	maxSource     = 100
)

// NewImport begins an import.
func (d *Directory) NewImport(c ImportConfig) (*Import, error) {
	if text, key := checkText(c.Source, maxSource, false); key != "" || text == "" || text != c.Source {
		return nil, fmt.Errorf("%q does not name a source", c.Source)
	}
	return &Import{d: d, c: c, ids: map[uint64]int32{}, emails: map[uint64]int32{}}, nil
}

// candidate is an Arrival on its way in.
type candidate struct {
	Arrival
	email      string
	emailIndex []byte
	index      []byte // of the external id
	id         string
}

// Add takes up to MaxArrivals people over and tells what became of each, in order. Who is refused keeps nobody else out. The
// order of the checks does not depend on what earlier runs have done, so that a run that was cut off and its repetition say the same.
func (i *Import) Add(ctx context.Context, arrivals []Arrival) ([]Admission, error) {
	if len(arrivals) > MaxArrivals {
		return nil, fmt.Errorf("%d people at once, the limit is %d", len(arrivals), MaxArrivals)
	}
	out := make([]Admission, len(arrivals))
	list := make([]*candidate, len(arrivals)) // nil: refused
	for n, a := range arrivals {
		list[n], out[n].Problems = i.check(a)
		if list[n] == nil {
			out[n].Outcome = Refused
		}
	}
	var err error
	for range 3 { // somebody may take an address between our look and our INSERT
		tried := slices.Clone(out)
		admit := func(ctx context.Context) error { return i.admit(ctx, slices.Clone(list), tried) }
		if i.c.DryRun {
			err = admit(ctx) // without holding up those who write
		} else {
			err = i.d.db.Tx(ctx, admit)
		}
		if err == nil {
			return tried, nil
		}
		if !errors.Is(err, db.ErrConflict) {
			break
		}
	}
	return nil, fmt.Errorf("import people: %w", err)
}

// check looks at an arrival by itself and beside those before it. It gives nil for one that is refused.
func (i *Import) check(a Arrival) (*candidate, []Problem) {
	var problems []Problem
	wrong := func(field, format string, args ...any) {
		problems = append(problems, Problem{field, fmt.Sprintf(format, args...)})
	}
	now := i.d.now()
	c := &candidate{Arrival: a}
	email, ok := NormalEmail(a.Email)
	switch {
	case a.Email == "":
		wrong("email", "is missing")
	case !ok:
		wrong("email", "is not an email address")
	}
	if c.ExternalID == "" {
		c.ExternalID = strings.Map(foldRune, email)
	}
	if text, key := checkText(c.ExternalID, maxExternalID, false); key != "" || text != c.ExternalID {
		wrong("id", "is longer than %d bytes, or holds control characters or space around it", maxExternalID)
	}
	if i.c.KeepIDs {
		if id, err := uuid.Parse(c.ExternalID); err != nil || id.String() != c.ExternalID {
			wrong("id", "is not a UUID in its usual form, so it cannot be kept")
		}
	}
	if c.PasswordHash != "" {
		if err := storable(c.PasswordHash); err != nil {
			wrong("password_hash", "%v", err)
		}
	}
	if a.TOTP != nil && (len(a.TOTP) < 10 || len(a.TOTP) > 64) {
		wrong("totp", "secret of %d bytes, not of 10 to 64", len(a.TOTP))
	}
	if !c.CreatedAt.IsZero() && (c.CreatedAt.After(now) || c.CreatedAt.Year() < 1970) || c.PasswordChangedAt.After(now) {
		wrong("created_at", "is not in the past")
	}
	refused := len(problems) > 0
	fields := FieldErrors{}
	c.Profile = a.Profile.normal(now, fields)
	c.Profile.PhoneNumberVerified = a.Profile.PhoneNumberVerified && i.c.TrustEmail && c.Profile.PhoneNumber != ""
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		wrong(field, "%s", plainReason(fields[field]))
	}
	if refused || len(fields) > 0 && !i.c.DropInvalid {
		return nil, problems
	}
	c.email, c.emailIndex = email, i.d.emailIndex(email)
	c.index = seal.MAC(i.d.emailKey, "imported", i.c.Source, c.ExternalID)
	if row := once(i.ids, c.index, a.Row); row > 0 {
		wrong("id", "is the id of row %d, too", row)
		return nil, problems
	}
	if row := once(i.emails, c.emailIndex, a.Row); row > 0 {
		wrong("email", "is the address of row %d, too", row)
		return nil, problems
	}
	return c, problems
}

// once notes that a row has a key, or tells which row had it before. Of a million keys two share 64 bits once in
// thirty million imports.
func once(seen map[uint64]int32, key []byte, row int) int32 {
	short := binary.BigEndian.Uint64(key)
	if before, ok := seen[short]; ok {
		return before
	}
	seen[short] = int32(row) //nolint:gosec // two thousand million rows
	return 0
}

// storable says why a password hash may not lie in users.password_hash.
func storable(hash string) error {
	if _, err := parsePHC(hash); err == nil {
		return nil
	}
	_, err := parseForeign(hash)
	return err
}

// plainReason says in English what a locale key says, for reports to operators.
func plainReason(key string) string {
	switch key {
	case KeyTooLong:
		return "is too long"
	case KeyCharacters:
		return "holds characters that are not allowed"
	case KeyURLInvalid:
		return "is not an http or https address"
	case KeyBirthdateInvalid:
		return "is not a date like 1990-12-31 or a year"
	case KeyZoneinfoInvalid:
		return "is not a time zone like Europe/Berlin"
	case KeyLocaleInvalid:
		return "is not a language tag like en-GB"
	case KeyPhoneInvalid:
		return "is not an international number like +49 30 1234567"
	case KeyUsernameInvalid:
		return "holds @, spaces or invisible characters"
	}
	return "is not valid"
}

// admit decides about the candidates in one transaction and, unless this is a dry run, adds those who may come.
func (i *Import) admit(ctx context.Context, list []*candidate, out []Admission) error {
	if err := i.against(ctx, `SELECT external_index FROM imported WHERE external_index`, list, out,
		func(c *candidate) any { return c.index }, Admission{Outcome: Known}); err != nil {
		return err
	}
	if err := i.against(ctx, `SELECT email_index FROM users WHERE email_index`, list, out,
		func(c *candidate) any { return c.emailIndex }, refusal("email", "is the address of an account that is here already")); err != nil {
		return err
	}
	if i.c.KeepIDs {
		// An id that was used before may still stand in audit rows: nobody else may get it.
		for _, query := range []string{`SELECT id FROM users WHERE id`, `SELECT user_id FROM audit WHERE user_id`} {
			if err := i.against(ctx, query, list, out,
				func(c *candidate) any { return c.ExternalID }, refusal("id", "is or was the id of another account here")); err != nil {
				return err
			}
		}
	}
	var come []*candidate
	for n, c := range list {
		if c == nil {
			continue
		}
		out[n].Outcome = Admitted
		c.id = c.ExternalID
		if !i.c.KeepIDs {
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			c.id = id.String()
		}
		come = append(come, c)
	}
	if i.c.DryRun {
		return nil
	}
	return i.insert(ctx, come)
}

func refusal(field, reason string) Admission {
	return Admission{Outcome: Refused, Problems: []Problem{{field, reason}}}
}

// against takes from the list whose key the query finds, and gives them the verdict. The query ends in the column of the key.
func (i *Import) against(ctx context.Context, query string, list []*candidate, out []Admission, key func(*candidate) any, verdict Admission) error {
	where := map[string]int{}
	var args []any
	for n, c := range list {
		if c != nil {
			args = append(args, key(c))
			where[fmt.Sprintf("%s", key(c))] = n
		}
	}
	if len(args) == 0 {
		return nil
	}
	return i.d.db.Query(ctx, func(row db.Scanner) error {
		var found []byte
		if err := row.Scan(&found); err != nil {
			return err
		}
		if n, ok := where[string(found)]; ok && list[n] != nil {
			list[n], out[n] = nil, verdict
		}
		return nil
	}, query+` IN (`+db.Placeholders(len(args))+`)`, args...)
}

// insert adds the people, in the transaction in ctx.
func (i *Import) insert(ctx context.Context, list []*candidate) error {
	d, now := i.d, i.d.now()
	var users, dataKeys, profiles, totps, imported [][]any
	var events []audit.Event
	for _, c := range list {
		own, wrapped, err := d.seal.NewPerson(c.id)
		if err != nil {
			return err
		}
		profile, err := sealProfile(own, c.id, c.Profile)
		if err != nil {
			return err
		}
		status := StatusActive
		if c.Disabled {
			status = StatusDisabled
		}
		if c.CreatedAt.IsZero() {
			c.CreatedAt = now
		}
		if c.PasswordChangedAt.IsZero() {
			c.PasswordChangedAt = c.CreatedAt
		}
		if c.PasswordHash == "" {
			c.PasswordChangedAt = time.Time{}
		}
		users = append(users, []any{
			c.id, c.emailIndex, own.Seal([]byte(c.email), emailPurpose(c.id)), c.EmailVerified && i.c.TrustEmail, c.PasswordHash,
			db.At(c.PasswordChangedAt), c.MustChangePassword && c.PasswordHash != "", RoleUser, status, db.At(c.CreatedAt), db.At(now),
		})
		dataKeys = append(dataKeys, []any{c.id, wrapped})
		profiles = append(profiles, []any{c.id, profile, db.At(now)})
		if c.TOTP != nil {
			totps = append(totps, []any{c.id, own.Seal(c.TOTP, totpPurpose(c.id)), int64(0), db.At(now), db.At(now)})
		}
		imported = append(imported, []any{c.index, c.id, i.c.Source, own.Seal([]byte(c.ExternalID), externalPurpose(c.id)), db.At(now)})
		events = append(events, audit.Event{Action: "user.import", UserID: c.id, Detail: map[string]string{"source": i.c.Source}})
	}
	for _, t := range []struct {
		into string
		rows [][]any
	}{
		{`INSERT INTO users (id, email_index, email, email_verified, password_hash, password_changed_at, must_change_password,
			role, status, created_at, updated_at)`, users},
		{`INSERT INTO data_keys (user_id, wrapped)`, dataKeys},
		{`INSERT INTO profiles (user_id, sealed, updated_at)`, profiles},
		{`INSERT INTO totp (user_id, secret, last_step, confirmed_at, created_at)`, totps},
		{`INSERT INTO imported (external_index, user_id, source, external_id, imported_at)`, imported},
	} {
		if err := d.db.InsertAll(ctx, t.into, t.rows); err != nil {
			return err
		}
	}
	return d.audit.RecordAll(ctx, events)
}

func externalPurpose(id string) string { return "external-id:" + id }

// HeldImport is a row of imported.
type HeldImport struct {
	Source     string    `json:"source"`
	ExternalID string    `json:"external_id"`
	ImportedAt time.Time `json:"imported_at"`
}

// heldImports tells from where a person was brought.
func (d *Directory) heldImports(ctx context.Context, userID string) ([]HeldImport, error) {
	list := []HeldImport{}
	err := d.db.Query(ctx, func(row db.Scanner) error {
		var h HeldImport
		var wrapped, sealed []byte
		var at db.Time
		if err := row.Scan(&h.Source, &sealed, &at, &wrapped); err != nil {
			return err
		}
		own, err := d.ownSealer(userID, wrapped)
		if err != nil {
			return err
		}
		id, err := own.Open(sealed, externalPurpose(userID))
		h.ExternalID, h.ImportedAt = string(id), at.Time
		list = append(list, h)
		return err
	}, `SELECT i.source, i.external_id, i.imported_at, k.wrapped FROM imported i JOIN data_keys k ON k.user_id = i.user_id
		WHERE i.user_id = $1 ORDER BY i.imported_at`, userID)
	return list, err
}

// ExternalUser finds the person that a source knows by an id, or reports ErrNotFound.
func (d *Directory) ExternalUser(ctx context.Context, source, externalID string) (userID string, err error) {
	err = d.db.QueryRow(ctx, `SELECT user_id FROM imported WHERE external_index = $1`, seal.MAC(d.emailKey, "imported", source, externalID)).Scan(&userID)
	return userID, err
}
