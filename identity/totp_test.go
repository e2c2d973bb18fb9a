package identity

import (
	"bytes"
	"image/png"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/gatehouse-id/gatehouse/internal/softkey"
)

// enrol turns two-step sign-in on and lets a minute pass, so that the next code is a fresh one.
func enrol(t *testing.T, w *world, userID string) (secret string) {
	t.Helper()
	e, err := w.BeginTOTP(t.Context(), userID, "Gatehouse")
	if err != nil {
		t.Fatalf("begin enrolment: %v", err)
	}
	in := w.in(t, userID)
	if _, err := w.ConfirmTOTP(t.Context(), in, codeAt(t, e.Secret, w.now())); err != nil {
		t.Fatalf("confirm enrolment: %v", err)
	}
	if _, err := w.db.Exec(t.Context(), `DELETE FROM sessions WHERE id = $1`, in.ID); err != nil { // it is nobody's, and its device is not sealed
		t.Fatal(err)
	}
	w.pass(time.Minute)
	return e.Secret
}

func codeAt(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// wrongCode is a code that is right at no step near now.
func wrongCode(t *testing.T, secret string, now time.Time) string {
	t.Helper()
	var right []string
	for s := -3; s <= 3; s++ {
		right = append(right, codeAt(t, secret, now.Add(time.Duration(s)*30*time.Second)))
	}
	for _, c := range []string{"000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777"} {
		if !slices.Contains(right, c) {
			return c
		}
	}
	t.Fatal("no wrong code left")
	return ""
}

func TestEnrolment(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		first, err := w.BeginTOTP(t.Context(), u.ID, "Gate: house")
		wantNil(t, "begin", err)
		again, err := w.BeginTOTP(t.Context(), u.ID, "Gate: house")
		wantNil(t, "begin again", err)
		if again.Secret != first.Secret || len(first.Secret) != 32 {
			t.Errorf("secrets %q and %q, want the same of 160 bits", first.Secret, again.Secret)
		}
		key, err := otp.NewKeyFromURL(first.URL)
		if err != nil || key.Secret() != first.Secret || key.AccountName() != u.Email || key.Issuer() != "Gate  house" || key.Period() != 30 {
			t.Errorf("URL %q reads as %v, %v", first.URL, key, err)
		}
		if img, err := png.Decode(bytes.NewReader(first.QR)); err != nil || img.Bounds().Dx() < 200 {
			t.Errorf("QR code: %v", err)
		}
		code := codeAt(t, first.Secret, w.now())
		wantErr(t, "sign-in before the confirmation", w.CheckTOTP(t.Context(), u.ID, code), ErrCode)
		if got, _ := w.User(t.Context(), u.ID); got.HasTOTP {
			t.Error("two-step sign-in is on before the confirmation")
		}
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, u.ID), wrongCode(t, first.Secret, w.now()))
		wantErr(t, "wrong code", err, ErrCode)
		recovery, err := w.ConfirmTOTP(t.Context(), w.in(t, u.ID), code)
		wantNil(t, "confirm", err)
		if len(recovery) != 10 || len(slices.Compact(slices.Sorted(slices.Values(recovery)))) != 10 {
			t.Errorf("recovery codes %v, want ten different ones", recovery)
		}
		if got, _ := w.User(t.Context(), u.ID); !got.HasTOTP {
			t.Error("two-step sign-in is off after the confirmation")
		}
		wantErr(t, "the enrolment's code at sign-in", w.CheckTOTP(t.Context(), u.ID, code), ErrCode)
		_, err = w.BeginTOTP(t.Context(), u.ID, "Gatehouse")
		wantErr(t, "begin when it is on", err, ErrEnrolled)
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, u.ID), codeAt(t, first.Secret, w.now()))
		wantErr(t, "confirm when it is on", err, ErrEnrolled)
		_, err = w.BeginTOTP(t.Context(), "nobody", "Gatehouse")
		wantErr(t, "unknown person", err, ErrNotFound)
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, "nobody"), code)
		wantErr(t, "unknown person", err, ErrNotFound)
	})
}

func TestPlantedSeedIsReplaced(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		planted, err := w.BeginTOTP(t.Context(), u.ID, "Gatehouse")
		wantNil(t, "begin", err)
		w.pass(time.Hour)
		fresh, err := w.BeginTOTP(t.Context(), u.ID, "Gatehouse")
		wantNil(t, "begin", err)
		if fresh.Secret == planted.Secret {
			t.Error("a secret that was shown an hour ago is offered again")
		}
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, u.ID), codeAt(t, planted.Secret, w.now()))
		wantErr(t, "confirm with the old secret", err, ErrCode)
	})
}

func TestTOTPReplayAcrossSkew(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		secret := enrol(t, w, u.ID)
		early, now, late := codeAt(t, secret, w.now().Add(-30*time.Second)), codeAt(t, secret, w.now()), codeAt(t, secret, w.now().Add(30*time.Second))
		wantErr(t, "two steps ahead", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now().Add(time.Minute))), ErrCode)
		wantNil(t, "current code", w.CheckTOTP(t.Context(), u.ID, now))
		wantErr(t, "the same code", w.CheckTOTP(t.Context(), u.ID, now), ErrCode)
		wantErr(t, "an older code of the window", w.CheckTOTP(t.Context(), u.ID, early), ErrCode)
		w.pass(30 * time.Second)
		wantErr(t, "the same code in the next step", w.CheckTOTP(t.Context(), u.ID, now), ErrCode)
		wantNil(t, "the next code, with a space", w.CheckTOTP(t.Context(), u.ID, late[:3]+" "+late[3:]))
		wantErr(t, "the next code again", w.CheckTOTP(t.Context(), u.ID, late), ErrCode)
	})
}

func TestClockSkewOfOneStep(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		secret := enrol(t, w, u.ID)
		wantNil(t, "an app 30 s behind", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now().Add(-30*time.Second))))
		wantNil(t, "an app 30 s ahead", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now().Add(30*time.Second))))
	})
}

func TestConcurrentUseOfOneTOTPCode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.limits.CodeTries = 30
		u := w.create(t, "ada@example.com")
		secret := enrol(t, w, u.ID)
		code := codeAt(t, secret, w.now())
		if won := race(t, ErrCode, func() error { return w.CheckTOTP(t.Context(), u.ID, code) }); won != 1 {
			t.Errorf("%d of 20 used one code, want 1", won)
		}
	})
}

func TestConcurrentConfirmation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.limits.CodeTries = 30
		u := w.create(t, "ada@example.com")
		e, err := w.BeginTOTP(t.Context(), u.ID, "Gatehouse")
		wantNil(t, "begin", err)
		code := codeAt(t, e.Secret, w.now())
		s := w.in(t, u.ID)
		if won := race(t, ErrEnrolled, func() error { _, err := w.ConfirmTOTP(t.Context(), s, code); return err }); won != 1 {
			t.Errorf("%d of 20 confirmed, want 1", won)
		}
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 10 {
			t.Errorf("%d recovery codes, want 10", n)
		}
	})
}

func TestCodeGuessingIsLimitedOverAllPaths(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		secret, otherSecret := enrol(t, w, u.ID), enrol(t, w, other.ID)
		codes, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantNil(t, "recovery codes", err)
		wrong := wrongCode(t, secret, w.now())
		wantErr(t, "wrong code", w.CheckTOTP(t.Context(), u.ID, wrong), ErrCode)
		wantErr(t, "wrong code", w.CheckTOTP(t.Context(), u.ID, ""), ErrCode)
		wantErr(t, "wrong code", w.CheckTOTP(t.Context(), u.ID, strings.Repeat("1", 1<<20)), ErrCode)
		wantErr(t, "wrong recovery code", w.CheckRecoveryCode(t.Context(), u.ID, "000000-000000"), ErrCode)
		wantErr(t, "wrong recovery code", w.CheckRecoveryCode(t.Context(), u.ID, "not even one"), ErrCode)
		wantLimit(t, "right code after five wrong ones", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now())))
		wantLimit(t, "right recovery code after five wrong ones", w.CheckRecoveryCode(t.Context(), u.ID, codes[0]))
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, u.ID), wrong)
		wantLimit(t, "confirmation after five wrong ones", err)
		wantNil(t, "another person", w.CheckTOTP(t.Context(), other.ID, codeAt(t, otherSecret, w.now())))
		w.pass(6 * time.Minute)
		wantNil(t, "right code after the window", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now())))
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 10 {
			t.Errorf("%d recovery codes left, want 10", n)
		}
	})
}

func TestPatientCodeGuesser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		secret := enrol(t, w, u.ID)
		tried := 0
		for range 24 * 60 { // one try a minute, all day
			if w.CheckTOTP(t.Context(), u.ID, "12345") == ErrCode { //nolint:errorlint // exactly that, no limit
				tried++
			}
			w.pass(time.Minute)
		}
		if tried > 2*codesPerDay {
			t.Errorf("%d tries in a day, want at most %d", tried, 2*codesPerDay)
		}
		w.pass(24 * time.Hour)
		wantNil(t, "the person the next day", w.CheckTOTP(t.Context(), u.ID, codeAt(t, secret, w.now())))
	})
}

func TestRecoveryCodes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		_, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantErr(t, "codes without two-step sign-in", err, ErrNotFound)
		enrol(t, w, u.ID)
		enrol(t, w, eve.ID)
		codes, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantNil(t, "codes", err)
		wantErr(t, "another person's code", w.CheckRecoveryCode(t.Context(), eve.ID, codes[0]), ErrCode)
		wantNil(t, "first", w.CheckRecoveryCode(t.Context(), u.ID, codes[0]))
		wantErr(t, "first again", w.CheckRecoveryCode(t.Context(), u.ID, codes[0]), ErrCode)
		spoken := strings.NewReplacer("0", "O", "1", "l", "-", " ").Replace(strings.ToUpper(codes[1]))
		wantNil(t, "second as written on paper", w.CheckRecoveryCode(t.Context(), u.ID, " "+spoken+" "))
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 8 {
			t.Errorf("%d left, want 8", n)
		}
		fresh, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantNil(t, "renew", err)
		wantErr(t, "code from before", w.CheckRecoveryCode(t.Context(), u.ID, codes[2]), ErrCode)
		wantNil(t, "remove", w.RemoveTOTP(t.Context(), u.ID))
		wantErr(t, "code after two-step sign-in was turned off", w.CheckRecoveryCode(t.Context(), u.ID, fresh[0]), ErrCode)
		wantErr(t, "remove again", w.RemoveTOTP(t.Context(), u.ID), ErrNotFound)
		if got, _ := w.User(t.Context(), u.ID); got.HasTOTP {
			t.Error("two-step sign-in is still on")
		}
	})
}

func TestConcurrentUseOfOneRecoveryCode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.limits.CodeTries = 30
		u := w.create(t, "ada@example.com")
		enrol(t, w, u.ID)
		codes, err := w.NewRecoveryCodes(t.Context(), u.ID)
		wantNil(t, "codes", err)
		if won := race(t, ErrCode, func() error { return w.CheckRecoveryCode(t.Context(), u.ID, codes[0]) }); won != 1 {
			t.Errorf("%d of 20 used one recovery code, want 1", won)
		}
		if n, _ := w.RecoveryCodesLeft(t.Context(), u.ID); n != 9 {
			t.Errorf("%d left, want 9", n)
		}
	})
}

func FuzzRecoveryCode(f *testing.F) {
	for _, s := range []string{"4k9f2m-x7qd0t", " OIL OIL OIL OIL ", "000000\u2011000000", "\xff", "12345678901\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := normalCode(s, recoveryLength)
		if n != "" && len(n) != recoveryLength {
			t.Errorf("%q is normal as %q", s, n)
		}
		if n != normalCode(n, recoveryLength) {
			t.Errorf("%q is normal as %q, which is not", s, n)
		}
	})
}

// A page that was left open, or a thief who is being thrown out, adds no factor with a request that was let through before.
func TestAttackFactorAddedByAnEndedSession(t *testing.T) {
	eachKeyed(t, func(t *testing.T, w *world) {
		for name, over := range map[string]func(s Session) error{
			"ended":     func(s Session) error { return w.EndSession(t.Context(), s.UserID, s.ID) },
			"all ended": func(s Session) error { _, err := w.EndSessions(t.Context(), s.UserID, ""); return err },
			"disowned":  func(s Session) error { _, err := w.Disown(t.Context(), s.UserID, ""); return err },
			"not fresh": func(Session) error { w.pass(Freshness); return nil },
			"disabled":  func(s Session) error { return w.SetStatus(t.Context(), s.UserID, StatusDisabled) },
		} {
			u := w.create(t, strings.ReplaceAll(name, " ", "-")+"@example.com")
			s := w.in(t, u.ID)
			e, err := w.BeginTOTP(t.Context(), u.ID, "Gatehouse")
			wantNil(t, "begin", err)
			wantNil(t, name, over(s))
			answer := created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(u.ID)))
			_, err = w.ConfirmTOTP(t.Context(), s, codeAt(t, e.Secret, w.now()))
			wantErr(t, name+": app", err, ErrStale)
			_, _, _, err = w.AddPasskey(t.Context(), s, enrolling(u.ID), "Key", answer)
			wantErr(t, name+": passkey", err, ErrStale)
			if got, err := w.User(t.Context(), u.ID); err != nil || got.TwoStep() {
				t.Errorf("%s: a factor was added, %v", name, err)
			}
		}
		// Nor into somebody else's account.
		ada, eve := w.create(t, "ada@example.com"), w.create(t, "eve@example.com")
		answer := created(t, softkey.New(keyOrigin, keyRPID), w.options(t, enrolling(ada.ID)))
		_, _, _, err := w.AddPasskey(t.Context(), w.in(t, eve.ID), enrolling(ada.ID), "Key", answer)
		wantErr(t, "in another's session", err, ErrPasskey)
	})
}
