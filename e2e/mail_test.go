package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

var codeInMail = regexp.MustCompile(`\b[0-9A-Z]{4}-[0-9A-Z]{4}\b`)

// mailedCode waits for a mail with a code.
func mailedCode(t *testing.T, s *rig.Server) string {
	t.Helper()
	b := rig.NewBrowser(s.Issuer)
	for range 200 {
		inbox, err := b.Open("/inbox")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range inbox.Links() {
			if !strings.HasPrefix(link, "/inbox/") {
				continue
			}
			mail, err := b.Open(link)
			if err != nil {
				t.Fatal(err)
			}
			if code := codeInMail.FindString(mail.Body); code != "" {
				return code
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("no mail with a code came")
	return ""
}

func TestMailCodeInChromium(t *testing.T) {
	t.Parallel()
	setup := embedded(t)
	setup.Env = append(slices.Clone(setup.Env), "GATEHOUSE_MAIL_CODES=true", "GATEHOUSE_REQUIRE_VERIFIED_EMAIL=false")
	s := start(t, setup)
	if err := s.Command(t.Context(), nil, "user", "create", "--email", "ada@example.test", "--password", newPassword, "--verified"); err != nil {
		t.Fatal(err)
	}
	w := newWindow(t)
	w.open(s.Issuer + "/login")
	w.fill("email", "ada@example.test")
	w.shot("mail-1-login")
	w.click("mail-code-ask")
	w.see("mail-code-check")
	w.shot("mail-2-code")
	w.fill("code", "0000-0000")
	if got := w.click("mail-code-check"); got != 422 {
		t.Errorf("a wrong code got status %d", got)
	}
	w.forgive("Failed to load resource")
	w.shot("mail-3-wrong")
	w.fill("code", strings.ToLower(mailedCode(t, s)))
	w.click("mail-code-check")
	w.see("sign-out")
	w.open(s.Issuer + "/login/mail")
	w.see("sign-out") // nothing to ask for
}

// An invitation made by a command is mailed by the running server, and leads into an account where registration is closed.
func TestInvitationInChromium(t *testing.T) {
	t.Parallel()
	setup := embedded(t)
	setup.Env = append(slices.Clone(setup.Env), "GATEHOUSE_REGISTRATION=invite")
	s := start(t, setup)
	if err := s.Command(t.Context(), nil, "user", "invite", "grace@example.test", "--expires", "48h"); err != nil {
		t.Fatal(err)
	}
	w := newWindow(t)
	if got := w.open(s.Issuer + "/register"); got != 404 {
		t.Errorf("the sign-up page has status %d, want 404", got)
	}
	w.forgive("Failed to load resource")
	link := mailed(t, s, "/invitation")
	w.open(link)
	w.shot("invitation-1")
	w.fill("name", "Grace Hopper")
	w.fill("password", newPassword)
	w.click("invitation-submit")
	w.see("sign-out")
	if got := w.open(link); got != 410 {
		t.Errorf("the used link has status %d, want 410", got)
	}
	w.forgive("Failed to load resource")
}

// The browser works in a worker beside the page, under the page's policy, and the form goes when the answer is there; the
// person who is quicker than that is told so.
func TestChallengeInChromium(t *testing.T) {
	t.Parallel()
	setup := embedded(t)
	setup.Env = append(slices.Clone(setup.Env), "GATEHOUSE_CHALLENGE=always")
	s := start(t, setup)
	newUser(t, s, "ada@example.test")
	w := newWindow(t)
	w.open(s.Issuer + "/register")
	w.fill("email", "grace@example.test")
	w.fill("password", newPassword)
	w.click("register-submit")
	w.see("verify-resend")
	mailed(t, s, "/verify/link")
	w.open(s.Issuer + "/login")
	w.fill("email", "ada@example.test")
	w.fill("password", "not her password at all")
	if got := w.click("login-submit"); got != 422 {
		t.Errorf("a wrong password got status %d", got)
	}
	w.forgive("Failed to load resource")
	w.shot("challenge-login")
	w.fill("password", password)
	w.click("login-submit")
	if w.has("login-submit") {
		t.Error("the right password with an answer does not sign in")
	}

	quiet := newWindow(t, noScripts)
	quiet.open(s.Issuer + "/register")
	quiet.fill("email", "alan@example.test")
	quiet.fill("password", newPassword)
	if got := quiet.click("register-submit"); got != 422 {
		t.Errorf("without a script and without waiting: status %d", got)
	}
	quiet.forgive("Failed to load resource")
	quiet.shot("challenge-wait")
}
