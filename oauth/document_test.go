package oauth

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// publisher is a web server on which clients publish their documents.
type publisher struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	header http.Header
	status int
	body   func(url string) string
}

const documentPath = "/oauth/client.json"

func (p *publisher) id() string { return p.URL + documentPath }

func (p *publisher) host() string { return strings.TrimPrefix(p.URL, "https://") }

// says sets what is found there; status 0 is 200.
func (p *publisher) says(status int, header http.Header, body func(url string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.header, p.body = status, header, body
}

func clientDocument(edit func(m map[string]any)) func(url string) string {
	return func(url string) string {
		m := map[string]any{
			"client_id": url, "client_name": "Test agent", "redirect_uris": []string{testRedirect, "http://localhost/callback", "http://127.0.0.1/callback"},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none",
		}
		if edit != nil {
			edit(m)
		}
		b, _ := json.Marshal(m)
		return string(b)
	}
}

// publish lets the server read documents from a web server on this machine.
func (h *harness) publish(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{body: clientDocument(nil)}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		for name, values := range p.header {
			w.Header()[name] = values
		}
		if p.status != 0 {
			w.WriteHeader(p.status)
		}
		_, _ = io.WriteString(w, p.body("https://"+r.Host+documentPath))
	}))
	t.Cleanup(p.Close)
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	config := p.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.RootCAs = roots
	h.Outbound = outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: config})
	h.SelfRegistered.Documents = true
	return p
}

func (p *publisher) client() registered {
	return registered{Client: Client{ID: p.id(), AuthMethod: AuthNone}}
}

// asks begins an authorization and returns what the consent page would show.
func (b *browser) asks(t testing.TB, v url.Values) (id string, in Interaction) {
	t.Helper()
	w := b.get(b.h, "/authorize?"+v.Encode())
	at := must(url.Parse(w.Header().Get("Location")))
	if w.Code != http.StatusSeeOther || at.Path != "/consent" {
		t.Fatalf("authorize: %d to %s, want the consent page; %s", w.Code, at, w.Body)
	}
	id = at.Query().Get("i")
	in, err := b.h.Interaction(t.Context(), id, b.user.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id, in
}

// allows says yes on the consent page and returns what the app is sent.
func (b *browser) allows(t testing.TB, v url.Values) url.Values {
	t.Helper()
	id, _ := b.asks(t, v)
	if err := b.h.Approve(t.Context(), id, b.session); err != nil {
		t.Fatal(err)
	}
	w := b.get(b.h, b.h.ResumePath(id))
	u := must(url.Parse(w.Header().Get("Location")))
	if u.Query().Get("code") == "" {
		t.Fatalf("resume: %d to %s, want a code", w.Code, u)
	}
	return u.Query()
}

func TestStrangerWithDocumentSignsIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		c := p.client()
		id, in := b.asks(t, c.params("scope", "openid email offline_access read admin"))
		if in.Stranger == nil || in.Stranger.Host != p.host() || in.Stranger.Approved || in.Stranger.Goes != "app.example.test" {
			t.Errorf("the page knows %+v, want the unknown host %s", in.Stranger, p.host())
		}
		if want := []string{"openid", "email", "offline_access"}; !slices.Equal(in.Scopes, want) {
			t.Errorf("asked for %v, want the narrow scopes %v", in.Scopes, want)
		}
		if strings.Contains(id, "/") {
			t.Errorf("the interaction's id %q would not survive in an address", id)
		}
		a := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
		if a.status != http.StatusOK {
			t.Fatalf("exchange: %d %v", a.status, a.body)
		}
		if life := a.body["expires_in"].(float64); life > strangerTokenTTL.Seconds() {
			t.Errorf("the access token lives for %v s, want at most %s", life, strangerTokenTTL)
		}
		if got := h.userinfoAnswer(t, a.str("access_token")); got.status != http.StatusOK || got.str("sub") != b.user.ID {
			t.Errorf("userinfo: %d %v", got.status, got.body)
		}
		if again := h.refreshToken(t, c, a.str("refresh_token")); again.status != http.StatusOK {
			t.Errorf("refresh: %d %v", again.status, again.body)
		}
		if got := p.asked.Load(); got != 1 {
			t.Errorf("the document was fetched %d times, want once", got)
		}
		b.asks(t, c.params()) // consent is asked each time
	})
}

// The rungs of the ladder: unknown, approved, blocked, unknown again.
func TestLadderOfTrust(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		c := p.client()
		if err := h.Clients.Approve(t.Context(), p.host(), []string{"phone"}); err != nil {
			t.Fatal(err)
		}
		scope := []string{"scope", "openid offline_access phone"}
		_, in := b.asks(t, c.params(scope...))
		if !in.Stranger.Approved || !slices.Contains(in.Scopes, "phone") {
			t.Errorf("the page knows %+v, scopes %v, want an approved host and phone", in.Stranger, in.Scopes)
		}
		a := h.exchangeCode(t, c, b.allows(t, c.params(scope...)).Get("code"))
		if a.status != http.StatusOK || a.body["expires_in"].(float64) < 599 {
			t.Fatalf("exchange: %d %v, want tokens of the usual life", a.status, a.body)
		}
		if q := b.authorize(t, h, c.params(scope...)); q.Get("code") == "" {
			t.Errorf("consent to an approved app is not remembered: %v", q)
		}

		if err := h.Clients.Block(t.Context(), p.host()); err != nil {
			t.Fatal(err)
		}
		fetched := p.asked.Load()
		if w := b.get(h, "/authorize?"+c.params().Encode()); w.Code != http.StatusBadRequest || h.page.Key != "error.oauth.client_blocked" || h.page.ClientURI != "" {
			t.Errorf("a blocked app: %d %+v, want its page", w.Code, h.page)
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), 401, "invalid_client")
		wantError(t, h.userinfoAnswer(t, a.str("access_token")), 401, "invalid_token")
		if p.asked.Load() != fetched {
			t.Error("a blocked host is asked")
		}

		if err := h.Clients.Forget(t.Context(), p.host()); err != nil {
			t.Fatal(err)
		}
		b.asks(t, c.params())
		hosts, err := h.Clients.Hosts(t.Context())
		if err != nil || len(hosts) != 1 || hosts[0].Host != p.host() || hosts[0].Trust != "" || hosts[0].Clients != 1 {
			t.Errorf("hosts: %+v, %v", hosts, err)
		}
	})
}

func TestBlockReachesHostsBelowAndOtherPorts(t *testing.T) {
	t.Parallel()
	c := &Clients{hosts: map[string]Host{"bad.test": {Trust: TrustBlocked}, "good.test": {Trust: TrustApproved}}}
	for host, want := range map[string]string{
		"bad.test": TrustBlocked, "a.bad.test": TrustBlocked, "a.b.bad.test": TrustBlocked, "notbad.test": "", "bad.test.example": "",
		"good.test": TrustApproved, "a.good.test": "", "good.test:8443": "", "": "",
		"bad.test:8443": TrustBlocked, "bad.test.": TrustBlocked, "a.bad.test.:8443": TrustBlocked, "[::1]:8443": "",
	} {
		if got := c.trust(host).Trust; got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if !c.blocked(Client{ID: "x", Origin: OriginRegistration, RedirectURIs: []string{"https://a.bad.test/cb"}}) {
		t.Error("an app that sends people to a blocked host is let in")
	}
	if c.blocked(Client{ID: "x", RedirectURIs: []string{"https://a.bad.test/cb"}}) {
		t.Error("an app of the operator's is blocked")
	}
}

// Strangers who ask without end leave no row (storage exhaustion).
func TestAskingLeavesNoRow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		id, _ := b.asks(t, p.client().params())
		if _, err := h.Clients.Get(t.Context(), p.id()); err == nil {
			t.Error("a request made a row")
		}
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		c, err := h.Clients.Get(t.Context(), p.id())
		if err != nil || c.Origin != OriginDocument {
			t.Fatalf("after consent: %+v, %v", c, err)
		}
		// Unused, it goes.
		h.advanceClock(idleTTL + time.Hour)
		if err := h.Clients.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Clients.Get(t.Context(), p.id()); err == nil {
			t.Error("an unused client stays")
		}
	})
}

// Tokens of a client whose row an operator deleted stay dead when people let it in anew (identifier reuse).
func TestDeletedDocumentClientDoesNotInheritTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		c := p.client()
		a := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
		if err := h.Clients.Delete(t.Context(), p.id()); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.userinfoAnswer(t, a.str("access_token")), 401, "invalid_token")
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), 400, "invalid_grant")
		h.advanceClock(2 * time.Second)
		b.allows(t, c.params())
		wantError(t, h.userinfoAnswer(t, a.str("access_token")), 401, "invalid_token")
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), 400, "invalid_grant")
	})
}

func TestForgedClientDocuments(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		set := func(name string, value any) func(m map[string]any) {
			return func(m map[string]any) { m[name] = value }
		}
		for name, f := range map[string]func(p *publisher){
			"another's client_id": func(p *publisher) {
				p.says(0, nil, clientDocument(set("client_id", "https://app.example.test/c.json")))
			},
			"client_id in other case": func(p *publisher) {
				p.says(0, nil, clientDocument(set("client_id", strings.Replace(p.id(), "client", "Client", 1))))
			},
			"no client_id": func(p *publisher) { p.says(0, nil, clientDocument(func(m map[string]any) { delete(m, "client_id") })) },
			"a secret":     func(p *publisher) { p.says(0, nil, clientDocument(set("client_secret", "s3cret"))) },
			"a secret's method": func(p *publisher) {
				p.says(0, nil, clientDocument(set("token_endpoint_auth_method", "client_secret_basic")))
			},
			"method without keys": func(p *publisher) {
				p.says(0, nil, clientDocument(set("token_endpoint_auth_method", "private_key_jwt")))
			},
			"a symmetric key": func(p *publisher) {
				p.says(0, nil, clientDocument(set("jwks", map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "c2VjcmV0"}}})))
			},
			"a script as redirect": func(p *publisher) {
				p.says(0, nil, clientDocument(set("redirect_uris", []string{"javascript:alert(1)"})))
			},
			"no redirect":             func(p *publisher) { p.says(0, nil, clientDocument(set("redirect_uris", []string{}))) },
			"a script as home":        func(p *publisher) { p.says(0, nil, clientDocument(set("client_uri", "javascript:alert(1)"))) },
			"controls in the name":    func(p *publisher) { p.says(0, nil, clientDocument(set("client_name", "a\u202eb"))) },
			"HTML":                    func(p *publisher) { p.says(0, http.Header{"Content-Type": {"text/html"}}, clientDocument(nil)) },
			"not found":               func(p *publisher) { p.says(404, nil, clientDocument(nil)) },
			"redirect":                func(p *publisher) { p.says(302, http.Header{"Location": {"https://127.0.0.1/"}}, clientDocument(nil)) },
			"a list":                  func(p *publisher) { p.says(0, nil, func(string) string { return "[]" }) },
			"deep":                    func(p *publisher) { p.says(0, nil, func(string) string { return strings.Repeat("[", 10000) }) },
			"too long":                func(p *publisher) { p.says(0, nil, clientDocument(set("x", strings.Repeat("x", maxDocument)))) },
			"client credentials only": func(p *publisher) { p.says(0, nil, clientDocument(set("grant_types", []string{"client_credentials"}))) },
		} {
			p := h.publish(t)
			f(p)
			w := b.get(h, "/authorize?"+p.client().params().Encode())
			if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" || h.page.Key != "error.oauth.client_document" {
				t.Errorf("%s: %d %s %+v, want the error page", name, w.Code, w.Header().Get("Location"), h.page)
			}
			if a := h.post(t, "/token", p.client(), exchangeForm("x")); a.status != 401 || a.str("error") != "invalid_client" {
				t.Errorf("%s: token endpoint says %d %v, want invalid_client", name, a.status, a.body)
			}
			if got := p.asked.Load(); got != 1 {
				t.Errorf("%s: fetched %d times, want once: what failed is remembered for a while", name, got)
			}
		}
	})
}

// What only operators give cannot be asked for in a document.
func TestDocumentCannotPromoteItself(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		p.says(0, nil, clientDocument(func(m map[string]any) {
			for _, name := range []string{"first_party", "security_events", "global_token_revocation", "disabled"} {
				m[name] = true
			}
			m["require_pkce"], m["scopes"], m["scope"], m["audiences"], m["allow_groups"] = false, []string{"admin"}, "admin", []string{"urn:api"}, []string{"x"}
			m["origin"], m["access_token_ttl"], m["grant_types"] = "", int64(time.Hour), []string{"authorization_code", GrantDeviceCode, "client_credentials"}
			m["backchannel_logout_uri"] = "https://10.0.0.1/"
		}))
		_, in := b.asks(t, p.client().params())
		got := in.Client
		if got.FirstParty || got.SecurityEvents || got.RevokesPeople || got.Disabled || !got.RequirePKCE || slices.Contains(got.Scopes, "admin") || got.Audiences != nil ||
			got.AllowGroups != nil || got.Origin != OriginDocument || got.AccessTokenTTL > strangerTokenTTL || len(got.GrantTypes) != 1 || got.BackchannelLogoutURI != "" {
			t.Errorf("the document made itself %+v", got)
		}
		if w := b.get(h, "/authorize?"+p.client().params("code_challenge", "", "code_challenge_method", "").Encode()); w.Code != http.StatusBadRequest || h.page.Code != "invalid_request" {
			t.Errorf("without PKCE: %d %+v, want the error page", w.Code, h.page)
		}
	})
}

func TestClientDocumentAddresses(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"https://app.example.test/c.json": true, "https://app.example.test/": true, "https://app.example.test:8443/c": true, "http://localhost:1/c": true,
		"https://app.example.test": false, "https://App.example.test/c": false, "https://app.example.test:443/c": false, "https://u@app.example.test/c": false,
		"https://app.example.test/c#f": false, "https://app.example.test/c?q=1": false, "https://app.example.test/a/../c": false, "https://app.example.test/./c": false,
		"http://app.example.test/c": false, "https://app.example.test/ c": false, "https://äpp.test/c": false, "HTTPS://app.example.test/c": false,
		"https://app.example.test/c?": false, "https://app.example.test:/c": false, "https:///c": false, "https:c": false, "https://app.example.test/\\c": false,
		"https://" + strings.Repeat("a", 600) + ".test/c": false, "ftp://app.example.test/c": false, "": false,
	} {
		if got := validDocumentURL(id); got != want {
			t.Errorf("%q: %t, want %t", id, got, want)
		}
	}
}

// Documents at private addresses are not fetched, and the answer does not tell what is there (server-side request forgery).
func TestServerSideRequestForgeryByClientID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p := h.publish(t)
		h.Outbound = outbound.New(outbound.Config{})
		for _, id := range []string{p.id(), "https://169.254.169.254/latest", "https://10.0.0.1/c", "https://[::1]/c", "https://localhost/c"} {
			w := (*browser)(nil).get(h, "/authorize?"+registered{Client: Client{ID: id}}.params().Encode())
			if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "public") {
				t.Errorf("%s: %d %s", id, w.Code, w.Body)
			}
		}
		if got := p.asked.Load(); got != 0 {
			t.Errorf("a private address was asked %d times", got)
		}
	})
}

// Requests at the same time share one fetch, and what strangers name does not fill the memory.
func TestFloodOfClientDocuments(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p := h.publish(t)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := h.Server.client(t.Context(), p.id()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := p.asked.Load(); got != 1 {
			t.Errorf("fetched %d times, want once", got)
		}
		d := newDocuments(func(_ context.Context, url string) ([]byte, http.Header, error) {
			return []byte(clientDocument(nil)(url)), http.Header{"Content-Type": {"application/json"}}, nil
		}, time.Now)
		for i := range documentsMost + 50 {
			if _, err := d.get(t.Context(), "https://app.example.test/"+strings.Repeat("x", 1+i%400)+string(rune('a'+i/400)), func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(d.byURL); got > documentsMost {
			t.Errorf("%d documents are kept, want at most %d", got, documentsMost)
		}
	})
}

func TestDocumentIsFetchedAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		c := p.client()
		p.says(0, http.Header{"Cache-Control": {"max-age=120"}}, clientDocument(nil))
		a := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
		h.advanceClock(3 * time.Minute)
		p.says(500, nil, clientDocument(nil)) // its server has an outage
		again := h.refreshToken(t, c, a.str("refresh_token"))
		if again.status != http.StatusOK {
			t.Fatalf("refresh during an outage: %d %v", again.status, again.body)
		}
		h.advanceClock(3 * time.Hour)
		if again = h.refreshToken(t, c, again.str("refresh_token")); again.status != http.StatusOK {
			t.Fatalf("refresh during a long outage: %d %v", again.status, again.body)
		}
		h.advanceClock(time.Minute)
		p.says(410, nil, clientDocument(nil)) // the client is gone
		wantError(t, h.refreshToken(t, c, again.str("refresh_token")), 401, "invalid_client")
	})
}

func TestDocumentLifeIsBounded(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": time.Hour, "max-age=600": 10 * time.Minute, "public, max-age=0": time.Minute, "max-age=99999999": 24 * time.Hour, "no-store": time.Minute,
		"max-age=x": time.Hour, "max-age=-5": time.Hour, "private, MAX-AGE=\"120\"": 2 * time.Minute,
	} {
		if got := documentLifeOf(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// Programs write http://localhost without a port into their documents, and listen on any.
func TestLoopbackPortOfDocument(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		c := p.client()
		for redirect, want := range map[string]bool{
			"http://localhost:4711/callback": true, "http://127.0.0.1:4711/callback": true, "http://localhost/callback": true,
			"http://localhost:4711/other": false, "http://localhost.evil.test:4711/callback": false, "http://localhost:4711@evil.test/callback": false,
			"https://localhost:4711/callback": false, "http://localhost:4711/callback?x=1": false, "http://LOCALHOST:4711/callback": false,
			"https://app.example.test:4711/callback": false, "http://[::1]:4711/callback": false,
		} {
			w := b.get(h, "/authorize?"+c.params("redirect_uri", redirect).Encode())
			if got := w.Code == http.StatusSeeOther; got != want {
				t.Errorf("%s: %d %s, want allowed %t", redirect, w.Code, w.Body, want)
			}
		}
		v := c.params("redirect_uri", "http://localhost:4711/callback")
		_, in := b.asks(t, v)
		if !in.Stranger.Here || in.Stranger.Goes != "" {
			t.Errorf("the page knows %+v, want a program on this device", in.Stranger)
		}
		form := exchangeForm(b.allows(t, v).Get("code"))
		form.Set("redirect_uri", "http://localhost:4711/callback")
		if a := h.post(t, "/token", c, form); a.status != http.StatusOK {
			t.Errorf("exchange: %d %v", a.status, a.body)
		}
	})
}

func TestDocumentWithMetadataChoices(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(m map[string]any)
		want string
	}{
		"none named": {func(m map[string]any) { delete(m, "token_endpoint_auth_method") }, AuthNone},
		"none offered": {func(m map[string]any) {
			delete(m, "token_endpoint_auth_method")
			m["token_endpoint_auth_methods_supported"] = []string{"none", "client_secret_post"}
		}, AuthNone},
		"keys offered": {func(m map[string]any) {
			delete(m, "token_endpoint_auth_method")
			m["token_endpoint_auth_methods_supported"], m["jwks_uri"] = []string{"none", "private_key_jwt"}, "https://app.example.test/jwks"
		}, AuthPrivateKeyJWT},
	} {
		id := "https://app.example.test/c"
		r, err := readDocument(id, []byte(clientDocument(tc.edit)(id)), http.Header{"Content-Type": {"application/json; charset=utf-8"}})
		if err != nil || r.AuthMethod != tc.want {
			t.Errorf("%s: %v, %v, want %s", name, r, err, tc.want)
		}
	}
}

func FuzzClientDocument(f *testing.F) {
	id := "https://app.example.test/c"
	for _, seed := range []string{
		clientDocument(nil)(id), "{}", "[]", "null", `{"client_id":"https://app.example.test/c","redirect_uris":["http://127.0.0.1/"],"jwks":null}`,
		`{"client_id":"https://app.example.test/c","redirect_uris":["com.example.app:/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := readDocument(id, body, http.Header{"Content-Type": {"application/json"}})
		if err != nil {
			return
		}
		if r.ID != id || r.FirstParty || !r.RequirePKCE || r.HasSecret() || r.SecurityEvents || r.RevokesPeople || len(r.RedirectURIs) == 0 || r.Validate() != nil {
			t.Errorf("a client that must not be: %+v", r.Client)
		}
	})
}
