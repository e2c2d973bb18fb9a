package identity

import (
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/softkey"
)

// notMe makes the link of a notice.
func (w *world) notMe(t *testing.T, userID string, about Act) string {
	t.Helper()
	token, err := w.NewNotMeLink(t.Context(), userID, about)
	wantNil(t, "link of a notice", err)
	return token
}

// has counts a person's passkeys and recovery codes, and tells whether they have an app.
func (w *world) has(t *testing.T, userID string) (passkeys, codes int, app bool) {
	t.Helper()
	u, err := w.User(t.Context(), userID)
	wantNil(t, "user", err)
	list, err := w.Passkeys(t.Context(), userID)
	wantNil(t, "passkeys", err)
	codes, err = w.RecoveryCodesLeft(t.Context(), userID)
	wantNil(t, "codes", err)
	return len(list), codes, u.HasTOTP
}

// A thief has added a factor, so that the person cannot sign in any more, nor by a new password: the notice takes it out again.
func TestDisownRemovesExactlyTheFactor(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, own := w.passkey(t, u, "Mine")
		_, stolen := w.passkey(t, u, "Theirs")
		enrol(t, w, u.ID)
		factors, err := w.Factors(t.Context(), u.ID)
		wantNil(t, "factors", err)
		if len(factors) != 3 || factors[0] != PasskeyAct(own.ID) || !factors[2].TOTP() {
			t.Fatalf("factors %v", factors)
		}
		passkeyLink, appLink, change := w.notMe(t, u.ID, PasskeyAct(stolen.ID)), w.notMe(t, u.ID, factors[2]), w.link(t, u.ID, ChangeEmail, "thief@example.com")
		s := w.in(t, u.ID)
		for range 3 { // a mail scanner follows it, too
			about, err := w.CheckNotMeLink(t.Context(), passkeyLink)
			if err != nil || about != PasskeyAct(stolen.ID) {
				t.Fatalf("check: %q, %v", about, err)
			}
		}
		got, removed, err := w.DisownByLink(t.Context(), passkeyLink)
		if err != nil || !removed || got.ID != u.ID {
			t.Fatalf("disown: %v, %v, %v", got.ID, removed, err)
		}
		list, err := w.Passkeys(t.Context(), u.ID)
		if err != nil || len(list) != 1 || list[0].ID != own.ID {
			t.Errorf("passkeys left: %+v, %v", list, err)
		}
		if _, codes, app := w.has(t, u.ID); codes != 0 || !app {
			t.Errorf("%d recovery codes left that the thief has seen, app %v", codes, app)
		}
		if err := w.EndSession(t.Context(), u.ID, s.ID); err == nil {
			t.Error("a session goes on")
		}
		_, _, err = w.ChangeEmail(t.Context(), change)
		wantErr(t, "the thief's change of address", err, ErrLink)
		_, _, err = w.DisownByLink(t.Context(), passkeyLink)
		wantErr(t, "used link", err, ErrLink)

		// A new password does not void what the other notice is about.
		_, err = w.ResetPassword(t.Context(), w.link(t, u.ID, Reset, ""), otherPassword)
		wantNil(t, "reset", err)
		_, removed, err = w.DisownByLink(t.Context(), appLink)
		if _, _, app := w.has(t, u.ID); err != nil || !removed || app {
			t.Errorf("the app is there: %v, %v", app, err)
		}
	})
}

// Whoever reads a person's mail must not be rid of what the notice is not about, nor of what has been in force for long.
func TestAttackSecondFactorStrippedByMailbox(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		_, key := w.passkey(t, u, "Key")
		enrol(t, w, u.ID)
		app, err := w.TOTPAct(t.Context(), u.ID)
		wantNil(t, "app", err)
		_, others := w.passkey(t, other, "Key")

		old, foreign := w.notMe(t, u.ID, PasskeyAct(key.ID)), w.notMe(t, u.ID, PasskeyAct(others.ID))
		address, replaced := w.notMe(t, u.ID, ActAddress), w.notMe(t, u.ID, app)
		_, removed, err := w.DisownByLink(t.Context(), address)
		if keys, codes, app := w.has(t, u.ID); err != nil || removed || keys != 1 || codes != 10 || !app {
			t.Errorf("a notice about the address leaves %d passkeys, %d codes, app %v; %v", keys, codes, app, err)
		}
		_, removed, err = w.DisownByLink(t.Context(), foreign)
		if keys, _, _ := w.has(t, other.ID); err != nil || removed || keys != 1 {
			t.Errorf("somebody else has %d passkeys, %v", keys, err)
		}
		// The app was set up anew since: that was another act.
		wantNil(t, "remove", w.RemoveTOTP(t.Context(), u.ID))
		w.pass(time.Minute)
		enrol(t, w, u.ID)
		_, removed, err = w.DisownByLink(t.Context(), replaced)
		if _, _, app := w.has(t, u.ID); err != nil || removed || !app {
			t.Errorf("the app that came later: %v, %v", app, err)
		}
		w.pass(notMeLife)
		_, _, err = w.DisownByLink(t.Context(), old)
		wantErr(t, "after three days", err, ErrLink)
		if keys, _, _ := w.has(t, u.ID); keys != 1 {
			t.Errorf("%d passkeys", keys)
		}
		for _, token := range []string{w.link(t, u.ID, Reset, ""), w.link(t, u.ID, Verify, ""), "", "x"} {
			_, _, err := w.DisownByLink(t.Context(), token)
			wantErr(t, "another link", err, ErrLink)
		}
		k := softkey.New(keyOrigin, keyRPID)
		_, _, _, err = w.AddPasskey(t.Context(), w.in(t, u.ID), enrolling(u.ID), "Key", created(t, k, w.options(t, enrolling(u.ID))))
		wantNil(t, "another passkey", err)
	})
}
