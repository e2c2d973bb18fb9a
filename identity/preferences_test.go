package identity

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPreferences(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u, err := w.Create(t.Context(), NewUser{Email: "ada@example.com", Password: goodPassword, Profile: Profile{Locale: "de-CH", Zoneinfo: "Europe/Zurich"}})
		wantNil(t, "create", err)
		token, _ := w.start(t, u.ID, "", AMRPassword)
		inForce := func(what string, want Preferences) {
			t.Helper()
			s, err := w.Session(t.Context(), token)
			wantNil(t, "session", err)
			got, err := w.User(t.Context(), u.ID)
			wantNil(t, "user", err)
			if diff := cmp.Diff(want, s.Preferences); diff != "" {
				t.Errorf("%s, session (-want +got):\n%s", what, diff)
			}
			if diff := cmp.Diff(want, got.Preferences); diff != "" {
				t.Errorf("%s, person (-want +got):\n%s", what, diff)
			}
		}
		inForce("none set", Preferences{Language: "de-CH", Zone: "Europe/Zurich"})
		if h, err := w.Holdings(t.Context(), u.ID); err != nil || h.Preferences != nil {
			t.Errorf("holdings %+v, %v; want none", h.Preferences, err)
		}
		wantNil(t, "set", w.SetPreferences(t.Context(), u.ID, Preferences{Language: "ja", Zone: "Asia/Tokyo", Theme: ThemeDark}))
		inForce("set", Preferences{Language: "ja", Zone: "Asia/Tokyo", Theme: ThemeDark, UpdatedAt: w.now()})
		wantNil(t, "set", w.SetPreferences(t.Context(), u.ID, Preferences{}))
		inForce("as the browser says", Preferences{UpdatedAt: w.now()})
		if got, err := w.User(t.Context(), u.ID); err != nil || got.Profile.Locale != "de-CH" || got.Profile.Zoneinfo != "Europe/Zurich" {
			t.Errorf("profile %+v, %v; want what apps are told left alone", got.Profile, err)
		}
		if h, err := w.Holdings(t.Context(), u.ID); err != nil || h.Preferences == nil {
			t.Errorf("holdings %+v, %v; want the preferences", h.Preferences, err)
		}

		wantField(t, "language", w.SetPreferences(t.Context(), u.ID, Preferences{Language: "no language"}), "language", KeyLocaleInvalid)
		wantField(t, "zone", w.SetPreferences(t.Context(), u.ID, Preferences{Zone: "Moon/Sea"}), "zone", KeyZoneinfoInvalid)
		if err := w.SetPreferences(t.Context(), u.ID, Preferences{Theme: `dark" onload="x`}); err == nil {
			t.Error("any word is a theme")
		}
		wantErr(t, "nobody", w.SetPreferences(t.Context(), "nobody", Preferences{}), ErrNotFound)

		wantNil(t, "set", w.SetPreferences(t.Context(), u.ID, Preferences{Zone: "Asia/Tokyo"}))
		var sealed []byte
		wantNil(t, "row", w.db.QueryRow(t.Context(), `SELECT sealed FROM preferences`).Scan(&sealed))
		if bytes.Contains(sealed, []byte("Tokyo")) {
			t.Error("preferences lie in clear")
		}
	})
}
