package ui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

func byInvitation(c *Config) { c.Registration, c.Invitations = false, true }

// invite invites an address and gives the link of the mail.
func (w *world) invite(t testing.TB, inv identity.SignUpInvitation) string {
	t.Helper()
	if _, err := w.people.InviteToSignUp(t.Context(), inv, 48*time.Hour, "cli"); err != nil {
		t.Fatal(err)
	}
	if err := w.pages.SendInvitations(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w.mailLink(t, inv.Email)
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byInvitation)
	link := w.invite(t, identity.SignUpInvitation{Email: alice})
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, "for 2 days") {
		t.Errorf("the mail does not say how long the link works:\n%s", m.Text)
	}
	b := w.browser(t)
	b.get("/register").want(http.StatusNotFound, "error-page") // still closed to strangers
	for range 3 {                                              // mail scanners
		w.browser(t).get(link).want(http.StatusOK, "invitation-submit")
	}
	p := b.press(b.get(link), "invitation-submit", map[string]string{"name": "Alice", "password": "short"}).want(http.StatusUnprocessableEntity, "password-problem")
	b.press(p, "invitation-submit", map[string]string{"password": password}).want(http.StatusOK, "sign-out").says("Alice")
	u := w.userByEmail(t, alice)
	if !u.EmailVerified || u.Role != identity.RoleUser || u.Profile.Name != "Alice" {
		t.Errorf("account %+v", u)
	}
	other := w.browser(t)
	other.get(link).want(http.StatusGone, "error-page").says("used already", "Sign in")
	other.post(link, url.Values{"password": {"another long enough passphrase"}}).want(http.StatusGone, "error-page")
	other.signIn(alice).want(http.StatusOK, "sign-out")
}

func TestInvitationInItsLanguage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byInvitation)
	w.invite(t, identity.SignUpInvitation{Email: alice, Language: "de"})
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "eingeladen") {
		t.Errorf("subject %q", m.Subject)
	}
}

func TestInvitationsThatAreOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byInvitation)
	b := w.browser(t)
	link := w.invite(t, identity.SignUpInvitation{Email: alice})
	w.clock.forward(48 * time.Hour)
	b.get(link).want(http.StatusGone, "error-page").says("expired", "send it again")
	if _, err := w.people.ResendSignUpInvitation(t.Context(), alice, 0, ""); err != nil {
		t.Fatal(err)
	}
	b.get(link).want(http.StatusNotFound, "error-page").says("newer one", "send it again")
	if err := w.pages.SendInvitations(t.Context()); err != nil {
		t.Fatal(err)
	}
	link = w.mailLink(t, alice)
	p := b.get(link).want(http.StatusOK, "invitation-submit")
	w.person(t, alice)
	b.press(p, "invitation-submit", map[string]string{"password": "another long enough passphrase"}).want(http.StatusConflict, "error-page").says("already")
	b.get("/invitation").want(http.StatusNotFound, "error-page")
	b.get("/invitation?t="+strings.Repeat("A", 43)).want(http.StatusNotFound, "error-page")
}

// Registration that is off is off on every path, and what asks for it finds no page (Zitadel CVE-2024-49757, CVE-2026-29193;
// Keycloak CVE-2026-1529).
func TestAttackSignUpWhereRegistrationIsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byInvitation)
	link := w.invite(t, identity.SignUpInvitation{Email: alice})
	w.pages.Invitations = false // off: not even invited people
	c := w.app(t)
	b := w.browser(t)
	if p := b.get(authorize(c, url.Values{"prompt": {"create"}})); p.id("register-submit") != nil || p.id("register-link") != nil {
		t.Error("an app opens the sign-up page")
	}
	for _, path := range []string{"/register", "/register?i=" + b.get(authorize(c, nil)).url.Query().Get("i"), link} {
		b.get(path).want(http.StatusNotFound, "error-page")
		b.post(path, url.Values{"name": {"Eve"}, "email": {alice}, "password": {password}}).want(http.StatusNotFound, "error-page")
	}
	if _, err := w.people.InviteToSignUp(t.Context(), identity.SignUpInvitation{Email: bob}, 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.pages.SendInvitations(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.inbox.Messages() {
		if m.To == bob {
			t.Error("an invitation that nobody can accept was mailed")
		}
	}
	if _, err := w.people.UserByEmail(t.Context(), alice); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("err %v, want no account", err)
	}
}

// What a form adds to the invitation's own words counts for nothing.
func TestAttackInvitedByPostedRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, byInvitation)
	link := w.invite(t, identity.SignUpInvitation{Email: alice})
	w.browser(t).post(link, url.Values{"password": {password}, "email": {"eve@example.com"}, "role": {"admin"}}).want(http.StatusOK, "sign-out")
	if u := w.userByEmail(t, alice); u.Role != identity.RoleUser {
		t.Errorf("role %q", u.Role)
	}
	if _, err := w.people.UserByEmail(t.Context(), "eve@example.com"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("err %v, want no account of that name", err)
	}
}
