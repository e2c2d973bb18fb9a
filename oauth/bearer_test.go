package oauth

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
)

const (
	machines  = "https://ci.example.test" // issuer of tokens for machines
	workforce = "https://sso.example.test/tenant-a"
	machine   = "repo:acme/shop:ref:refs/heads/main"
)

// bearerWorld is a server that trusts an issuer of machines, and one of people.
type bearerWorld struct {
	*harness
	deploy, service registered
	b               *browser
}

func newBearerWorld(t *testing.T, h *harness) *bearerWorld {
	t.Helper()
	ctx := t.Context()
	h.api(t, ordersAPI, nil, "read", "send")
	h.api(t, mailAPI, nil, "read")
	assertions := func(c *Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantJWTBearer}, nil, nil
		c.Scopes, c.Audiences = []string{"read", "send", "email"}, []string{ordersAPI, mailAPI}
	}
	w := &bearerWorld{harness: h, b: h.person(t)}
	w.deploy = h.client(t, func(c *Client) { assertions(c); c.AuthMethod = AuthNone })
	w.service = h.client(t, assertions)
	for _, p := range []string{"sso", "off"} {
		_, err := h.DB.Exec(ctx, `INSERT INTO providers (id, metadata, secret, disabled, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			p, "{}", []byte{}, p == "off", h.Now().UTC(), h.Now().UTC())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.people.Link(ctx, w.b.user.ID, identity.Elsewhere{Provider: p, Issuer: workforce, Subject: "ada"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []Issuer{
		{Issuer: machines, JWKS: keySetOf("m", "ES256", "", "RS256"), Algs: []string{"ES256", "RS256"}},
		{Issuer: workforce, JWKS: keySetOf("", "EdDSA"), Subject: SubjectLinked, Provider: "sso"},
		{Issuer: "https://own.example.test", JWKS: keySetOf("", "EdDSA"), Subject: SubjectPerson},
		{Issuer: "https://statements.example.test", JWKS: keySetOf("", "EdDSA"), For: []string{ForStatements}},
	} {
		if err := h.Issuers().Create(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	w.permit(t, machines, w.deploy, Permit{Claims: map[string]string{"sub": "repo:acme/shop:*", "environment": "live"}, APIs: []string{ordersAPI}, Scopes: []string{"read"}})
	w.permit(t, workforce, w.service, Permit{})
	w.permit(t, "https://own.example.test", w.service, Permit{Scopes: []string{"read"}})
	return w
}

func (w *bearerWorld) permit(t testing.TB, issuer string, c registered, p Permit) Permit {
	t.Helper()
	i, err := w.Issuers().Get(t.Context(), issuer)
	if err == nil {
		p, err = w.Issuers().Permit(t.Context(), i, c.Client, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// claims of a good assertion of a machine; edits replace or (nil) remove some.
func (w *bearerWorld) claims(edits map[string]any) map[string]any {
	now := w.Now()
	claims := map[string]any{
		"iss": machines, "sub": machine, "environment": "live", "aud": testIssuer, "jti": rand.Text(), "iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(4 * time.Minute).Unix(),
	}
	maps.Copy(claims, edits)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func (w *bearerWorld) bring(t testing.TB, c registered, assertion string, edits ...string) answer {
	t.Helper()
	v := url.Values{"grant_type": {GrantJWTBearer}, "assertion": {assertion}}
	for i := 0; i < len(edits); i += 2 {
		v.Set(edits[i], edits[i+1])
	}
	return w.post(t, "/token", c, v)
}

// machine brings an assertion of the machine with edits.
func (w *bearerWorld) machine(t testing.TB, edits map[string]any, form ...string) answer {
	t.Helper()
	return w.bring(t, w.deploy, sign(t, "ES256", testKeys()["ES256"], map[string]any{"kid": "m"}, w.claims(edits)), form...)
}

// person brings an assertion about a person.
func (w *bearerWorld) person(t testing.TB, header, edits map[string]any, form ...string) answer {
	t.Helper()
	claims := w.claims(map[string]any{"iss": workforce, "sub": "ada"})
	maps.Copy(claims, edits)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return w.bring(t, w.service, sign(t, "EdDSA", testKeys()["EdDSA"], header, claims), form...)
}

func TestWorkloadIdentity(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		a := w.machine(t, nil)
		if a.status != http.StatusOK || a.body["refresh_token"] != nil || a.body["id_token"] != nil || a.str("scope") != "read" || a.str("token_type") != "Bearer" {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		_, c := claimsOf(t, a.str("access_token"))
		if c["sub"] != w.deploy.ID || c["aud"] != ordersAPI || c["scope"] != "read" || c["act"] != nil || c["gid"] != nil {
			t.Errorf("claims %v", c)
		}
		if got := w.machine(t, nil, "resource", ordersAPI, "scope", "read"); got.status != http.StatusOK {
			t.Errorf("asked for by name: %v", got.body)
		}
		for name, edits := range map[string]map[string]any{
			"another branch": {"sub": "repo:acme/shop:ref:refs/tags/v1"}, "audience as a list": {"aud": []string{testIssuer}},
			"the token endpoint as audience": {"aud": testIssuer + "/token"}, "without iat and nbf": {"iat": nil, "nbf": nil},
		} {
			if got := w.machine(t, edits); got.status != http.StatusOK {
				t.Errorf("%s: %v", name, got.body)
			}
		}
		if got := w.bring(t, w.deploy, sign(t, "RS256", testKeys()["RS256"], map[string]any{"typ": "JWT"}, w.claims(nil))); got.status != http.StatusOK {
			t.Errorf("by a key without a kid: %v", got.body)
		}
		events := must(h.Audit.Rows(t.Context(), audit.Filter{}, audit.Position{}, 200))
		if !slices.ContainsFunc(events, func(e audit.Entry) bool {
			return e.Action == "token.assertion" && e.Outcome == audit.Success && e.ClientID == w.deploy.ID && e.Detail["subject"] == machine && e.Detail["issuer"] == machines && e.Detail["scope"] == "read"
		}) {
			t.Errorf("audit log %+v", events)
		}
	})
}

func TestAssertionAboutALinkedPerson(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		wantError(t, w.person(t, nil, nil), 400, "invalid_grant") // nothing was allowed
		allow := func(items ...string) {
			if err := h.Consents.Remember(t.Context(), w.b.user.ID, w.service.ID, items, ConsentTextVersion); err != nil {
				t.Fatal(err)
			}
		}
		allow("read", "openid", "email", "read "+ordersAPI, " "+ordersAPI)
		a := w.person(t, nil, nil, "resource", ordersAPI)
		_, c := claimsOf(t, a.str("access_token"))
		if act, _ := c["act"].(map[string]any); a.status != http.StatusOK || c["sub"] != w.b.user.ID || c["aud"] != ordersAPI || c["scope"] != "read" || act["sub"] != w.service.ID || a.body["refresh_token"] != nil {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		wantError(t, w.person(t, nil, nil, "scope", "send"), 400, "invalid_scope")                              // not allowed by the person
		wantError(t, w.person(t, nil, nil, "scope", "read", "resource", mailAPI), 400, "invalid_scope")         // allowed for another API
		wantError(t, w.person(t, nil, nil, "scope", "openid"), 400, "invalid_scope")                            // needs a sign-in, and the client is not registered for it
		wantError(t, w.person(t, nil, nil, "resource", "https://unknown.example.test"), 400, "invalid_target")  //
		wantError(t, w.person(t, nil, map[string]any{"iss": "https://own.example.test"}), 400, "invalid_grant") // no id of anybody here
		if got := w.person(t, nil, map[string]any{"iss": "https://own.example.test", "sub": w.b.user.ID}); got.status != http.StatusOK || got.str("scope") != "read" {
			t.Errorf("by the id here: %v", got.body)
		}
		if got := w.person(t, nil, nil); got.str("scope") != "read email" {
			t.Errorf("without a resource: %v", got.body)
		}
		if !h.introspectToken(t, w.service, a.str("access_token")) {
			t.Error("the token is not active")
		}
		if err := h.Server.Withdraw(t.Context(), w.b.user.ID, w.service.ID); err != nil {
			t.Fatal(err)
		}
		if h.introspectToken(t, w.service, a.str("access_token")) {
			t.Error("the token outlives the consent")
		}
	})
}

// An enterprise's identity provider sends a client of its own (ID-JAG).
func TestIdentityAssertionGrantBoundsWhatItGives(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		w.service.FirstParty = true // the enterprise has decided for its people
		if err := h.Clients.Update(t.Context(), w.service.Client); err != nil {
			t.Fatal(err)
		}
		jag := map[string]any{"typ": typIDJAG}
		a := w.person(t, jag, map[string]any{"client_id": w.service.ID, "resource": ordersAPI, "scope": "read"})
		if _, c := claimsOf(t, a.str("access_token")); a.status != http.StatusOK || c["aud"] != ordersAPI || c["scope"] != "read" {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		bounds := map[string]any{"client_id": w.service.ID, "resource": []string{ordersAPI}, "scope": "read"}
		wantError(t, w.person(t, jag, bounds, "scope", "send"), 400, "invalid_scope")
		wantError(t, w.person(t, jag, bounds, "resource", mailAPI), 400, "invalid_target")
		wantError(t, w.person(t, jag, map[string]any{"client_id": w.deploy.ID}), 400, "invalid_grant") // mix-up of clients
		wantError(t, w.person(t, jag, nil), 400, "invalid_grant")
	})
}

func TestForgedAssertionsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		now := h.Now()
		for name, edits := range map[string]map[string]any{
			"wrong audience": {"aud": "https://other.example.test"}, "audience of another beside": {"aud": []string{testIssuer, "https://other.example.test"}},
			"PAR endpoint as audience": {"aud": testIssuer + "/par"}, "no audience": {"aud": nil}, "empty audience": {"aud": []string{}},
			"unknown issuer": {"iss": "https://unknown.example.test"}, "our own issuer": {"iss": testIssuer}, "no issuer": {"iss": nil}, "issuer with a slash": {"iss": machines + "/"},
			"issuer of statements":   {"iss": "https://statements.example.test"},
			"sub of another tenant":  {"sub": "repo:mallory/shop:ref:refs/heads/main"},
			"sub that begins alike":  {"sub": "repo:acme/shop-of-mallory:ref:refs/heads/main"},
			"sub in another case":    {"sub": "REPO:acme/shop:ref:refs/heads/main"},
			"another environment":    {"environment": "test"},
			"condition as a list":    {"environment": []string{"live"}},
			"condition is missing":   {"environment": nil},
			"no sub":                 {"sub": nil},
			"expired":                {"exp": now.Add(-time.Minute).Unix()},
			"no exp":                 {"exp": nil},
			"far exp":                {"exp": now.Add(time.Hour).Unix(), "iat": nil},
			"lives too long":         {"iat": now.Add(-3 * time.Minute).Unix()},
			"iat in the future":      {"iat": now.Add(time.Minute).Unix()},
			"nbf in the future":      {"nbf": now.Add(time.Minute).Unix()},
			"no jti":                 {"jti": nil},
			"jti of a kilobyte more": {"jti": strings.Repeat("x", 1025)},
			"exp out of this world":  {"exp": 1e300},
		} {
			if a := w.machine(t, edits); a.status != http.StatusBadRequest || a.str("error") != "invalid_grant" {
				t.Errorf("%s: got %d %v, want invalid_grant", name, a.status, a.body)
			}
		}
		es, rsaKey := testKeys()["ES256"], testKeys()["RS256"]
		public := []byte(keySetOf("m", "ES256"))
		for name, token := range map[string]string{
			"alg none":                    sign(t, "none", nil, nil, w.claims(nil)),
			"key confusion (HS256)":       sign(t, "HS256", public, nil, w.claims(nil)),
			"key confusion (RSA as EC)":   sign(t, "ES256", rsaKey, map[string]any{"kid": "m"}, w.claims(nil)),
			"algorithm not allowed":       sign(t, "PS256", rsaKey, nil, w.claims(nil)),
			"unknown key":                 sign(t, "ES256", testKeys()["other"], map[string]any{"kid": "m"}, w.claims(nil)),
			"key in the header":           sign(t, "ES256", testKeys()["other"], map[string]any{"jwk": map[string]any{}, "kid": "m"}, w.claims(nil)),
			"changed after signing":       tampered(sign(t, "ES256", es, map[string]any{"kid": "m"}, w.claims(nil))),
			"critical extension":          sign(t, "ES256", es, map[string]any{"kid": "m", "crit": []string{"x"}}, w.claims(nil)),
			"an access token":             sign(t, "ES256", es, map[string]any{"kid": "m", "typ": "at+jwt"}, w.claims(nil)),
			"a logout token":              sign(t, "ES256", es, map[string]any{"kid": "m", "typ": "logout+jwt"}, w.claims(nil)),
			"a client assertion":          sign(t, "ES256", es, map[string]any{"kid": "m", "typ": "client-authentication+jwt"}, w.claims(nil)),
			"no JWT":                      "abc",
			"our own client's ID token":   w.b.tokens(t, h.client(t, nil)).str("id_token"),
			"our own client's access":     w.b.tokens(t, h.client(t, nil)).str("access_token"),
			"more than sixteen kilobytes": sign(t, "ES256", es, map[string]any{"kid": "m"}, w.claims(map[string]any{"x": strings.Repeat("x", 20<<10)})),
		} {
			if a := w.bring(t, w.deploy, token); a.status != http.StatusBadRequest || a.str("error") != "invalid_grant" {
				t.Errorf("%s: got %d %v, want invalid_grant", name, a.status, a.body)
			}
		}
		wantError(t, w.bring(t, w.service, sign(t, "ES256", es, nil, w.claims(map[string]any{"iss": workforce, "sub": "ada"}))), 400, "invalid_grant") // by the key of another issuer
		wantError(t, w.bring(t, w.deploy, ""), 400, "invalid_request")
		if a := w.machine(t, nil); a.status != http.StatusOK {
			t.Errorf("the good one: %v", a.body)
		}
	})
}

func TestKeysOfAnIssuerThatChangesThem(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.fetching()
		w, p := newBearerWorld(t, h), publish(t, keySetOf("one", "ES256"))
		i := must(h.Issuers().Get(t.Context(), machines))
		i.JWKS, i.JWKSURI = nil, p.URL
		if err := h.Issuers().Update(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		try := func(kid, key string) answer {
			return w.bring(t, w.deploy, sign(t, "ES256", testKeys()[key], map[string]any{"kid": kid}, w.claims(nil)))
		}
		if a := try("one", "ES256"); a.status != http.StatusOK {
			t.Fatalf("first: %v", a.body)
		}
		h.advanceClock(keySetRefetch)
		p.set(http.StatusOK, keySetOf("two", "other"))
		if a := try("two", "other"); a.status != http.StatusOK {
			t.Errorf("new key: %v", a.body)
		}
		wantError(t, try("one", "ES256"), 400, "invalid_grant")
		h.advanceClock(keySetLife)
		p.set(http.StatusInternalServerError, nil)
		h.advanceClock(keySetStale)
		wantError(t, try("two", "other"), 503, "temporarily_unavailable")
	})
}

func TestAssertionWorksOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		token := sign(t, "ES256", testKeys()["ES256"], map[string]any{"kid": "m"}, w.claims(nil))
		wantError(t, w.bring(t, w.deploy, token, "scope", "send"), 400, "invalid_scope") // is not used up by it
		answers := make(chan int)
		for range 4 {
			go func() { answers <- w.bring(t, w.deploy, token).status }()
		}
		good := 0
		for range 4 {
			if <-answers == http.StatusOK {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d of 4 replays at once got a token, want 1", good)
		}
		i := must(h.Issuers().Get(t.Context(), machines))
		i.Reusable, i.MaxLife = true, time.Hour // a cluster writes its tokens into a file, for as long as they live
		if err := h.Issuers().Update(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		file := sign(t, "ES256", testKeys()["ES256"], map[string]any{"kid": "m"}, w.claims(map[string]any{"jti": nil, "exp": h.Now().Add(time.Hour).Unix()}))
		for range 2 {
			if a := w.bring(t, w.deploy, file); a.status != http.StatusOK {
				t.Errorf("a reusable one: %v", a.body)
			}
		}
	})
}

func TestAssertionOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		ctx := t.Context()
		w.b.consent(t, w.service)
		before := w.person(t, nil, nil)
		if before.status != http.StatusOK {
			t.Fatalf("before: %v", before.body)
		}
		stranger := w.person(t, nil, map[string]any{"sub": "mallory"})
		if err := h.people.SetStatus(ctx, w.b.user.ID, identity.StatusDisabled); err != nil {
			t.Fatal(err)
		}
		after := w.person(t, nil, nil)
		wantError(t, after, 400, "invalid_grant")
		if after.str("error_description") != stranger.str("error_description") {
			t.Errorf("disabled: %q, unknown: %q: the answers differ (account enumeration)", after.str("error_description"), stranger.str("error_description"))
		}
		if h.introspectToken(t, w.service, before.str("access_token")) {
			t.Error("the token of a disabled person is active")
		}
		if err := h.people.SetStatus(ctx, w.b.user.ID, identity.StatusActive); err != nil {
			t.Fatal(err)
		}
		i := must(h.Issuers().Get(ctx, workforce))
		i.Provider = "off"
		if err := h.Issuers().Update(ctx, i); err != nil {
			t.Fatal(err)
		}
		wantError(t, w.person(t, nil, nil), 400, "invalid_grant") // the provider is switched off

		permits := must(h.Issuers().Permits(ctx, machines, 10))
		if err := h.Issuers().Withdraw(ctx, permits[0].ID); err != nil {
			t.Fatal(err)
		}
		wantError(t, w.machine(t, nil), 400, "invalid_grant")
		w.permit(t, machines, w.deploy, Permit{Claims: map[string]string{"sub": machine}})
		disabled := w.deploy.Client
		disabled.Disabled = true
		if err := h.Clients.Update(ctx, disabled); err != nil {
			t.Fatal(err)
		}
		wantError(t, w.machine(t, nil), 401, "invalid_client")
		if err := h.Clients.Delete(ctx, w.deploy.ID); err != nil {
			t.Fatal(err)
		}
		w.deploy = h.client(t, func(c *Client) { *c = w.deploy.Client; c.CreatedAt = time.Time{} })
		wantError(t, w.machine(t, nil), 400, "invalid_grant") // the namesake does not inherit (identifier reuse)
		w.permit(t, machines, w.deploy, Permit{Claims: map[string]string{"sub": machine}})
		if a := w.machine(t, nil); a.status != http.StatusOK {
			t.Errorf("with a permit of its own: %v", a.body)
		}
		if err := h.Issuers().Delete(ctx, machines); err != nil {
			t.Fatal(err)
		}
		wantError(t, w.machine(t, nil), 400, "invalid_grant")
	})
}

func TestAssertionIsForOperatorsClients(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		token := func() string { return sign(t, "ES256", testKeys()["ES256"], map[string]any{"kid": "m"}, w.claims(nil)) }
		wantError(t, w.bring(t, h.client(t, nil), token()), 400, "unauthorized_client")
		wantError(t, w.bring(t, w.service, token()), 400, "invalid_grant") // another client's permit
		bad := w.service
		bad.secret = "guess"
		wantError(t, w.bring(t, bad, token()), 401, "invalid_client")
		// A public client cannot use what it found about a person.
		wantError(t, w.bring(t, w.deploy, sign(t, "EdDSA", testKeys()["EdDSA"], nil, w.claims(map[string]any{"iss": workforce, "sub": "ada"}))), 400, "unauthorized_client")

		h.opened(t, RegistrationOpen)
		made := h.manage(t, "POST", registrationPath, "", aboutMe("grant_types", []string{"authorization_code", GrantJWTBearer}))
		if types, _ := made.body["grant_types"].([]any); slices.Contains(types, any(GrantJWTBearer)) {
			t.Errorf("a client gave itself the grant: %v", made.body)
		}
		wantError(t, w.bring(t, registered{Client{ID: made.str("client_id"), AuthMethod: AuthNone}, ""}, token()), 400, "unauthorized_client")
	})
}

func TestPermitsThatAreTooWideAreRefused(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	w := newBearerWorld(t, h)
	i := must(h.Issuers().Get(t.Context(), machines))
	for name, p := range map[string]Permit{
		"anybody":                  {},
		"any sub":                  {Claims: map[string]string{"sub": "*"}},
		"half a name":              {Claims: map[string]string{"sub": "repo:acme/shop*"}},
		"a star inside":            {Claims: map[string]string{"sub": "repo:*/shop:*"}},
		"a star in another claim":  {Claims: map[string]string{"sub": machine, "ref": "refs/heads/*"}},
		"empty value":              {Claims: map[string]string{"sub": ""}},
		"scope of no registration": {Claims: map[string]string{"sub": machine}, Scopes: []string{"admin"}},
		"API of no registration":   {Claims: map[string]string{"sub": machine}, APIs: []string{"https://other.example.test"}},
	} {
		if _, err := h.Issuers().Permit(t.Context(), i, w.deploy.Client, p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := h.Issuers().Permit(t.Context(), must(h.Issuers().Get(t.Context(), workforce)), w.deploy.Client, Permit{}); err == nil {
		t.Error("a public client may speak of people")
	}
	people := must(h.Issuers().Get(t.Context(), workforce))
	people.Subject, people.Provider = SubjectService, ""
	if err := h.Issuers().Update(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.person(t, nil, nil), 400, "invalid_grant") // a permit from when it spoke of people
	good := Issuer{Issuer: "https://new.example.test", JWKSURI: "https://new.example.test/keys"}.WithDefaults()
	for name, edit := range map[string]func(i *Issuer){
		"http":                  func(i *Issuer) { i.Issuer = "http://new.example.test" },
		"query":                 func(i *Issuer) { i.Issuer += "?x" },
		"no keys":               func(i *Issuer) { i.JWKSURI = "" },
		"keys twice":            func(i *Issuer) { i.JWKS = keySetOf("", "ES256") },
		"private key":           func(i *Issuer) { i.JWKSURI, i.JWKS = "", []byte(`{"keys":[{"kty":"OKP","d":"AA"}]}`) },
		"HMAC":                  func(i *Issuer) { i.Algs = []string{"HS256"} },
		"none":                  func(i *Issuer) { i.Algs = []string{"none"} },
		"two days":              func(i *Issuer) { i.MaxLife = 48 * time.Hour },
		"reusable about people": func(i *Issuer) { i.Subject, i.Reusable = SubjectPerson, true },
		"long about people":     func(i *Issuer) { i.Subject, i.MaxLife = SubjectPerson, time.Hour },
		"linked nowhere":        func(i *Issuer) { i.Subject = SubjectLinked },
		"purpose":               func(i *Issuer) { i.For = []string{"everything"} },
	} {
		i := good
		if edit(&i); i.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// tampered changes a claim behind the signer's back.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	text := must(base64.RawURLEncoding.DecodeString(parts[1]))
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(text), "refs/heads/main", "refs/heads/evil", 1)))
	return strings.Join(parts, ".")
}

func FuzzBearerAssertion(f *testing.F) {
	w := &bearerWorld{harness: &harness{Server: &Server{Config: Config{Now: time.Now}}}}
	for _, header := range []map[string]any{nil, {"typ": "JWT"}, {"typ": typIDJAG}, {"typ": "at+jwt"}, {"crit": []string{"b64"}}} {
		for _, edits := range []map[string]any{nil, {"aud": []string{"a", "b"}}, {"exp": 1e300}, {"client_id": "x", "scope": "a b", "resource": []string{"https://a.test"}}, {"environment": map[string]any{"a": 1}}} {
			f.Add(sign(f, "none", nil, header, w.claims(edits)), "sub", "repo:acme/shop:*")
		}
	}
	f.Fuzz(func(t *testing.T, token, claim, value string) {
		a, err := parseBearer(token)
		if err != nil {
			return
		}
		p := Permit{Claims: map[string]string{"sub": "repo:acme/shop:*", claim: value}}
		if p.validate(Issuer{Subject: SubjectService}) != nil || !p.holds(a.all) {
			return
		}
		prefix, is := strings.CutSuffix(p.Claims["sub"], "*")
		if !strings.HasPrefix(a.Subject, prefix) || !is && a.Subject != prefix {
			t.Errorf("%q is let in under %v", a.Subject, p.Claims)
		}
	})
}
