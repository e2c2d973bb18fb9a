package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func withMailCodes(c *Config) { c.MailCodes = true }

var codeInMail = regexp.MustCompile(`(?m)^[0-9A-Z]{4}-[0-9A-Z]{4}$`)

// mailCode waits for the mails behind all answers and gives the code in the newest one.
func (w *world) mailCode(t testing.TB, to string) string {
	t.Helper()
	m := w.mailTo(t, to)
	code := codeInMail.FindString(m.Text)
	if code == "" {
		t.Fatalf("no code in the mail:\n%s", m.Text)
	}
	return code
}

// askCode has a code sent from the sign-in page.
func (b *browser) askCode(path, email string) page {
	b.t.Helper()
	return b.press(b.get(path), "mail-code-ask", map[string]string{"email": email})
}

func TestSignInByMailCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	u := w.person(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	p := b.askCode(authorize(c, nil), " ALICE@example.com").want(http.StatusOK, "code", "mail-code-again").says("ALICE@example.com")
	m := w.mailTo(t, alice)
	if !strings.Contains(m.Text, "10 minutes") || !strings.Contains(m.Text, "192.0.2.7") || strings.Contains(m.Subject, w.mailCode(t, alice)) {
		t.Errorf("mail: %s\n%s", m.Subject, m.Text)
	}
	p = b.press(p, "mail-code-check", map[string]string{"code": ""}).want(http.StatusUnprocessableEntity, "code-problem")
	p = b.press(p, "mail-code-check", map[string]string{"code": "0000-0000"}).want(http.StatusUnprocessableEntity, "code-problem")
	p = b.press(p, "mail-code-again", nil).want(http.StatusOK, "code").says("new code")
	b.press(p, "mail-code-check", map[string]string{"code": strings.ToLower(w.mailCode(t, alice))}).atApp()
	s, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil || s.UserID != u.ID || !slices.Equal(s.AMR, []string{identity.AMRMailCode}) || s.ACR() != identity.ACRPassword {
		t.Errorf("session %+v, %v; want one factor, no more", s, err)
	}
	if b.cookie("gatehouse-mail") != "" {
		t.Error("the ticket stays in the browser")
	}
}

func TestMailCodeThenSecondFactor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	u := w.person(t, alice)
	next, _ := w.enrol(t, u)
	b := w.browser(t)
	p := b.press(b.askCode("/login", alice), "mail-code-check", map[string]string{"code": w.mailCode(t, alice)}).want(http.StatusOK, "code-submit")
	if b.cookie("gatehouse-session") != "" {
		t.Fatal("the code alone opens a session")
	}
	b.get("/account").at("/login")
	b.press(p, "code-submit", map[string]string{"code": next()}).want(http.StatusOK, "sign-out")
	if s, err := w.people.Session(t.Context(), b.cookie("gatehouse-session")); err != nil || s.ACR() != identity.ACRMFA {
		t.Errorf("session %+v, %v", s, err)
	}
}

// Off means off: no button, no page, no code, by whatever path.
func TestMailCodesOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	if b.get("/login").id("mail-code-ask") != nil {
		t.Error("the sign-in page offers a code")
	}
	b.get("/login/mail").want(http.StatusNotFound, "error-page")
	b.post("/login/mail", url.Values{"email": {alice}}).want(http.StatusNotFound, "error-page")
	b.get("/login/mail/code").want(http.StatusNotFound, "error-page")
	b.post("/login/mail/code", url.Values{"code": {"0000-0000"}}).want(http.StatusNotFound, "error-page")
	w.pages.Wait()
	if n := len(w.inbox.Messages()); n > 0 {
		t.Errorf("%d mails", n)
	}
}

func TestAttackAccountFoundByMailCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	w.person(t, alice)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: bob, Password: password}); err != nil { // unproven
		t.Fatal(err)
	}
	closed := w.person(t, "closed@example.com")
	if err := w.people.SetStatus(t.Context(), closed.ID, identity.StatusDisabled); err != nil {
		t.Fatal(err)
	}
	seen := func(email string) string {
		b := w.browser(t)
		var all []string
		note := func(p page) page {
			all = append(all, fmt.Sprintf("%d %s %s", p.status, p.url, strings.ReplaceAll(p.body, email, "EMAIL")))
			return p
		}
		note(b.askCode("/login", email))
		for range 4 {
			note(b.post("/login/mail/code", url.Values{"code": {"0000-0000"}}))
		}
		if b.cookie("gatehouse-mail") != "" {
			all = append(all, "ticket")
		}
		note(b.askCode("/login", email))
		return strings.Join(all, "\n")
	}
	want := seen("nobody@example.com")
	for _, email := range []string{alice, bob, "closed@example.com", "no address"} {
		if got := seen(email); got != want {
			t.Errorf("%s is told apart:\n%s\nwant:\n%s", email, got, want)
		}
	}
	// Whose address is unproven gets a link to set a new password instead.
	if m := w.mailTo(t, bob); !strings.Contains(m.Text, "/reset?") || codeInMail.MatchString(m.Text) {
		t.Errorf("mail to an unproven address:\n%s", m.Text)
	}
	for _, m := range w.inbox.Messages() {
		if m.To == "closed@example.com" {
			t.Errorf("mail to a closed account:\n%s", m.Text)
		}
	}
}

// A code that somebody is talked into reading out works in no other browser.
func TestAttackMailCodeInAnotherBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	w.person(t, alice)
	victim, thief := w.browser(t), w.browser(t)
	victim.askCode("/login", alice)
	code := w.mailCode(t, alice)
	thief.post("/login/mail/code", url.Values{"code": {code}}).at("/login?n=timeout")
	thief.askCode("/login", alice) // with a sign-in of his own it is another code
	p := thief.post("/login/mail/code", url.Values{"code": {code}})
	p.want(http.StatusUnprocessableEntity, "code-problem")
	if thief.cookie("gatehouse-session") != "" {
		t.Error("the thief is signed in")
	}
	// Nor for another app's request in the same browser.
	c := w.app(t)
	i := victim.get(authorize(c, nil)).url.Query().Get("i")
	victim.post("/login/mail/code?i="+i, url.Values{"code": {code}})
	if victim.cookie("gatehouse-session") != "" {
		t.Error("a code asked for elsewhere answered an app's request")
	}
	victim.post("/login/mail/code", url.Values{"code": {code}}).want(http.StatusOK, "sign-out")
}

// Five tries in all, in whatever order and wherever the codes are typed, under whatever spelling of the address.
func TestAttackCodesGuessedOnEveryPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	u := w.person(t, alice)
	next, _ := w.enrol(t, u)
	inside := w.browser(t)
	inside.signInTwoStep(alice, next()).want(http.StatusOK, "sign-out")
	w.clock.forward(time.Hour)

	byPassword, byMail := w.browser(t), w.browser(t)
	byPassword.signIn("Alice@EXAMPLE.com").want(http.StatusOK, "code-submit")
	byMail.askCode("/login", "ALICE@example.com")
	byPassword.post("/login/code", url.Values{"code": {"000000"}}).want(http.StatusUnprocessableEntity)
	byPassword.post("/login/recovery", url.Values{"code": {"000000-000000"}}).want(http.StatusUnprocessableEntity)
	byMail.post("/login/mail/code", url.Values{"code": {"0000-0000"}}).want(http.StatusUnprocessableEntity)
	inside.post("/confirm", url.Values{"password": {password}, "code": {"000000"}}).want(http.StatusUnprocessableEntity)
	inside.post("/account/password", url.Values{"current": {password}, "password": {"another long enough passphrase"}, "code": {"000000"}}).want(http.StatusUnprocessableEntity)

	right := next()
	inside.post("/confirm", url.Values{"password": {password}, "code": {right}}).want(http.StatusTooManyRequests)
	byMail.post("/login/mail/code", url.Values{"code": {w.mailCode(t, alice)}}).at("/login?n=tries")
	byPassword.post("/login/code", url.Values{"code": {right}}).at("/login?n=tries")
}

func TestMailCodesForMailboxesAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	w.person(t, alice)
	for range 12 {
		w.browser(t).askCode("/login", alice).want(http.StatusOK, "code")
	}
	w.pages.Wait()
	if n := len(w.inbox.Messages()); n != mailsPerHour {
		t.Errorf("%d mails to one mailbox, want %d", n, mailsPerHour)
	}
}
