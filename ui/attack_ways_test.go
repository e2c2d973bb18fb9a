package ui

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// Several ways lead into one account. These attacks take the one that another one's rule has forgotten.

// A provider that is trusted for two steps says "swk" of a push to a phone. It is no passkey of ours, which is what phishing-resistant means.
func TestAttackPhishingResistanceByWordOfProvider(t *testing.T) {
	t.Parallel()
	for _, amr := range [][]string{{"hwk"}, {"swk", "mfa"}, {"pwd", "hwk", "user", "mfa"}} {
		w, i, _ := acmeOfAlice(t, func(p *upstream.Provider) { p.TrustAMR = true })
		b := w.browser(t)
		atAccount(t, b.signInAt(i, ada(person{"amr": amr})))
		want := identity.ACRPassword
		if slices.Contains(amr, "mfa") {
			want = identity.ACRMFA
		}
		if s := b.session(w); s.ACR() != want {
			t.Errorf("amr %v makes acr %s, want %s", amr, s.ACR(), want)
		}
	}
}

// Whoever finds a browser open has its sign-in at the provider as well, which asks nothing: going there once more proves nothing.
func TestAttackFreshProofBySilentProvider(t *testing.T) {
	t.Parallel()
	w, i, _ := acmeOfAlice(t)
	b := w.browser(t)
	atAccount(t, b.signInAt(i, ada()))
	for _, path := range []string{"/account/email", "/account/two-step/setup", "/account/passkeys/new", "/account/privacy/delete"} {
		if p := b.get(path); p.id("confirm-acme") == nil {
			t.Errorf("%s after a silent sign-in elsewhere: at %s", path, p.url)
		}
	}
	// The provider says when it asked: that counts for as long as it is fresh.
	out := w.browser(t)
	atAccount(t, out.signInAt(i, ada(person{"auth_time": w.clock.now().Add(-time.Hour).Unix()})))
	out.get("/account/email").want(http.StatusOK, "confirm-acme")
	in := w.browser(t)
	atAccount(t, in.signInAt(i, ada(person{"auth_time": w.clock.now().Add(-time.Minute).Unix()})))
	if p := in.get("/account/email"); p.url.Path != "/account/email" {
		t.Errorf("after a proof a minute ago at %s", p.url)
	}
}

// A second step of ours that was shown a moment ago is a proof.
func TestSecondStepAfterSilentProviderIsFresh(t *testing.T) {
	t.Parallel()
	w, i, u := acmeOfAlice(t)
	next, _ := w.enrol(t, u)
	b := w.browser(t)
	p := b.signInAt(i, ada())
	atAccount(t, b.press(p, "code-submit", map[string]string{"code": next()}))
	if p := b.get("/account/email"); p.url.Path != "/account/email" {
		t.Errorf("at %s", p.url)
	}
}

// What a company has closed at its own server stays closed: by a passkey, by an account elsewhere, by a password behind either.
func TestAttackWaysAroundTheCompany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner, other := newIDP(t, w, "acme", func(p *upstream.Provider) { p.Domains = []string{"example.com"} }), newIDP(t, w, "other")
	_, u, k := w.keyed(t, alice)
	other.link(t, u, "ada-at-acme")
	owner.change(t, func(p *upstream.Provider) { p.Require = true })
	there := func(how string, b *browser, p page) {
		t.Helper()
		if !strings.HasPrefix(p.away, owner.URL) {
			t.Errorf("%s leads to %s %q", how, p.url, p.away)
		}
		nobodyIn(t, b)
	}
	b := w.browser(t)
	there("a passkey", b, b.touch(b.get("/login"), k))
	b = w.browser(t)
	p := b.signInAt(other, ada())
	there("another provider", b, b.touch(p.want(http.StatusOK, "passkey-submit"), k))

	owner.link(t, u, "alice-at-acme")
	b = w.browser(t)
	p = b.signInAt(owner, ada(person{"sub": "alice-at-acme"}))
	atAccount(t, b.touch(p.want(http.StatusOK, "passkey-submit"), k))
}

// Where only passkeys are enough, who has one must show it to add another: else a phished code would make itself a passkey.
func TestAttackPasskeyAddedByAPhishedCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SignInPolicy = identity.ACRPhishingResistant })
	u := w.person(t, alice)
	next, _ := w.enrol(t, u)
	b := w.browser(t)
	b.press(b.press(b.get("/login"), "login-submit", map[string]string{"email": alice, "password": password}), "code-submit", map[string]string{"code": next()})
	k := b.addPasskey(w) // the first one: there is nothing better to show

	thief := w.browser(t)
	thief.signIn(alice)
	thief.press(thief.get("/login/code"), "code-submit", map[string]string{"code": next()})
	if s := thief.session(w); s.ACR() != identity.ACRMFA {
		t.Fatalf("the thief has reached %s", s.ACR())
	}
	if p := thief.get("/account/passkeys/new"); p.url.Path != "/login/passkey" {
		t.Errorf("to add a passkey leads to %s", p.url)
	}
	if p := thief.roundTrip(http.MethodPost, "/account/passkeys/options", url.Values{"person": {u.ID}}, http.Header{"Sec-Fetch-Site": {"same-origin"}}); p.status != http.StatusSeeOther {
		t.Errorf("options: status %d", p.status)
	}
	thief.touch(thief.get("/login/passkey"), k)
	thief.get("/account/passkeys/new").want(http.StatusOK, "passkey-form")
}

// An operator gives a one-time password to somebody who has lost the account. The thief's own way in must not set the next one.
func TestAttackNewPasswordByAnotherWayIn(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	ofPasskey, ofProvider := w.person(t, alice), w.person(t, bob)
	i.link(t, ofProvider, "ada-at-acme")
	b := w.browser(t)
	b.signIn(alice)
	k := b.addPasskey(w)
	const once = "one-time quartz lantern 4711"
	for _, u := range []identity.User{ofPasskey, ofProvider} {
		if err := w.people.SetOneTimePassword(t.Context(), u.ID, once); err != nil {
			t.Fatal(err)
		}
	}
	thief := w.browser(t)
	thief.touch(thief.get("/login"), k).want(http.StatusOK, "login-submit").says("one-time password")
	nobodyIn(t, thief)
	thief = w.browser(t)
	thief.signInAt(i, ada()).want(http.StatusOK, "login-submit").says("one-time password")
	nobodyIn(t, thief)

	owner := w.browser(t)
	p := owner.press(owner.get("/login"), "login-submit", map[string]string{"email": alice, "password": once})
	if p = owner.touch(p, k); p.url.Path != "/password/new" {
		t.Errorf("the one-time password leads to %s", p.url)
	}
}

// Somebody has made an account with a stranger's address. When the stranger comes, by a code from a mail, nothing of it may be left.
func TestAttackPreHijackedAccountAndMailCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMailCodes)
	i := newIDP(t, w, "acme")
	thief := w.browser(t)
	p := thief.signInAt(i, ada(person{"email_verified": false}))
	thief.press(p, "create-submit", map[string]string{"new-email": alice})
	w.pages.Wait() // the mail to prove the address
	b := w.browser(t)
	b.askCode("/login", alice)
	link := w.mailLink(t, alice)
	if !strings.HasPrefix(link, "/reset?") {
		t.Fatalf("the mail leads to %s", link)
	}
	b.press(b.get(link), "reset-submit", map[string]string{"password": password})
	atAccount(t, b.signIn(alice))
	thief.signInAt(i, ada()).want(http.StatusOK, "connect-submit")
	nobodyIn(t, thief)
}

// The page that connects an account takes a password, and so what guards the sign-in page.
func TestAttackChallengeSkippedByConnecting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.ChallengeAlways = true
		c.Challenge = &challenge.Work{Key: []byte("0123456789abcdef0123456789abcdef"), Cache: c.Cache, Effort: 10, Now: c.Now}
	})
	i := newIDP(t, w, "acme")
	w.person(t, alice)
	b := w.browser(t)
	p := b.signInAt(i, ada()).want(http.StatusOK, "connect-submit")
	path, values := p.form("connect-submit")
	values.Set("email", alice)
	values.Set("password", password)
	values.Del("challenge")
	b.post(path, values).want(http.StatusUnprocessableEntity, "connect-submit")
	nobodyIn(t, b)
}

// "This wasn't me" must not leave the thief the door that he has made himself, nor a mail that moves the account to his address.
func TestAttackWayBackAfterDisowning(t *testing.T) {
	t.Parallel()
	w, i, u := acmeOfAlice(t)
	moves, err := w.people.NewLink(t.Context(), u.ID, identity.ChangeEmail, "mallory@example.com")
	if err != nil {
		t.Fatal(err)
	}
	thief, b := w.browser(t), w.browser(t)
	atAccount(t, thief.signInAt(i, ada()))
	b.signIn(alice)
	b.press(b.get("/account/activity"), "not-me-submit", nil).want(http.StatusOK, "disowned").says("No account elsewhere", "your passkeys")
	nobodyIn(t, thief)
	thief.signInAt(i, ada()).want(http.StatusOK, "connect-submit")
	nobodyIn(t, thief)
	if _, _, err := w.people.ChangeEmail(t.Context(), moves); err == nil {
		t.Error("the account has moved to the thief's address")
	}
}

// An app that demands a recent proof hears when the provider has asked, not when it let the person through.
func TestAttackMaxAgeBySilentProvider(t *testing.T) {
	t.Parallel()
	w, i, _ := acmeOfAlice(t)
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })
	b := w.browser(t)
	asked := w.clock.now().Add(-time.Hour)
	atAccount(t, b.signInAt(i, ada(person{"auth_time": asked.Unix()})))
	if s := b.session(w); !s.AuthTime.Equal(time.Unix(asked.Unix(), 0)) {
		t.Errorf("proven at %s, want %s", s.AuthTime, asked)
	}
	p := b.get(authorize(c, url.Values{"max_age": {"600"}})).want(http.StatusOK, "provider-acme")
	if p = b.byProvider(i, p, ada(person{"auth_time": w.clock.now().Unix()})); !strings.Contains(p.away, "code=") {
		t.Errorf("after a fresh proof at %s %s", p.url, p.away)
	}
}

// However many press a provider's button while it is slow, it is asked for its metadata once.
func TestAttackSlowProviderIsAskedOnce(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	var asked atomic.Int32
	came, answer := make(chan struct{}, 100), make(chan struct{})
	i.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
			asked.Add(1)
			came <- struct{}{}
			<-answer
		}
		return false
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := w.pages.Upstream.Begin(t.Context(), upstream.Trip{Provider: "acme", Purpose: upstream.ForSignIn}, upstream.Wish{}); err != nil {
				t.Error(err)
			}
		})
	}
	<-came
	close(answer)
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A provider that does not say when it asked lets people in, but not into an app that demands a recent sign-in: neither at once nor by
// the session that is left.
func TestAttackMaxAgeByProviderWithoutTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := newIDP(t, w, "acme")
	i.link(t, w.person(t, alice), "ada-at-acme")
	c := w.app(t, func(c *oauth.Client) { c.FirstParty = true })

	b := w.browser(t)
	p := b.get(authorize(c, url.Values{"max_age": {"600"}})).want(http.StatusOK, "provider-acme")
	away := b.press(p, "provider-acme", nil).away
	if asked, _ := url.Parse(away); asked.Query().Get("max_age") != "600" || asked.Query().Has("prompt") {
		t.Errorf("the provider is asked %s, want max_age=600", away)
	}
	b.get(i.signIn(t, away, ada())).want(http.StatusOK, "login-submit").says("without asking")
	nobodyIn(t, b)
	if p = b.byProvider(i, p, ada(person{"auth_time": w.clock.now().Add(-time.Minute).Unix()})); !strings.Contains(p.away, "code=") {
		t.Errorf("after a proof a minute ago at %s %s", p.url, p.away)
	}
	// By the account in another tab, while the app's request waits.
	b = w.browser(t)
	waiting := b.get(authorize(c, url.Values{"max_age": {"600"}}))
	atAccount(t, b.byProvider(i, b.get("/login"), ada()))
	b.get("/authorize/resume?i="+waiting.url.Query().Get("i")).want(http.StatusOK, "provider-acme")
	for _, extra := range []url.Values{{"max_age": {"0"}}, {"prompt": {"login"}}} {
		b := w.browser(t)
		p := b.press(b.get(authorize(c, extra)), "provider-acme", nil)
		if asked, _ := url.Parse(p.away); asked.Query().Get("prompt") != "login" || asked.Query().Get("max_age") != "0" {
			t.Errorf("%v: the provider is asked %s", extra, p.away)
		}
		b.get(i.signIn(t, p.away, ada())).want(http.StatusOK, "login-submit").says("without asking")
	}

	// A session from before, in which nobody knows when the person was asked, is good for whoever does not mind.
	b = w.browser(t)
	atAccount(t, b.byProvider(i, b.get("/login"), ada()))
	if s := b.session(w); !s.Undated {
		t.Error("the session is dated")
	}
	if p := b.get(authorize(c, nil)); !strings.Contains(p.away, "code=") {
		t.Errorf("an app that does not mind: at %s", p.url)
	}
	if claims := tokenClaims(t, w.idToken(t, b, c)); claims["auth_time"] != nil {
		t.Errorf("auth_time %v is a guess", claims["auth_time"])
	}
	b.get(authorize(c, url.Values{"max_age": {"600"}})).want(http.StatusOK, "provider-acme")
	if p := b.get(authorize(c, url.Values{"max_age": {"600"}, "prompt": {"none"}})); !strings.Contains(p.away, "error=login_required") {
		t.Errorf("prompt=none: at %s %s", p.url, p.away)
	}
	// The password dates it.
	if p := b.press(b.get(authorize(c, url.Values{"max_age": {"600"}})), "login-submit", map[string]string{"email": alice, "password": password}); !strings.Contains(p.away, "code=") {
		t.Errorf("after the password at %s", p.url)
	}
	if s := b.session(w); s.Undated {
		t.Error("undated after the password")
	}

	// The operator answers for it: then it counts if it was told to ask.
	i.change(t, func(p *upstream.Provider) { p.TrustFresh = true })
	b = w.browser(t)
	p = b.press(b.get(authorize(c, url.Values{"max_age": {"600"}})), "provider-acme", nil)
	if asked, _ := url.Parse(p.away); asked.Query().Get("prompt") != "login" {
		t.Errorf("the provider is asked %s, want prompt=login", p.away)
	}
	if p = b.get(i.signIn(t, p.away, ada())); !strings.Contains(p.away, "code=") {
		t.Errorf("at a trusted provider: at %s", p.url)
	}
}

// tokenClaims reads what a token says.
func tokenClaims(t testing.TB, token string) (claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("token %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
