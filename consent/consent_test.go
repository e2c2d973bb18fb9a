package consent

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// each runs f on both engines with two people (u1, u2) and two apps (c1, c2).
func each(t *testing.T, f func(t *testing.T, s *Store, at *time.Time)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		now := func() time.Time { return at }
		for i := range 2 {
			if _, err := d.Exec(t.Context(), `INSERT INTO users (id, email_index, email, email_verified, password_hash, must_change_password,
				role, status, created_at, updated_at) VALUES ($1, $2, $2, FALSE, '', FALSE, 'user', 'active', $3, $3)`,
				fmt.Sprintf("u%d", i+1), []byte{byte(i)}, db.At(at)); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Exec(t.Context(), `INSERT INTO clients (id, metadata, secrets, disabled, created_at, updated_at)
				VALUES ($1, '{}', '[]', FALSE, $2, $2)`, fmt.Sprintf("c%d", i+1), db.At(at)); err != nil {
				t.Fatal(err)
			}
		}
		f(t, New(d, audit.New(d, slog.New(slog.DiscardHandler), now), now), &at)
	})
}

func (s *Store) mustCover(t *testing.T, want bool, userID, clientID string, scopes ...string) {
	t.Helper()
	got, err := s.Covers(t.Context(), userID, clientID, scopes)
	if err != nil || got != want {
		t.Errorf("Covers(%s, %s, %v) = %v, %v; want %v", userID, clientID, scopes, got, err, want)
	}
}

func (s *Store) mustRemember(t *testing.T, userID, clientID string, scopes ...string) {
	t.Helper()
	if err := s.Remember(t.Context(), userID, clientID, scopes, "v1"); err != nil {
		t.Fatalf("remember: %v", err)
	}
}

func TestConsentIsTheUnionOfAnswers(t *testing.T) {
	each(t, func(t *testing.T, s *Store, at *time.Time) {
		s.mustCover(t, false, "u1", "c1")
		s.mustCover(t, false, "u1", "c1", "openid")
		s.mustRemember(t, "u1", "c1", "openid", "profile", "openid")
		s.mustCover(t, true, "u1", "c1", "openid")
		s.mustCover(t, true, "u1", "c1")
		s.mustCover(t, false, "u1", "c1", "openid", "email")
		first := *at
		*at = at.Add(time.Hour)
		if err := s.Remember(t.Context(), "u1", "c1", []string{"email"}, "v2"); err != nil {
			t.Fatal(err)
		}
		s.mustCover(t, true, "u1", "c1", "email", "profile", "openid")
		got, err := s.List(t.Context(), "u1")
		if err != nil {
			t.Fatal(err)
		}
		want := []Consent{{ClientID: "c1", Scopes: []string{"email", "openid", "profile"}, TextVersion: "v2", GrantedAt: first, UpdatedAt: *at}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	})
}

func TestConsentIsOfOnePersonToOneApp(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *time.Time) {
		s.mustRemember(t, "u1", "c1", "openid")
		s.mustCover(t, false, "u1", "c2", "openid")
		s.mustCover(t, false, "u2", "c1", "openid")
		if list, err := s.List(t.Context(), "u2"); err != nil || len(list) != 0 {
			t.Errorf("another person's list = %v, %v", list, err)
		}
		if err := s.Remember(t.Context(), "u1", "nobody", []string{"openid"}, "v1"); err == nil {
			t.Error("consent to an app that does not exist was kept")
		}
	})
}

func TestScopeIsComparedExactly(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *time.Time) {
		s.mustRemember(t, "u1", "c1", "read:mail")
		for _, scope := range []string{"read", "read:", "READ:MAIL", "read:mail ", "read:mail2", "", "mail"} {
			s.mustCover(t, false, "u1", "c1", scope)
		}
	})
}

func TestForgottenConsentIsAskedAgain(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *time.Time) {
		s.mustRemember(t, "u1", "c1", "openid", "email")
		s.mustRemember(t, "u1", "c2", "openid")
		if err := s.Forget(t.Context(), "u1", "c1"); err != nil {
			t.Fatal(err)
		}
		s.mustCover(t, false, "u1", "c1", "openid")
		s.mustCover(t, true, "u1", "c2", "openid")
		s.mustRemember(t, "u1", "c1", "openid")
		s.mustCover(t, false, "u1", "c1", "email")
		if err := s.Forget(t.Context(), "u2", "c1"); err != nil {
			t.Errorf("forget nothing: %v", err)
		}
	})
}

func TestConcurrentAnswersAddUp(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *time.Time) {
		var scopes []string
		errs := make([]error, 20)
		var wg sync.WaitGroup
		for i := range errs {
			scope := fmt.Sprintf("scope%02d", i)
			scopes = append(scopes, scope)
			wg.Go(func() { errs[i] = s.Remember(t.Context(), "u1", "c1", []string{scope}, "v1") })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		s.mustCover(t, true, "u1", "c1", scopes...)
	})
}
