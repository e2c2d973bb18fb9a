package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

func TestCheckPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		got, err := w.CheckPassword(t.Context(), "ADA@example.com", goodPassword, home)
		wantNil(t, "right password", err)
		if diff := cmp.Diff(u, got); diff != "" {
			t.Errorf("person (-want +got):\n%s", diff)
		}
		wantNil(t, "right password again", w.CheckUserPassword(t.Context(), u.ID, goodPassword, home))
		wantErr(t, "wrong password again", w.CheckUserPassword(t.Context(), u.ID, "wrong", home), ErrCredentials)
		want := []string{
			"user.create success " + u.ID, "password.check success " + u.ID, "password.confirm success " + u.ID, "password.confirm failure " + u.ID,
		}
		if diff := cmp.Diff(want, w.audited(t)); diff != "" {
			t.Errorf("audit (-want +got):\n%s", diff)
		}
	})
}

func TestUnknownAccountAnswersAlike(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(t, "ada@example.com")
		disabled := w.create(t, "bob@example.com")
		wantNil(t, "disable", w.SetStatus(t.Context(), disabled.ID, StatusDisabled))
		w.create(t, "eve@example.com")
		for range 10 {
			_, err := w.CheckPassword(t.Context(), "eve@example.com", "wrong", home)
			wantErr(t, "wrong password", err, ErrCredentials)
		}
		for _, c := range []struct{ name, email, password string }{
			{"unknown", "nobody@example.com", goodPassword},
			{"wrong password", "ada@example.com", "wrong"},
			{"huge password", "ada@example.com", strings.Repeat("x", 1<<20)},
			{"no password", "ada@example.com", ""},
			{"disabled", "bob@example.com", goodPassword},
			{"locked", "eve@example.com", goodPassword},
			{"malformed address", "no address", goodPassword},
			{"no address", "", goodPassword},
		} {
			hashed := w.hasher.done.Load()
			u, err := w.CheckPassword(t.Context(), c.email, c.password, home)
			if u.ID != "" || err == nil || err.Error() != ErrCredentials.Error() {
				t.Errorf("%s: got %+v, %v; want nothing but %v", c.name, u, err, ErrCredentials)
			}
			if n := w.hasher.done.Load() - hashed; n != 1 {
				t.Errorf("%s: computed %d hashes, want 1 like everybody", c.name, n)
			}
		}
		hashed := w.hasher.done.Load()
		wantErr(t, "unknown id", w.CheckUserPassword(t.Context(), "nobody", goodPassword, home), ErrCredentials)
		if n := w.hasher.done.Load() - hashed; n != 1 {
			t.Errorf("unknown id: computed %d hashes, want 1", n)
		}
	})
}

func TestAbsentHashCostsWhatARealOneDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{})
	absent, err := parsePHC(w.hasher.decoy(""))
	wantNil(t, "absent hash", err)
	phc, err := w.hasher.hash(t.Context(), goodPassword)
	wantNil(t, "hash", err)
	given, err := parsePHC(phc)
	wantNil(t, "real hash", err)
	if absent.cost != given.cost || len(absent.salt) != len(given.salt) || len(absent.key) != len(given.key) {
		t.Errorf("the hash for absent accounts is %+v, a real one %+v", absent, given)
	}
}

func TestEmailSpellingsShareOneCounter(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(t, "ada@bücher.example")
		for i := range 10 {
			email := []string{"ada@bücher.example", "ADA@BÜCHER.example", " ada@xn--bcher-kva.example ", "aDa@xn--BCHER-kva.example"}[i%4]
			_, err := w.CheckPassword(t.Context(), email, "wrong", home)
			wantErr(t, "wrong password", err, ErrCredentials)
		}
		_, err := w.CheckPassword(t.Context(), "ada@bücher.example", goodPassword, home)
		wantErr(t, "right password after ten wrong ones", err, ErrCredentials)
		u, err := w.UserByEmail(t.Context(), "ada@bücher.example")
		wantNil(t, "read", err)
		wantErr(t, "re-authentication shares the count", w.CheckUserPassword(t.Context(), u.ID, goodPassword, home), ErrCredentials)
		w.pass(16 * time.Minute)
		_, err = w.CheckPassword(t.Context(), "ada@bücher.example", goodPassword, home)
		wantNil(t, "right password after the window", err)
	})
}

func TestRightPasswordClearsTheCount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(t, "ada@example.com")
		for range 4 {
			for range 9 {
				_, err := w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
				wantErr(t, "wrong password", err, ErrCredentials)
			}
			_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, home)
			wantNil(t, "tenth try", err)
		}
	})
}

func TestParallelGuessesDoNotSlipThrough(t *testing.T) {
	eachWith(t, Config{PasswordWorkers: 8}, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				if _, err := w.CheckPassword(t.Context(), u.Email, "wrong", home); !errors.Is(err, ErrCredentials) {
					t.Errorf("got error %v, want ErrCredentials", err)
				}
			})
		}
		wg.Wait()
		looked := 0
		err := w.db.Query(t.Context(), func(row db.Scanner) error {
			var detail string
			err := row.Scan(&detail)
			if strings.Contains(detail, `"password"`) {
				looked++
			}
			return err
		}, `SELECT detail FROM audit WHERE action = 'password.check'`)
		wantNil(t, "audit", err)
		if looked != 10 {
			t.Errorf("%d of 60 parallel guesses were compared with the password, want 10", looked)
		}
	})
}

func TestAddressLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spent  func(i int) netip.Addr
		shared []string
		free   []string
	}{
		{
			"IPv4", func(int) netip.Addr { return home },
			[]string{"192.0.2.7", "::ffff:192.0.2.7"},
			[]string{"192.0.2.8", "2001:db8::1"},
		},
		{
			"IPv6 by /64", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1::%x", i+1)) },
			[]string{"2001:db8:0:1:ffff::1", "2001:db8:0:1::%eth0"},
			[]string{"2001:db8:0:2::1", "192.0.2.7"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWith(t, Config{Limits: Limits{AddressTries: 5}}, func(t *testing.T, w *world) {
				w.create(t, "ada@example.com")
				for i := range 5 {
					_, err := w.CheckPassword(t.Context(), fmt.Sprintf("user%d@example.com", i), "wrong", c.spent(i))
					wantErr(t, "wrong password", err, ErrCredentials)
				}
				for _, a := range c.shared {
					_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, netip.MustParseAddr(a))
					wantLimit(t, a, err)
				}
				for _, a := range c.free {
					_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, netip.MustParseAddr(a))
					wantNil(t, a, err)
				}
				w.pass(16 * time.Minute)
				_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, c.spent(0))
				wantNil(t, "after the window", err)
			})
		})
	}
}

func TestRightPasswordDoesNotClearTheAddressCount(t *testing.T) {
	eachWith(t, Config{Limits: Limits{AddressTries: 4}}, func(t *testing.T, w *world) {
		w.create(t, "eve@example.com") // the guesser's own account
		for range 2 {
			_, err := w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
			wantErr(t, "guess", err, ErrCredentials)
			_, err = w.CheckPassword(t.Context(), "eve@example.com", goodPassword, home)
			wantNil(t, "own account", err)
		}
		_, err := w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
		wantLimit(t, "fifth try", err)
	})
}

func TestOverallLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{Limits: Limits{OverallPerSecond: 5}})
	for i := range 5 {
		_, err := w.CheckPassword(t.Context(), fmt.Sprintf("user%d@example.com", i), "wrong", netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		wantErr(t, "wrong password", err, ErrCredentials)
	}
	_, err := w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
	wantLimit(t, "sixth in a second", err)
	w.pass(time.Second)
	_, err = w.CheckPassword(t.Context(), "ada@example.com", "wrong", home)
	wantErr(t, "a second later", err, ErrCredentials)
}

func TestBusyServerDoesNotUseUpTries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{PasswordWorkers: 1})
	w.create(t, "ada@example.com")
	for range cap(w.hasher.admit) {
		wantNil(t, "enter", w.hasher.enter())
	}
	for range 20 {
		_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, home)
		wantErr(t, "full pool", err, ErrBusy)
	}
	w.hasher.leave()
	_, err := w.CheckPassword(t.Context(), "ada@example.com", goodPassword, home)
	wantNil(t, "after one has left", err)
}

func TestOutdatedHashIsUpgradedAtLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		old, err := newHasher(argonCost{memory: 16, time: 1, threads: 1}, 1).hash(t.Context(), goodPassword)
		wantNil(t, "hash", err)
		_, err = w.db.Exec(t.Context(), `UPDATE users SET password_hash = $2 WHERE id = $1`, u.ID, old)
		wantNil(t, "write", err)
		read := func() (phc string) {
			wantNil(t, "read", w.db.QueryRow(t.Context(), `SELECT password_hash FROM users WHERE id = $1`, u.ID).Scan(&phc))
			return phc
		}
		_, err = w.CheckPassword(t.Context(), u.Email, "wrong", home)
		wantErr(t, "wrong password", err, ErrCredentials)
		if read() != old {
			t.Error("a wrong password replaced the hash")
		}
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantNil(t, "right password", err)
		if p, err := parsePHC(read()); err != nil || p.cost != testCost {
			t.Errorf("hash after login: %+v, %v; want today's cost", p.cost, err)
		}
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantNil(t, "right password again", err)
	})
}

func TestSetPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada.lovelace@example.com", Password: goodPassword, MustChangePassword: true})
		wantNil(t, "create", err)
		reset, err := w.NewLink(t.Context(), u.ID, Reset, "")
		wantNil(t, "link", err)
		_, s := w.start(t, u.ID, "", AMRPassword)
		wantField(t, "common", w.SetPassword(t.Context(), s, "password1234"), "password", KeyPasswordCommon)
		wantField(t, "own address", w.SetPassword(t.Context(), s, "Ada.Lovelace1!"), "password", KeyPasswordPersonal)
		wantField(t, "the one-time password", w.SetPassword(t.Context(), s, goodPassword), "password", KeyPasswordSame)
		w.pass(time.Hour / 4)
		wantNil(t, "set", w.SetPassword(t.Context(), s, otherPassword))
		_, err = w.CheckPassword(t.Context(), u.Email, goodPassword, home)
		wantErr(t, "old password", err, ErrCredentials)
		got, err := w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		wantNil(t, "new password", err)
		if got.MustChangePassword || !got.PasswordChangedAt.Equal(w.now()) {
			t.Errorf("after the change: must change %v, changed at %v", got.MustChangePassword, got.PasswordChangedAt)
		}
		_, err = w.CheckLink(t.Context(), reset, Reset)
		wantErr(t, "reset link from before", err, ErrLink)
		wantErr(t, "unknown person", w.SetPassword(t.Context(), Session{ID: s.ID, UserID: "nobody"}, otherPassword), ErrNotFound)
	})
}

// A thief has session and password and is changing the password while the owner resets it.
func TestPasswordChangeRacingWithReset(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, other := w.create(t, "ada@example.com"), w.create(t, "bob@example.com")
		_, thief := w.start(t, u.ID, "", AMRPassword)
		_, foreign := w.start(t, other.ID, "", AMRPassword)
		_, err := w.ResetPassword(t.Context(), w.link(t, u.ID, Reset, ""), otherPassword)
		wantNil(t, "reset", err)
		wantErr(t, "change by an ended session", w.SetPassword(t.Context(), thief, "tulpe-hafen-38-kreide"), ErrNotFound)
		foreign.UserID = u.ID
		wantErr(t, "change by another person's session", w.SetPassword(t.Context(), foreign, "tulpe-hafen-38-kreide"), ErrNotFound)
		_, err = w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		wantNil(t, "the owner's password", err)
	})
}

func TestOneTimePasswordEndsEverything(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.create(t, "ada@example.com")
		token, s := w.start(t, u.ID, "", AMRPassword)
		change := w.link(t, u.ID, ChangeEmail, "eve@example.com")
		for range 10 {
			_, err := w.CheckPassword(t.Context(), u.Email, "wrong", home)
			wantErr(t, "guess", err, ErrCredentials)
		}
		wantNil(t, "set", w.SetOneTimePassword(t.Context(), u.ID, otherPassword))
		if got := w.revocations(); !cmp.Equal(got, []string{u.ID + "/" + s.ID, u.ID + "/"}) {
			t.Errorf("revoked %v, want all tokens", got)
		}
		_, err := w.Session(t.Context(), token)
		wantErr(t, "session from before", err, ErrNotFound)
		_, _, err = w.ChangeEmail(t.Context(), change)
		wantErr(t, "link from before", err, ErrLink)
		got, err := w.CheckPassword(t.Context(), u.Email, otherPassword, home)
		wantNil(t, "sign-in, although the account was locked", err)
		if !got.MustChangePassword {
			t.Error("the one-time password need not be changed")
		}
		wantErr(t, "unknown person", w.SetOneTimePassword(t.Context(), "nobody", otherPassword), ErrNotFound)
	})
}

func TestLoginInProgress(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ticket, expires, err := w.BeginLogin(t.Context(), Login{UserID: "u", AMR: []string{AMRPassword}, Interaction: "i"})
		wantNil(t, "begin", err)
		if want := w.now().Add(10 * time.Minute); !expires.Equal(want) {
			t.Errorf("expires %v, want %v", expires, want)
		}
		l, err := w.Login(t.Context(), ticket)
		wantNil(t, "read", err)
		if l.UserID != "u" || !slices.Equal(l.AMR, []string{AMRPassword}) || l.Interaction != "i" || !l.StartedAt.Equal(w.now()) {
			t.Errorf("login = %+v", l)
		}
		for _, forged := range []string{"", "x", ticket[1:], ticket + "A", strings.Repeat("A", 43)} {
			_, err := w.Login(t.Context(), forged)
			wantErr(t, "forged ticket", err, ErrNotFound)
		}
		wantNil(t, "end", w.EndLogin(t.Context(), ticket))
		_, err = w.Login(t.Context(), ticket)
		wantErr(t, "ended", err, ErrNotFound)
		wantNil(t, "end again", w.EndLogin(t.Context(), ticket))
		ticket, _, err = w.BeginLogin(t.Context(), Login{UserID: "u"})
		wantNil(t, "begin", err)
		_, err = w.Session(t.Context(), ticket)
		wantErr(t, "a ticket used as a session cookie", err, ErrNotFound)
		w.pass(10*time.Minute + time.Second)
		_, err = w.Login(t.Context(), ticket)
		wantErr(t, "expired", err, ErrNotFound)
	})
}
