package identity

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// provider adds a row that the store of providers would.
func (w *world) provider(t *testing.T, id string) {
	t.Helper()
	_, err := w.db.Exec(t.Context(), `INSERT INTO providers (id, metadata, secret, disabled, created_at, updated_at) VALUES ($1, '{}', $2, FALSE, $3, $3)`, id, []byte{}, db.At(w.now()))
	wantNil(t, "provider", err)
}

func at(provider, subject string) Elsewhere {
	return Elsewhere{Provider: provider, Issuer: "https://" + provider + ".example", Subject: subject, Label: subject + "@" + provider + ".example"}
}

func TestLinkedAccounts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "acme")
		u := w.create(t, "ada@example.com")
		_, err := w.ByLinked(ctx, at("acme", "ada"))
		wantErr(t, "before", err, ErrNotFound)
		wantNil(t, "link", w.Link(ctx, u.ID, at("acme", "ada")))
		wantNil(t, "link again", w.Link(ctx, u.ID, at("acme", "ada")))
		w.pass(time.Hour)
		got, err := w.ByLinked(ctx, at("acme", "ada"))
		if err != nil || got.ID != u.ID {
			t.Errorf("found %s, %v; want %s", got.ID, err, u.ID)
		}
		list, err := w.LinkedAccounts(ctx, u.ID)
		if err != nil || len(list) != 1 {
			t.Fatalf("listed %+v, %v", list, err)
		}
		if diff := cmp.Diff(at("acme", "ada"), list[0].Elsewhere); diff != "" || list[0].UsedAt.Sub(list[0].CreatedAt) != time.Hour {
			t.Errorf("listed %+v", list[0])
		}
		var sealed, index []byte
		wantNil(t, "row", w.db.QueryRow(ctx, `SELECT sealed, subject_index FROM linked_accounts`).Scan(&sealed, &index))
		if bytes.Contains(sealed, []byte("ada")) || bytes.Contains(index, []byte("ada")) {
			t.Error("who the person is elsewhere lies in the table unsealed")
		}
		held, err := w.Holdings(ctx, u.ID)
		if err != nil || len(held.Linked) != 1 || held.Linked[0].Subject != "ada" {
			t.Errorf("held %+v, %v", held.Linked, err)
		}
	})
}

// (provider, issuer, subject) leads to one person for good: neither a second person, nor another provider or issuer that
// uses the same subject, gets in by it.
func TestAttackLinkedAccountOfSomebodyElse(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "acme")
		w.provider(t, "evil")
		u, mallory := w.create(t, "ada@example.com"), w.create(t, "mallory@example.com")
		wantNil(t, "link", w.Link(ctx, u.ID, at("acme", "ada")))
		wantErr(t, "the same for another person", w.Link(ctx, mallory.ID, at("acme", "ada")), ErrLinked)
		for name, e := range map[string]Elsewhere{
			"other provider": {Provider: "evil", Issuer: "https://acme.example", Subject: "ada"},
			"other issuer":   {Provider: "acme", Issuer: "https://evil.example", Subject: "ada"},
			"other subject":  {Provider: "acme", Issuer: "https://acme.example", Subject: "Ada"},
			"shifted":        {Provider: "acme", Issuer: "https://acme.exampleada", Subject: ""},
		} {
			_, err := w.ByLinked(ctx, e)
			wantErr(t, name, err, ErrNotFound)
		}
		if n := race(t, ErrLinked, func() error {
			other := w.create(t, strings.ToLower(time.Now().Format("150405.000000000"))+"@example.com")
			return w.Link(ctx, other.ID, at("acme", "race"))
		}); n != 1 {
			t.Errorf("%d persons got the same account elsewhere, want 1", n)
		}
	})
}

func TestDisabledPersonByLinkedAccount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.provider(t, "acme")
		u := w.create(t, "ada@example.com")
		wantNil(t, "link", w.Link(t.Context(), u.ID, at("acme", "ada")))
		wantNil(t, "disable", w.SetStatus(t.Context(), u.ID, StatusDisabled))
		_, err := w.ByLinked(t.Context(), at("acme", "ada"))
		wantErr(t, "disabled", err, ErrCredentials)
	})
}

func TestUnlink(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "acme")
		w.provider(t, "other")
		u, err := w.CreateLinked(ctx, NewUser{Email: "ada@example.com", EmailVerified: true, Profile: Profile{Name: "Ada"}}, at("acme", "ada"))
		wantNil(t, "create", err)
		if u.HasPassword || !u.PasswordChangedAt.IsZero() || !u.EmailVerified || u.Profile.Name != "Ada" {
			t.Errorf("created %+v", u)
		}
		_, err = w.CheckPassword(ctx, u.Email, "", home)
		wantErr(t, "sign-in without password", err, ErrCredentials)
		_, err = w.CreateLinked(ctx, NewUser{Email: "ada@example.com"}, at("acme", "second"))
		wantErr(t, "address taken", err, ErrEmailTaken)
		_, err = w.CreateLinked(ctx, NewUser{Email: "bob@example.com"}, at("acme", "ada"))
		wantErr(t, "linked already", err, ErrLinked)
		_, err = w.UserByEmail(ctx, "bob@example.com")
		wantErr(t, "person without the link", err, ErrNotFound)

		_, _, err = w.StartSessionVia(ctx, Via{Provider: "other"}, u.ID, []string{AMRFederated}, Device{}, "", u.PasswordChangedAt)
		wantErr(t, "session by a provider that is not linked", err, ErrNotFound) // sign-in racing with an unlinking, or with a reset
		_, s, err := w.StartSession(ctx, u.ID, []string{AMRMailCode}, Device{}, "", u.PasswordChangedAt)
		wantNil(t, "session", err)
		_, theirs, err := w.StartSessionVia(ctx, Via{Provider: "acme"}, u.ID, []string{AMRFederated}, Device{}, "", u.PasswordChangedAt)
		wantNil(t, "session by the provider", err)
		keyOf := func(provider string) string {
			t.Helper()
			list, err := w.LinkedAccounts(ctx, u.ID)
			wantNil(t, "list", err)
			i := slices.IndexFunc(list, func(l Linked) bool { return l.Provider == provider })
			return list[i].Key
		}
		_, err = w.Unlink(ctx, s, keyOf("acme"))
		wantErr(t, "the last way in", err, ErrLastWayIn)
		wantNil(t, "another", w.Link(ctx, u.ID, at("other", "ada")))
		wantNil(t, "disable it", exec(w.db.Exec(ctx, `UPDATE providers SET disabled = TRUE WHERE id = 'other'`)))
		_, err = w.Unlink(ctx, s, keyOf("acme"))
		wantErr(t, "the other one is disabled", err, ErrLastWayIn)
		wantNil(t, "enable it", exec(w.db.Exec(ctx, `UPDATE providers SET disabled = FALSE WHERE id = 'other'`)))

		mallory := w.create(t, "mallory@example.com")
		_, sm := w.start(t, mallory.ID, "", AMRPassword)
		_, err = w.Unlink(ctx, sm, keyOf("acme"))
		wantErr(t, "somebody else's", err, ErrNotFound)
		_, err = w.Unlink(ctx, s, "zz")
		wantErr(t, "no key", err, ErrNotFound)

		removed, err := w.Unlink(ctx, s, keyOf("acme"))
		if err != nil || removed.Provider != "acme" {
			t.Errorf("removed %+v, %v", removed, err)
		}
		if got := w.revocations(); !slices.Contains(got, u.ID+"/"+theirs.ID) || slices.Contains(got, u.ID+"/"+s.ID) {
			t.Errorf("revoked %q, want the session that came by the provider and not the present one", got)
		}
		_, err = w.ByLinked(ctx, at("acme", "ada"))
		wantErr(t, "after", err, ErrNotFound)
	})
}

func exec(_ int64, err error) error { return err }

// Two links are removed at once: one must stay, or nobody gets in any more.
func TestUnlinkRaceOfTheLastTwo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "acme")
		u, err := w.CreateLinked(ctx, NewUser{Email: "ada@example.com"}, at("acme", "one"))
		wantNil(t, "create", err)
		wantNil(t, "link", w.Link(ctx, u.ID, at("acme", "two")))
		_, s := w.start(t, u.ID, "", AMRFederated)
		list, err := w.LinkedAccounts(ctx, u.ID)
		wantNil(t, "list", err)
		results := make(chan error, 2)
		for _, l := range list {
			go func() {
				_, err := w.Unlink(ctx, s, l.Key)
				results <- err
			}()
		}
		a, b := <-results, <-results
		if (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), ErrLastWayIn) {
			t.Errorf("results %v and %v, want one success and %v", a, b, ErrLastWayIn)
		}
	})
}

func TestDisabledProviderEndsSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "acme")
		u := w.create(t, "ada@example.com")
		wantNil(t, "link", w.Link(ctx, u.ID, at("acme", "ada")))
		via, s, err := w.StartSessionVia(ctx, Via{Provider: "acme"}, u.ID, []string{AMRFederated}, Device{}, "", u.PasswordChangedAt)
		wantNil(t, "session", err)
		own, _ := w.start(t, u.ID, "", AMRPassword)
		again, s2, err := w.StartSessionVia(ctx, Via{Provider: "acme"}, u.ID, []string{AMRFederated}, Device{}, via, u.PasswordChangedAt)
		if err != nil || s2.ID != s.ID {
			t.Fatalf("a second sign-in in the same browser has session %s, %v; want %s", s2.ID, err, s.ID)
		}
		wantNil(t, "disable", exec(w.db.Exec(ctx, `UPDATE providers SET disabled = TRUE`)))
		_, _, err = w.StartSessionVia(ctx, Via{Provider: "acme"}, u.ID, []string{AMRFederated}, Device{}, "", u.PasswordChangedAt)
		wantErr(t, "sign-in by a disabled provider", err, ErrNotFound)
		if n, err := w.EndProviderSessions(ctx, "acme"); err != nil || n != 1 {
			t.Errorf("ended %d, %v; want 1", n, err)
		}
		_, err = w.Session(ctx, again)
		wantErr(t, "session by the provider", err, ErrNotFound)
		if _, err := w.Session(ctx, own); err != nil {
			t.Errorf("session by password: %v", err)
		}
		if !slices.Contains(w.revocations(), u.ID+"/"+s.ID) {
			t.Error("the tokens of the session live on")
		}
	})
}

// A sign-in by password afterwards makes the session the password's.
func TestSessionChangesHands(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.provider(t, "acme")
		u := w.create(t, "ada@example.com")
		wantNil(t, "link", w.Link(t.Context(), u.ID, at("acme", "ada")))
		via, _, err := w.StartSessionVia(t.Context(), Via{Provider: "acme"}, u.ID, []string{AMRFederated}, Device{}, "", u.PasswordChangedAt)
		wantNil(t, "session", err)
		w.start(t, u.ID, via, AMRPassword)
		if n, err := w.EndProviderSessions(t.Context(), "acme"); err != nil || n != 0 {
			t.Errorf("ended %d, %v; want 0", n, err)
		}
	})
}

// Mallory makes an account with Ada's address, which he cannot prove, and a way in of his own. When Ada comes and proves the address
// by a new password, his way in must be gone.
func TestAttackAccountPreHijacking(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provider(t, "evil")
		u, err := w.CreateLinked(ctx, NewUser{Email: "ada@example.com"}, at("evil", "mallory"))
		wantNil(t, "create", err)
		token, err := w.NewLink(ctx, u.ID, Reset, u.Email)
		wantNil(t, "link", err)
		_, err = w.ResetPassword(ctx, token, otherPassword)
		wantNil(t, "reset", err)
		_, err = w.ByLinked(ctx, at("evil", "mallory"))
		wantErr(t, "the old way in", err, ErrNotFound)

		wantNil(t, "link once more", w.Link(ctx, u.ID, at("evil", "ada")))
		token, err = w.NewLink(ctx, u.ID, Reset, u.Email)
		wantNil(t, "link", err)
		_, err = w.ResetPassword(ctx, token, goodPassword)
		wantNil(t, "reset", err)
		if _, err := w.ByLinked(ctx, at("evil", "ada")); err != nil {
			t.Errorf("a proven address loses its links by a new password: %v", err)
		}
	})
}

func TestProfileFromClaims(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		long := strings.Repeat("x", maxName+1)
		p := w.ProfileFrom(map[string]string{
			"name": " Ada Lovelace ", "given_name": long, "picture": "javascript:alert(1)", "preferred_username": "ada@acme.example", "locale": "de-CH",
			"zoneinfo": "Mars/Olympus", "phone_number_verified": "true", "nickname": "A\u202eda",
		})
		if p.Name == "" || p.GivenName != "" || p.Picture != "" || p.PreferredUsername != "" || p.Locale != "de-CH" || p.Zoneinfo != "" || p.PhoneNumberVerified || p.Nickname != "" {
			t.Errorf("profile %+v: want what can stand and nothing else", p)
		}
		u := w.create(t, "ada@example.com")
		wantNil(t, "set", w.SetProfile(t.Context(), u.ID, Profile{Name: "Ada", Nickname: "A"}))
		u, err := w.User(t.Context(), u.ID)
		wantNil(t, "read", err)
		wantNil(t, "refresh", w.RefreshProfile(t.Context(), u, map[string]string{"name": "Countess", "nickname": "Count", "gender": long}, []string{"name", "gender"}))
		u, err = w.User(t.Context(), u.ID)
		if err != nil || u.Profile.Name != "Countess" || u.Profile.Nickname != "A" || u.Profile.Gender != "" {
			t.Errorf("profile %+v, %v", u.Profile, err)
		}
	})
}
