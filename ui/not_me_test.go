package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/gatehouse-id/gatehouse/identity"
)

// Somebody signs up with a stranger's address and a password of their own. The stranger opens the link and presses what there is to
// press: the account with the address must not become a confirmed one that the other holds (account pre-hijacking).
func TestAttackUnaskedVerificationMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thief := w.browser(t)
	thief.press(thief.get("/register"), "register-submit", map[string]string{"name": "Your bank, call 0900", "email": alice, "password": password})
	link := w.mailLink(t, alice)
	verified := func() bool {
		t.Helper()
		u, err := w.people.UserByEmail(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		return u.EmailVerified
	}
	victim := w.browser(t)
	p := victim.get(link).want(http.StatusOK, "verify-submit", "verify-refuse").says(alice)
	forbidden(t, p.text(), "0900")
	victim.press(p, "verify-submit", nil).want(http.StatusUnprocessableEntity, "password-problem")
	victim.press(p, "verify-submit", map[string]string{"password": "a password of the victim"}).want(http.StatusUnprocessableEntity, "password-problem")
	member, _ := w.member(t, bob) // who has an account here under another address
	member.press(member.get(link).want(http.StatusOK, "password"), "verify-submit", nil).want(http.StatusUnprocessableEntity, "password-problem")
	u, err := w.people.UserByEmail(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	member.post(link, url.Values{"person": {u.ID}}).want(http.StatusUnprocessableEntity)
	if verified() {
		t.Fatal("the thief's account has the victim's address, confirmed")
	}
	victim.press(p, "verify-refuse", nil).want(http.StatusOK, "verify-refused")
	thief.post(link, url.Values{"password": {password}}).want(http.StatusBadRequest, "error-page").says("no longer works")
	if verified() {
		t.Error("confirmed after the refusal")
	}
	// Guessing the password on that page counts like guessing it on any other.
	w.clock.forward(time.Hour)
	thief.signIn(alice)
	thief.press(thief.get("/verify"), "verify-resend", nil)
	link = w.mailLink(t, alice)
	for range 12 {
		victim.post(link, url.Values{"password": {"a guess of the victim"}})
	}
	victim.post(link, url.Values{"password": {password}}).want(http.StatusUnprocessableEntity)
	if verified() {
		t.Error("the password was guessed past its limit")
	}
}

// The address in force learns of a change before it is made, and stops it.
func TestAddressChangeIsToldBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thief, u := w.member(t, alice)
	const next = "thief@example.com"
	thief.press(thief.get("/account/email"), "email-submit", map[string]string{"email": next}).at("/account/email?done=email_sent")
	change := w.mailLink(t, next)
	m := w.mailTo(t, alice)
	if !strings.Contains(m.Subject, "Another email address") || strings.Contains(m.Text, next) {
		t.Fatalf("notice: %s\n%s", m.Subject, m.Text)
	}
	owner, link := w.browser(t), w.mailLink(t, alice)
	for range 2 { // mail scanners open links
		owner.get(link).want(http.StatusOK, "not-me-submit").says("another email address")
	}
	thief.get("/account").want(http.StatusOK, "sign-out")
	owner.press(owner.get(link), "not-me-submit", nil).want(http.StatusOK, "disowned").says("We have sent a link to " + alice)
	if got := thief.get("/account").url.Path; got != "/login" {
		t.Errorf("the thief is at %s", got)
	}
	thief.signIn(alice)
	thief.get(change).want(http.StatusUnprocessableEntity).says("no longer works")
	if got := w.user(t, u.ID).Email; got != alice {
		t.Errorf("the address is %s", got)
	}
	if reset := w.mailLink(t, alice); !strings.HasPrefix(reset, "/reset?t=") {
		t.Errorf("the mail leads to %s", reset)
	}
	owner.get(link).want(http.StatusBadRequest, "error-page").says("no longer works")
}

// An address that nobody has proven may be a stranger's: no link that throws the person out goes there.
func TestAttackMistypedAddressStopsItsChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	b.signIn(alice)
	b.press(b.get("/account/email"), "email-submit", map[string]string{"email": bob}).at("/account/email?done=email_sent")
	w.pages.Wait()
	for _, m := range w.inbox.Messages() {
		if m.To == alice {
			t.Errorf("a mail to the mistyped address:\n%s", m.Text)
		}
	}
}

// setUpApp turns two-step sign-in on and gives the secret.
func (b *browser) setUpApp(w *world) (secret string) {
	b.t.Helper()
	p := b.get("/account/two-step/setup").want(http.StatusOK, "totp-secret")
	secret = strings.ReplaceAll(textOf(p.id("totp-secret")), " ", "")
	code, err := totp.GenerateCode(secret, w.clock.now())
	if err != nil {
		b.t.Fatal(err)
	}
	b.press(p, "setup-submit", map[string]string{"code": code}).want(http.StatusOK, "recovery-codes")
	return secret
}

// A thief has turned two-step sign-in on, so that a new password does not let the person in again. The notice undoes it.
func TestThisWasNotMyFactor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	thief, u := w.member(t, alice)
	thief.setUpApp(w)
	link, owner := w.mailLink(t, alice), w.browser(t)
	owner.press(owner.get(link).want(http.StatusOK).says("authenticator app was added"), "not-me-submit", nil).
		want(http.StatusOK, "disowned").says("What was added to sign in with is removed")
	if w.user(t, u.ID).HasTOTP {
		t.Fatal("the thief's app is still there")
	}
	if got := thief.get("/account").url.Path; got != "/login" {
		t.Errorf("the thief is at %s", got)
	}
	owner.press(owner.get(w.mailLink(t, alice)), "reset-submit", map[string]string{"password": password + " two"})
	atAccount(t, owner.press(owner.get("/login"), "login-submit", map[string]string{"email": alice, "password": password + " two"}))
}

// In the account, the row that added a factor takes exactly that one out: with a fresh proof, since it opens the account a little.
func TestDisownFactorInActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	secret := b.setUpApp(w)
	app, err := w.people.TOTPAct(t.Context(), u.ID)
	if err != nil || app == "" {
		t.Fatalf("app %q, %v", app, err)
	}
	b.get("/account/activity").want(http.StatusOK).says("Remove what was added here")
	form := url.Values{"about": {string(app)}}
	w.clock.forward(freshness)
	b.post("/account/activity/not-me", form).at("/confirm?to=activity")
	if !w.user(t, u.ID).HasTOTP {
		t.Fatal("a session that is not fresh has removed the app")
	}
	code, err := totp.GenerateCode(secret, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	b.press(b.get("/confirm?to=activity"), "confirm-submit", map[string]string{"password": password, "code": code}).at("/account/activity")
	b.post("/account/activity/not-me", form).want(http.StatusOK, "disowned").says("What was added to sign in with is removed")
	if w.user(t, u.ID).HasTOTP {
		t.Error("the app is still there")
	}
	b.signIn(alice)
	if p := b.get("/account/activity"); strings.Contains(p.text(), "Remove what was added here") {
		t.Error("a factor that is gone can be removed")
	}
}
