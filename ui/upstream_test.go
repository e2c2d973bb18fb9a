package ui

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// tripTimeout bounds what a provider may take in these tests.
const tripTimeout = 2 * time.Second

// idp is a provider of a test's own, as honest or hostile as the test makes it.
type idp struct {
	*httptest.Server
	w   *world
	key *ecdsa.PrivateKey
	as  upstream.Provider // what it is registered as

	mu     sync.Mutex
	trips  map[string]url.Values // by code: what the browser asked for
	people map[string]person     // by code: who signed in
	codes  int

	// What a hostile one does.
	metadata map[string]any                                           // replaces entries
	token    func(claims map[string]any) string                       // makes the ID token; nil: an honest one
	userinfo func(claims map[string]any)                              // changes the answer
	answer   func(w http.ResponseWriter, r *http.Request) (done bool) // before anything else
}

// person is somebody at the provider: claims.
type person map[string]any

func ada(change ...person) person {
	p := person{"sub": "ada-at-acme", "email": "ada@acme.example", "email_verified": true, "name": "Ada Example"}
	for _, c := range change {
		maps.Copy(p, c)
	}
	return p
}

// newIDP starts a provider and registers it under an id; change adjusts how.
func newIDP(t testing.TB, w *world, id string, change ...func(p *upstream.Provider)) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &idp{w: w, key: key, trips: map[string]url.Values{}, people: map[string]person{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("POST /token", i.exchange)
	mux.HandleFunc("GET /userinfo", i.info)
	mux.HandleFunc("POST /login/oauth/access_token", i.exchange)
	mux.HandleFunc("GET /api/v3/user", i.info)
	mux.HandleFunc("GET /api/v3/user/emails", i.info)
	i.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if i.answer == nil || !i.answer(rw, r) {
			mux.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(i.Close)
	p := upstream.Provider{ID: id, Name: "Acme", Issuer: i.URL, ClientID: "gatehouse"}
	for _, f := range change {
		f(&p)
	}
	if i.as, err = w.others.Create(t.Context(), p, "sesame"); err != nil {
		t.Fatal(err)
	}
	return i
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (i *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"userinfo_endpoint": i.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256", "none", "HS256"},
		"authorization_response_iss_parameter_supported": true,
	}
	maps.Copy(m, i.metadata)
	write(w, m)
}

func (i *idp) keys(w http.ResponseWriter, _ *http.Request) {
	write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
}

func (i *idp) exchange(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	i.mu.Lock()
	trip, who := i.trips[r.Form.Get("code")], i.people[r.Form.Get("code")]
	i.mu.Unlock()
	sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	id, password, _ := r.BasicAuth()
	if trip == nil || trip.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || trip.Get("redirect_uri") != r.Form.Get("redirect_uri") || id != "gatehouse" || password != "sesame" {
		w.WriteHeader(http.StatusBadRequest)
		write(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := i.w.clock.now()
	claims := map[string]any{"iss": i.URL, "aud": "gatehouse", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nonce": trip.Get("nonce"), "sub": who["sub"]}
	for _, name := range []string{"amr", "auth_time", "tid", "iss", "hd", "xms_edov"} {
		if v, ok := who[name]; ok {
			claims[name] = v
		}
	}
	raw := ""
	if i.token != nil {
		raw = i.token(claims)
	} else {
		raw = i.sign(claims)
	}
	write(w, map[string]any{"access_token": r.Form.Get("code"), "token_type": "Bearer", "id_token": raw})
}

func (i *idp) info(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	who := maps.Clone(i.people[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")])
	i.mu.Unlock()
	if who == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if i.userinfo != nil {
		i.userinfo(who)
	}
	if strings.HasSuffix(r.URL.Path, "/emails") {
		write(w, who["emails"])
		return
	}
	write(w, who)
}

func (i *idp) sign(claims map[string]any) string {
	return signed(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k1"}}, claims)
}

func signed(key jose.SigningKey, claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	s, err := jose.NewSigner(key, nil)
	if err != nil {
		panic(err)
	}
	object, err := s.Sign(payload)
	if err != nil {
		panic(err)
	}
	raw, _ := object.CompactSerialize()
	return raw
}

// signIn is what the person does at the provider: it gives the path that the provider sends the browser back to.
func (i *idp) signIn(t testing.TB, away string, who person) string {
	t.Helper()
	u, err := url.Parse(away)
	if err != nil || !strings.HasPrefix(away, i.URL) {
		t.Fatalf("the browser was sent to %q, want %s", away, i.URL)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || q.Get("state") == "" {
		t.Fatalf("request to the provider: %v", q)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.codes++
	code := fmt.Sprintf("code-%d", i.codes)
	i.trips[code], i.people[code] = q, who
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	return back.Path + "?" + url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}.Encode()
}

// acme is a world where people may sign in at a provider.
func acme(t testing.TB, change ...func(p *upstream.Provider)) (*world, *idp) {
	t.Helper()
	w := newWorld(t)
	return w, newIDP(t, w, "acme", change...)
}

// acmeOfAlice is one where Alice does so as Ada.
func acmeOfAlice(t testing.TB, change ...func(p *upstream.Provider)) (*world, *idp, identity.User) {
	t.Helper()
	w, i := acme(t, change...)
	u := w.person(t, alice)
	i.link(t, u, "ada-at-acme")
	return w, i, u
}

// change is what the operator does to it later.
func (i *idp) change(t testing.TB, change func(p *upstream.Provider)) {
	t.Helper()
	change(&i.as)
	if _, err := i.w.others.Update(t.Context(), i.as, ""); err != nil {
		t.Fatal(err)
	}
}

// link makes an account there a way into a person's.
func (i *idp) link(t testing.TB, u identity.User, subject string) {
	t.Helper()
	if err := i.w.people.Link(t.Context(), u.ID, identity.Elsewhere{Provider: i.as.ID, Issuer: i.URL, Subject: subject, Label: "ada@acme.example"}); err != nil {
		t.Fatal(err)
	}
}

// links fails unless a person has so many accounts elsewhere.
func (w *world) links(t testing.TB, u identity.User, want int) []identity.Linked {
	t.Helper()
	list, err := w.people.LinkedAccounts(t.Context(), u.ID)
	if err != nil || len(list) != want {
		t.Fatalf("links %+v, %v, want %d", list, err, want)
	}
	return list
}

func trusted(p *upstream.Provider) { p.TrustEmail = true }

// byProvider presses the provider's button on a page and comes back as who.
func (b *browser) byProvider(i *idp, p page, who person) page {
	b.t.Helper()
	return b.get(i.signIn(b.t, b.press(p, "provider-"+i.as.ID, nil).away, who))
}

func (b *browser) signInAt(i *idp, who person) page {
	b.t.Helper()
	return b.byProvider(i, b.get("/login"), who)
}

func atAccount(t testing.TB, p page) page {
	t.Helper()
	if p.status != http.StatusOK || p.url.Path != "/account" {
		t.Fatalf("at %s (%d), want the account; it says:\n%s", p.url, p.status, p.text())
	}
	return p
}

func nobodyIn(t testing.TB, b *browser) {
	t.Helper()
	if p := b.get("/account"); p.url.Path != "/login" {
		t.Errorf("signed in: at %s", p.url)
	}
}

func TestSignInElsewhere(t *testing.T) {
	t.Parallel()
	w, i, u := acmeOfAlice(t)
	b := w.browser(t)
	before := b.cookie("gatehouse-session")
	atAccount(t, b.byProvider(i, b.get("/login").says("Continue with Acme"), ada()))
	if s := b.session(w); s.UserID != u.ID || !slices.Equal(s.AMR, []string{"fed"}) || s.ACR() != identity.ACRPassword || b.cookie("gatehouse-session") == before {
		t.Errorf("session %+v", s)
	}
	acts, err := w.pages.Audit.Trail(t.Context(), u.ID, audit.Position{}, 10)
	if err != nil || !slices.ContainsFunc(acts, func(e audit.Entry) bool { return e.Action == "linked.check" && e.Detail["provider"] == "acme" }) {
		t.Errorf("audit %+v, %v", acts, err)
	}
}

// The app's request survives the trip, in two tabs at once.
func TestSignInElsewhereForTwoAppsAtOnce(t *testing.T) {
	t.Parallel()
	w, i, _ := acmeOfAlice(t)
	b := w.browser(t)
	first := b.press(b.get(authorize(w.app(t, func(c *oauth.Client) { c.Name = "First" }), nil)), "provider-acme", nil).away
	second := b.press(b.get(authorize(w.app(t, func(c *oauth.Client) { c.Name = "Second" }), nil)), "provider-acme", nil).away
	b.get(i.signIn(t, second, ada())).want(http.StatusOK, "consent-allow").says("Second")
	b.get(i.signIn(t, first, ada())).want(http.StatusOK, "consent-allow").says("First")
}

func TestNewPersonByTrustedProvider(t *testing.T) {
	t.Parallel()
	w, i := acme(t, trusted, func(p *upstream.Provider) { p.Claims = map[string]string{"nickname": "name", "gender": "sub"} })
	b := w.browser(t)
	atAccount(t, b.byProvider(i, b.get("/register"), ada(person{"locale": strings.Repeat("x", 900)})))
	u, err := w.people.UserByEmail(t.Context(), "ada@acme.example")
	if err != nil || !u.EmailVerified || u.HasPassword || u.Profile.Name != "Ada Example" || u.Profile.Nickname != "Ada Example" || u.Profile.Locale != "" {
		t.Errorf("person %+v, %v", u, err)
	}
	// And again, as the same person.
	other := w.browser(t)
	atAccount(t, other.signInAt(i, ada(person{"email": "new@acme.example"})))
	if again, err := w.people.User(t.Context(), u.ID); err != nil || again.Email != u.Email {
		t.Errorf("the second sign-in changed the address to %s, %v", again.Email, err)
	}
}

// Without trust the address is proven here, by a mail, before anybody is let in; the pages are the same for an address that is
// known and one that is not (account enumeration).
func TestNewPersonByUntrustedProviderProvesTheAddress(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	u := w.person(t, alice)
	say := func(email, subject string) (string, page) {
		b := w.browser(t)
		p := b.signInAt(i, ada(person{"email": email, "sub": subject, "preferred_username": "x"}))
		p.want(http.StatusOK, "connect-submit", "create-submit")
		first := strings.ReplaceAll(p.text(), email, "EMAIL")
		p = b.press(p, "create-submit", nil)
		nobodyIn(t, b)
		return first + strings.ReplaceAll(p.text(), email, "EMAIL"), p
	}
	known, _ := say(alice, "mallory")
	unknown, _ := say("ada@acme.example", "ada-at-acme")
	if known != unknown {
		t.Errorf("a known address shows\n%s\nan unknown one\n%s", known, unknown)
	}
	w.links(t, u, 0)
	b := w.browser(t)
	b.signInAt(i, ada()).want(http.StatusOK, "verify-resend") // signed in, but the address is still to be proven
	b.press(b.get(w.mailLink(t, "ada@acme.example")), "verify-submit", nil)
	other := w.browser(t)
	atAccount(t, other.signInAt(i, ada()))
}

// A provider says whatever address it likes. That of a known account must not open it (account takeover by linking, nOAuth).
func TestAttackTakeoverByAddressOfTheProvider(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *upstream.Provider){
		"untrusted":                        func(*upstream.Provider) {},
		"trusted for addresses, not links": trusted,
		"links for another domain": func(p *upstream.Provider) {
			p.TrustEmail, p.LinkByEmail, p.Domains = true, true, []string{"acme.example"}
		},
		"Microsoft without the domain's owner": func(p *upstream.Provider) {
			p.Kind, p.TrustEmail, p.LinkByEmail, p.Domains = upstream.Microsoft, true, true, []string{"example.com"}
		},
		"Google for a domain not its own": func(p *upstream.Provider) {
			p.Kind, p.TrustEmail, p.LinkByEmail, p.Domains = upstream.Google, true, true, []string{"example.com"}
		},
		"a claim of another name": func(p *upstream.Provider) {
			p.TrustEmail, p.LinkByEmail, p.Domains, p.Claims = true, true, []string{"example.com"}, map[string]string{"email": "upn"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i := acme(t, change)
			u := w.person(t, alice)
			b := w.browser(t)
			b.signInAt(i, person{"sub": "mallory", "email": alice, "upn": alice, "email_verified": true}).want(http.StatusOK, "connect-submit")
			nobodyIn(t, b)
			w.links(t, u, 0)
		})
	}
}

func TestLinkByAddressWhereTheOperatorSaidSo(t *testing.T) {
	t.Parallel()
	owns := func(p *upstream.Provider) {
		p.TrustEmail, p.LinkByEmail, p.Domains = true, true, []string{"example.com"}
	}
	w, i := acme(t, owns)
	w.person(t, alice)
	b := w.browser(t)
	atAccount(t, b.signInAt(i, ada(person{"email": "ALICE@example.com"})))
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "A new way to sign in") {
		t.Errorf("the mail says %q", m.Subject)
	}

	// The provider has not verified it.
	w.person(t, "bob@example.com")
	other := w.browser(t)
	other.signInAt(i, person{"sub": "bob", "email": "bob@example.com", "email_verified": false}).want(http.StatusOK, "connect-submit")
	// Whoever made the account here has not proven it.
	if _, err := w.people.Create(t.Context(), identity.NewUser{Email: "eve@example.com", Password: password}); err != nil {
		t.Fatal(err)
	}
	third := w.browser(t)
	third.signInAt(i, person{"sub": "eve", "email": "eve@example.com", "email_verified": true}).want(http.StatusOK, "connect-submit")
	nobodyIn(t, third)
}

// Linking takes the proof of the account here, with its second factor.
func TestConnectExistingAccount(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	u := w.person(t, alice)
	code, _ := w.enrol(t, u)
	c := w.app(t)
	b := w.browser(t)
	p := b.byProvider(i, b.get(authorize(c, nil)), ada())
	p = b.press(p.says("ada@acme.example", "Acme"), "connect-submit", map[string]string{"email": alice, "password": "wrong wrong wrong"}).want(http.StatusUnprocessableEntity, "connect-submit")
	p = b.press(p, "connect-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "code-submit")
	w.links(t, u, 0) // not before the second factor
	b.press(p, "code-submit", map[string]string{"code": code()}).want(http.StatusOK, "consent-allow")
	if got := w.links(t, u, 1)[0].Subject; got != "ada-at-acme" {
		t.Errorf("linked to %s", got)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "A new way to sign in") {
		t.Errorf("the mail says %q", m.Subject)
	}
	// The second factor here is asked for still.
	other := w.browser(t)
	p = other.signInAt(i, ada()).want(http.StatusOK, "code-submit")
	nobodyIn(t, other)
	atAccount(t, other.press(p, "code-submit", map[string]string{"code": code()}))
}

// Somebody leaves an account of theirs waiting in a browser. Who signs in there afterwards, in the usual way, must not get it linked.
func TestAttackGuestLeftBehind(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	u := w.person(t, alice)
	b := w.browser(t)
	b.signInAt(i, ada(person{"sub": "mallory"})).want(http.StatusOK, "connect-submit")
	atAccount(t, b.signIn(alice))
	w.links(t, u, 0)
}

// trustsAMR is a provider whose second factor counts.
func TestSecondFactorElsewhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trust bool
		amr   any
		local bool // the factor here is asked for
	}{
		"untrusted":               {false, []string{"pwd", "otp", "mfa"}, true},
		"trusted, one step there": {true, []string{"pwd"}, true},
		"trusted, two steps":      {true, []string{"pwd", "otp", "mfa", "nonsense"}, false},
		"trusted, no list":        {true, "mfa", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i, u := acmeOfAlice(t, func(p *upstream.Provider) { p.TrustAMR = test.trust })
			w.enrol(t, u)
			b := w.browser(t)
			p := b.signInAt(i, ada(person{"amr": test.amr}))
			if test.local {
				p.want(http.StatusOK, "code-submit")
				return
			}
			atAccount(t, p)
			if s := b.session(w); s.ACR() != identity.ACRMFA || slices.Contains(s.AMR, "nonsense") {
				t.Errorf("session %+v", s)
			}
		})
	}
}

// What a hostile provider, or somebody between it and us, sends as an ID token.
func TestAttackForgedIDToken(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change person) func(i *idp, claims map[string]any) string {
		return func(i *idp, claims map[string]any) string {
			for name, v := range change {
				if claims[name] = v; v == nil {
					delete(claims, name)
				}
			}
			return i.sign(claims)
		}
	}
	w := newWorld(t)
	for name, token := range map[string]func(i *idp, claims map[string]any) string{
		"swapped nonce":        with(person{"nonce": "of another trip"}),
		"no nonce":             with(person{"nonce": nil}),
		"wrong audience":       with(person{"aud": "somebody-else"}),
		"azp of another":       with(person{"aud": []string{"gatehouse", "somebody-else"}, "azp": "somebody-else"}),
		"two audiences":        with(person{"aud": []string{"gatehouse", "somebody-else"}}),
		"other issuer":         with(person{"iss": "https://evil.example"}),
		"expired":              with(person{"exp": 1}),
		"no exp":               with(person{"exp": nil}),
		"issued long ago":      with(person{"iat": time.Now().Add(-2 * time.Hour).Unix()}),
		"issued in the future": with(person{"iat": time.Now().Add(2 * time.Hour).Unix()}),
		"no iat":               with(person{"iat": nil}),
		"no subject":           with(person{"sub": ""}),
		"endless subject":      with(person{"sub": strings.Repeat("x", 256)}),
		"wrong at_hash":        with(person{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
		"nothing":              func(*idp, map[string]any) string { return "" },
		"noise":                func(*idp, map[string]any) string { return "a.b.c" },
		"alg none": func(_ *idp, claims map[string]any) string {
			payload, _ := json.Marshal(claims)
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
		},
		"HS256 with the public key": func(i *idp, claims map[string]any) string {
			der, _ := x509.MarshalPKIXPublicKey(i.key.Public())
			payload, _ := json.Marshal(claims)
			in := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
			mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			_, _ = io.WriteString(mac, in)
			return in + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		},
		"key of another": func(_ *idp, claims map[string]any) string {
			return signed(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: other, KeyID: "k1"}}, claims)
		},
		"key it brings along": func(_ *idp, claims map[string]any) string {
			payload, _ := json.Marshal(claims)
			s, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: other}, &jose.SignerOptions{EmbedJWK: true})
			object, _ := s.Sign(payload)
			raw, _ := object.CompactSerialize()
			return raw
		},
		"algorithm it never announced": func(_ *idp, claims map[string]any) string {
			return signed(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: foreign, KeyID: "k1"}}, claims)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIDP(t, w, "p"+strings.ToLower(rand.Text()), trusted)
			i.link(t, w.person(t, i.as.ID+"@example.com"), "ada-at-acme")
			i.token = func(claims map[string]any) string { return token(i, claims) }
			b := w.browser(t)
			b.signInAt(i, ada()).want(http.StatusOK, "login-submit").says("could not be asked")
			nobodyIn(t, b)
		})
	}
}

func TestAttackUserInfoOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w, i := acme(t, trusted)
	i.userinfo = func(claims map[string]any) { claims["sub"] = "somebody-else" }
	b := w.browser(t)
	b.signInAt(i, ada()).want(http.StatusOK, "login-submit").says("could not be asked")
}

// A hostile provider sends the browser with its own code to the redirect URI of an honest one, or with the honest one's code to
// its own (mix-up, RFC 9700 §4.4).
func TestAttackMixUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	honest, evil := newIDP(t, w, "acme", trusted), newIDP(t, w, "evil", trusted, func(p *upstream.Provider) { p.Name = "Evil" })
	honest.link(t, w.person(t, alice), "ada-at-acme")
	start := func(b *browser, id string) string {
		return b.press(b.get("/login"), "provider-"+id, nil).away
	}
	b := w.browser(t)
	path := honest.signIn(t, start(b, "acme"), ada())
	b.get(strings.Replace(path, "/login/acme/", "/login/evil/", 1)).want(http.StatusBadRequest, "error-page")
	b.get(path).want(http.StatusBadRequest, "error-page") // and the state is used up

	path = honest.signIn(t, start(b, "acme"), ada())
	b.get(strings.Replace(path, url.QueryEscape(honest.URL), url.QueryEscape(evil.URL), 1)).want(http.StatusOK, "login-submit").says("could not be asked")
	path = honest.signIn(t, start(b, "acme"), ada())
	b.get(strings.Replace(path, "iss=", "x=", 1)).want(http.StatusOK, "login-submit").says("could not be asked") // it always sends iss
	nobodyIn(t, b)

	// A provider that claims to be another one is not even asked.
	evil.metadata = map[string]any{"issuer": honest.URL}
	w.clock.forward(2 * time.Hour)
	b.press(b.get("/login"), "provider-evil", nil).want(http.StatusOK, "login-submit").says("could not be asked")
}

func TestAttackReplayedState(t *testing.T) {
	t.Parallel()
	w, i, _ := acmeOfAlice(t)
	b := w.browser(t)
	away := b.press(b.get("/login"), "provider-acme", nil).away
	cookies := b.jar.Cookies(b.origin)
	path := i.signIn(t, away, ada())
	atAccount(t, b.get(path))
	b.jar.SetCookies(b.origin, cookies) // as they were
	for _, c := range cookies {
		b.setCookie(c.Name, c.Value)
	}
	b.get(path).want(http.StatusBadRequest, "error-page")
}

// An attacker sends somebody the end of a sign-in that began in the attacker's browser (login CSRF).
func TestAttackStateOfAnotherBrowser(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	mallory := w.person(t, "mallory@example.com")
	i.link(t, mallory, "mallory")
	attacker, victim := w.browser(t), w.browser(t)
	path := i.signIn(t, attacker.press(attacker.get("/login"), "provider-acme", nil).away, ada(person{"sub": "mallory"}))
	victim.get(path).want(http.StatusBadRequest, "error-page")
	// Nor does a trip of the victim's own lend its cookie.
	own := victim.press(victim.get("/login"), "provider-acme", nil).away
	u, _ := url.Parse(own)
	name := "__Host-gatehouse-login-" + upstream.CookieName(u.Query().Get("state"))
	for _, c := range victim.jar.Cookies(victim.origin) {
		if c.Name == name {
			q, _ := url.Parse(path)
			victim.setCookie("__Host-gatehouse-login-"+upstream.CookieName(q.Query().Get("state")), c.Value)
		}
	}
	victim.get(path).want(http.StatusBadRequest, "error-page")
	nobodyIn(t, victim)
}

// Another site makes a browser begin a sign-in.
func TestAttackTripBegunByAnotherSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newIDP(t, w, "acme")
	b := w.browser(t)
	p := b.roundTrip(http.MethodPost, "/login/acme/start", url.Values{}, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	if p.status != http.StatusForbidden {
		t.Errorf("status %d, want 403", p.status)
	}
	if p := b.get("/login/acme/start"); p.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d, want 405", p.status)
	}
}

// Metadata and keys that are too large, too slow, or elsewhere.
func TestAttackAnswersOfTheProvider(t *testing.T) {
	t.Parallel()
	huge := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"padding":"`)
		for range 40 {
			if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
				return
			}
		}
	}
	w := newWorld(t)
	for name, test := range map[string]struct {
		path   string
		answer func(w http.ResponseWriter, r *http.Request)
	}{
		"huge metadata":     {"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { huge(w) }},
		"huge token answer": {"/token", func(w http.ResponseWriter, _ *http.Request) { huge(w) }},
		"huge key set":      {"/keys", func(w http.ResponseWriter, _ *http.Request) { huge(w) }},
		"huge userinfo":     {"/userinfo", func(w http.ResponseWriter, _ *http.Request) { huge(w) }},
		"metadata elsewhere (SSRF)": {"/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}},
		"token endpoint moves (SSRF)": {"/token", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.0.0.1/", http.StatusTemporaryRedirect)
		}},
		"key set moves (SSRF)":          {"/keys", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://[::1]:1/", http.StatusFound) }},
		"broken metadata":               {"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }},
		"userinfo fails":                {"/userinfo", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		"token endpoint says nothing":   {"/token", func(w http.ResponseWriter, _ *http.Request) { write(w, map[string]string{}) }},
		"slow token endpoint":           {"/token", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"private endpoints by metadata": {"/.well-known/openid-configuration", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIDP(t, w, "p"+strings.ToLower(rand.Text()), trusted)
			i.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != test.path || test.answer == nil {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				test.answer(w, r)
				return true
			}
			if test.answer == nil {
				i.metadata = map[string]any{"token_endpoint": "https://169.254.169.254/token", "jwks_uri": "https://10.0.0.1/keys"}
			}
			b := w.browser(t)
			p := b.press(b.get("/login"), "provider-"+i.as.ID, nil)
			if p.away != "" {
				p = b.get(i.signIn(t, p.away, ada()))
			}
			p.want(http.StatusOK, "login-submit", "provider-"+i.as.ID).says("could not be asked")
			nobodyIn(t, b)
		})
	}
}

func TestProviderSaysNo(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	w.person(t, alice)
	c := w.app(t)
	b := w.browser(t)
	away, _ := url.Parse(b.press(b.get(authorize(c, nil)), "provider-acme", nil).away)
	p := b.get("/login/acme/callback?" + url.Values{"error": {"access_denied"}, "error_description": {"<b>Call 555-1234</b>"}, "state": {away.Query().Get("state")}, "iss": {i.URL}}.Encode())
	p.want(http.StatusOK, "login-submit", "provider-acme").says("did not let you through", c.Name)
	forbidden(t, p.body, "555-1234")
	// The app's request is still there.
	b.press(p, "login-submit", map[string]string{"email": alice, "password": password}).want(http.StatusOK, "consent-allow")
}

func TestReturnWithoutATrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newIDP(t, w, "acme")
	b := w.browser(t)
	for _, query := range []string{"", "?state=x&code=y", "?state=" + strings.Repeat("A", 43) + "&code=y", "?error=access_denied", "?state=" + strings.Repeat("A", 43)} {
		b.get("/login/acme/callback"+query).want(http.StatusBadRequest, "error-page").says("Sign in")
	}
	b.get("/login/unknown/callback?state=x").want(http.StatusBadRequest, "error-page")
	b.get("/login/acme/callback?state=a&state=b").want(http.StatusBadRequest, "error-page")
	b.post("/login/unknown/start", nil).want(http.StatusOK, "login-submit")
	b.get("/login/connect").want(http.StatusOK, "login-submit")
}

func TestDisabledProviderStopsEverything(t *testing.T) {
	t.Parallel()
	w, i := acme(t, trusted, func(p *upstream.Provider) { p.Domains, p.Require = []string{"acme.example"}, true })
	u := w.person(t, alice)
	i.link(t, u, "ada-at-acme")
	code, _ := w.enrol(t, u)
	under, waiting, guest := w.browser(t), w.browser(t), w.browser(t)
	path := i.signIn(t, under.press(under.get("/login"), "provider-acme", nil).away, ada())
	second := waiting.signInAt(i, ada()).want(http.StatusOK, "code-submit")
	connect := guest.signInAt(i, person{"sub": "guest", "email": "guest@elsewhere.example"}).want(http.StatusOK, "create-submit")
	i.change(t, func(p *upstream.Provider) { p.Disabled = true })
	under.get(path).want(http.StatusOK, "login-submit").says("no longer be used")
	nobodyIn(t, under)
	waiting.press(second, "code-submit", map[string]string{"code": code()}).want(http.StatusOK, "login-submit")
	nobodyIn(t, waiting)
	guest.press(connect, "create-submit", nil).want(http.StatusOK, "login-submit")
	if _, err := w.people.UserByEmail(t.Context(), "guest@elsewhere.example"); err == nil {
		t.Error("a disabled provider made an account")
	}
	b := w.browser(t)
	if p := b.get("/login"); p.id("provider-acme") != nil || p.id("login-company") != nil {
		t.Error("a disabled provider is still offered")
	}
	b.post("/login/acme/start", nil).want(http.StatusOK, "login-submit").says("no longer be used")
}

func TestDomainGoesToItsProvider(t *testing.T) {
	t.Parallel()
	w, i := acme(t, func(p *upstream.Provider) { p.Domains, p.Hidden = []string{"example.com"}, true })
	w.person(t, alice)
	b := w.browser(t)
	p := b.get("/login")
	if p.id("provider-acme") != nil {
		t.Error("a hidden provider has a button")
	}
	away := b.press(p, "login-company", map[string]string{"email": "Alice@EXAMPLE.com"}).away
	if u, _ := url.Parse(away); !strings.HasPrefix(away, i.URL) || u.Query().Get("login_hint") != "Alice@EXAMPLE.com" {
		t.Errorf("sent to %q", away)
	}
	if away = b.press(b.get("/login"), "login-submit", map[string]string{"email": alice, "password": ""}).away; !strings.HasPrefix(away, i.URL) {
		t.Errorf("without a password sent to %q", away)
	}
	b.press(b.get("/login"), "login-company", map[string]string{"email": "ada@other.example"}).want(http.StatusUnprocessableEntity).says("no company")
	b.press(b.get("/login"), "login-submit", map[string]string{"email": "ada@other.example", "password": ""}).want(http.StatusUnprocessableEntity)
	// The hint of an app goes there at once, and only once, so that nobody is caught.
	path := authorize(w.app(t), url.Values{"login_hint": {alice}})
	first := b.follow(b.roundTrip(http.MethodGet, path, nil, nil))
	if !strings.HasPrefix(first.away, i.URL) {
		t.Fatalf("with a hint sent to %q", first.away)
	}
	b.get(first.url.RequestURI()).want(http.StatusOK, "login-submit")
	atAccount(t, w.browser(t).signIn(alice)) // passwords work still

	i.change(t, func(p *upstream.Provider) { p.Require = true })
	if away := w.browser(t).signIn(alice).away; !strings.HasPrefix(away, i.URL) {
		t.Errorf("the right password of a domain that signs in elsewhere leads to %q", away)
	}
	p = b.get("/register")
	if away := b.press(p, "register-submit", map[string]string{"name": "", "email": "new@example.com", "password": password}).away; !strings.HasPrefix(away, i.URL) {
		t.Errorf("sign-up with the domain leads to %q", away)
	}
}

// Another provider must not make accounts with the addresses of a domain that signs in at its own.
func TestAttackDomainOfAnotherProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newIDP(t, w, "acme", func(p *upstream.Provider) { p.Domains, p.Require = []string{"acme.example"}, true })
	evil := newIDP(t, w, "evil", trusted)
	b := w.browser(t)
	p := b.signInAt(evil, ada()).want(http.StatusOK, "connect-submit")
	if p.id("create-submit") != nil {
		t.Error("an account is offered")
	}
	path, values := p.form("connect-submit")
	values.Set("do", "create")
	values.Set("new-email", "ada@acme.example")
	b.post(path, values)
	if _, err := w.people.UserByEmail(t.Context(), "ada@acme.example"); err == nil {
		t.Error("an account was made")
	}
	w.person(t, "bob@acme.example")
	values.Set("do", "prove")
	values.Set("email", "bob@acme.example")
	values.Set("password", password)
	b.post(path, values).want(http.StatusUnprocessableEntity).says("own company")
}

// Registration that is off is off here too, unless the operator lets a provider's people in.
func TestAttackRegistrationByProviderWhenOff(t *testing.T) {
	t.Parallel()
	for signUp, want := range map[string]bool{upstream.SignUpFollow: false, upstream.SignUpNever: false, upstream.SignUpAlways: true} {
		t.Run(signUp, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config) { c.Registration = false })
			i := newIDP(t, w, "acme", trusted, func(p *upstream.Provider) { p.SignUp = signUp })
			b := w.browser(t)
			p := b.signInAt(i, ada())
			if !want {
				path, values := p.want(http.StatusOK, "connect-submit").form("connect-submit")
				values.Set("do", "create")
				values.Set("new-email", "ada@acme.example")
				b.post(path, values)
			}
			if _, err := w.people.UserByEmail(t.Context(), "ada@acme.example"); (err == nil) != want {
				t.Errorf("account: %v, want one: %t", err, want)
			}
		})
	}
}

func TestLinkAndUnlinkInTheAccount(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	b, u := w.member(t, alice)
	w.clock.forward(freshness)
	p := b.press(b.get("/account/linked"), "link-acme", nil).want(http.StatusOK, "confirm-submit") // fresh authentication first
	p = b.press(p, "confirm-submit", map[string]string{"password": password})
	back := i.signIn(t, b.press(p, "link-acme", nil).away, ada())
	b.get(back).want(http.StatusOK, "done", "linked").says("ada@acme.example", "The account is linked")
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "A new way to sign in") {
		t.Errorf("the mail says %q", m.Subject)
	}
	other := w.browser(t)
	atAccount(t, other.signInAt(i, ada()))

	// The same account elsewhere for somebody else.
	m, _ := w.member(t, "mallory@example.com")
	m.get(i.signIn(t, m.press(m.get("/account/linked"), "link-acme", nil).away, ada())).says("linked to another account")

	b.post("/account/linked/remove", url.Values{"key": {w.links(t, u, 1)[0].Key}}).want(http.StatusOK, "done").says("no longer linked")
	nobodyIn(t, other) // it came by the provider
	if m := w.mailTo(t, alice); !strings.Contains(m.Subject, "was removed") {
		t.Errorf("the mail says %q", m.Subject)
	}
}

// Somebody's sign-in at a provider ends in a browser where meanwhile somebody else is signed in.
func TestAttackLinkIntoAnotherSession(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	w.person(t, "mallory@example.com")
	victim := w.person(t, alice)
	b := w.browser(t)
	b.signIn("mallory@example.com")
	path := i.signIn(t, b.press(b.get("/account/linked"), "link-acme", nil).away, ada(person{"sub": "mallory"}))
	b.press(b.get("/logout"), "logout-confirm", nil)
	b.signIn(alice)
	b.get(path).want(http.StatusConflict, "error-page")
	w.links(t, victim, 0)
}

func TestLastWayInStays(t *testing.T) {
	t.Parallel()
	w, i := acme(t, trusted)
	b := w.browser(t)
	b.signInAt(i, ada())
	u, err := w.people.UserByEmail(t.Context(), "ada@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	b.post("/account/linked/remove", url.Values{"key": {w.links(t, u, 1)[0].Key}}).want(http.StatusOK).says("only way in")
	b.get("/account/password").want(http.StatusOK, "set-password").says("no password yet")
}

// A person without password proves anew who they are where they signed in, and only if they were asked there.
func TestConfirmElsewhere(t *testing.T) {
	t.Parallel()
	w, i := acme(t, trusted)
	b := w.browser(t)
	b.signInAt(i, ada())
	before := b.session(w).ID
	w.clock.forward(freshness)
	ask := func() string {
		p := b.get("/account/email").want(http.StatusOK, "confirm-acme", "set-password")
		if p.id("confirm-submit") != nil {
			t.Error("a password is asked for that there is not")
		}
		away := b.press(p, "confirm-acme", nil).away
		if u, _ := url.Parse(away); u.Query().Get("prompt") != "login" || u.Query().Get("max_age") != "0" {
			t.Errorf("asked by %q", away)
		}
		return away
	}
	b.get(i.signIn(t, ask(), ada())).want(http.StatusOK, "confirm-acme").says("without asking")
	b.get(i.signIn(t, ask(), ada(person{"auth_time": w.clock.now().Add(-time.Hour).Unix()}))).want(http.StatusOK, "confirm-acme").says("without asking")
	b.get(i.signIn(t, ask(), ada(person{"sub": "mallory", "auth_time": w.clock.now().Unix()}))).want(http.StatusOK, "confirm-acme").says("cannot sign in here")
	p := b.get(i.signIn(t, ask(), ada(person{"auth_time": w.clock.now().Unix()})))
	if p.url.Path != "/account/email" || b.session(w).ID != before {
		t.Errorf("at %s in session %s, want /account/email in %s", p.url, b.session(w).ID, before)
	}
}

// GitHub's id is the person; its primary address counts only if GitHub has verified it.
func TestGitHub(t *testing.T) {
	t.Parallel()
	github := func(p *upstream.Provider) { p.Kind, p.Name, p.TrustEmail = upstream.GitHub, "GitHub", true }
	octo := func(verified bool) person {
		return person{"id": 583231, "login": "octo", "name": "Octo Cat", "emails": []map[string]any{
			{"email": "old@example.com", "primary": false, "verified": true}, {"email": "octo@example.com", "primary": true, "verified": verified},
		}}
	}
	w := newWorld(t)
	i := newIDP(t, w, "github", github)
	b := w.browser(t)
	atAccount(t, b.signInAt(i, octo(true)))
	u, err := w.people.UserByEmail(t.Context(), "octo@example.com")
	if err != nil || !u.EmailVerified || u.Profile.Name != "Octo Cat" || u.Profile.Nickname != "octo" {
		t.Errorf("person %+v, %v", u, err)
	}
	b.get("/account/linked").want(http.StatusOK, "linked").says("octo")

	t.Run("AttackUnverifiedPrimary", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		i := newIDP(t, w, "github", github, func(p *upstream.Provider) { p.LinkByEmail, p.Domains = true, []string{"example.com"} })
		w.person(t, "octo@example.com")
		b := w.browser(t)
		b.signInAt(i, octo(false)).want(http.StatusOK, "connect-submit")
		nobodyIn(t, b)
	})
	t.Run("AttackNoID", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		i := newIDP(t, w, "github", github)
		b := w.browser(t)
		b.signInAt(i, person{"login": "octo"}).want(http.StatusOK, "login-submit").says("could not be asked")
	})
}

// Microsoft's common issuer stands for every tenant; the token's must be that of the tenant it names, and one that is let in.
func TestAttackMicrosoftTenant(t *testing.T) {
	t.Parallel()
	const ours, theirs = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	for name, test := range map[string]struct {
		tid, iss string // of the token; the issuer's tenant
		allowed  []string
		in       bool
	}{
		"any tenant":          {ours, ours, nil, true},
		"the tenant let in":   {ours, ours, []string{ours}, true},
		"another tenant":      {theirs, theirs, []string{ours}, false},
		"issuer of another":   {ours, theirs, []string{ours}, false},
		"no tenant":           {"", ours, nil, false},
		"tenant that is none": {"../" + ours, "../" + ours, nil, false},
		"the template itself": {"{tenantid}", "{tenantid}", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i := acme(t, func(p *upstream.Provider) {
				p.Kind, p.Tenants, p.TrustEmail, p.Issuer = upstream.Microsoft, test.allowed, true, p.Issuer+"/common/v2.0"
			})
			i.metadata = map[string]any{"issuer": i.URL + "/{tenantid}/v2.0", "authorization_response_iss_parameter_supported": false}
			i.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				r.URL.Path = strings.TrimPrefix(r.URL.Path, "/common/v2.0")
				return false
			}
			b := w.browser(t)
			back := i.signIn(t, b.press(b.get("/login"), "provider-acme", nil).away, ada(person{"tid": test.tid, "iss": i.URL + "/" + test.iss + "/v2.0", "xms_edov": true}))
			p := b.get(strings.Replace(back, "iss=", "x=", 1))
			if test.in {
				atAccount(t, p)
				return
			}
			p.want(http.StatusOK, "login-submit").says("could not be asked")
		})
	}
}

// A name that a provider made up is shown as text.
func TestAttackMarkupFromTheProvider(t *testing.T) {
	t.Parallel()
	w, i := acme(t)
	b := w.browser(t)
	evil := `<script>alert(1)</script>`
	p := b.signInAt(i, person{"sub": "x", "preferred_username": evil})
	if strings.Contains(p.body, evil) || !strings.Contains(p.body, html.EscapeString(evil)) {
		t.Errorf("the page holds\n%s", p.body)
	}
}

// An app that asks for a fresh sign-in is not told of one that never took place.
func TestAttackSilentReturnForAFreshSignIn(t *testing.T) {
	t.Parallel()
	w, i, _ := acmeOfAlice(t)
	b := w.browser(t)
	p := b.get(authorize(w.app(t), url.Values{"prompt": {"login"}}))
	p = b.byProvider(i, p, ada(person{"auth_time": w.clock.now().Add(-time.Hour).Unix()})).want(http.StatusOK, "login-submit").says("without asking")
	b.byProvider(i, p, ada(person{"auth_time": w.clock.now().Unix()})).want(http.StatusOK, "consent-allow")
}
