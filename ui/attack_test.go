package ui

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// The tests of this file are named after attacks that worked on servers of this kind.

func TestSecondFactorSkippedByDirectURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol(t, w.person(t, alice))
	b := w.browser(t)
	b.signIn(alice).want(http.StatusOK, "code", "code-submit")
	if got := b.cookie("gatehouse-session"); got != "" {
		t.Fatal("a session exists before the second factor is proven")
	}
	for _, path := range []string{"/account", "/account/password", "/account/sessions", "/", "/select", "/consent", "/password/new", "/verify"} {
		p := b.get(path).want(http.StatusOK, "login-submit")
		if b.cookie("gatehouse-session") != "" {
			t.Errorf("GET %s with the password alone signs in", path)
		}
		forbidden(t, p.text(), alice)
	}
}

func TestSecondFactorSkippedByEmptyPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol(t, w.person(t, alice))
	for _, path := range []string{"/login/code", "/login/recovery"} {
		b := w.browser(t)
		b.signIn(alice)
		for _, form := range []url.Values{{}, {"code": {""}}, {"code": {" "}}, {"code": {"000000"}}, {"code": {"null"}}, {"otp": {"1"}}} {
			if p := b.post(path, form); p.status != http.StatusUnprocessableEntity {
				t.Errorf("POST %s %v: status %d, want 422", path, form, p.status)
			}
		}
		if b.cookie("gatehouse-session") != "" {
			t.Errorf("POST %s without a code signs in", path)
		}
	}
}

func TestSecondFactorSkippedByOtherPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	next, _ := w.enrol(t, u)
	c := w.app(t)

	t.Run("reset by mail does not sign in", func(t *testing.T) {
		b := w.browser(t)
		b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": alice})
		p := b.press(b.get(w.mailLink(t, alice)), "reset-submit", map[string]string{"password": password + " two"})
		p.want(http.StatusOK, "login-submit")
		if b.cookie("gatehouse-session") != "" {
			t.Error("a reset signs in without the second factor")
		}
		p = b.press(p, "login-submit", map[string]string{"email": alice, "password": password + " two"})
		p.want(http.StatusOK, "code-submit")
	})
	t.Run("ticket of one interaction does not serve another", func(t *testing.T) {
		b := w.browser(t)
		p := b.press(b.get(authorize(c, nil)).want(http.StatusOK, "login-submit"), "login-submit", map[string]string{"email": alice, "password": password + " two"})
		p.want(http.StatusOK, "code-submit")
		p = b.post("/login/code", url.Values{"code": {next()}}) // without the interaction
		p.want(http.StatusOK, "login-submit")
		if b.cookie("gatehouse-session") != "" {
			t.Error("a code without a ticket for this sign-in signs in")
		}
	})
}

func TestSecondFactorGuessed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next, _ := w.enrol(t, w.person(t, alice))
	w.clock.forward(time.Hour)
	b := w.browser(t)
	p := b.signIn(alice)
	for i := range 20 {
		if p.id("code") == nil {
			break
		}
		if i == 19 {
			t.Fatal("twenty wrong codes and still a form for one more")
		}
		p = b.press(p, "code-submit", map[string]string{"code": fmt.Sprintf("%06d", i)})
	}
	p.want(http.StatusOK, "login-submit").says("too many wrong codes")
	if got := b.cookie("gatehouse-login"); got != "" {
		t.Error("the ticket outlives too many tries")
	}
	p = b.signIn(alice)
	p = b.press(p, "code-submit", map[string]string{"code": next()}) // the right one, still within the limit's window
	if b.cookie("gatehouse-session") != "" {
		t.Errorf("the limit is lifted by signing in by password again:\n%s", p.text())
	}
}

func TestTicketReplayedAfterSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next, _ := w.enrol(t, w.person(t, alice))
	b := w.browser(t)
	p := b.signIn(alice)
	ticket := b.cookie("gatehouse-login")
	b.press(p, "code-submit", map[string]string{"code": next()})
	if b.cookie("gatehouse-session") == "" {
		t.Fatal("the right code does not sign in")
	}
	thief := w.browser(t)
	thief.setCookie("__Host-gatehouse-login", ticket)
	thief.post("/login/code", url.Values{"code": {next()}}).want(http.StatusOK, "login-submit")
	if thief.cookie("gatehouse-session") != "" {
		t.Error("a used ticket signs in again")
	}
}

func TestTicketOutlivesPasswordChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	next, _ := w.enrol(t, u)
	b := w.browser(t)
	p := b.signIn(alice)
	w.clock.forward(time.Minute)
	_, s, err := w.people.StartSession(t.Context(), u.ID, []string{identity.AMRPassword, identity.AMROTP, identity.AMRMFA}, identity.Device{}, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.people.SetPassword(t.Context(), s, password+" two"); err != nil {
		t.Fatal(err)
	}
	b.press(p, "code-submit", map[string]string{"code": next()}).want(http.StatusOK, "login-submit")
	if b.cookie("gatehouse-session") != "" {
		t.Error("who knew the old password finishes signing in")
	}
}

func TestTicketTooOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next, _ := w.enrol(t, w.person(t, alice))
	b := w.browser(t)
	p := b.signIn(alice)
	w.clock.forward(11 * time.Minute)
	b.press(p, "code-submit", map[string]string{"code": next()}).want(http.StatusOK, "login-submit").says("took too long")
}

// TestCrossOriginPostRefused covers login CSRF and every other form of the ui.
func TestCrossOriginPostRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	for _, route := range w.pages.Routes() {
		path, isPost := strings.CutPrefix(route.Pattern, "POST ")
		if !isPost || path == "/logout" { // which asks: TestLogoutCSRF
			continue
		}
		for name, header := range map[string]http.Header{
			"other site":           {"Sec-Fetch-Site": {"cross-site"}},
			"sibling domain":       {"Sec-Fetch-Site": {"same-site"}},
			"old browser":          {"Origin": {"https://evil.example"}},
			"sandboxed frame":      {"Origin": {"null"}},
			"prefix of the origin": {"Origin": {w.site.Origin() + ".evil.example"}},
		} {
			p := b.roundTrip(http.MethodPost, path, url.Values{"email": {alice}, "password": {password}, "choice": {"other"}, "decision": {"allow"}}, header)
			if p.status != http.StatusForbidden || p.id("error-page") == nil {
				t.Errorf("POST %s from %s: status %d, want 403", path, name, p.status)
			}
		}
	}
	b.get("/account").want(http.StatusOK)
}

// Browsers older than Sec-Fetch-Site are told apart by their Origin alone. They must send one with our own forms, so pages
// may not ask them for no referrer at all: that would make it "null".
func TestCrossOriginPostFromAnOldBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	for origin, want := range map[string]int{
		w.site.Origin(): http.StatusSeeOther, "null": http.StatusForbidden, "https://evil.example": http.StatusForbidden,
	} {
		b := w.browser(t)
		if got := b.get("/login").header.Get("Referrer-Policy"); got != "same-origin" {
			t.Fatalf("Referrer-Policy %q, want same-origin: no other site learns an address of ours, and our own forms carry their Origin", got)
		}
		form := url.Values{"email": {alice}, "password": {password}}
		if p := b.roundTrip(http.MethodPost, "/login", form, http.Header{"Origin": {origin}}); p.status != want {
			t.Errorf("a form with Origin %q and no Sec-Fetch-Site got %d, want %d", origin, p.status, want)
		}
	}
}

func TestSessionFixationAtLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, "mallory@example.com")
	mallory := w.browser(t)
	mallory.signIn("mallory@example.com")
	planted := mallory.cookie("gatehouse-session")

	victim := w.browser(t)
	victim.setCookie("__Host-gatehouse-session", planted)
	victim.post("/login", url.Values{"email": {alice}, "password": {password}})
	if got := victim.cookie("gatehouse-session"); got == planted || got == "" {
		t.Fatalf("session cookie after sign-in is %q, the planted one", got)
	}
	if s, err := w.people.Session(t.Context(), planted); err == nil {
		t.Errorf("the planted session lives on as user %s", s.UserID)
	}
	before := victim.cookie("gatehouse-session")
	victim.post("/login", url.Values{"email": {alice}, "password": {password}})
	if victim.cookie("gatehouse-session") == before {
		t.Error("signing in again keeps the token")
	}
	if _, err := w.people.Session(t.Context(), before); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("the token before the second sign-in still works (err %v)", err)
	}
}

// TestAccountEnumeration compares what strangers see for addresses with and without an account.
func TestAccountEnumeration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	const nobody = "nobody@example.com"
	// Handles are random and what was typed is shown again; nothing else may differ.
	seen := func(p page, email string) string {
		body := strings.ReplaceAll(p.body, email, "EMAIL")
		if i := strings.Index(body, "?p="); i >= 0 {
			body = body[:i] + body[i+3+26:]
		}
		return fmt.Sprintf("%d %s\n%s", p.status, p.url.Path, body)
	}
	for name, visit := range map[string]func(b *browser, email string) page{
		"login": func(b *browser, email string) page {
			return b.press(b.get("/login"), "login-submit", map[string]string{"email": email, "password": "a wrong password"})
		},
		"forgot": func(b *browser, email string) page {
			return b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": email})
		},
		"register": func(b *browser, email string) page {
			return b.press(b.get("/register"), "register-submit", map[string]string{"email": email, "password": "another long enough passphrase"})
		},
		"register with a bad password": func(b *browser, email string) page {
			return b.press(b.get("/register"), "register-submit", map[string]string{"email": email, "password": "password1234"})
		},
		"resend": func(b *browser, email string) page {
			p := b.press(b.get("/register"), "register-submit", map[string]string{"email": email, "password": "another long enough passphrase"})
			return b.press(p, "verify-resend", nil)
		},
	} {
		known, unknown := seen(visit(w.browser(t), alice), alice), seen(visit(w.browser(t), nobody), nobody)
		if known != unknown {
			t.Errorf("%s tells accounts apart.\nwith account:\n%s\nwithout:\n%s", name, known, unknown)
		}
	}
	w.pages.Wait()
	if m := w.mailTo(t, alice); strings.Contains(m.Text, "/verify/link") {
		t.Errorf("the owner of an account is asked to confirm somebody else's sign-up:\n%s", m.Text)
	}
}

// What is refused only to addresses that have an account tells which have one. A server with all hands full must refuse
// or accept both alike.
func TestAccountEnumerationOnABusyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, "ada@example.com")
	b := w.browser(t)
	for range maxBehind {
		w.pages.behindSeat <- struct{}{}
	}
	for _, email := range []string{"ada@example.com", "nobody@example.com", "not an address"} {
		b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": email}).want(http.StatusServiceUnavailable, "error-page")
	}
}

func TestScriptInClientName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	const evil = `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	c := w.app(t, func(c *oauth.Client) { c.Name, c.Owner = evil, evil })
	b := w.browser(t)
	p := b.get(authorize(c, nil)).want(http.StatusOK, "login-submit").says(evil)
	forbidden(t, p.body, "<script>", "<img src=x")
	p = b.press(p, "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "consent-allow").says(evil)
	forbidden(t, p.body, "<script>", "<img src=x")
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
}

func TestScriptInQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	const evil = `"><script>alert(1)</script>`
	for _, path := range []string{"/login?p=", "/login?n=", "/verify?p=", "/verify?n=", "/login?i=", "/reset?t=", "/verify/link?t=", "/verify/link?i=", "/forgot?n=", "/nowhere/", "/assets/"} {
		p := b.get(path + url.QueryEscape(evil))
		forbidden(t, p.body, "<script>")
	}
	p := b.press(b.get("/login"), "login-submit", map[string]string{"email": evil, "password": "x"})
	forbidden(t, p.body, "<script>")
	p = b.press(b.get("/register"), "register-submit", map[string]string{"name": evil, "email": evil, "password": "x"})
	forbidden(t, p.body, "<script>")
}

// TestHostileLinksOfClient checks what an app registered about itself before such values were refused.
func TestHostileLinksOfClient(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "http://evil.example/", "https://user@good.example/", "//evil.example", "https://", "vbscript:x", "",
		"http://localhost.evil.example/", "https:evil.example",
	} {
		if got := webURL(raw); got != "" {
			t.Errorf("webURL(%q) = %q, want nothing", raw, got)
		}
	}
	for _, raw := range []string{"https://app.example.org/x?y=z", "http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost:5555"} {
		if got := webURL(raw); got != raw {
			t.Errorf("webURL(%q) = %q, want it back", raw, got)
		}
	}
	for _, origin := range []string{"https://a.example; script-src *", "https://a.example 'unsafe-inline'", "https://a.example,*", "*", "'self'", "https://a\nb"} {
		if got := cspSource(origin); got != "" {
			t.Errorf("cspSource(%q) = %q, want nothing", origin, got)
		}
	}
}

func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	const evil = "https://evil.example/"
	for _, name := range []string{"i", "next", "return_to", "redirect_uri", "continue", "p", "n", "t"} {
		for _, target := range []string{evil, "//evil.example", `/\evil.example`, "javascript:alert(1)", "%2F%2Fevil.example"} {
			query := "?" + name + "=" + url.QueryEscape(target)
			b := w.browser(t)
			form := url.Values{"email": {alice}, "password": {password}, name: {target}}
			for _, p := range []page{
				b.post("/login"+query, form), b.get("/login" + query), b.get("/verify" + query), b.get("/select" + query), b.get("/consent" + query), b.get("/signed-out" + query),
				b.get("/register" + query), b.get("/password/new" + query), b.post("/logout"+query, url.Values{name: {target}}),
			} {
				if p.away != "" {
					t.Errorf("%s: %s=%s leads to %s", p.url, name, target, p.away)
				}
				for n := range p.doc.Descendants() {
					if href := attr(n, "href") + attr(n, "action"); strings.Contains(href, "evil.example") && (strings.HasPrefix(href, "http") || strings.HasPrefix(href, "//") || strings.HasPrefix(href, "javascript")) {
						t.Errorf("%s links to %s", p.url, href)
					}
				}
			}
		}
	}
}

// TestMailScannerOpensLinks opens each mailed link twice, as scanners and previews do, before the person does.
func TestMailScannerOpensLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	b.press(b.get("/register"), "register-submit", map[string]string{"email": alice, "password": password})
	link := w.mailLink(t, alice)
	for range 2 {
		scanner := w.browser(t)
		scanner.get(link).want(http.StatusOK, "verify-submit")
		scanner.roundTrip(http.MethodHead, link, nil, nil)
	}
	if u, err := w.people.UserByEmail(t.Context(), alice); err != nil || u.EmailVerified {
		t.Fatalf("after a scanner opened the link: verified %v, err %v; want not verified", u.EmailVerified, err)
	}
	atAccount(t, b.press(b.get(link), "verify-submit", map[string]string{"password": password}))
	b.get(link).want(http.StatusBadRequest, "error-page").says("no longer works")

	b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": alice})
	link = w.mailLink(t, alice)
	for range 2 {
		w.browser(t).get(link).want(http.StatusOK, "reset-submit")
	}
	b.press(b.get(link), "reset-submit", map[string]string{"password": password + " two"}).want(http.StatusOK, "login-submit")
	b.get(link).want(http.StatusBadRequest, "error-page").says("no longer works")
}

func TestMailBombing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	for range 12 {
		b.press(b.get("/forgot"), "forgot-submit", map[string]string{"email": alice}).want(http.StatusOK)
	}
	w.pages.Wait()
	if n := len(w.inbox.Messages()); n > mailsPerHour {
		t.Errorf("%d mails to one mailbox, want at most %d", n, mailsPerHour)
	}
	for range mailRequestsPerHour {
		if p := b.post("/forgot", url.Values{"email": {"nobody@example.com"}}); p.status == http.StatusTooManyRequests {
			if p.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			return
		}
	}
	t.Errorf("one network may ask for more than %d mails in an hour", mailRequestsPerHour)
}

func TestRegistrationDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Registration = false })
	b := w.browser(t)
	if p := b.get("/login"); p.id("register-link") != nil {
		t.Error("the sign-in page offers an account")
	}
	b.get("/register").want(http.StatusNotFound, "error-page")
	b.post("/register", url.Values{"email": {alice}, "password": {password}}).want(http.StatusNotFound, "error-page")
	if _, err := w.people.UserByEmail(t.Context(), alice); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("err %v, want no account", err)
	}
}

// The strength meter's endpoint takes what a person is typing: it must keep nothing, hear no other site, and serve no stranger
// as a computer.
func TestPasswordStrengthIsNoLeakAndNoOracle(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	w := newWorld(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	same := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	b := w.browser(t)
	const typed = "kontra-melone-72-fisch"
	for name, tt := range map[string]struct {
		form   url.Values
		header http.Header
		status int
		want   string
	}{
		"good":             {url.Values{"password": {typed}}, same, http.StatusOK, `{"score":5,"text":"Very good"}`},
		"common":           {url.Values{"password": {"password1234"}}, same, http.StatusOK, `{"score":1,"text":"Far too easy"}`},
		"own address":      {url.Values{"password": {"quarz.lampion"}, "email": {"quarz.lampion@example.com"}}, same, http.StatusOK, `{"score":1,"text":"Far too easy"}`},
		"nothing typed":    {url.Values{"password": {""}}, same, http.StatusOK, `{"score":0,"text":""}`},
		"another site":     {url.Values{"password": {typed}}, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden, ""},
		"another origin":   {url.Values{"password": {typed}}, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden, ""},
		"more than anyone": {url.Values{"password": {typed + strings.Repeat("x", strengthBody)}}, same, http.StatusBadRequest, ""},
		"twice":            {url.Values{"password": {typed, typed}}, same, http.StatusBadRequest, ""},
	} {
		p := b.roundTrip(http.MethodPost, "/password-strength", tt.form, tt.header)
		if p.status != tt.status || tt.want != "" && strings.TrimSpace(p.body) != tt.want {
			t.Errorf("%s: %d %s, want %d %s", name, p.status, p.body, tt.status, tt.want)
		}
		if got := p.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q, want no-store", name, got)
		}
	}
	forbidden(t, log.String(), typed)
	for range strengthPerMinute {
		b.roundTrip(http.MethodPost, "/password-strength", url.Values{"password": {typed}}, same)
	}
	if p := b.roundTrip(http.MethodPost, "/password-strength", url.Values{"password": {typed}}, same); p.status != http.StatusTooManyRequests {
		t.Errorf("after %d in a minute: %d, want 429", strengthPerMinute, p.status)
	}
	b.roundTrip(http.MethodGet, "/password-strength?password=x", nil, nil).want(http.StatusMethodNotAllowed)
}

func TestHostHeaderPoisonsMailLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.roundTrip(http.MethodPost, "/forgot", url.Values{"email": {alice}}, http.Header{
		"Sec-Fetch-Site": {"same-origin"}, "X-Forwarded-Host": {"evil.example"}, "Forwarded": {"host=evil.example"}, "Host": {"evil.example"},
	})
	forbidden(t, w.mailTo(t, alice).Text, "evil.example")
}

func TestPhishingByNameInMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	b.press(b.get("/register"), "register-submit", map[string]string{"name": "Click https://evil.example now", "email": alice, "password": password})
	m := w.mailTo(t, alice)
	forbidden(t, m.Text+m.Subject+m.HTML, "evil.example")
}

// TestConsentGivenInAnotherTab lets two tabs of one browser belong to two people.
func TestConsentGivenInAnotherTab(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, "bob@example.com")
	c := w.app(t)
	b := w.browser(t)
	p := b.press(b.get(authorize(c, nil)), "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "consent-allow")
	b.post("/login", url.Values{"email": {"bob@example.com"}, "password": {password}})
	p = b.press(p, "consent-allow", nil)
	if p.away != "" {
		t.Fatalf("Bob's account is handed to the app by a page that Alice saw: %s", p.away)
	}
	p.want(http.StatusOK, "consent-allow").says("bob@example.com")
}

// The account page names one person; another tab signs in another before the button is pressed.
func TestAccountChosenInAnotherTab(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, bob)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	b.signIn(alice)
	w.clock.forward(time.Minute)
	p := b.get(authorize(c, url.Values{"prompt": {"select_account"}})).want(http.StatusOK, "select-this").says(alice)
	w.clock.forward(-2 * time.Second) // or Bob's sign-in would itself be the choice
	b.post("/login", url.Values{"email": {bob}, "password": {password}})
	p = b.press(p, "select-this", nil)
	if p.away != "" {
		t.Fatalf("Bob's account is handed to the app by a page that showed Alice's: %s", p.away)
	}
	p.want(http.StatusOK, "select-this").says(bob)
}

// A page of Alice's account is open in one tab while another tab signs Bob in: no button of it may act on Bob's account.
func TestAccountFormFilledInAfterASwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	open := b.get("/account/profile").want(http.StatusOK, "profile-submit")
	w.person(t, bob)
	b.post("/login", url.Values{"email": {bob}, "password": {password}})
	b.press(open, "profile-submit", map[string]string{"name": "Alice"}).want(http.StatusConflict, "error-page").says("Another account is signed in now", "nothing was changed")
	for _, route := range w.pages.accountRoutes() {
		path, isPost := strings.CutPrefix(route.Pattern, "POST ")
		if !isPost {
			continue
		}
		for _, person := range []string{u.ID, "", "nobody"} {
			form := url.Values{"person": {person}, "name": {"Alice"}, "email": {"new@example.com"}, "client": {"x"}, "session": {"x"}, "code": {"000000"}}
			if p := b.post(path, form); p.status != http.StatusConflict {
				t.Errorf("POST %s with person %q: %d, want 409", path, person, p.status)
			}
		}
	}
	if got, err := w.people.UserByEmail(t.Context(), bob); err != nil || got.Profile.Name != "" {
		t.Errorf("Bob's profile is now %+v, %v", got.Profile, err)
	}
}

// The same for the page that replaces a one-time password: Bob must not get the password that Alice chose.
func TestNewPasswordChosenAfterASwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, email := range []string{alice, bob} {
		if _, err := w.people.Create(t.Context(), identity.NewUser{Email: email, Password: password, EmailVerified: true, MustChangePassword: true}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.browser(t)
	open := b.signIn(alice).want(http.StatusOK, "reset-submit")
	b.post("/login", url.Values{"email": {bob}, "password": {password}})
	b.press(open, "reset-submit", map[string]string{"password": "alices-lampion-58-otter"}).want(http.StatusConflict, "error-page")
	if u, err := w.people.CheckPassword(t.Context(), bob, password, netip.Addr{}); err != nil || !u.MustChangePassword {
		t.Errorf("Bob's one-time password: %v, still to be changed %v", err, u.MustChangePassword)
	}
}

func TestConsentWithoutDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	c := w.app(t)
	b := w.browser(t)
	p := b.press(b.get(authorize(c, nil)), "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "consent-allow")
	path, values := p.form("consent-allow")
	for _, decision := range [][]string{nil, {""}, {"yes"}, {"deny", "allow"}} {
		values["decision"] = decision
		b.post(path, values).want(http.StatusBadRequest, "error-page")
	}
	stranger := w.browser(t)
	values["decision"] = []string{"allow"}
	stranger.post(path, values).want(http.StatusOK, "login-submit")
}

func TestMalformedForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	same := func(contentType string) http.Header {
		return http.Header{"Sec-Fetch-Site": {"same-origin"}, "Content-Type": {contentType}}
	}
	const urlencoded = "application/x-www-form-urlencoded"
	for name, tt := range map[string]struct {
		form        url.Values
		contentType string
		want        int
	}{
		"duplicate field": {url.Values{"email": {alice, "bob@example.com"}, "password": {password}}, urlencoded, http.StatusBadRequest},
		"broken UTF-8":    {url.Values{"email": {alice}, "password": {"\xff\xfe"}}, urlencoded, http.StatusBadRequest},
		"NUL":             {url.Values{"email": {alice + "\x00"}, "password": {password}}, urlencoded, http.StatusBadRequest},
		"JSON":            {url.Values{"email": {alice}}, "application/json", http.StatusBadRequest},
		"multipart":       {url.Values{"email": {alice}}, "multipart/form-data; boundary=x", http.StatusBadRequest},
		"too large":       {url.Values{"email": {alice}, "password": {strings.Repeat("x", 70_000)}}, urlencoded, http.StatusBadRequest},
	} {
		for _, path := range []string{"/login", "/register", "/forgot"} {
			if p := b.roundTrip(http.MethodPost, path, tt.form, same(tt.contentType)); p.status != tt.want || p.id("error-page") == nil {
				t.Errorf("%s to %s: status %d, want %d with an error page", name, path, p.status, tt.want)
			}
		}
	}
	for _, query := range []string{"?i=%zz", "?i=a&i=b", "?i=%ff", "?i=a;b"} {
		b.get("/login"+query).want(http.StatusBadRequest, "error-page")
	}
}
