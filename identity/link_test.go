package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (w *world) link(t *testing.T, userID string, p Purpose, email string) string {
	t.Helper()
	token, err := w.NewLink(t.Context(), userID, p, email)
	if err != nil {
		t.Fatalf("new %s link: %v", p, err)
	}
	return token
}

func TestVerifyEmail(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token := w.link(t, u.ID, Verify, "")
		for range 3 { // a mail scanner follows it, too
			got, err := w.CheckLink(t.Context(), token, Verify)
			if err != nil || got.ID != u.ID {
				t.Fatalf("check: %+v, %v", got, err)
			}
		}
		got, err := w.VerifyEmail(t.Context(), token, u.ID)
		if err != nil || !got.EmailVerified {
			t.Fatalf("verify: %+v, %v", got, err)
		}
		_, err = w.VerifyEmail(t.Context(), token, u.ID)
		wantErr(t, "used link", err, ErrLink)
		_, err = w.CheckLink(t.Context(), token, Verify)
		wantErr(t, "used link checked", err, ErrLink)
	})
}

func TestLinkIsBoundToItsPurpose(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		use := map[Purpose]func(token string) error{
			Verify:      func(token string) error { _, err := w.VerifyEmail(t.Context(), token, u.ID); return err },
			Reset:       func(token string) error { _, err := w.ResetPassword(t.Context(), token, otherPassword); return err },
			ChangeEmail: func(token string) error { _, _, err := w.ChangeEmail(t.Context(), token); return err },
		}
		tokens := map[Purpose]string{}
		for p := range use {
			tokens[p] = w.link(t, u.ID, p, "")
		}
		for made, token := range tokens {
			for used, f := range use {
				if made != used {
					wantErr(t, string(made)+" link used for "+string(used), f(token), ErrLink)
					_, err := w.CheckLink(t.Context(), token, used)
					wantErr(t, string(made)+" link checked for "+string(used), err, ErrLink)
				}
			}
		}
		for _, forged := range []string{"", "x", strings.Repeat("A", 43), tokens[Verify] + "A"} {
			wantErr(t, "forged link", use[Verify](forged), ErrLink)
		}
		wantNil(t, "link used for its purpose", use[Verify](tokens[Verify]))
		_, err := w.NewLink(t.Context(), u.ID, "login", "")
		if err == nil {
			t.Error("a link for an unknown purpose was made")
		}
	})
}

func TestLinkIsBoundToItsPerson(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		_, err := w.NewLink(t.Context(), eve.ID, Reset, ada.Email)
		wantErr(t, "reset link to another's address", err, ErrNotFound)
		_, err = w.NewLink(t.Context(), eve.ID, Verify, ada.Email)
		wantErr(t, "verification of another's address", err, ErrNotFound)
		token := w.link(t, eve.ID, Reset, "")
		got, err := w.ResetPassword(t.Context(), token, otherPassword)
		if err != nil || got.ID != eve.ID {
			t.Errorf("reset: %+v, %v", got, err)
		}
		_, err = w.CheckPassword(t.Context(), ada.Email, goodPassword, home)
		wantNil(t, "the other person's password", err)

		// Somebody with write access to the database moves a link to another person.
		token = w.link(t, eve.ID, Verify, "")
		_, err = w.db.Exec(t.Context(), `UPDATE mail_links SET user_id = $1`, ada.ID)
		wantNil(t, "move", err)
		if _, err := w.VerifyEmail(t.Context(), token, ada.ID); err == nil {
			t.Error("a link moved to another person works")
		}
	})
}

func TestExpiredLink(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		reset, verify, change := w.link(t, u.ID, Reset, ""), w.link(t, u.ID, Verify, ""), w.link(t, u.ID, ChangeEmail, "ada@example.org")
		w.pass(30 * time.Minute)
		_, err := w.CheckLink(t.Context(), reset, Reset)
		wantErr(t, "reset link after 30 minutes", err, ErrLink)
		_, err = w.ResetPassword(t.Context(), reset, otherPassword)
		wantErr(t, "reset after 30 minutes", err, ErrLink)
		w.pass(23*time.Hour + 30*time.Minute)
		_, err = w.VerifyEmail(t.Context(), verify, u.ID)
		wantErr(t, "verification after a day", err, ErrLink)
		_, _, err = w.ChangeEmail(t.Context(), change)
		wantErr(t, "change after a day", err, ErrLink)
		wantNil(t, "purge", w.Purge(t.Context()))
		var n int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM mail_links`).Scan(&n))
		if n != 0 {
			t.Errorf("%d links after purge, want 0", n)
		}
	})
}

func TestNewLinkVoidsTheOld(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		verify := w.link(t, u.ID, Verify, "")
		old := w.link(t, u.ID, Reset, "")
		fresh := w.link(t, u.ID, Reset, "")
		_, err := w.ResetPassword(t.Context(), old, otherPassword)
		wantErr(t, "old link", err, ErrLink)
		_, err = w.CheckLink(t.Context(), verify, Verify)
		wantNil(t, "link of another purpose", err)
		_, err = w.ResetPassword(t.Context(), fresh, otherPassword)
		wantNil(t, "new link", err)

		race(t, nil, func() error { _, err := w.NewLink(t.Context(), u.ID, Reset, ""); return err })
		var n int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM mail_links WHERE purpose = 'reset'`).Scan(&n))
		if n != 1 {
			t.Errorf("%d links live after twenty were made at once, want 1", n)
		}
	})
}

func TestConcurrentUseOfOneLink(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		verify := w.link(t, u.ID, Verify, "")
		if won := race(t, ErrLink, func() error { _, err := w.VerifyEmail(t.Context(), verify, u.ID); return err }); won != 1 {
			t.Errorf("%d of 20 used one verification link, want 1", won)
		}
		change := w.link(t, u.ID, ChangeEmail, "ada@example.org")
		if won := race(t, ErrLink, func() error { _, _, err := w.ChangeEmail(t.Context(), change); return err }); won != 1 {
			t.Errorf("%d of 20 used one change link, want 1", won)
		}
		reset := w.link(t, u.ID, Reset, "")
		if won := race(t, ErrLink, func() error { _, err := w.ResetPassword(t.Context(), reset, otherPassword); return err }); won != 1 {
			t.Errorf("%d of 20 used one reset link, want 1", won)
		}
	})
}

func TestResetPasswordEndsEverything(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		secret := enrol(t, w, u.ID)
		token, s := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
		verify, change := w.link(t, u.ID, Verify, ""), w.link(t, u.ID, ChangeEmail, "eve@example.com")
		for range 12 {
			_, err := w.CheckPassword(t.Context(), u.Email, "wrong", home)
			wantErr(t, "guess", err, ErrCredentials)
		}
		w.revocations()
		reset := w.link(t, u.ID, Reset, "")
		_, err := w.ResetPassword(t.Context(), reset, "password1234")
		wantField(t, "weak password", err, "password", KeyPasswordCommon)
		got, err := w.ResetPassword(t.Context(), reset, otherPassword)
		wantNil(t, "reset after a weak try", err)
		if !got.EmailVerified || got.MustChangePassword || !got.HasTOTP {
			t.Errorf("after the reset: %+v, want a proven address and two-step sign-in still on", got)
		}
		if got := w.revocations(); !cmp.Equal(got, []string{u.ID + "/" + s.ID, u.ID + "/"}) {
			t.Errorf("revoked %v, want all tokens", got)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "old session", err, ErrNotFound)
		_, err = w.VerifyEmail(t.Context(), verify, u.ID)
		wantErr(t, "old verification link", err, ErrLink)
		_, _, err = w.ChangeEmail(t.Context(), change)
		wantErr(t, "a thief's change link", err, ErrLink)
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantErr(t, "old password", err, ErrCredentials)
		_, err = w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		wantNil(t, "new password, although the account was locked", err)
		w.pass(time.Minute)
		wantNil(t, "second factor", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now())))
	})
}

func TestChangeEmail(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, err := w.NewLink(t.Context(), u.ID, ChangeEmail, "no address")
		wantField(t, "malformed", err, "email", KeyEmailInvalid)
		reset, verify := w.link(t, u.ID, Reset, ""), w.link(t, u.ID, Verify, "")
		token := w.link(t, u.ID, ChangeEmail, " Ada@Example.ORG ")
		if got, _ := w.User(t.Context(), u.ID); got.Email != u.Email {
			t.Errorf("the address is %q before the link was followed", got.Email)
		}
		got, old, err := w.ChangeEmail(t.Context(), token)
		wantNil(t, "change", err)
		if got.Email != "Ada@example.org" || !got.EmailVerified || old != "ada@example.com" {
			t.Errorf("changed to %+v from %q", got, old)
		}
		_, err = w.UserByEmail(t.Context(), "ada@example.com")
		wantErr(t, "old address", err, ErrNotFound)
		_, err = w.CheckPassword(t.Context(), "ada@example.org", goodPassword, home)
		wantNil(t, "sign-in with the new address", err)
		_, err = w.ResetPassword(t.Context(), reset, otherPassword)
		wantErr(t, "reset link in the old mailbox", err, ErrLink)
		_, err = w.VerifyEmail(t.Context(), verify, u.ID)
		wantErr(t, "verification link in the old mailbox", err, ErrLink)
	})
}

func TestChangeEmailToATakenAddress(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		token := w.link(t, eve.ID, ChangeEmail, "ADA@example.com") // says nothing about Ada
		_, _, err := w.ChangeEmail(t.Context(), token)
		wantErr(t, "change", err, ErrEmailTaken)
		if got, _ := w.UserByEmail(t.Context(), "ada@example.com"); got.ID != ada.ID {
			t.Errorf("the address belongs to %s now", got.ID)
		}
		if got, _ := w.User(t.Context(), eve.ID); got.Email != "eve@example.com" || got.EmailVerified {
			t.Errorf("half a change: %+v", got)
		}
	})
}

// Somebody signs up with a stranger's address; the stranger presses the button in the mail (account pre-hijacking).
func TestAttackAddressVerifiedByAStranger(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		thief, stranger := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		token := w.link(t, thief.ID, Verify, "")
		for _, who := range []string{"", stranger.ID} {
			_, err := w.VerifyEmail(t.Context(), token, who)
			wantErr(t, "in nobody's or another's account", err, ErrLink)
		}
		if got, _ := w.User(t.Context(), thief.ID); got.EmailVerified {
			t.Fatal("the address is proven")
		}
		_, err := w.VerifyEmail(t.Context(), token, thief.ID)
		wantNil(t, "in the account, with a link that others had tried", err)

		again := w.create(t, "eve@example.com")
		token = w.link(t, again.ID, Verify, "")
		wantNil(t, "refuse", w.RefuseEmail(t.Context(), token))
		wantErr(t, "refuse twice", w.RefuseEmail(t.Context(), token), ErrLink)
		_, err = w.VerifyEmail(t.Context(), token, again.ID)
		wantErr(t, "a refused link", err, ErrLink)
	})
}
