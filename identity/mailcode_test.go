package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const elsewhere = "another interaction"

func (w *world) proven(t *testing.T, email string) User {
	t.Helper()
	u, err := w.Create(t.Context(), NewUser{Email: email, Password: goodPassword, EmailVerified: true})
	wantNil(t, "create", err)
	return u
}

func (w *world) mailed(t *testing.T, email string) MailCode {
	t.Helper()
	m, err := w.BeginMailCode(t.Context(), email, "")
	wantNil(t, "begin", err)
	return m
}

func TestMailCode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.proven(t, "ada@example.com")
		m := w.mailed(t, "ADA@Example.com")
		if m.To.ID != u.ID || len(m.Code) != 9 || m.Expires.Sub(w.now()) != 10*time.Minute {
			t.Fatalf("begun: %+v", m)
		}
		_, err := w.CheckMailCode(t.Context(), m.Ticket, "", "0000-0000")
		wantErr(t, "wrong code", err, ErrCode)
		typed := " " + strings.ReplaceAll(strings.ToLower(m.Code), "-", " ")
		got, err := w.CheckMailCode(t.Context(), m.Ticket, "", typed)
		wantNil(t, "right code, as people type it", err)
		if got.ID != u.ID {
			t.Errorf("signed in %s, want %s", got.ID, u.ID)
		}
		_, err = w.CheckMailCode(t.Context(), m.Ticket, "", m.Code)
		wantErr(t, "again", err, ErrNotFound)
		if rows := w.audited(t); !slices.Contains(rows, "mail_code.check failure "+u.ID) || rows[len(rows)-1] != "mail_code.check success "+u.ID {
			t.Errorf("audited %v", rows)
		}
	})
}

func TestAttackMailCodeUsedTwiceAtOnce(t *testing.T) {
	eachWith(t, Config{Limits: Limits{CodeTries: 100}}, func(t *testing.T, w *world) {
		w.proven(t, "ada@example.com")
		m := w.mailed(t, "ada@example.com")
		won := 0
		for range 3 { // as many tries as a code has, all at once
			won += race(t, ErrNotFound, func() error {
				_, err := w.CheckMailCode(t.Context(), m.Ticket, "", m.Code)
				var limit *LimitError
				if errors.As(err, &limit) {
					return ErrNotFound
				}
				return err
			})
		}
		if won > 1 {
			t.Errorf("%d sign-ins by one code, want one at most", won)
		}
	})
}

// The code is good for one browser, one person, one purpose, one interaction, and a short while.
func TestAttackMailCodeForAnotherPurpose(t *testing.T) {
	eachWith(t, Config{Limits: Limits{CodeTries: 100}}, func(t *testing.T, w *world) {
		ada, bob := w.proven(t, "ada@example.com"), w.proven(t, "bob@example.com")
		wantNil(t, "enrol", w.enrolTOTP(t, ada.ID))
		m, other := w.mailed(t, "ada@example.com"), w.mailed(t, "ada@example.com")
		bobs := w.mailed(t, "bob@example.com")
		_, err := w.CheckMailCode(t.Context(), other.Ticket, "", m.Code)
		wantErr(t, "in another browser of the same person", err, ErrCode)
		_, err = w.CheckMailCode(t.Context(), bobs.Ticket, "", m.Code)
		wantErr(t, "in another person's browser", err, ErrCode)
		_, err = w.CheckMailCode(t.Context(), m.Ticket, elsewhere, m.Code)
		wantErr(t, "for another app's request", err, ErrNotFound)
		_, err = w.CheckMailCode(t.Context(), "", "", m.Code)
		wantErr(t, "without a ticket", err, ErrNotFound)
		wantErr(t, "as a two-step code", w.CheckTOTP(t.Context(), ada.ID, m.Code), ErrCode)
		wantErr(t, "as a recovery code", w.CheckRecoveryCode(t.Context(), ada.ID, m.Code), ErrCode)
		for _, purpose := range []Purpose{Verify, Reset, ChangeEmail} {
			for _, token := range []string{m.Code, m.Ticket} {
				_, err = w.CheckLink(t.Context(), token, purpose)
				wantErr(t, "as a link to "+string(purpose), err, ErrLink)
			}
		}
		_, err = w.CheckSignUpInvitation(t.Context(), m.Ticket)
		wantErr(t, "as an invitation", err, ErrLink)
		_, err = w.Login(t.Context(), m.Ticket)
		wantErr(t, "as a login whose first factor is proven", err, ErrNotFound)
		_, err = w.Session(t.Context(), m.Ticket)
		wantErr(t, "as a session", err, ErrNotFound)
		w.pass(10 * time.Minute)
		_, err = w.CheckMailCode(t.Context(), m.Ticket, "", m.Code)
		wantErr(t, "too late", err, ErrNotFound)
		_ = bob
	})
}

func (w *world) enrolTOTP(t *testing.T, userID string) error {
	t.Helper()
	if _, err := w.BeginTOTP(t.Context(), userID, "Gatehouse"); err != nil {
		return err
	}
	_, err := w.db.Exec(t.Context(), `UPDATE totp SET confirmed_at = created_at WHERE user_id = $1`, userID)
	return err
}

func TestAttackMailCodeOutlivesAChange(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world, u User){
		"new password": func(t *testing.T, w *world, u User) {
			token, err := w.NewLink(t.Context(), u.ID, Reset, "")
			wantNil(t, "link", err)
			_, err = w.ResetPassword(t.Context(), token, otherPassword)
			wantNil(t, "reset", err)
		},
		"new address": func(t *testing.T, w *world, u User) {
			token, err := w.NewLink(t.Context(), u.ID, ChangeEmail, "ada@new.example")
			wantNil(t, "link", err)
			_, _, err = w.ChangeEmail(t.Context(), token)
			wantNil(t, "change", err)
		},
		"disabled": func(t *testing.T, w *world, u User) {
			wantNil(t, "disable", w.SetStatus(t.Context(), u.ID, StatusDisabled))
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				u := w.proven(t, "ada@example.com")
				m := w.mailed(t, "ada@example.com")
				w.pass(time.Second)
				change(t, w, u)
				_, err := w.CheckMailCode(t.Context(), m.Ticket, "", m.Code)
				wantErr(t, name, err, ErrNotFound)
			})
		})
	}
}

// Whoever signs up with another's address and a password of his own must not find the owner moved in.
func TestAttackMailCodeForAnUnprovenAddress(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		m := w.mailed(t, "ada@example.com")
		if m.Code != "" || m.To.ID != u.ID {
			t.Errorf("begun: code %q to %q, want none, to ada", m.Code, m.To.ID)
		}
		_, err := w.CheckMailCode(t.Context(), m.Ticket, "", "0000-0000")
		wantErr(t, "guess", err, ErrCode)
	})
}

// Nobody's sign-in takes as many tries as somebody's, then ends alike.
func TestAttackAccountFoundByMailCodeTries(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.proven(t, "ada@example.com")
		w.create(t, "unproven@example.com")
		for _, email := range []string{"ada@example.com", "unproven@example.com", "nobody@example.com", "not an address"} {
			var seen []string
			for range 3 {
				m := w.mailed(t, email)
				if got, err := w.MailCodeEmail(t.Context(), m.Ticket, ""); got != email || err != nil {
					t.Errorf("%s: shows %q, %v", email, got, err)
				}
				for range 5 {
					_, err := w.CheckMailCode(t.Context(), m.Ticket, "", "0000-0000")
					var limit *LimitError
					switch {
					case errors.Is(err, ErrCode):
						seen = append(seen, "wrong")
					case errors.As(err, &limit):
						seen = append(seen, "limit")
					case errors.Is(err, ErrNotFound):
						seen = append(seen, "over")
					default:
						t.Fatalf("%s: %v", email, err)
					}
				}
			}
			want := "wrong wrong wrong limit over wrong wrong limit over over limit over over over over"
			if got := strings.Join(seen, " "); got != want {
				t.Errorf("%s: %s, want %s", email, got, want)
			}
		}
	})
}

// TestAttackCodesCountedApart mixes every kind of code, each under another name of the person: they share one count.
func TestAttackCodesCountedApart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.proven(t, "ada@example.com")
		wantNil(t, "enrol", w.enrolTOTP(t, u.ID))
		m := w.mailed(t, "Ada@EXAMPLE.com ")
		wantErr(t, "1: two-step code", w.CheckTOTP(t.Context(), u.ID, "000000"), ErrCode)
		wantErr(t, "2: recovery code", w.CheckRecoveryCode(t.Context(), u.ID, "0"), ErrCode)
		_, err := w.CheckMailCode(t.Context(), m.Ticket, "", "0")
		wantErr(t, "3: mail code", err, ErrCode)
		again := w.mailed(t, "ada@example.com")
		_, err = w.CheckMailCode(t.Context(), again.Ticket, "", "0")
		wantErr(t, "4: another mail code", err, ErrCode)
		wantErr(t, "5: two-step code", w.CheckTOTP(t.Context(), u.ID, "000000"), ErrCode)
		wantLimit(t, "6: two-step code", w.CheckTOTP(t.Context(), u.ID, "000000"))
		wantLimit(t, "6: recovery code", w.CheckRecoveryCode(t.Context(), u.ID, "0"))
		_, err = w.ConfirmTOTP(t.Context(), w.in(t, u.ID), "000000")
		wantLimit(t, "6: enrolment", err)
		_, err = w.CheckMailCode(t.Context(), again.Ticket, "", again.Code)
		wantLimit(t, "6: the right mail code", err)
	})
}

// Whoever reads a person's mail has the first factor; it must not buy tries at the second.
func TestAttackTwoStepTriesBoughtByMailCodes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.proven(t, "ada@example.com")
		wantNil(t, "enrol", w.enrolTOTP(t, u.ID))
		guesses := 0
		for range 10 {
			m := w.mailed(t, "ada@example.com")
			if m.Code == "" {
				break
			}
			if _, err := w.CheckMailCode(t.Context(), m.Ticket, "", m.Code); err != nil {
				break
			}
			if errors.Is(w.CheckTOTP(t.Context(), u.ID, "000000"), ErrCode) {
				guesses++
			}
		}
		if guesses > 5 {
			t.Errorf("%d guesses at the second factor, want 5 at most", guesses)
		}
	})
}

// A stranger who asks for codes all day leaves tries over for the person's own app.
func TestAttackLockedOutByMailCodes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.proven(t, "ada@example.com")
		wantNil(t, "enrol", w.enrolTOTP(t, u.ID))
		for range 24 {
			for range 3 {
				m := w.mailed(t, "ada@example.com")
				for range 3 {
					_, _ = w.CheckMailCode(t.Context(), m.Ticket, "", "0000-0000")
				}
				w.pass(20 * time.Minute)
			}
		}
		if err := w.CheckTOTP(t.Context(), u.ID, "000000"); !errors.Is(err, ErrCode) {
			t.Errorf("the person's own try: got %v, want a try that counts", err)
		}
	})
}

func FuzzNormalCode(f *testing.F) {
	f.Add("4K9F-2MX7")
	f.Add(" o0 iIlL -‐\t")
	f.Add(strings.Repeat("0", 200))
	f.Fuzz(func(t *testing.T, s string) {
		for _, length := range []int{mailCodeLength, recoveryLength} {
			n := normalCode(s, length)
			if n != "" && (len(n) != length || strings.Trim(n, recoveryAlphabet) != "") {
				t.Errorf("%q became %q", s, n)
			}
			if normalCode(n, length) != n {
				t.Errorf("%q is not its own normal form", n)
			}
		}
	})
}

func TestMailCodesAreNormal(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		code := newMailCode()
		if normalCode(code, mailCodeLength) != strings.ToLower(strings.ReplaceAll(code, "-", "")) || seen[code] {
			t.Fatalf("code %q", code)
		}
		seen[code] = true
	}
}
