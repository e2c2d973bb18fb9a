package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/gatehouse-id/gatehouse/identity"
)

// theme is how a page asks to be seen, which three places must agree on: auto, light or dark.
func (p page) theme() string {
	p.t.Helper()
	root, meta, dark := themeAuto, "", "absent"
	for n := range p.doc.Descendants() {
		switch {
		case n.Type == html.ElementNode && n.Data == "html" && hasAttr(n, "data-theme"):
			root = attr(n, "data-theme")
		case n.Data == "meta" && attr(n, "name") == "color-scheme":
			meta = attr(n, "content")
		case n.Data == "link" && strings.Contains(attr(n, "href"), "/assets/dark."):
			dark = attr(n, "media")
		}
	}
	want := map[string][2]string{
		themeAuto: {"light dark", "screen and (prefers-color-scheme: dark)"}, "light": {"light", "absent"}, "dark": {"dark", "screen"},
	}[root]
	if want != [2]string{meta, dark} {
		p.t.Errorf("page %s: theme %q with color-scheme %q and dark.css for %q, want %q", p.url, root, meta, dark, want)
	}
	return root
}

func TestPreferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	if err := w.people.SetProfile(t.Context(), u.ID, identity.Profile{Locale: "fr", Zoneinfo: "Europe/Paris"}); err != nil {
		t.Fatal(err)
	}
	p := b.get("/account/preferences").want(http.StatusOK, "language", "zone", "theme-auto")
	if got := speaks(p); got != "fr" { // nothing chosen yet: as the profile says
		t.Errorf("speaks %q, want fr", got)
	}
	b.press(p, "preferences-submit", map[string]string{"language": "de", "zone": "Asia/Tokyo", "theme": "dark"}).
		at("/account/preferences?done=saved")
	for _, path := range []string{"/account", "/account/profile", "/logout", "/nowhere", "/login?n=timeout", "/forgot"} {
		p := b.get(path)
		if lang, theme := speaks(p), p.theme(); lang != "de" || theme != "dark" {
			t.Errorf("%s: %s and %s, want German and dark", path, lang, theme)
		}
	}
	w.clock.forward(2 * time.Hour)
	b.get("/account/sessions").says("JST")
	if got := w.user(t, u.ID); got.Profile.Locale != "fr" || got.Profile.Zoneinfo != "Europe/Paris" {
		t.Errorf("the profile says %s and %s now; apps are to be told what it said", got.Profile.Locale, got.Profile.Zoneinfo)
	}
	if err := w.pages.mailPasswordChanged(t.Context(), w.user(t, u.ID), identity.Device{}); err != nil {
		t.Fatal(err)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, "Guten Tag") || !strings.Contains(m.Text, "JST") {
		t.Errorf("the mail does not follow:\n%s", m.Text)
	}
	if p := w.browser(t).get("/login"); p.theme() != themeAuto || speaks(p) != "en" {
		t.Error("a stranger's page follows somebody's preferences")
	}

	b.accept = "es"
	b.press(b.get("/account/preferences"), "preferences-submit", map[string]string{"language": "", "zone": "", "theme": "light"})
	if p := b.get("/account"); speaks(p) != "es" || p.theme() != "light" {
		t.Errorf("speaks %s in %s, want the browser's language and light", speaks(p), p.theme())
	}
	b.press(b.get("/account/preferences"), "preferences-submit", map[string]string{"zone": "Moon/Sea", "theme": "auto"}).want(http.StatusUnprocessableEntity, "zone-problem")
}

func TestAttackThemeOfNoName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	for _, theme := range []string{"", `dark" onload="x`, "Dark"} {
		b.post("/account/preferences", url.Values{"theme": {theme}}).want(http.StatusBadRequest, "error-page")
	}
	if got := b.get("/account").theme(); got != themeAuto {
		t.Errorf("theme %q", got)
	}
}
