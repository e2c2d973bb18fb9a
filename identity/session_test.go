package identity

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameSession = cmp.Options{cmpopts.IgnoreUnexported(Session{}), cmpopts.EquateComparable(netip.Addr{})}

func TestSessionLifecycle(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, EmailVerified: true, MustChangePassword: true, Role: RoleAdmin})
		wantNil(t, "create", err)
		token, want := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
		if len(token) != 43 || want.ID == "" || want.ACR() != ACRMFA || !want.EmailVerified || !want.MustChangePassword || want.Role != RoleAdmin || want.HasTOTP {
			t.Errorf("started %+v with token of %d characters", want, len(token))
		}
		got, err := w.Session(t.Context(), token)
		wantNil(t, "read", err)
		if diff := cmp.Diff(want, got, sameSession); diff != "" {
			t.Errorf("read differs from started (-want +got):\n%s", diff)
		}
		list, err := w.Sessions(t.Context(), u.ID)
		wantNil(t, "list", err)
		if len(list) != 1 || list[0].ID != want.ID || list[0].Device != (Device{UserAgent: "Test/1", Address: home}) {
			t.Errorf("list = %+v, want the session with its device", list)
		}
		enrol(t, w, u.ID)
		if got, _ := w.Session(t.Context(), token); !got.HasTOTP {
			t.Error("session does not know of the second factor")
		}
		wantNil(t, "end", w.EndSession(t.Context(), u.ID, want.ID))
		if got := w.revocations(); !cmp.Equal(got, []string{u.ID + "/" + want.ID}) {
			t.Errorf("revoked %v, want the session's tokens", got)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "ended session", err, ErrNotFound)
		wantErr(t, "end again", w.EndSession(t.Context(), u.ID, want.ID), ErrNotFound)
	})
}

func TestACR(t *testing.T) {
	t.Parallel()
	if got := (Session{AMR: []string{AMRPassword}}).ACR(); got != ACRPassword {
		t.Errorf("password alone: %q", got)
	}
	if got := (Session{AMR: []string{AMRPassword, AMRRecovery, AMRMFA}}).ACR(); got != ACRMFA {
		t.Errorf("with a recovery code: %q", got)
	}
}

func TestForgedSessionToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		flipped := "A" + token[1:]
		if flipped == token {
			flipped = "B" + token[1:]
		}
		for _, forged := range []string{"", "x", s.ID, token[:42], token + "A", flipped, strings.ToUpper(token), string(s.tokenHash), strings.Repeat("'", 43)} {
			_, err := w.Session(t.Context(), forged)
			wantErr(t, "forged token", err, ErrNotFound)
		}
	})
}

func TestSessionFixation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		planted, evil := w.start(t, eve.ID, "", AMRPassword)

		token, s := w.start(t, ada.ID, planted, AMRPassword)
		if token == planted || s.ID == evil.ID || s.UserID != ada.ID {
			t.Errorf("login over a planted cookie gave session %+v", s)
		}
		_, err := w.Session(t.Context(), planted)
		wantErr(t, "planted token after the login", err, ErrNotFound)
		if got := w.revocations(); !cmp.Equal(got, []string{eve.ID + "/" + evil.ID}) {
			t.Errorf("revoked %v, want the tokens of the session that was replaced", got)
		}

		again, s2 := w.start(t, ada.ID, token, AMRPassword)
		_, err = w.Session(t.Context(), token)
		wantErr(t, "the person's own old token", err, ErrNotFound)
		if again == token || s2.ID != s.ID || len(w.revocations()) != 0 {
			t.Errorf("login of the same person: %+v, want the same session under a new token and nothing revoked", s2)
		}
		chosen := strings.Repeat("A", 43)
		fresh, _ := w.start(t, ada.ID, chosen, AMRPassword)
		_, err = w.Session(t.Context(), chosen)
		if fresh == chosen || !errors.Is(err, ErrNotFound) {
			t.Error("a token chosen by the browser became a session")
		}
		if list, _ := w.Sessions(t.Context(), ada.ID); len(list) != 2 {
			t.Errorf("%d sessions, want 2", len(list))
		}
	})
}

func TestOverSessionDoesNotLendItsID(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		w.pass(15 * 24 * time.Hour)
		if _, s2 := w.start(t, u.ID, token, AMRPassword); s2.ID == s.ID {
			t.Error("an expired session went on")
		}
	})
}

func TestSessionExpiry(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		idle, _ := w.start(t, u.ID, "", AMRPassword)
		used, _ := w.start(t, u.ID, "", AMRPassword)
		for range 8 {
			w.pass(13 * 24 * time.Hour)
			if _, err := w.Session(t.Context(), used); err != nil && w.now().Before(time.Date(2026, 5, 30, 0, 0, 0, 0, time.UTC)) {
				t.Fatalf("a session in use is over on %v: %v", w.now(), err)
			}
		}
		_, err := w.Session(t.Context(), idle)
		wantErr(t, "idle session", err, ErrNotFound)
		_, err = w.Session(t.Context(), used)
		wantErr(t, "session older than 90 days", err, ErrNotFound)
		if list, _ := w.Sessions(t.Context(), u.ID); len(list) != 0 {
			t.Errorf("list shows %d sessions that are over", len(list))
		}
		wantNil(t, "purge", w.Purge(t.Context()))
		var n int
		wantNil(t, "count", w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM sessions`).Scan(&n))
		if n != 0 {
			t.Errorf("%d rows after purge, want 0", n)
		}
	})
}

func TestLastUseIsWrittenSeldom(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		w.pass(4 * time.Minute)
		got, _ := w.Session(t.Context(), token)
		if !got.LastSeenAt.Equal(s.LastSeenAt) {
			t.Errorf("written after 4 minutes: %v", got.LastSeenAt)
		}
		w.pass(2 * time.Minute)
		_, err := w.Session(t.Context(), token)
		wantNil(t, "read", err)
		if got, _ = w.Session(t.Context(), token); !got.LastSeenAt.Equal(w.now()) {
			t.Errorf("last use is %v after 6 minutes, want %v", got.LastSeenAt, w.now())
		}
	})
}

func TestStepUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		w.pass(time.Minute)
		token2, s2, err := w.StepUp(t.Context(), s, []string{AMROTP, AMRMFA})
		wantNil(t, "step up", err)
		if s2.ID != s.ID || token2 == token || !s2.AuthTime.Equal(s.AuthTime) || !slices.Equal(s2.AMR, []string{AMRPassword, AMROTP, AMRMFA}) {
			t.Errorf("stepped up to %+v", s2)
		}
		_, err = w.Session(t.Context(), token)
		wantErr(t, "token from before", err, ErrNotFound)
		got, err := w.Session(t.Context(), token2)
		wantNil(t, "read", err)
		if diff := cmp.Diff(s2, got, sameSession); diff != "" {
			t.Errorf("read differs (-want +got):\n%s", diff)
		}
		_, _, err = w.StepUp(t.Context(), s, []string{AMROTP})
		wantErr(t, "step-up of the old token", err, ErrNotFound)
		list, _ := w.Sessions(t.Context(), u.ID)
		_, _, err = w.StepUp(t.Context(), list[0], []string{AMROTP})
		wantErr(t, "step-up of somebody's listed session", err, ErrNotFound)
		_, _, err = w.StepUp(t.Context(), Session{ID: s.ID, UserID: u.ID}, []string{AMROTP})
		wantErr(t, "step-up of a made-up session", err, ErrNotFound)
	})
}

func TestStepUpClaimsOnlyWhatWasProvenNow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, s := w.start(t, u.ID, "", AMRPassword, AMROTP, AMRMFA)
		w.pass(time.Hour)
		_, s, err := w.StepUp(t.Context(), s, []string{AMRPassword})
		wantNil(t, "step up", err)
		if s.ACR() != ACRPassword {
			t.Errorf("a password alone kept %v with a fresh auth_time", s.AMR)
		}
	})
}

func TestConcurrentStepUpHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, s := w.start(t, u.ID, "", AMRPassword)
		if won := race(t, ErrNotFound, func() error {
			_, _, err := w.StepUp(t.Context(), s, []string{AMRPassword})
			return err
		}); won != 1 {
			t.Errorf("%d of 20 stepped up from one token, want 1", won)
		}
	})
}

func TestEndingAnotherPersonsSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		token, s := w.start(t, ada.ID, "", AMRPassword)
		wantErr(t, "end", w.EndSession(t.Context(), eve.ID, s.ID), ErrNotFound)
		if got := w.revocations(); len(got) != 0 {
			t.Errorf("revoked %v", got)
		}
		_, err := w.EndSessions(t.Context(), eve.ID, "")
		wantNil(t, "end all of one's own", err)
		_, err = w.Session(t.Context(), token)
		wantNil(t, "the other person's session", err)
		if list, _ := w.Sessions(t.Context(), eve.ID); len(list) != 0 {
			t.Errorf("sees %d sessions of somebody else", len(list))
		}
	})
}

func TestEndSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		kept, s := w.start(t, u.ID, "", AMRPassword)
		gone, a := w.start(t, u.ID, "", AMRPassword)
		_, b := w.start(t, u.ID, "", AMRPassword)
		n, err := w.EndSessions(t.Context(), u.ID, s.ID)
		wantNil(t, "end others", err)
		want := []string{u.ID + "/" + a.ID, u.ID + "/" + b.ID}
		got := w.revocations()
		slices.Sort(want)
		slices.Sort(got)
		if n != 2 || !cmp.Equal(got, want) {
			t.Errorf("ended %d and revoked %v, want 2 and %v", n, got, want)
		}
		_, err = w.Session(t.Context(), kept)
		wantNil(t, "kept session", err)
		_, err = w.Session(t.Context(), gone)
		wantErr(t, "other session", err, ErrNotFound)
		n, err = w.EndSessions(t.Context(), u.ID, "")
		wantNil(t, "end all", err)
		if got := w.revocations(); n != 1 || !cmp.Equal(got, []string{u.ID + "/" + s.ID, u.ID + "/"}) {
			t.Errorf("ended %d and revoked %v, want 1 and everything", n, got)
		}
	})
}

// A thief's right password is being checked while its owner sets another and so ends all sessions.
func TestSignInRacingWithNewPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		changes := map[string]func(u User) error{
			"reset": func(u User) error {
				_, err := w.ResetPassword(t.Context(), w.link(t, u.ID, Reset, ""), otherPassword)
				return err
			},
			"one-time": func(u User) error { return w.SetOneTimePassword(t.Context(), u.ID, otherPassword) },
			"change": func(u User) error {
				_, s := w.start(t, u.ID, "", AMRPassword)
				if err := w.SetPassword(t.Context(), s, otherPassword); err != nil {
					return err
				}
				return w.EndSession(t.Context(), u.ID, s.ID)
			},
		}
		for name, change := range changes {
			w.create(t, name+"@example.com")
			u, err := w.CheckPassword(t.Context(), name+"@example.com", goodPassword, home)
			wantNil(t, name+": right password", err)
			w.pass(time.Second)
			wantNil(t, name, change(u))
			_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", u.PasswordChangedAt)
			wantErr(t, name+": session for the old password", err, ErrNotFound)
			if list, err := w.Sessions(t.Context(), u.ID); err != nil || len(list) != 0 {
				t.Errorf("%s: sessions %v, %v, want none", name, list, err)
			}
			u, err = w.CheckPassword(t.Context(), name+"@example.com", otherPassword, home)
			wantNil(t, name+": new password", err)
			_, _, err = w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{}, "", u.PasswordChangedAt)
			wantNil(t, name+": session for the new password", err)
		}
	})
}

func TestHugeUserAgentIsCut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		_, _, err := w.StartSession(t.Context(), u.ID, []string{AMRPassword}, Device{UserAgent: strings.Repeat("é\xff", 1<<16)}, "", time.Time{})
		wantNil(t, "start", err)
		list, err := w.Sessions(t.Context(), u.ID)
		wantNil(t, "list", err)
		if len(list) != 1 || len(list[0].Device.UserAgent) > maxUserAgent {
			t.Errorf("kept %d bytes of browser name", len(list[0].Device.UserAgent))
		}
	})
}
