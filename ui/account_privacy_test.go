package ui

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// askForData has a person's file made and gives the page that offers it.
func (w *world) askForData(t testing.TB, b *browser) page {
	t.Helper()
	b.press(b.get("/account/privacy").want(http.StatusOK, "export-submit"), "export-submit", nil).at("/account/privacy?done=export")
	w.pages.Wait()
	return b.get("/account/privacy").want(http.StatusOK, "export-download")
}

// unzip gives the files of an archive.
func unzip(t testing.TB, raw string) map[string]string {
	t.Helper()
	archive, err := zip.NewReader(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatalf("zip: %v", err)
	}
	files := map[string]string{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(content) {
			t.Errorf("%s is not JSON:\n%s", f.Name, content)
		}
		files[f.Name] = string(content)
	}
	return files
}

func TestDownloadMyData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	other := w.person(t, bob)
	if err := w.people.SetProfile(t.Context(), u.ID, identity.Profile{Name: "Ada Example", Birthdate: "1990-05-31"}); err != nil {
		t.Fatal(err)
	}
	next, recovery := w.enrol(t, u)
	c := w.app(t)
	if err := w.server.Consents.Remember(t.Context(), u.ID, c.ID, []string{"openid", "email"}, oauth.ConsentTextVersion); err != nil {
		t.Fatal(err)
	}
	b.get("/account/privacy").says(c.Name, oauth.ConsentTextVersion)
	b = w.browser(t)
	b.signInTwoStep(alice, next())
	p := w.askForData(t, b)
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, w.site.URL("/account/privacy")) {
		t.Errorf("the mail has no link:\n%s", m.Text)
	}
	p = b.press(p, "export-download", nil).want(http.StatusOK)
	if got := p.header.Get("Content-Type"); got != "application/zip" {
		t.Errorf("Content-Type %q", got)
	}
	if got := p.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	files := unzip(t, p.body)
	for name, words := range map[string][]string{
		"about.json":            {ArchiveFormat, u.ID},
		"account.json":          {alice, `"role": "user"`},
		"profile.json":          {"Ada Example", "1990-05-31"},
		"factors.json":          {`"recovery_codes_left": 10`, "confirmed_at"},
		"sessions.json":         {"Firefox", "192.0.2.7"},
		"mail_links.json":       {"[]"},
		"attributes.json":       {"[]"},
		"groups_and_roles.json": {"groups", "invited_to", "invitations_sent", "roles"},
		"consents.json":         {c.ID, c.Name, oauth.ConsentTextVersion, "granted_at"},
		"grants.json":           {"[]"},
		"session_apps.json":     {"[]"},
		"deliveries.json":       {"[]"},
		"requests.json":         {"[]"},
		"muted_apps.json":       {"[]"},
		"activity.json":         {"session.start", "totp.enrol", "export.ask"},
	} {
		for _, word := range words {
			if !strings.Contains(files[name], word) {
				t.Errorf("%s lacks %q:\n%s", name, word, files[name])
			}
		}
		forbidden(t, files[name], "argon2", recovery[1], other.ID, bob)
	}
}

func TestAttackExportOfAnotherPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	victim, _ := w.member(t, alice)
	_, form := w.askForData(t, victim).form("export-download")
	thief, _ := w.member(t, bob)
	for _, id := range []string{form.Get("export"), "", "nothing"} {
		thief.post("/account/privacy/download", url.Values{"export": {id}}).want(http.StatusNotFound, "error-page")
	}
	victim.post("/account/privacy/download", form).want(http.StatusOK)
}

func TestAttackExportWithoutFreshProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	_, form := w.askForData(t, b).form("export-download")
	w.stale()
	b.post("/account/privacy/download", form).at("/confirm?to=privacy")
	b.post("/account/privacy/export", nil).at("/confirm?to=privacy")
	p := b.press(b.get("/confirm?to=privacy"), "confirm-submit", map[string]string{"password": password}).at("/account/privacy")
	b.press(p, "export-download", nil).want(http.StatusOK)
	w.clock.forward(24 * time.Hour)
	b.press(b.get("/confirm?to=privacy"), "confirm-submit", map[string]string{"password": password})
	b.post("/account/privacy/download", form).want(http.StatusNotFound, "error-page")
}

func TestAttackExportFillsTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	for range exportsPerDay {
		w.askForData(t, b)
	}
	b.post("/account/privacy/export", nil).want(http.StatusTooManyRequests, "error-page")
}

// What a crashed process has left is made by the next round.
func TestTendPrivacyMakesWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	if err := w.people.AskExport(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	p := b.get("/account/privacy").want(http.StatusOK, "export-progress", "export-look")
	if p.id("export-submit") != nil {
		t.Error("a file in the making can be asked for again")
	}
	e, err := w.people.ClaimExport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.people.AdvanceExport(t.Context(), e, 2, 9); err != nil {
		t.Fatal(err)
	}
	b.get("/account/privacy").says("2 of 9 parts are done.")
	w.clock.forward(5 * time.Minute)
	if err := w.pages.TendPrivacy(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.get("/account/privacy").want(http.StatusOK, "export-download")
}

// closeAccount asks for erasure as a person does.
func (b *browser) closeAccount(email string) page {
	b.t.Helper()
	return b.press(b.get("/account/privacy/delete").want(http.StatusOK, "delete-submit"), "delete-submit", map[string]string{"email": email})
}

func TestDeleteMyAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	b.closeAccount("").want(http.StatusUnprocessableEntity)
	b.closeAccount(bob).want(http.StatusUnprocessableEntity).says("not the address of your account")
	b.closeAccount("ALICE@example.com").want(http.StatusOK, "account-closed")
	b.get("/account").at("/login")
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, w.site.URL("/login")) || !strings.Contains(m.Text, "Firefox") {
		t.Errorf("the mail does not say how to keep the account, or who asked:\n%s", m.Text)
	}
	w.clock.forward(7 * 24 * time.Hour)
	if err := w.pages.EraseDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "is deleted") {
		t.Errorf("last mail %q", m.Subject)
	}
	b.signIn(alice).want(http.StatusUnprocessableEntity)
	if again := w.person(t, alice); again.ID == u.ID {
		t.Error("the old id lives again")
	}
}

func TestKeepMyAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	b.closeAccount(alice)
	p := b.signIn(alice).at("/closing").want(http.StatusOK, "keep")
	b.get("/account").at("/login") // not signed in: only asked
	b.press(p, "keep", nil).at("/account?done=kept").want(http.StatusOK, "sign-out")
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "stays") {
		t.Errorf("mail %q", m.Subject)
	}
	w.clock.forward(7 * 24 * time.Hour)
	if err := w.pages.EraseDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.user(t, u.ID).Status != identity.StatusActive {
		t.Error("not active after the cancellation")
	}
	b.post("/closing", nil).at("/account") // the ticket is used up
}

func TestAttackKeepAfterGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	b.closeAccount(alice)
	w.clock.forward(7*24*time.Hour - time.Minute)
	p := b.signIn(alice).at("/closing")
	w.clock.forward(time.Minute)
	b.press(p, "keep", nil).at("/login?n=timeout")
	if w.user(t, u.ID).Status != identity.StatusClosing {
		t.Error("the account is open again")
	}
	b.signIn(alice).want(http.StatusUnprocessableEntity)
}

// A password alone neither opens a closing account with two steps nor ends one.
func TestAttackKeepWithoutSecondStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	next, _ := w.enrol(t, u)
	b.get("/account/privacy/delete").at("/confirm?to=delete")
	b = w.browser(t)
	b.signInTwoStep(alice, next())
	b.closeAccount(alice).want(http.StatusOK, "account-closed")

	thief := w.browser(t)
	thief.signIn(alice).at("/login/code")
	thief.get("/closing").at("/login")
	thief.setCookie("__Host-login-closing", thief.cookie("login"))
	thief.get("/closing").at("/login")
	thief.post("/closing", nil).at("/login")
	thief.post("/login/code?i=closing", url.Values{"code": {next()}}).want(http.StatusBadRequest)

	b.signInTwoStep(alice, next()).at("/closing")
}

func TestAttackDeleteWithoutFreshProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	w.stale()
	b.get("/account/privacy/delete").at("/confirm?to=delete")
	b.post("/account/privacy/delete", url.Values{"email": {alice}}).at("/confirm?to=delete")
	if w.user(t, u.ID).Status != identity.StatusActive {
		t.Error("the account is closed")
	}
}

func TestLastAdminKeepsTheAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: alice, Password: password, EmailVerified: true, Role: identity.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t)
	b.signIn(alice)
	b.closeAccount(alice).want(http.StatusUnprocessableEntity).says("only administrator")
}

func TestAdministratorsErasureIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	if _, err := w.people.AskErasure(t.Context(), u.ID, "", false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.pages.TendPrivacy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.inbox.Messages()); n != 1 {
		t.Errorf("%d mails, want 1", n)
	}
}

// The owner of an account that a thief has closed under a new password gets it back through the mailbox.
func TestClosedByAThief(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	b.closeAccount(alice)
	owner := w.browser(t)
	owner.press(owner.get("/forgot"), "forgot-submit", map[string]string{"email": alice})
	owner.press(owner.get(w.mailLink(t, alice)), "reset-submit", map[string]string{"password": "kontra-melone-72-fisch"})
	p := owner.press(owner.get("/login"), "login-submit", map[string]string{"email": alice, "password": "kontra-melone-72-fisch"}).at("/closing")
	owner.press(p, "keep", nil).at("/account?done=kept")
}

// Tokens of a closed account are dead at once, and neither a cancellation nor a new account under the address revives them.
func TestAttackTokensOfAClosedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true; c.Scopes = []string{"openid", "offline_access"} })
	p := b.get(authorize(c, url.Values{
		"scope": {"openid offline_access"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}))
	back, err := url.Parse(p.away)
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("no code in %q: %v", p.away, err)
	}
	token := func(form url.Values) page {
		form.Set("client_id", c.ID)
		return w.browser(t).roundTrip(http.MethodPost, "/token", form, nil)
	}
	p = token(url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}})
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(p.body), &got); err != nil || got.Access == "" || got.Refresh == "" {
		t.Fatalf("token: %d %s", p.status, p.body)
	}
	userinfo := func() int {
		return w.browser(t).roundTrip(http.MethodGet, "/userinfo", nil, http.Header{"Authorization": {"Bearer " + got.Access}}).status
	}
	if status := userinfo(); status != http.StatusOK {
		t.Fatalf("userinfo before: %d", status)
	}
	dead := func(when string) {
		t.Helper()
		if status := userinfo(); status != http.StatusUnauthorized {
			t.Errorf("userinfo %s: %d, want 401", when, status)
		}
		if p := token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.Refresh}}); p.status != http.StatusBadRequest {
			t.Errorf("refresh %s: %d %s, want 400", when, p.status, p.body)
		}
	}
	w.clock.forward(time.Second)
	b.closeAccount(alice).want(http.StatusOK, "account-closed")
	dead("after closing")
	b.press(b.signIn(alice), "keep", nil).at("/account?done=kept")
	dead("after the cancellation")
	b.closeAccount(alice)
	w.clock.forward(7 * 24 * time.Hour)
	if err := w.pages.EraseDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.person(t, alice)
	dead("under the same address")
	if apps, err := w.server.Apps(t.Context(), w.userByEmail(t, alice).ID); len(apps) > 0 || err != nil {
		t.Errorf("apps of the new account: %v, %v", apps, err)
	}
}

func (w *world) userByEmail(t testing.TB, email string) identity.User {
	t.Helper()
	u, err := w.people.UserByEmail(t.Context(), email)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
