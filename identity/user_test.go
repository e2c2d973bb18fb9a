package identity

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func TestCreateAndRead(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		want, err := w.Create(t.Context(), NewUser{
			Email: " Ada.Lovelace@BÜCHER.example ", Password: goodPassword, Role: RoleAdmin, MustChangePassword: true,
			Profile: Profile{Name: " Ada Lovelace ", Birthdate: "1815-12-10", Address: Address{Country: "UK"}},
		})
		wantNil(t, "create", err)
		if want.Email != "Ada.Lovelace@xn--bcher-kva.example" || want.Profile.Name != "Ada Lovelace" {
			t.Errorf("created %+v, want a normal address and a trimmed name", want)
		}
		got, err := w.User(t.Context(), want.ID)
		wantNil(t, "read", err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read differs from created (-want +got):\n%s", diff)
		}
		byMail, err := w.UserByEmail(t.Context(), "ada.lovelace@bücher.example")
		wantNil(t, "read by address", err)
		if diff := cmp.Diff(want, byMail); diff != "" {
			t.Errorf("read by address differs (-want +got):\n%s", diff)
		}
		_, err = w.User(t.Context(), "nobody")
		wantErr(t, "unknown id", err, ErrNotFound)
		_, err = w.UserByEmail(t.Context(), "nobody@example.com")
		wantErr(t, "unknown address", err, ErrNotFound)
	})
}

func TestCreateNamesEveryWrongField(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.Create(t.Context(), NewUser{Email: "no address", Password: "short", Role: "root", Profile: Profile{Website: "javascript:alert(1)"}})
		want := FieldErrors{"email": KeyEmailInvalid, "password": KeyPasswordShort, "role": KeyRoleInvalid, "website": KeyURLInvalid}
		var got FieldErrors
		if !errors.As(err, &got) {
			t.Fatalf("got error %v, want FieldErrors", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("field errors (-want +got):\n%s", diff)
		}
	})
}

func TestEmailTakenInAnySpelling(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(t, "ada@example.com")
		for _, email := range []string{"ada@example.com", "ADA@Example.COM", "  ada@example.com "} {
			_, err := w.Create(t.Context(), NewUser{Email: email, Password: goodPassword})
			wantErr(t, email, err, ErrEmailTaken)
		}
		if won := race(t, ErrEmailTaken, func() error {
			_, err := w.Create(t.Context(), NewUser{Email: "new@example.com", Password: goodPassword})
			return ignoreBusy(err)
		}); won != 1 {
			t.Errorf("%d accounts were created for one address, want 1", won)
		}
	})
}

// ignoreBusy lets a race go on when twenty hashes at once are more than the queue takes.
func ignoreBusy(err error) error {
	if errors.Is(err, ErrBusy) {
		return ErrEmailTaken
	}
	return err
}

func TestStolenDatabaseNamesNobody(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		wantNil(t, "profile", w.SetProfile(t.Context(), u.ID, Profile{Name: "Ada Lovelace"}))
		w.start(t, u.ID, "", AMRPassword)
		if _, err := w.NewLink(t.Context(), u.ID, ChangeEmail, "ada@example.org"); err != nil {
			t.Fatal(err)
		}
		_, _ = w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
		for table, columns := range map[string]string{
			"users": "email", "profiles": "sealed", "sessions": "device", "mail_links": "email", "audit": "detail",
		} {
			err := w.db.Query(t.Context(), func(row db.Scanner) error {
				var v []byte
				err := row.Scan(&v)
				for _, secret := range []string{"ada", "Ada", "example", "Test/1", "192.0.2"} {
					if bytes.Contains(v, []byte(secret)) {
						t.Errorf("%s.%s holds %q in clear", table, columns, secret)
					}
				}
				return err
			}, fmt.Sprintf("SELECT %s FROM %s", columns, table))
			wantNil(t, table, err)
		}
	})
}

func TestSealedValueMovedToAnotherPersonDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		if _, err := w.db.Exec(t.Context(), `UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE user_id = $1) WHERE user_id = $2`, a.ID, b.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.db.Exec(t.Context(), `UPDATE users SET email = (SELECT email FROM users WHERE id = $1) WHERE id = $2`, a.ID, b.ID); err != nil {
			t.Fatal(err)
		}
		if u, err := w.User(t.Context(), b.ID); err == nil {
			t.Errorf("another person's key and address opened as %q", u.Email)
		}
	})
}

func TestUsersArePaged(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 5 {
			want = append(want, w.create(t, fmt.Sprintf("user%d@example.com", i)).ID)
		}
		var got []string
		for after := ""; ; {
			page, err := w.Users(t.Context(), after, 2)
			wantNil(t, "users", err)
			if len(page) == 0 {
				break
			}
			for _, u := range page {
				got = append(got, u.ID)
			}
			after = got[len(got)-1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("all pages (-want +got):\n%s", diff)
		}
	})
}

func TestDisabledUserIsDeadAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		link, err := w.NewLink(t.Context(), u.ID, Reset, "")
		wantNil(t, "link", err)
		wantNil(t, "disable", w.SetStatus(t.Context(), u.ID, StatusDisabled))

		if got := w.revocations(); !slices.Contains(got, u.ID+"/"+s.ID) || !slices.Contains(got, u.ID+"/") {
			t.Errorf("revoked %v, want all of the person's tokens", got)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "session", err, ErrNotFound)
		_, _, err = w.StepUp(t.Context(), s, []string{AMRPassword})
		wantErr(t, "step-up", err, ErrNotFound)
		_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", time.Time{})
		wantErr(t, "new session", err, ErrNotFound)
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantErr(t, "sign-in", err, ErrCredentials)
		wantErr(t, "re-authentication", w.CheckUserPassword(t.Context(), u.ID, goodPassword, home), ErrCredentials)
		_, err = w.ResetPassword(t.Context(), link, otherPassword)
		wantErr(t, "reset", err, ErrLink)
		_, err = w.NewLink(t.Context(), u.ID, Reset, "")
		wantErr(t, "new link", err, ErrNotFound)

		wantNil(t, "enable", w.SetStatus(t.Context(), u.ID, StatusActive))
		_, err = w.Session(t.Context(), token)
		wantErr(t, "old session after enabling", err, ErrNotFound)
		_, err = w.ResetPassword(t.Context(), link, otherPassword)
		wantErr(t, "old link after enabling", err, ErrLink)
		wantField(t, "unknown status", w.SetStatus(t.Context(), u.ID, "asleep"), "status", KeyStatusInvalid)
		wantErr(t, "unknown person", w.SetStatus(t.Context(), "nobody", StatusActive), ErrNotFound)
	})
}

func TestNothingEndsHalfway(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		link, err := w.NewLink(t.Context(), u.ID, Reset, "")
		wantNil(t, "link", err)
		w.refuse = errors.New("cannot revoke")
		_, resetErr := w.ResetPassword(t.Context(), link, otherPassword)
		for what, err := range map[string]error{
			"disable": w.SetStatus(t.Context(), u.ID, StatusDisabled), "delete": w.Delete(t.Context(), u.ID),
			"end session": w.EndSession(t.Context(), u.ID, s.ID), "reset": resetErr,
		} {
			wantErr(t, what, err, w.refuse)
		}
		w.refuse = nil
		_, err = w.Session(t.Context(), token)
		wantNil(t, "session after all that failed", err)
		if got, err := w.User(t.Context(), u.ID); err != nil || got.Status != StatusActive {
			t.Errorf("person after all that failed: %+v, %v; want active", got, err)
		}
		_, err = w.ResetPassword(t.Context(), link, otherPassword)
		wantNil(t, "reset again", err)
	})
}

func TestDeleteLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		enrol(t, w, u.ID)
		if _, err := w.NewLink(t.Context(), u.ID, Verify, ""); err != nil {
			t.Fatal(err)
		}
		w.revocations()
		wantNil(t, "delete", w.Delete(t.Context(), u.ID))
		if got := w.revocations(); !slices.Contains(got, u.ID+"/"+s.ID) || !slices.Contains(got, u.ID+"/") {
			t.Errorf("revoked %v, want all of the person's tokens", got)
		}
		for _, table := range []string{"users", "profiles", "totp", "recovery_codes", "sessions", "mail_links"} {
			var n int
			wantNil(t, table, w.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
			if n != 0 {
				t.Errorf("%s has %d rows after the only person was deleted", table, n)
			}
		}
		_, err := w.Session(t.Context(), token)
		wantErr(t, "session", err, ErrNotFound)
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantErr(t, "sign-in", err, ErrCredentials)
		wantErr(t, "delete again", w.Delete(t.Context(), u.ID), ErrNotFound)
		if rows := w.audited(t); !strings.HasPrefix(rows[len(rows)-2], "user.delete success "+u.ID) {
			t.Errorf("audit rows %v, want user.delete among the last", rows)
		}
		if again := w.create(t, u.Email); again.ID == u.ID {
			t.Error("a new account under the address revived the old id")
		}
	})
}

func TestSetProfile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		w.pass(time.Hour)
		want := Profile{
			Name: "Ada Lovelace", GivenName: "Ada", FamilyName: "Lovelace", MiddleName: "King", Nickname: "A", PreferredUsername: "ada",
			ProfileURL: "https://example.com/ada", Picture: "https://example.com/ada.png", Website: "http://ada.example", Gender: "female",
			Birthdate: "0000-12-10", Zoneinfo: "Europe/London", Locale: "en-GB", PhoneNumber: "+442079460000",
			Address: Address{"1 Square\nLondon", "1 Square", "London", "England", "SW1", "UK"},
		}
		wantNil(t, "set", w.SetProfile(t.Context(), u.ID, want))
		got, err := w.User(t.Context(), u.ID)
		wantNil(t, "read", err)
		want.UpdatedAt = w.now()
		if diff := cmp.Diff(want, got.Profile); diff != "" {
			t.Errorf("profile (-want +got):\n%s", diff)
		}
		wantErr(t, "unknown person", w.SetProfile(t.Context(), "nobody", Profile{}), ErrNotFound)
	})
}

func TestSelfVerification(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{PhoneNumber: "+442079460000", PhoneNumberVerified: true}})
		wantNil(t, "create", err)
		if u.Profile.PhoneNumberVerified {
			t.Error("a new account brought its own verified flag")
		}
		wantNil(t, "set", w.SetProfile(t.Context(), u.ID, Profile{PhoneNumber: "+442079460000", PhoneNumberVerified: true}))
		if got, _ := w.User(t.Context(), u.ID); got.Profile.PhoneNumberVerified || got.EmailVerified {
			t.Errorf("a profile set its own verified flag: %+v", got)
		}
		verifyPhone(t, w, u.ID)
		wantNil(t, "set with the same number", w.SetProfile(t.Context(), u.ID, Profile{PhoneNumber: "+44 20 7946 0000"}))
		if got, _ := w.User(t.Context(), u.ID); !got.Profile.PhoneNumberVerified {
			t.Error("keeping the number lost the flag")
		}
		wantNil(t, "set with another number", w.SetProfile(t.Context(), u.ID, Profile{PhoneNumber: "+442079460001", PhoneNumberVerified: true}))
		if got, _ := w.User(t.Context(), u.ID); got.Profile.PhoneNumberVerified {
			t.Error("another number kept the flag")
		}
	})
}

// verifyPhone marks the number as proven, as a future check by text message will.
func verifyPhone(t *testing.T, w *world, userID string) {
	t.Helper()
	var dataKey []byte
	wantNil(t, "data key", w.db.QueryRow(t.Context(), `SELECT wrapped FROM data_keys WHERE user_id = $1`, userID).Scan(&dataKey))
	own, err := w.ownSealer(userID, dataKey)
	wantNil(t, "own sealer", err)
	u, err := w.User(t.Context(), userID)
	wantNil(t, "user", err)
	u.Profile.PhoneNumberVerified = true
	sealed, err := sealProfile(own, userID, u.Profile)
	wantNil(t, "seal", err)
	_, err = w.db.Exec(t.Context(), `UPDATE profiles SET sealed = $2 WHERE user_id = $1`, userID, sealed)
	wantNil(t, "write", err)
}
