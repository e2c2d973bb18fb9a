package ui

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/challenge"
)

// withChallenge asks for work that a test has done at once.
func withChallenge(c *Config) {
	c.Challenge = &challenge.Work{Key: []byte("a key of the tests"), Cache: c.Cache, Effort: 1000, Now: c.Now}
}

// solved does the work of a page's form, as challenge.js does.
func (p page) solved(button string) string {
	p.t.Helper()
	_, form := p.form(button)
	puzzle := form.Get("challenge")
	raw, err := base64.RawURLEncoding.DecodeString(puzzle)
	if err != nil || len(raw) < 45 {
		p.t.Fatalf("page %s: challenge %q", p.url, puzzle)
	}
	for n := range 1000 {
		sum := sha256.Sum256([]byte(string(raw[13:29]) + strconv.Itoa(n)))
		if string(sum[:16]) == string(raw[29:45]) {
			return puzzle + "." + strconv.Itoa(n)
		}
	}
	p.t.Fatal("no answer")
	return ""
}

func (p page) challenged(button string) bool {
	_, form := p.form(button)
	return form.Has("challenge")
}

func TestChallengeAtSignUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge)
	b := w.browser(t)
	p := b.get("/register")
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	good := map[string]string{"email": alice, "password": password, "challenge": p.solved("register-submit")}
	// What is wrong anyhow does not use the answer up.
	p = b.press(p, "register-submit", map[string]string{"email": "nobody", "password": "short", "challenge": good["challenge"]}).want(http.StatusUnprocessableEntity, "email-problem", "password-problem")
	b.press(p, "register-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "verify-resend")
	w.mailLink(t, alice)
	// The answer is used up now.
	b.post("/register", url.Values{"email": {bob}, "password": {password}, "challenge": {good["challenge"]}}).want(http.StatusUnprocessableEntity).says("no robot")
	if _, err := w.people.UserByEmail(t.Context(), bob); err == nil {
		t.Error("one answer made two accounts")
	}
}

func TestAttackSignUpWithoutWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge)
	b := w.browser(t)
	puzzle := func() string { _, f := b.get("/register").form("register-submit"); return f.Get("challenge") }
	for name, answer := range map[string]string{"none": "", "unsolved": puzzle(), "guessed": puzzle() + ".0", "garbage": "AAAA.1", "of nobody": strings.Repeat("A", 103) + ".1"} {
		p := b.post("/register", url.Values{"email": {alice}, "password": {password}, "challenge": {answer}})
		if p.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d", name, p.status)
		}
	}
	if _, err := w.people.UserByEmail(t.Context(), alice); err == nil {
		t.Error("an account without work")
	}
}

// Who has no JavaScript waits instead: nobody is locked out, and no program gets far.
func TestSignUpByPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge)
	b := w.browser(t)
	p := b.get("/register")
	p = b.press(p, "register-submit", map[string]string{"email": alice, "password": password}).want(http.StatusUnprocessableEntity).says("patience")
	w.clock.forward(20 * time.Second)
	b.press(p, "register-submit", map[string]string{"password": password}).want(http.StatusOK, "verify-resend")
	w.mailLink(t, alice)

	accounts := 0
	for i := range 20 {
		p := b.get("/register")
		w.clock.forward(30 * time.Second)
		if b.press(p, "register-submit", map[string]string{"email": "p" + strconv.Itoa(i) + "@example.com", "password": password}).status == http.StatusOK {
			accounts++
		}
	}
	if accounts > 6 {
		t.Errorf("%d accounts in ten minutes without work", accounts)
	}
}

func TestChallengeAfterFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge, withMailCodes)
	w.person(t, alice)
	for _, email := range []string{alice, "nobody@example.com"} { // alike
		b := w.browser(t)
		p := b.get("/login")
		for i := range failuresOfAccount {
			if p.challenged("login-submit") {
				t.Fatalf("%s: a challenge after %d failures", email, i)
			}
			p = b.press(p, "login-submit", map[string]string{"email": strings.ToUpper(email[:1]) + email[1:], "password": "wrong wrong wrong"}).want(http.StatusUnprocessableEntity)
		}
		if !p.challenged("login-submit") {
			t.Fatalf("%s: no challenge after %d failures", email, failuresOfAccount)
		}
		// Not the right password either, from no other browser, and no code by mail.
		for _, path := range []string{"/login", "/login/mail"} {
			if q := w.browser(t).post(path, url.Values{"email": {email}, "password": {password}}); q.status != http.StatusUnprocessableEntity || !strings.Contains(q.text(), "no robot") {
				t.Errorf("%s %s without an answer: status %d\n%s", path, email, q.status, q.text())
			}
		}
		status := http.StatusUnprocessableEntity
		if email == alice {
			status = http.StatusOK
		}
		b.press(p, "login-submit", map[string]string{"email": email, "password": password, "challenge": p.solved("login-submit")}).want(status)
	}
	// Somebody else is not bothered, and it ends by itself.
	w.person(t, bob)
	w.browser(t).signIn(bob).want(http.StatusOK, "sign-out")
	w.clock.forward(failingFor)
	w.browser(t).signIn(alice).want(http.StatusOK, "sign-out")
}

// Many accounts from one place: each of them has few failures, the place has many.
func TestAttackPasswordSprayedFromOneNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge)
	b := w.browser(t)
	for i := range failuresOfAddress {
		b.post("/login", url.Values{"email": {"p" + strconv.Itoa(i) + "@example.com"}, "password": {"Summer2026!"}})
	}
	p := b.get("/login")
	if !p.challenged("login-submit") {
		t.Error("the network is not asked for work")
	}
	b.post("/login", url.Values{"email": {"fresh@example.com"}, "password": {"Summer2026!"}}).want(http.StatusUnprocessableEntity).says("no robot")
}

// An answer of one form is none for the other.
func TestAttackAnswerOfAnotherForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge, func(c *Config) { c.ChallengeAlways = true })
	w.person(t, alice)
	b := w.browser(t)
	answer := b.get("/register").solved("register-submit")
	b.post("/login", url.Values{"email": {alice}, "password": {password}, "challenge": {answer}}).want(http.StatusUnprocessableEntity).says("no robot")
	p := b.get("/login")
	b.press(p, "login-submit", map[string]string{"email": alice, "password": password, "challenge": p.solved("login-submit")}).want(http.StatusOK, "sign-out")
}

// A failing challenge costs the account none of its tries, so that nobody is locked out for nothing.
func TestAttackLockedOutWithoutWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withChallenge)
	w.person(t, alice)
	thief := w.browser(t)
	for range 30 {
		thief.post("/login", url.Values{"email": {alice}, "password": {"wrong wrong wrong"}})
	}
	b := w.browser(t)
	p := b.press(b.get("/login"), "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusUnprocessableEntity)
	b.press(p, "login-submit", map[string]string{"password": password, "challenge": p.solved("login-submit")}).want(http.StatusOK, "sign-out")
}

func TestRegistrationsOfOneNetworkAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.RegistrationsPerHour = 2 })
	b := w.browser(t)
	try := func(i int) int {
		return b.post("/register", url.Values{"email": {"p" + strconv.Itoa(i) + "@example.com"}, "password": {"short"}}).status
	}
	for i := range 2 {
		if got := try(i); got != http.StatusUnprocessableEntity {
			t.Errorf("try %d: status %d", i, got)
		}
	}
	if got := try(3); got != http.StatusTooManyRequests {
		t.Errorf("one too many: status %d", got)
	}
	w.clock.forward(time.Hour)
	if got := try(4); got != http.StatusUnprocessableEntity {
		t.Errorf("an hour later: status %d", got)
	}
}

// Guessing at the second step costs work like guessing at the first: who has the password must not try codes for free.
func TestAttackCodesGuessedWithoutWork(t *testing.T) {
	t.Parallel()
	for name, guess := range map[string]func(t *testing.T, w *world, next func() string){
		"code": func(t *testing.T, w *world, _ func() string) {
			b := w.browser(t)
			p := b.signIn(alice)
			for range failuresOfAccount {
				p = b.press(p, "code-submit", map[string]string{"code": "000000"}).want(http.StatusUnprocessableEntity)
			}
		},
		"recovery code": func(t *testing.T, w *world, _ func() string) {
			b := w.browser(t)
			b.signIn(alice)
			for range failuresOfAccount {
				b.press(b.get("/login/recovery"), "code-submit", map[string]string{"code": "000000-000000"}).want(http.StatusUnprocessableEntity)
			}
		},
		"code of a mail": func(t *testing.T, w *world, _ func() string) {
			for range failuresOfAccount {
				b := w.browser(t)
				p := b.press(b.get("/login/mail"), "mail-code-submit", map[string]string{"email": alice})
				b.press(p, "mail-code-check", map[string]string{"code": "00000000"}).want(http.StatusUnprocessableEntity)
			}
		},
		"confirmation": func(t *testing.T, w *world, next func() string) {
			b := w.browser(t)
			b.press(b.signIn(alice), "code-submit", map[string]string{"code": next()})
			for range failuresOfAccount {
				b.press(b.get("/confirm"), "confirm-submit", map[string]string{"password": password, "code": "000000"}).want(http.StatusUnprocessableEntity)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withChallenge, withMailCodes)
			u := w.person(t, alice)
			next, _ := w.enrol(t, u)
			guess(t, w, next)
			b := w.browser(t)
			b.post("/login", url.Values{"email": {alice}, "password": {password}}).want(http.StatusUnprocessableEntity).says("no robot")
		})
	}
}
