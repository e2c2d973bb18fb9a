package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/net/html"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/softkey"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/oauth"
)

const authenticatorHost = "id.example.test"

func (w *world) key() *softkey.Key { return softkey.New(w.site.Origin(), authenticatorHost) }

// answer does what passkey.js does with the form of a page: asks for the options and has the key answer them.
func (b *browser) answer(p page, k *softkey.Key) url.Values {
	b.t.Helper()
	form := p.need("passkey-form")
	values := url.Values{}
	for _, f := range fields(form) {
		values.Set(attr(f, "name"), attr(f, "value"))
	}
	options := b.roundTrip(http.MethodPost, attr(form, "data-options"), values, http.Header{"Sec-Fetch-Site": {"same-origin"}})
	if options.status != http.StatusOK || !json.Valid([]byte(options.body)) {
		b.t.Fatalf("options: status %d: %s", options.status, options.body)
	}
	do := k.Get
	if attr(form, "data-passkey") == "create" {
		do = k.Create
	}
	credential, err := do([]byte(options.body))
	if err != nil {
		b.t.Fatal(err)
	}
	values.Set("credential", string(credential))
	return values
}

// touch presses the passkey button of a page.
func (b *browser) touch(p page, k *softkey.Key) page {
	b.t.Helper()
	values := b.answer(p, k)
	return b.post(attr(p.need("passkey-form"), "action"), values)
}

// fumble answers the passkey form of a page with what is no passkey.
func (b *browser) fumble(p page) page {
	b.t.Helper()
	path, values := p.form("passkey-submit")
	values.Set("credential", "{}")
	return b.post(path, values)
}

// addPasskey gives the signed-in person of a browser a passkey through the pages.
func (b *browser) addPasskey(w *world) *softkey.Key {
	b.t.Helper()
	k := w.key()
	b.touch(b.get("/account/passkeys/new").want(http.StatusOK, "passkey-form", "name"), k).want(http.StatusOK)
	return k
}

// keyed is a member with a passkey.
func (w *world) keyed(t testing.TB, email string) (*browser, identity.User, *softkey.Key) {
	t.Helper()
	b, u := w.member(t, email)
	return b, u, b.addPasskey(w)
}

func (b *browser) session(w *world) identity.Session {
	b.t.Helper()
	s, err := w.people.Session(b.t.Context(), b.cookie("gatehouse-session"))
	if err != nil {
		b.t.Fatalf("no session: %v", err)
	}
	return s
}

func TestPasskeyOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	k := w.key()
	p := b.touch(b.get("/account/passkeys/new").want(http.StatusOK, "passkey-form"), k)
	p.want(http.StatusOK, "recovery-codes").says("Your passkey is ready")
	if s := b.session(w); s.ACR() != identity.ACRPhishingResistant {
		t.Errorf("after the enrolment acr is %s", s.ACR())
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "passkey was added") {
		t.Errorf("mail %q", m.Subject)
	}
	b.get("/account/passkeys").want(http.StatusOK, "passkeys").says("Firefox on Linux", "never")

	fresh := w.browser(t)
	fresh.touch(fresh.get("/login").want(http.StatusOK, "passkey-submit"), k).want(http.StatusOK, "sign-out")
	s := fresh.session(w)
	if s.UserID != u.ID || s.ACR() != identity.ACRPhishingResistant {
		t.Errorf("signed in as %+v", s)
	}
}

func TestPasskeyAsSecondStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, k := w.keyed(t, alice)

	fresh := w.browser(t)
	p := fresh.signIn(alice).want(http.StatusOK, "passkey-submit", "recovery-link")
	if fresh.cookie("gatehouse-session") != "" {
		t.Fatal("the password alone opened a session")
	}
	fresh.get("/account").want(http.StatusOK, "login-submit") // by direct URL
	fresh.touch(p, k).want(http.StatusOK, "sign-out")
	if got := strings.Join(fresh.session(w).AMR, " "); got != "pwd hwk user mfa" {
		t.Errorf("amr %q", got)
	}
}

// An empty answer, another person's key, a page without the password: nothing of it is a second step.
func TestSecondStepIsNotSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	w.person(t, "eve@example.com")
	b, eve := w.browser(t), w.browser(t)
	b.signIn(alice)
	b.addPasskey(w)
	eve.signIn("eve@example.com")
	evil := eve.addPasskey(w)

	thief := w.browser(t)
	p := thief.signIn(alice)
	thief.post("/login/passkey", url.Values{"credential": {""}}).want(http.StatusUnprocessableEntity, "passkey-submit")
	thief.touch(p, evil).want(http.StatusUnprocessableEntity, "passkey-submit")
	other := w.browser(t)
	other.get("/login/passkey").want(http.StatusOK, "login-submit")
	other.post("/login/passkey", url.Values{"credential": {"{}"}}).want(http.StatusOK, "login-submit")
	for _, one := range []*browser{thief, other} {
		if one.cookie("gatehouse-session") != "" {
			t.Error("a session without the second step")
		}
	}
}

func TestPasskeyAnswersAreBoundToTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, k := w.keyed(t, alice)
	victim, attacker := w.browser(t), w.browser(t)
	values := victim.answer(victim.get("/login"), k)
	attacker.get("/login")
	attacker.post("/login/discover", values).want(http.StatusUnprocessableEntity, "passkey-submit").says("not accepted")
	if attacker.cookie("gatehouse-session") != "" {
		t.Error("an answer from another browser signs in")
	}
	victim.post("/login/discover", values).want(http.StatusUnprocessableEntity) // it is used up
}

func TestForeignPageCannotAskForPasskeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	if p := b.roundTrip(http.MethodPost, "/login/discover", url.Values{"credential": {"{}"}}, http.Header{"Sec-Fetch-Site": {"cross-site"}}); p.status != http.StatusForbidden {
		t.Errorf("login from another site: status %d", p.status)
	}
}

func TestPasskeyPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u, k := w.keyed(t, alice)
	keys, err := w.people.Passkeys(t.Context(), u.ID)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d passkeys, err %v", len(keys), err)
	}
	id := keys[0].ID
	b.post("/account/passkeys/rename", url.Values{"passkey": {id}, "name": {"Key ring"}}).want(http.StatusOK, "done").says("Key ring")
	b.post("/account/passkeys/rename", url.Values{"passkey": {id}, "name": {" "}}).want(http.StatusUnprocessableEntity).says("Key ring")
	b.post("/account/passkeys/rename", url.Values{"passkey": {"x"}, "name": {"Mine"}}).want(http.StatusNotFound)

	// Removing needs a fresh proof, and the passkey gives one.
	w.clock.forward(time.Hour)
	p := b.post("/account/passkeys/remove", url.Values{"passkey": {id}}).want(http.StatusOK, "confirm-submit", "passkey-submit")
	b.touch(p, k).want(http.StatusOK, "passkeys")
	if _, err := w.db.Exec(t.Context(), `UPDATE users SET password_hash = '' WHERE id = $1`, u.ID); err != nil {
		t.Fatal(err)
	}
	b.post("/account/passkeys/remove", url.Values{"passkey": {id}}).want(http.StatusUnprocessableEntity, "passkeys").says("last way into your account")
	second := b.addPasskey(w)
	b.post("/account/passkeys/remove", url.Values{"passkey": {id}}).want(http.StatusOK, "done").says("no longer opens")
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "passkey was removed") {
		t.Errorf("mail %q", m.Subject)
	}
	fresh := w.browser(t)
	fresh.touch(fresh.get("/login"), k).want(http.StatusUnprocessableEntity, "login-submit")
	fresh.touch(fresh.get("/login"), second).want(http.StatusOK, "sign-out")
}

func TestEnrollingNeedsFreshProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	w.clock.forward(11 * time.Minute)
	b.get("/account/passkeys/new").want(http.StatusOK, "confirm-submit")
	if p := b.roundTrip(http.MethodPost, "/account/passkeys/options", nil, http.Header{"Sec-Fetch-Site": {"same-origin"}}); p.status != http.StatusSeeOther {
		t.Errorf("options without a fresh proof: status %d", p.status)
	}
}

func TestCopiedPasskeyIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	k := w.key()
	k.Count = 5
	b.touch(b.get("/account/passkeys/new"), k)
	thief := k.Copy()
	fresh := w.browser(t)
	fresh.touch(fresh.get("/login"), k).want(http.StatusOK, "sign-out")
	other := w.browser(t)
	other.touch(other.get("/login"), thief).want(http.StatusUnprocessableEntity).says("not accepted")
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, "seems to have been copied") {
		t.Errorf("mail %q", m.Text)
	}
	fresh.get("/account/passkeys").says("Refused")
}

// Who has no password can set one after a fresh proof by passkey, and by no weaker one; the passkey is asked for beside it afterwards.
func TestFirstPasswordByPasskey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u, k := w.keyed(t, alice)
	if _, err := w.db.Exec(t.Context(), `UPDATE users SET password_hash = '' WHERE id = $1`, u.ID); err != nil {
		t.Fatal(err)
	}
	w.stale()
	const chosen = "quarz.lampion-58-otter"
	p := b.get("/account/password").want(http.StatusOK, "passkey-link", "set-password")
	if p.id("password") != nil {
		t.Error("a stale session is offered the form")
	}
	b.post("/account/password", url.Values{"person": {u.ID}, "current": {""}, "password": {chosen}}).want(http.StatusUnprocessableEntity)
	if w.user(t, u.ID).HasPassword {
		t.Fatal("a stale session has set a password")
	}
	other := w.browser(t)
	other.touch(other.get("/login"), k).want(http.StatusOK, "sign-out")
	p = b.touch(b.get(attr(p.need("passkey-link"), "href")).want(http.StatusOK, "passkey-form"), k).want(http.StatusOK, "password-submit")
	if p.id("current") != nil || p.id("code") != nil {
		t.Error("asks for a password that there is not")
	}
	b.press(p, "password-submit", map[string]string{"password": "short"}).want(http.StatusUnprocessableEntity, "password-submit")
	b.press(p, "password-submit", map[string]string{"password": chosen}).want(http.StatusOK, "done")
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "password") {
		t.Errorf("mail %q", m.Subject)
	}
	other.get("/account").want(http.StatusOK, "login-submit")
	fresh := w.browser(t)
	p = fresh.press(fresh.get("/login"), "login-submit", map[string]string{"email": alice, "password": chosen}).want(http.StatusOK, "passkey-submit")
	fresh.touch(p, k).want(http.StatusOK, "sign-out")
	// From now on the old one is asked for, however fresh the proof.
	b.post("/account/password", url.Values{"person": {u.ID}, "current": {""}, "password": {"ochre-lantern-42-meadow"}}).want(http.StatusUnprocessableEntity, "current-problem")
}

// Whoever knows the password can use up the tries for codes. The owner's passkey opens the account all the same.
func TestAttackLockedOutByCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, u, k := w.keyed(t, alice)
	next, _ := w.enrol(t, u)
	thief := w.browser(t)
	thief.signIn(alice)
	for i := range 20 {
		thief.post("/login/code", url.Values{"code": {"000000"}})
		if i%3 == 2 {
			thief.signIn(alice)
		}
	}
	code := next()
	thief.signIn(alice)
	if thief.post("/login/code", url.Values{"code": {code}}); thief.cookie("gatehouse-session") != "" {
		t.Fatal("the tries are not counted")
	}
	fresh := w.browser(t)
	fresh.touch(fresh.signIn(alice).want(http.StatusOK, "passkey-submit"), k).want(http.StatusOK, "sign-out")
}

// max_age wants the first factor anew and acr the second: neither stands in for the other.
func TestMaxAgeTogetherWithACR(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	next, _ := w.enrol(t, u)
	long := func() time.Time {
		t.Helper()
		at := w.clock.now().Add(-time.Hour)
		if _, err := w.db.Exec(t.Context(), `UPDATE sessions SET auth_time = $1`, db.At(at)); err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := long()
	demand := url.Values{"max_age": {"600"}, "acr_values": {identity.ACRMFA}}
	p := b.get(authorize(c, demand)).want(http.StatusOK, "login-submit")
	b.get("/login/code?" + p.url.RawQuery)
	if q := b.post("/login/code?"+p.url.RawQuery, url.Values{"code": {next()}}); q.away != "" {
		t.Fatalf("the code alone led to %s", q.away)
	}
	p = b.get(authorize(c, demand)).want(http.StatusOK, "login-submit")
	p = b.press(p, "login-submit", map[string]string{"password": password}).want(http.StatusOK, "code-submit")
	if p = b.press(p, "code-submit", map[string]string{"code": next()}); !strings.Contains(p.away, "code=") {
		t.Fatalf("not back at the app: %s %s", p.url, p.away)
	}
	if s := b.session(w); s.ACR() != identity.ACRMFA || !s.AuthTime.After(before.Add(50*time.Minute)) {
		t.Errorf("session %+v", s)
	}

	// A passkey is both at once.
	k := b.addPasskey(w)
	long()
	demand.Set("acr_values", identity.ACRPhishingResistant)
	p = b.get(authorize(c, demand)).want(http.StatusOK, "login-submit", "passkey-submit")
	if p = b.touch(p, k); !strings.Contains(p.away, "code=") {
		t.Fatalf("not back at the app: %s %s", p.url, p.away)
	}
	if s := b.session(w); s.ACR() != identity.ACRPhishingResistant || w.clock.now().Sub(s.AuthTime) > time.Minute {
		t.Errorf("session %+v", s)
	}
}

// A sign-in elsewhere that needs the passkey as its second step still says by whom it came, and links what it was to link.
func TestPasskeyAfterSignInElsewhere(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	_, u, k := w.keyed(t, alice)
	first := w.browser(t)
	p := first.signInAt(i, ada()).want(http.StatusOK, "connect-submit")
	p = first.press(p, "connect-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "passkey-submit")
	w.links(t, u, 0) // not before the second factor
	atAccount(t, first.touch(p, k))
	w.links(t, u, 1)
	second, late := w.browser(t), w.browser(t)
	atAccount(t, second.touch(second.signInAt(i, ada()).want(http.StatusOK, "passkey-submit"), k))
	if got := strings.Join(second.session(w).AMR, " "); got != "fed hwk user mfa" {
		t.Errorf("amr %q", got)
	}
	p = late.signInAt(i, ada()).want(http.StatusOK, "passkey-submit")
	i.change(t, func(p *upstream.Provider) { p.Disabled = true })
	late.touch(p, k).want(http.StatusOK, "login-submit")
	nobodyIn(t, late)
}

// stepUps are requests of an app that demand more than the session has reached.
func TestStepUpAsksForWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })

	// No second factor: one has to be set up, with a proof that is fresh, and the app gets its answer.
	// The clock stays: fosite refuses what is in the real future.
	if _, err := w.db.Exec(t.Context(), `UPDATE sessions SET auth_time = $1`, db.At(w.clock.now().Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	p := b.get(authorize(c, url.Values{"acr_values": {identity.ACRPhishingResistant}})).want(http.StatusOK, "step-up-passkey", "step-up-refuse")
	p = b.get(attr(p.need("step-up-passkey"), "href")).want(http.StatusOK, "confirm-submit")
	p = b.press(p, "confirm-submit", map[string]string{"password": password}).want(http.StatusOK, "passkey-form")
	k := w.key()
	p = b.touch(p, k).want(http.StatusOK, "recovery-codes")

	if p = b.get(attr(p.need("codes-saved"), "href")); !strings.Contains(p.away, "code=") {
		t.Fatalf("not back at the app: %s %s", p.url, p.away)
	}

	// A session of password and code is asked for the passkey only; the token changes, the session stays.
	next, _ := w.enrol(t, u)
	b.press(b.get("/logout"), "logout-confirm", nil)
	p = b.signIn(alice)
	p = b.press(b.get(attr(p.need("code-link"), "href")), "code-submit", map[string]string{"code": next()})
	p.want(http.StatusOK, "sign-out")
	s := b.session(w)
	if s.ACR() != identity.ACRMFA {
		t.Fatalf("acr %s", s.ACR())
	}
	before := b.cookie("gatehouse-session")
	p = b.get(authorize(c, url.Values{"claims": {`{"id_token":{"acr":{"essential":true,"value":"urn:gatehouse:phr"}}}`}})).want(http.StatusOK, "passkey-submit")
	if p.id("code-link") != nil || p.id("password") != nil {
		t.Error("asks for more than the passkey")
	}
	if p = b.touch(p, k); !strings.Contains(p.away, "code=") {
		t.Fatalf("not back at the app: %s %s", p.url, p.away)
	}
	if got := b.session(w); got.ACR() != identity.ACRPhishingResistant || got.ID != s.ID || b.cookie("gatehouse-session") == before {
		t.Errorf("stepped up to %+v", got)
	}
	// What was reached needs nothing more.
	if p = b.get(authorize(c, url.Values{"acr_values": {identity.ACRMFA}})); !strings.Contains(p.away, "code=") {
		t.Errorf("asked again: %s", p.url)
	}
}

func TestPasswordSessionIsAskedForTheSecondFactorOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true; c.DefaultACRValues = []string{identity.ACRMFA} })
	next, _ := w.enrol(t, u) // in another browser; this session has proven the password only
	authTime := b.session(w).AuthTime
	p := b.get(authorize(c, nil)).want(http.StatusOK, "code-submit")
	if p = b.press(p, "code-submit", map[string]string{"code": next()}); !strings.Contains(p.away, "code=") {
		t.Fatalf("not back at the app: %s", p.url)
	}
	if s := b.session(w); s.ACR() != identity.ACRMFA || !s.AuthTime.Equal(authTime) {
		t.Errorf("session %+v, want the time of the password", s)
	}
}

// Who does not want to set anything up goes back to the app, which hears why.
func TestStepUpRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _ := w.member(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	p := b.get(authorize(c, url.Values{"acr_values": {identity.ACRMFA}})).want(http.StatusOK, "step-up-code")
	if p = b.press(p, "step-up-refuse", nil); !strings.Contains(p.away, "error=unmet_authentication_requirements") {
		t.Errorf("led to %s %s", p.url, p.away)
	}
}

// Codes set up on the way lead back to the app that demanded them.
func TestStepUpByAuthenticatorApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, u := w.member(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	p := b.get(authorize(c, url.Values{"acr_values": {identity.ACRMFA}}))
	p = b.get(attr(p.need("step-up-code"), "href")).want(http.StatusOK, "setup-submit")
	p = b.press(p, "setup-submit", map[string]string{"code": totpOf(t, w, u)}).want(http.StatusOK, "recovery-codes")
	if p = b.get(attr(p.need("codes-saved"), "href")); !strings.Contains(p.away, "code=") {
		t.Errorf("not back at the app: %s %s", p.url, p.away)
	}
}

// The policy of the server holds for the account as well, and for an app that asks for less.
func TestServerPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SignInPolicy = identity.ACRMFA })
	w.person(t, alice)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	b.signIn(alice).want(http.StatusOK, "step-up-passkey", "step-up-code")
	b.get("/account/profile").want(http.StatusOK, "step-up-passkey")
	b.get("/account/email").want(http.StatusOK, "step-up-passkey")
	b.get("/account/privacy/delete").want(http.StatusOK, "step-up-passkey")
	b.get(authorize(c, url.Values{"acr_values": {identity.ACRPassword}})).want(http.StatusOK, "step-up-passkey")
	b.addPasskey(w)
	b.get("/account/profile").want(http.StatusOK, "profile-submit")
	if p := b.get(authorize(c, url.Values{"acr_values": {identity.ACRPassword}})); !strings.Contains(p.away, "code=") {
		t.Errorf("not back at the app: %s", p.url)
	}
}

// need finds an element or ends the test.
func (p page) need(id string) *html.Node {
	p.t.Helper()
	n := p.id(id)
	if n == nil {
		p.t.Fatalf("page %s has no #%s: %s", p.url, id, p.text())
	}
	return n
}

// totpOf gives the code of the app that the page shows the secret for.
func totpOf(t testing.TB, w *world, u identity.User) string {
	t.Helper()
	e, err := w.people.BeginTOTP(t.Context(), u.ID, "Gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(e.Secret, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return code
}
