package identity

import (
	"context"
	"encoding/base32"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func (w *world) importer(t *testing.T, c ImportConfig) *Import {
	t.Helper()
	if c.Source == "" {
		c.Source = "test"
	}
	i, err := w.NewImport(c)
	wantNil(t, "begin import", err)
	return i
}

// bring imports people and gives what became of each as "row outcome field: reason".
func (w *world) bring(t *testing.T, i *Import, arrivals ...Arrival) (out []string) {
	t.Helper()
	list, err := i.Add(t.Context(), arrivals)
	wantNil(t, "import", err)
	for n, a := range list {
		line := fmt.Sprintf("%d %s", arrivals[n].Row, a.Outcome)
		for _, p := range a.Problems {
			line += " " + p.Field + ": " + p.Reason + ";"
		}
		out = append(out, line)
	}
	return out
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (w *world) people(t *testing.T) (n int) {
	t.Helper()
	wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM users`).Scan(&n))
	return n
}

func TestImport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		born := w.now().Add(-1000 * time.Hour)
		hash, err := ReadHash(foreignVectors[0].text)
		wantNil(t, "hash", err)
		full := Arrival{
			Row: 1, ExternalID: "a-1", Email: "Ada@Example.com", EmailVerified: true, PasswordHash: hash, MustChangePassword: true,
			CreatedAt: born, TOTP: []byte("12345678901234567890"), Profile: Profile{Name: "Ada", PhoneNumber: "+49 30 1234567", PhoneNumberVerified: true},
		}
		i := w.importer(t, ImportConfig{TrustEmail: true})
		wantLines(t, "first run", w.bring(t, i, full, Arrival{Row: 2, Email: "bob@example.com", Disabled: true, EmailVerified: true}), "1 imported", "2 imported")

		u, err := w.CheckPassword(t.Context(), "ada@example.com", "U*U", home)
		wantNil(t, "sign in", err)
		want := User{
			ID: u.ID, Email: "Ada@example.com", EmailVerified: true, Role: RoleUser, Status: StatusActive, MustChangePassword: true, HasPassword: true, HasTOTP: true,
			CreatedAt: born, UpdatedAt: w.now(), PasswordChangedAt: born,
			Profile: Profile{Name: "Ada", PhoneNumber: "+49301234567", PhoneNumberVerified: true, UpdatedAt: w.now()},
		}
		if diff := cmp.Diff(want, u); diff != "" {
			t.Errorf("person (-want +got):\n%s", diff)
		}
		code := codeAt(t, base32.StdEncoding.EncodeToString([]byte("12345678901234567890")), w.now())
		wantNil(t, "second factor", w.CheckTOTP(t.Context(), u.ID, code))
		bob, err := w.UserByEmail(t.Context(), "bob@example.com")
		if err != nil || bob.Status != StatusDisabled || bob.HasPassword || !bob.PasswordChangedAt.IsZero() || !bob.CreatedAt.Equal(w.now()) {
			t.Errorf("disabled person without password: %+v, %v", bob, err)
		}
		held, err := w.Holdings(t.Context(), u.ID)
		if err != nil || len(held.Account.Imported) != 1 || held.Account.Imported[0].ExternalID != "a-1" || held.Account.Imported[0].Source != "test" {
			t.Errorf("what is held: %+v, %v; want the id at the source", held.Account.Imported, err)
		}
		if id, err := w.ExternalUser(t.Context(), "test", "a-1"); err != nil || id != u.ID {
			t.Errorf("external id a-1 is %q, %v", id, err)
		}
		_, err = w.ExternalUser(t.Context(), "other", "a-1")
		wantErr(t, "same id elsewhere", err, ErrNotFound)
		for _, line := range w.audited(t)[:2] {
			if !strings.HasPrefix(line, "user.import success ") {
				t.Errorf("audit: %q", line)
			}
		}
	})
}

func TestImportRunAgain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		rows := []Arrival{{Row: 1, ExternalID: "1", Email: "a@example.com"}, {Row: 2, Email: "b@example.com"}, {Row: 3, ExternalID: "3", Email: "c@example.com"}}
		wantLines(t, "cut off after two", w.bring(t, w.importer(t, ImportConfig{}), rows[:2]...), "1 imported", "2 imported")
		wantLines(t, "dry run", w.bring(t, w.importer(t, ImportConfig{DryRun: true}), rows...), "1 known", "2 known", "3 imported")
		if n := w.people(t); n != 2 {
			t.Fatalf("%d people after a dry run, want 2", n)
		}
		wantLines(t, "again", w.bring(t, w.importer(t, ImportConfig{}), rows...), "1 known", "2 known", "3 imported")
		wantLines(t, "and again", w.bring(t, w.importer(t, ImportConfig{}), rows...), "1 known", "2 known", "3 known")
		wantLines(t, "from another source", w.bring(t, w.importer(t, ImportConfig{Source: "other"}), rows[0]),
			"1 refused email: is the address of an account that is here already;")
		// What somebody did here since is not undone.
		u, err := w.UserByEmail(t.Context(), "a@example.com")
		wantNil(t, "read", err)
		wantNil(t, "password", w.SetOneTimePassword(t.Context(), u.ID, otherPassword))
		hash, err := ReadHash(foreignVectors[0].text)
		wantNil(t, "hash", err)
		rows[0].PasswordHash = hash
		wantLines(t, "with a hash", w.bring(t, w.importer(t, ImportConfig{}), rows[0]), "1 known")
		_, err = w.CheckPassword(t.Context(), "a@example.com", "U*U", home)
		wantErr(t, "old password", err, ErrCredentials)
	})
}

func TestImportRefuses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(t, "here@example.com")
		bad := "$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
		rows := []Arrival{
			{Row: 1, Email: "ok@example.com", ExternalID: "1"},
			{Row: 2, Email: "OK@example.com", ExternalID: "2"},
			{Row: 3, Email: "ok3@example.com", ExternalID: "1"},
			{Row: 4, Email: "HERE@example.com", ExternalID: "4"},
			{Row: 5, Email: "", ExternalID: "5"},
			{Row: 6, Email: "no address", ExternalID: "6"},
			{Row: 7, Email: "ok7@example.com", ExternalID: "7", PasswordHash: bad},
			{Row: 8, Email: "ok8@example.com", ExternalID: "8\x00"},
			{Row: 9, Email: "ok9@example.com", ExternalID: "9", TOTP: []byte("short")},
			{Row: 10, Email: "ok10@example.com", ExternalID: "10", CreatedAt: w.now().Add(time.Hour)},
			{Row: 11, Email: "ok11@example.com", ExternalID: "11", Profile: Profile{Picture: "javascript:alert(1)", PhoneNumber: "12"}},
			{Row: 12, Email: "ok7@example.com", ExternalID: "12"},
			{Row: 13, Email: "ok13@example.com", ExternalID: strings.Repeat("x", 300)},
		}
		want := []string{
			"1 imported",
			"2 refused email: is the address of row 1, too;",
			"3 refused id: is the id of row 1, too;",
			"4 refused email: is the address of an account that is here already;",
			"5 refused email: is missing;",
			"6 refused email: is not an email address;",
			"7 refused password_hash: bcrypt cost 31 is not between 4 and 14;",
			"8 refused id: is longer than 255 bytes, or holds control characters or space around it;",
			"9 refused totp: secret of 5 bytes, not of 10 to 64;",
			"10 refused created_at: is not in the past;",
			"11 refused phone_number: is not an international number like +49 30 1234567; picture: is not an http or https address;",
			"12 imported",
			"13 refused id: is longer than 255 bytes, or holds control characters or space around it;",
		}
		wantLines(t, "dry run", w.bring(t, w.importer(t, ImportConfig{DryRun: true}), rows...), want...)
		if n := w.people(t); n != 1 {
			t.Errorf("%d people after the dry run, want 1", n)
		}
		wantLines(t, "run", w.bring(t, w.importer(t, ImportConfig{}), rows...), want...)
		if n := w.people(t); n != 3 {
			t.Errorf("%d people, want 3", n)
		}
		wantLines(t, "leaving out what is invalid", w.bring(t, w.importer(t, ImportConfig{DropInvalid: true}), rows[10]),
			"11 imported phone_number: is not an international number like +49 30 1234567; picture: is not an http or https address;")
	})
}

// Verified addresses are a right: whoever writes the file must not get it unless the operator says so.
func TestAttackImportedAddressClaimsToBeVerified(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.bring(t, w.importer(t, ImportConfig{}), Arrival{Row: 1, Email: "a@example.com", EmailVerified: true, Profile: Profile{PhoneNumber: "+49301234567", PhoneNumberVerified: true}})
		u, err := w.UserByEmail(t.Context(), "a@example.com")
		if err != nil || u.EmailVerified || u.Profile.PhoneNumberVerified {
			t.Errorf("got %+v, %v; want nothing verified", u, err)
		}
	})
}

func TestImportKeepsIDs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		here := w.create(t, "here@example.com")
		erased := w.create(t, "gone@example.com")
		_, err := w.Erase(t.Context(), erased.ID, true)
		wantNil(t, "erase", err)
		id := uuid.NewString()
		got := w.bring(t, w.importer(t, ImportConfig{KeepIDs: true}),
			Arrival{Row: 1, ExternalID: id, Email: "a@example.com"},
			Arrival{Row: 2, ExternalID: "auth0|1", Email: "b@example.com"},
			Arrival{Row: 3, ExternalID: strings.ToUpper(uuid.NewString()), Email: "c@example.com"},
			Arrival{Row: 4, ExternalID: here.ID, Email: "d@example.com"},
			Arrival{Row: 5, ExternalID: erased.ID, Email: "e@example.com"})
		wantLines(t, "run", got, "1 imported", "2 refused id: is not a UUID in its usual form, so it cannot be kept;",
			"3 refused id: is not a UUID in its usual form, so it cannot be kept;",
			"4 refused id: is or was the id of another account here;", "5 refused id: is or was the id of another account here;")
		if u, err := w.User(t.Context(), id); err != nil || u.Email != "a@example.com" {
			t.Errorf("person by the old id: %+v, %v", u, err)
		}
	})
}

// Somebody signs up between the import's look and its INSERT: the row is refused, and nobody else is lost.
func TestImportBesideRegistration(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		i := w.importer(t, ImportConfig{})
		list := []*candidate{}
		for n, email := range []string{"a@example.com", "b@example.com"} {
			c, problems := i.check(Arrival{Row: n + 1, Email: email})
			if problems != nil {
				t.Fatal(problems)
			}
			list = append(list, c)
		}
		w.create(t, "b@example.com")
		err := w.db.Tx(t.Context(), func(ctx context.Context) error {
			for _, c := range list {
				c.id = uuid.NewString()
			}
			return i.insert(ctx, list)
		})
		wantErr(t, "insert", err, db.ErrConflict)
		wantLines(t, "again", w.bring(t, w.importer(t, ImportConfig{}), Arrival{Row: 1, Email: "a@example.com"}, Arrival{Row: 2, Email: "b@example.com"}),
			"1 imported", "2 refused email: is the address of an account that is here already;")
	})
}
