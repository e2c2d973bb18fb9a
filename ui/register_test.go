package ui

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	p := b.get(authorize(c, nil))
	p = b.get(attr(p.id("register-link"), "href")).want(http.StatusOK, "register-submit", "name").says("to continue to Demo app")
	p = b.press(p, "register-submit", map[string]string{"email": "not an address", "password": "short"})
	p.want(http.StatusUnprocessableEntity, "email-problem", "password-problem", "strength").says("at least 12 characters", "Far too easy")
	if attr(p.id("password"), "value") != "" {
		t.Error("the page repeats the password")
	}
	p = b.press(p, "register-submit", map[string]string{"name": "Alice", "email": alice, "password": password})
	p.want(http.StatusOK, "verify-resend").says("Check your mail", alice)
	if strings.Contains(p.url.String(), "alice") {
		t.Errorf("the address stands in the URL %s", p.url)
	}
	if b.cookie("gatehouse-session") != "" {
		t.Error("signing up signs in before the address is proven")
	}
	w.pages.Wait() // the second mail comes after the first
	p = b.press(p, "verify-resend", nil).want(http.StatusOK, "verify-resend").says("A new mail is on its way")
	p = b.get(w.mailLink(t, alice)).want(http.StatusOK).says(alice)
	if got := attr(p.id("email"), "value"); got != alice {
		t.Errorf("the address is %q, want %q filled in", got, alice)
	}
	b.press(p, "verify-submit", map[string]string{"password": password}).atApp()
}

func TestRegisterAndOpenMailOnPhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b, phone := w.browser(t), w.browser(t)
	p := b.get(authorize(c, nil))
	waiting := b.press(b.get(attr(p.id("register-link"), "href")), "register-submit", map[string]string{"email": alice, "password": password})
	phone.press(phone.get(w.mailLink(t, alice)), "verify-submit", map[string]string{"password": password}).want(http.StatusOK, "verify-done").says("go back to the window where you began")
	p = b.get(waiting.url.RequestURI())
	for n := range p.doc.Descendants() {
		if n.Data == "a" && strings.HasPrefix(attr(n, "href"), "/login?i=") {
			b.press(b.get(attr(n, "href")), "login-submit", map[string]string{"email": alice, "password": password}).atApp()
			return
		}
	}
	t.Errorf("the waiting page has no way on:\n%s", p.text())
}

func TestSignInBeforeVerifying(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password}); err != nil {
		t.Fatal(err)
	}
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	p := b.press(b.get(authorize(c, nil)), "login-submit", map[string]string{"email": alice, "password": password})
	p.want(http.StatusOK, "verify-resend").says("Confirm your email address", alice)
	b.press(p, "verify-resend", nil).want(http.StatusOK, "verify-resend")
	b.press(b.get(w.mailLink(t, alice)), "verify-submit", nil).atApp()
}

func TestVerifyLinkExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	b.press(b.get("/register"), "register-submit", map[string]string{"email": alice, "password": password})
	p := b.get(w.mailLink(t, alice))
	w.clock.forward(25 * time.Hour)
	b.press(p, "verify-submit", map[string]string{"password": password}).want(http.StatusBadRequest, "error-page").says("no longer works", "too old")
	b.get("/verify/link").want(http.StatusBadRequest, "error-page")
}

func TestForgotPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	elsewhere := w.browser(t)
	elsewhere.signIn(alice)
	b := w.browser(t)
	b.get(authorize(c, nil)).want(http.StatusOK, "login-submit")
	p := b.get(authorize(c, nil))
	path, _ := p.form("login-submit")
	p = b.get(strings.Replace(path, "/login", "/forgot", 1)).want(http.StatusOK, "forgot-submit")
	b.press(p, "forgot-submit", map[string]string{"email": ""}).want(http.StatusUnprocessableEntity, "email-problem")
	b.press(p, "forgot-submit", map[string]string{"email": "Alice@Example.com"}).want(http.StatusOK).says("Check your mail")
	p = b.get(w.mailLink(t, alice)).want(http.StatusOK, "reset-submit")
	if got := attr(p.id("password"), "autocomplete"); got != "new-password" {
		t.Errorf("autocomplete %q, want new-password", got)
	}
	p = b.press(p, "reset-submit", map[string]string{"password": alice}).want(http.StatusUnprocessableEntity, "password-problem", "strength")
	p = b.press(p, "reset-submit", map[string]string{"password": password + " two"})
	p.want(http.StatusOK, "login-submit").says("Your new password is set", "to continue to Demo app")
	if elsewhere.get("/account").id("login-submit") == nil {
		t.Error("a session from before the reset is still open")
	}
	b.press(p, "login-submit", map[string]string{"password": password}).want(http.StatusUnprocessableEntity)
	b.press(p, "login-submit", map[string]string{"password": password + " two"}).atApp()
}
