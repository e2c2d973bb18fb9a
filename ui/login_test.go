package ui

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// atApp fails unless the browser was sent back to the app, and gives the parameters it brought.
func (p page) atApp() url.Values {
	p.t.Helper()
	u, err := url.Parse(p.away)
	if err != nil || !strings.HasPrefix(p.away, callback+"?") {
		p.t.Fatalf("page %s (%d): not sent back to the app but to %q; it says:\n%s", p.url, p.status, p.away, p.text())
	}
	return u.Query()
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	p := b.get("/login").want(http.StatusOK, "email", "password", "login-submit", "register-link")
	for id, want := range map[string]string{"email": "username webauthn", "password": "current-password"} {
		if got := attr(p.id(id), "autocomplete"); got != want {
			t.Errorf("autocomplete of %s is %q, want %q", id, got, want)
		}
	}
	if !strings.Contains(p.body, "<h1>Sign in</h1>") || !strings.Contains(p.body, "<title>Sign in – Gatehouse</title>") {
		t.Errorf("heading and title: %s", p.text())
	}
	p = b.press(p, "login-submit", map[string]string{"email": alice, "password": "not the password"})
	p.want(http.StatusUnprocessableEntity, "summary").says("do not match")
	if got := attr(p.id("email"), "value"); got != alice {
		t.Errorf("the address is %q after a mistake, want it kept", got)
	}
	if attr(p.id("password"), "value") != "" {
		t.Error("the page repeats the password")
	}
	p = b.press(p, "login-submit", map[string]string{"email": "", "password": ""})
	p.want(http.StatusUnprocessableEntity, "email-problem", "password-problem")
	p = b.press(p, "login-submit", map[string]string{"email": "  " + alice + " ", "password": password})
	if p.url.Path != "/account" {
		t.Fatalf("signed in and at %s, want /account", p.url)
	}
	if got := b.get("/login").url.Path; got != "/account" {
		t.Errorf("a signed-in person who opens /login is at %s, want /account", got)
	}
	if got := b.get("/").url.Path; got != "/account" {
		t.Errorf("/ leads to %s, want /account", got)
	}
}

func TestSignInToApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	c := w.app(t)
	b := w.browser(t)
	p := b.get(authorize(c, url.Values{"login_hint": {alice}})).want(http.StatusOK, "login-submit", "client-logo", "client-policy", "client-tos")
	p.says("to continue to Demo app", "app.example.org")
	if got := attr(p.id("email"), "value"); got != alice {
		t.Errorf("login_hint gives %q, want %q", got, alice)
	}
	for _, part := range []string{"form-action 'self';", "img-src 'self' data: https://cdn.example.org;"} {
		if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, part) {
			t.Errorf("Content-Security-Policy %q lacks %q", csp, part)
		}
	}
	p = b.press(p, "login-submit", map[string]string{"password": password})
	p.want(http.StatusOK, "consent-allow", "consent-deny", "client-logo", "client-policy", "client-tos").
		says("Demo app wants to use your account", alice, "see your email address", "Run by Example Ltd.", "app.example.org")
	q := b.press(p, "consent-allow", nil).atApp()
	if q.Get("code") == "" || q.Get("state") != "some-state-of-the-app" {
		t.Errorf("back at the app with %v, want a code and the state", q)
	}
	if q = b.get(authorize(c, nil)).atApp(); q.Get("code") == "" {
		t.Errorf("second time, with session and consent: %v, want a code at once", q)
	}
	p = b.get(authorize(c, url.Values{"scope": {"openid email phone offline_access"}, "prompt": {"consent"}})).want(http.StatusOK, "consent-allow")
	p.says("It asks for more than you allowed before", "see your phone number New")
	forbidden(t, p.text(), "see your email address New")
	q = b.press(p, "consent-deny", nil).atApp()
	if q.Get("error") != "access_denied" || q.Get("state") != "some-state-of-the-app" {
		t.Errorf("denied and back at the app with %v, want access_denied", q)
	}
}

// The chain of redirects after a form was posted ends at a page of ours; e2e shows in Chromium why. A program with a
// private-use scheme is called from within the chain, which its policy then allows.
func TestWayBackToTheApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	form := url.Values{"email": {alice}, "password": {password}}
	for name, tt := range map[string]struct {
		redirect, policy string
		status           int
	}{
		"website": {callback, "form-action 'self';", http.StatusOK},
		"program": {"com.example.app:/callback", "form-action 'self' com.example.app:;", http.StatusSeeOther},
	} {
		c := w.app(t, func(c *oauth.Client) { c.RedirectURIs = []string{tt.redirect} })
		b := w.browser(t)
		p := b.get(authorize(c, nil)).want(http.StatusOK, "login-submit")
		if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, tt.policy) {
			t.Errorf("%s: Content-Security-Policy %q, want %s", name, csp, tt.policy)
		}
		resume := "/authorize/resume?" + p.url.RawQuery
		p = b.roundTrip(http.MethodPost, p.url.RequestURI(), form, http.Header{"Sec-Fetch-Site": {"same-origin"}})
		if got := p.header.Get("Location") + p.refresh(); p.status != tt.status || got != resume {
			t.Errorf("%s: after the form %d to %q, want %d to %q", name, p.status, got, tt.status, resume)
		}
		if p.status == http.StatusOK && !slices.Contains(p.want(http.StatusOK, "onward-go").links(), resume) {
			t.Errorf("%s: no link for a browser that stays where it is: %q", name, p.links())
		}
		p = b.press(b.get(resume), "consent-deny", nil)
		if !strings.HasPrefix(p.away, tt.redirect+"?error=access_denied&") {
			t.Errorf("%s: refused, and sent to %q", name, p.away)
		}
	}
}

func TestSignInWithCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	next, recovery := w.enrol(t, u)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	p := b.press(b.get(authorize(c, nil)), "login-submit", map[string]string{"email": alice, "password": password})
	p.want(http.StatusOK, "code", "code-submit", "recovery-link")
	for name, want := range map[string]string{"inputmode": "numeric", "autocomplete": "one-time-code"} {
		if got := attr(p.id("code"), name); got != want {
			t.Errorf("%s of the code is %q, want %q", name, got, want)
		}
	}
	p = b.press(p, "code-submit", map[string]string{"code": "000000"}).want(http.StatusUnprocessableEntity, "code-problem").says("not right")
	code := next()
	q := b.press(p, "code-submit", map[string]string{"code": code[:3] + " " + code[3:]}).atApp()
	if q.Get("code") == "" {
		t.Fatalf("back at the app with %v, want a code", q)
	}
	s, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil || s.ACR() != identity.ACRMFA {
		t.Errorf("session with acr %q, err %v; want %q", s.ACR(), err, identity.ACRMFA)
	}

	b = w.browser(t)
	b.signIn(alice)
	p = b.get("/login/recovery").want(http.StatusOK, "code", "code-submit")
	p = b.press(p, "code-submit", map[string]string{"code": "AAAA-BBBB-CCCC"}).want(http.StatusUnprocessableEntity, "code-problem")
	if p = b.press(p, "code-submit", map[string]string{"code": recovery[0]}); p.url.Path != "/account" {
		t.Fatalf("a recovery code leads to %s, want /account:\n%s", p.url, p.text())
	}
	b = w.browser(t)
	b.signIn(alice)
	b.press(b.get("/login/recovery"), "code-submit", map[string]string{"code": recovery[0]}).want(http.StatusUnprocessableEntity).says("used before")
}

// TestTwoTabs signs in to two apps at once: neither tab disturbs the other.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next, _ := w.enrol(t, w.person(t, alice))
	one := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	two := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	login := map[string]string{"email": alice, "password": password}
	first := b.press(b.get(authorize(one, url.Values{"state": {"state-of-the-first"}})), "login-submit", login)
	second := b.press(b.get(authorize(two, url.Values{"state": {"state-of-the-second"}})), "login-submit", login)
	if q := b.press(first, "code-submit", map[string]string{"code": next()}).atApp(); q.Get("state") != "state-of-the-first" {
		t.Errorf("the first tab ends with %v", q)
	}
	if q := b.press(second, "code-submit", map[string]string{"code": next()}).atApp(); q.Get("state") != "state-of-the-second" {
		t.Errorf("the second tab ends with %v", q)
	}
}

func TestSignInAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, "bob@example.com")
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	b.signIn(alice)
	before, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.forward(time.Minute)
	p := b.get(authorize(c, url.Values{"prompt": {"login"}})).want(http.StatusOK, "login-submit", "use-another").says("Please confirm it is you")
	if got := attr(p.id("email"), "value"); got != alice || !hasAttr(p.id("email"), "readonly") {
		t.Errorf("e-mail %q, want %q, read only", got, alice)
	}
	p = b.press(p, "login-submit", map[string]string{"password": "not the password"}).want(http.StatusUnprocessableEntity).says("do not match")
	b.press(p, "login-submit", map[string]string{"password": password}).atApp()
	after, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil || after.ID != before.ID || !after.AuthTime.After(before.AuthTime) {
		t.Errorf("session %s at %s after confirming, was %s at %s: want the same, later (err %v)", after.ID, after.AuthTime, before.ID, before.AuthTime, err)
	}
	w.clock.forward(time.Minute)
	p = b.get(authorize(c, url.Values{"prompt": {"login"}}))
	p = b.press(p, "use-another", nil).want(http.StatusOK, "login-submit")
	if b.cookie("gatehouse-session") != "" {
		t.Error("another account is wanted and the session is still there")
	}
	b.press(p, "login-submit", map[string]string{"email": "bob@example.com", "password": password}).atApp()
}

func TestSelectAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, "bob@example.com")
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	b.signIn(alice)
	w.clock.forward(time.Minute)
	selecting := url.Values{"prompt": {"select_account"}}
	p := b.get(authorize(c, selecting)).want(http.StatusOK, "select-this", "select-other").says(alice)
	b.press(p, "select-this", nil).atApp()
	w.clock.forward(time.Minute)
	p = b.press(b.get(authorize(c, selecting)), "select-other", nil).want(http.StatusOK, "login-submit")
	b.press(p, "login-submit", map[string]string{"email": "bob@example.com", "password": password}).atApp()
}

func TestInteractionOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	c := w.app(t)
	b := w.browser(t)
	p := b.get(authorize(c, nil)).want(http.StatusOK, "login-submit")
	w.clock.forward(2 * time.Hour)
	p = b.press(p, "login-submit", map[string]string{"email": alice, "password": password})
	p.want(http.StatusBadRequest, "error-page").says("This sign-in has expired", "Start again at Demo app")
	if got := p.links(); !slices.Contains(got, c.ClientURI) {
		t.Errorf("the page leads to %q, not to the app's website %s", got, c.ClientURI)
	}
	if b.cookie("gatehouse-session") != "" {
		t.Error("signed in for an interaction that is over")
	}
	for _, path := range []string{"/login", "/login/code", "/login/recovery", "/register", "/verify", "/forgot", "/select", "/consent", "/password/new"} {
		b.get(path+"?i=no-such-interaction").want(http.StatusBadRequest, "error-page").says("This sign-in has expired", "Go to your account")
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.get("/logout").want(http.StatusOK, "logout-done")
	b.signIn(alice)
	token := b.cookie("gatehouse-session")
	p := b.get("/logout").want(http.StatusOK, "logout-page", "logout-confirm").says(alice)
	if _, err := w.people.Session(t.Context(), token); err != nil {
		t.Fatalf("opening the page signs out: %v", err)
	}
	b.press(p, "logout-confirm", nil).want(http.StatusOK, "logout-done")
	if _, err := w.people.Session(t.Context(), token); err == nil || b.cookie("gatehouse-session") != "" {
		t.Error("the session lives on after signing out")
	}
	b.get("/account").want(http.StatusOK, "login-submit")
}

func TestOneTimePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password, EmailVerified: true, MustChangePassword: true}); err != nil {
		t.Fatal(err)
	}
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	other := w.browser(t)
	other.signIn(alice).want(http.StatusOK, "reset-submit")
	other.get("/account").want(http.StatusOK, "reset-submit") // nothing else opens

	b := w.browser(t)
	p := b.press(b.get(authorize(c, nil)), "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "reset-submit")
	p = b.press(p, "reset-submit", map[string]string{"password": "password1234"}).want(http.StatusUnprocessableEntity, "password-problem", "strength")
	b.press(p, "reset-submit", map[string]string{"password": password + " two"}).atApp()
	if other.get("/account").id("login-submit") == nil {
		t.Error("who used the one-time password elsewhere is still signed in")
	}
	if got := b.get("/password/new").url.Path; got != "/account" {
		t.Errorf("/password/new leads to %s once a password is set, want /account: it would need no old password", got)
	}
}

func TestOneTimePasswordSessionLeftOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password, EmailVerified: true, MustChangePassword: true}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	p := b.signIn(alice).want(http.StatusOK, "reset-submit")
	w.clock.forward(time.Hour)
	b.press(p, "reset-submit", map[string]string{"password": password + " two"}).want(http.StatusOK, "login-submit")
}

// TestSiteBelowPath runs the pages under an issuer with a path, as behind a proxy that serves other things too.
func TestSiteBelowPath(t *testing.T) {
	t.Parallel()
	issuer, err := url.Parse("https://id.example.test/auth")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Site = web.NewSite(issuer) })
	c := w.app(t)
	b := w.browser(t)
	p := b.get("/auth"+authorize(c, nil)).want(http.StatusOK, "login-submit")
	for n := range p.doc.Descendants() {
		if to := attr(n, "href") + attr(n, "action"); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/auth/") {
			t.Errorf("<%s> leads to %s, outside of the site", n.Data, to)
		}
	}
	p = b.press(b.get(attr(p.id("register-link"), "href")), "register-submit", map[string]string{"email": alice, "password": password})
	p = b.press(p.want(http.StatusOK, "verify-resend"), "verify-resend", nil)
	p = b.press(b.get(w.mailLink(t, alice)), "verify-submit", map[string]string{"password": password}).want(http.StatusOK, "consent-allow")
	b.press(p, "consent-allow", nil).atApp()
}

func BenchmarkLoginPage(b *testing.B) {
	w := newWorld(b)
	p := w.pages
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/login", nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.loginPage(httptest.NewRecorder(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// The same at the door back to the app, once it has got its answer.
func TestInteractionAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	c := w.app(t)
	b := w.browser(t)
	p := b.get(authorize(c, nil)).want(http.StatusOK, "login-submit")
	over := "/authorize/resume?" + p.url.RawQuery
	p = b.press(p, "login-submit", map[string]string{"email": alice, "password": password})
	if got := b.press(p, "consent-allow", nil).atApp(); got.Get("code") == "" {
		t.Fatalf("the app got %v", got)
	}
	b.get(over).want(http.StatusBadRequest, "error-page").says("This sign-in has expired", "Start again at Demo app")
}
