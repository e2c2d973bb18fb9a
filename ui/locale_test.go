package ui

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/gatehouse-id/gatehouse/identity"
)

// TestLanguagesComplete holds every language to the keys and placeholders of English.
func TestLanguagesComplete(t *testing.T) {
	t.Parallel()
	var tags []string
	for _, tag := range languages {
		tags = append(tags, tag.String())
	}
	folders, err := fs.ReadDir(pageFiles, "locale")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range folders {
		names = append(names, f.Name())
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(tags)), names); diff != "" {
		t.Errorf("languages and folders of locale/ differ (-languages +folders):\n%s", diff)
	}
	english, err := loadTexts(pageFiles, "locale/en")
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range tags {
		all, err := loadTexts(pageFiles, "locale/"+lang)
		if err != nil {
			t.Fatal(err)
		}
		wanted := texts{}
		for key, s := range english {
			wanted[key] = s
			if base, counts := strings.CutSuffix(key, ".many"); counts && lang == "ar" {
				wanted[base+".two"], wanted[base+".few"] = english[base+".one"], s
			}
		}
		for key, s := range wanted {
			got, ok := all[key]
			switch {
			case !ok:
				t.Errorf("%s lacks %q", lang, key)
			case got == "" || strings.TrimSpace(got) != got || strings.ContainsAny(got, "<>&"):
				t.Errorf("%s: %q is empty, has space around it or HTML in it", lang, key)
			case cmp.Diff(placeholders(s), placeholders(got)) != "":
				t.Errorf("%s: %q takes %v, English %v", lang, key, placeholders(got), placeholders(s))
			}
		}
		for key := range all {
			if _, ok := wanted[key]; !ok {
				t.Errorf("%s has %q, which English lacks", lang, key)
			}
		}
	}
}

var placeholder = regexp.MustCompile(`%(?:\[(\d)\])?([a-z%])`)

// placeholders gives argument and verb of each %s and %d, by argument.
func placeholders(s string) []string {
	var all []string
	n := 0
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		n++
		if m[1] != "" {
			n, _ = strconv.Atoi(m[1])
		}
		all = append(all, strconv.Itoa(n)+m[2])
	}
	slices.Sort(all)
	return all
}

// TestLanguageChosen says who decides: the app, the person, the browser.
func TestLanguageChosen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.RequireVerifiedEmail = false })
	c := w.app(t)
	for _, tt := range []struct {
		name       string
		uiLocales  string
		preference string
		accept     string
		want       string
	}{
		{"nobody says", "", "", "", "en"},
		{"browser", "", "", "fr-CH, fr;q=0.9, en;q=0.8", "fr"},
		{"browser with weights", "", "", "en;q=0.3, es;q=0.9", "es"},
		{"browser in a language we lack", "", "", "sw, ja;q=0.5", "ja"},
		{"browser in none of ours", "", "", "sw, zu", "en"},
		{"browser in a variant", "", "", "de-AT", "de"},
		{"browser in nonsense", "", "", "%%%;;;q=zzz,,,", "en"},
		{"browser at great length", "", "", "ja, " + strings.Repeat("sw, ", 5000), "ja"},
		{"person before browser", "", "ar-EG", "fr", "ar"},
		{"person in a language we lack", "", "sw", "fr", "fr"},
		{"app before person and browser", "de", "ar", "fr", "de"},
		{"app's second choice", "sw de-CH", "ar", "fr", "de"},
		{"app in none of ours", "sw zu", "ar", "fr", "ar"},
		{"app in nonsense", "!!! de+DE -de-", "", "fr", "fr"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := w.browser(t)
			email := strings.ReplaceAll(tt.name, " ", ".")
			email = strings.ReplaceAll(email, "'", "") + "@example.com"
			u := w.person(t, email)
			if err := w.people.SetProfile(t.Context(), u.ID, identity.Profile{Locale: tt.preference}); err != nil {
				t.Fatal(err)
			}
			b.signIn(email)
			b.accept = tt.accept
			p := b.get(authorize(c, url.Values{"ui_locales": {tt.uiLocales}})).want(http.StatusOK, "consent-allow")
			if got := speaks(p); got != tt.want {
				t.Errorf("consent speaks %q, want %q", got, tt.want)
			}
			if tt.uiLocales == "" {
				if got := speaks(b.get("/account").want(http.StatusOK, "sign-out")); got != tt.want {
					t.Errorf("account speaks %q, want %q", got, tt.want)
				}
				if got := speaks(b.get("/nowhere").want(http.StatusNotFound, "error-page")); got != tt.want {
					t.Errorf("error page speaks %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// speaks gives the language of a page, which four places must agree on.
func speaks(p page) string {
	p.t.Helper()
	var lang, dir string
	for n := range p.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "html" {
			lang, dir = attr(n, "lang"), attr(n, "dir")
		}
	}
	if got := p.header.Get("Content-Language"); got != lang {
		p.t.Errorf("page %s: Content-Language %q, lang %q", p.url, got, lang)
	}
	if got := strings.Join(p.header.Values("Vary"), ", "); !strings.Contains(got, "Accept-Language, Cookie") {
		p.t.Errorf("page %s: Vary %q lacks Accept-Language and Cookie", p.url, got)
	}
	if want := map[bool]string{true: "rtl", false: "ltr"}[lang == "ar"]; dir != want {
		p.t.Errorf("page %s in %s: dir %q, want %q", p.url, lang, dir, want)
	}
	return lang
}

// TestErrorOfAppSpeaksItsLanguage: a request that fails before there is an interaction still names its languages.
func TestErrorOfAppSpeaksItsLanguage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	b.accept = "ja"
	p := b.get("/authorize?client_id=no-such-app&ui_locales=es").want(http.StatusBadRequest, "error-page")
	if got := speaks(p); got != "es" {
		t.Errorf("the page speaks %q, want es", got)
	}
}

// TestPagesInEveryLanguage walks through sign-up, sign-in and the account in each language, with the checks of every page.
func TestPagesInEveryLanguage(t *testing.T) {
	t.Parallel()
	for _, tag := range languages {
		lang := tag.String()
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.browser(t)
			b.accept = lang
			p := b.get("/register").want(http.StatusOK, "register-submit")
			p = b.press(p, "register-submit", map[string]string{"email": alice, "password": password})
			p.says(alice)
			link := w.mailLink(t, alice)
			m := w.mailTo(t, alice)
			if english := w.pages.locales[0].text("mail.verify.text"); lang != "en" && strings.Contains(m.Text, english) {
				t.Errorf("the mail speaks English:\n%s", m.Text)
			}
			b.press(b.get(link).want(http.StatusOK, "verify-submit"), "verify-submit", map[string]string{"password": password})
			for _, path := range []string{"/account", "/account/profile", "/account/password", "/account/two-step", "/account/apps", "/account/sessions", "/logout", "/forgot"} {
				p := b.get(path)
				if got := speaks(p.want(http.StatusOK)); got != lang {
					t.Errorf("%s speaks %q, want %q", path, got, lang)
				}
			}
		})
	}
}

// TestMailSpeaksToPerson: a preference comes before the language of the page, which a stranger may have opened.
func TestMailSpeaksToPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	stranger := w.browser(t)
	stranger.accept = "ja"
	forgot := func() string {
		t.Helper()
		stranger.press(stranger.get("/forgot").want(http.StatusOK, "forgot-submit"), "forgot-submit", map[string]string{"email": alice})
		return w.mailTo(t, alice).Subject
	}
	if got, want := forgot(), w.pages.locales[4].text("mail.reset.subject", "Gatehouse"); got != want {
		t.Errorf("without a preference the subject is %q, want %q", got, want)
	}
	if err := w.people.SetProfile(t.Context(), u.ID, identity.Profile{Locale: "de-CH"}); err != nil {
		t.Fatal(err)
	}
	if got, want := forgot(), w.pages.locales[1].text("mail.reset.subject", "Gatehouse"); got != want {
		t.Errorf("with a preference the subject is %q, want %q", got, want)
	}
	u.Preferences.Language = "ar"
	if err := w.pages.mailPasswordChanged(t.Context(), u, identity.Device{Address: netip.MustParseAddr("2001:db8::7")}); err != nil {
		t.Fatal(err)
	}
	if got := w.mailTo(t, alice).Text; !strings.Contains(got, "\u20682001:db8::7\u2069") {
		t.Errorf("the address is not kept together among Arabic words:\n%s", got)
	}
}

func TestWhenInEveryLanguage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC)
	first := time.Date(2026, 3, 1, 9, 5, 0, 0, time.UTC)
	for lang, want := range map[string][4]string{
		"en": {"2 minutes ago", "5 minutes ago", "yesterday at 21:30 UTC", "1 March 2026 at 09:05 UTC"},
		"de": {"vor 2 Minuten", "vor 5 Minuten", "gestern um 21:30 UTC", "1. März 2026 um 09:05 UTC"},
		"fr": {"il y a 2 minutes", "il y a 5 minutes", "hier à 21:30 UTC", "1er mars 2026 à 09:05 UTC"},
		"es": {"hace 2 minutos", "hace 5 minutos", "ayer a las 21:30 UTC", "1 de marzo de 2026 a las 09:05 UTC"},
		"ja": {"2 分前", "5 分前", "昨日 21:30 UTC", "2026年3月1日 09:05 UTC"},
		"ar": {"قبل دقيقتين", "قبل 5 دقائق", "أمس الساعة 21:30 UTC", "1 مارس 2026 الساعة 09:05 UTC"},
	} {
		l := w.pages.locales[slices.IndexFunc(w.pages.locales, func(l *locale) bool { return l.Lang == lang })]
		for i, at := range []time.Time{now.Add(-2 * time.Minute), now.Add(-5 * time.Minute), now.Add(-26 * time.Hour), first} {
			got := strings.NewReplacer("\u2068", "", "\u2069", "").Replace(l.when(at, now, ""))
			if got != want[i] {
				t.Errorf("%s: %q, want %q", lang, got, want[i])
			}
		}
	}
}

func TestPluralForm(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][2]string{
		0: {"many", "many"}, 1: {"one", "one"}, 2: {"two", "many"}, 3: {"few", "many"}, 10: {"few", "many"}, 11: {"many", "many"}, 103: {"few", "many"},
	} {
		if got := [2]string{pluralForm("ar", n), pluralForm("de", n)}; got != want {
			t.Errorf("%d: %q in Arabic and German, want %q", n, got, want)
		}
	}
}

// TestMetadataNamesLanguages: apps read there what they may put into ui_locales.
func TestMetadataNamesLanguages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var doc struct {
		UILocales []string `json:"ui_locales_supported"`
	}
	if err := json.Unmarshal([]byte(w.browser(t).get("/.well-known/openid-configuration").body), &doc); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, l := range w.pages.locales {
		want = append(want, l.Lang)
	}
	if diff := cmp.Diff(want, doc.UILocales); diff != "" {
		t.Errorf("ui_locales_supported (-want +got):\n%s", diff)
	}
}

func FuzzLanguages(f *testing.F) {
	f.Add("de-CH, fr;q=0.5", "ar")
	f.Add(strings.Repeat("-", 2000), "\xff")
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, accept, tag string) {
		if w.pages.nearest(parseLanguages(accept)) == nil {
			t.Errorf("no language for %q", accept)
		}
		if l, ok := w.pages.named(uiLocales(strings.Fields(tag))); ok != (l != nil) {
			t.Errorf("named(%q) = %v, %v", tag, l, ok)
		}
	})
}
