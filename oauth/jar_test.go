package oauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

// objectFor is a good request object of a client; edits replace or (nil) remove claims.
func (h *harness) objectFor(c registered, edits map[string]any) map[string]any {
	claims := map[string]any{"iss": c.ID, "aud": testIssuer, "nbf": h.Now().Unix(), "exp": h.Now().Add(5 * time.Minute).Unix()}
	for name, values := range c.params("state", "signed-state") {
		claims[name] = values[0]
	}
	for name, v := range edits {
		if v == nil {
			delete(claims, name)
		} else {
			claims[name] = v
		}
	}
	return claims
}

func (h *harness) object(t testing.TB, c registered, edits map[string]any) string {
	t.Helper()
	return sign(t, "ES256", testKeys()["ES256"], map[string]any{"typ": "oauth-authz-req+jwt"}, h.objectFor(c, edits))
}

func signing(alg string, more ...func(c *Client)) func(c *Client) {
	return func(c *Client) {
		c.JWKS = keySetOf("k", alg)
		for _, edit := range more {
			edit(c)
		}
	}
}

// beside is a request by an object with nothing but what RFC 9101 §5 demands outside.
func beside(c registered, object string, extra ...string) url.Values {
	v := url.Values{"client_id": {c.ID}, "request": {object}}
	for i := 0; i < len(extra); i += 2 {
		v.Set(extra[i], extra[i+1])
	}
	return v
}

func TestRequestObject(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, alg := range requestObjectAlgs {
			c := h.client(t, signing(alg, func(c *Client) { c.RequestObjectAlg = alg }))
			b.consent(t, c)
			for _, typ := range []string{"oauth-authz-req+jwt", "JWT", ""} {
				// Numbers and objects are no strings in a JWT.
				object := sign(t, alg, testKeys()[alg], map[string]any{"typ": typ, "kid": "k"}, h.objectFor(c, map[string]any{
					"max_age": 3600, "claims": map[string]any{"id_token": map[string]any{"email": map[string]any{"essential": true}}}, "acr_values": nil,
				}))
				q := b.authorize(t, h, beside(c, object))
				if q.Get("state") != "signed-state" || q.Get("code") == "" {
					t.Fatalf("%s %q: got %v", alg, typ, q)
				}
				a := h.exchangeCode(t, c, q.Get("code"))
				if a.status != http.StatusOK {
					t.Fatalf("%s: exchange: %d %v", alg, a.status, a.body)
				}
				if _, id := claimsOf(t, a.str("id_token")); id["email"] != b.user.Email || id["nonce"] != "n-0S6_WzA2Mj" {
					t.Errorf("%s: ID token %v", alg, id)
				}
			}
			pushed := h.pushForm(t, c, beside(c, sign(t, alg, testKeys()[alg], nil, h.objectFor(c, nil))))
			if q := b.authorize(t, h, byReference(c, pushed)); q.Get("state") != "signed-state" || q.Get("code") == "" {
				t.Errorf("%s pushed: got %v", alg, q)
			}
		}
	})
}

func TestParametersBesideARequestObjectAreIgnored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, signing("ES256"))
		b.consent(t, c)
		smuggled := []string{
			"state", "smuggled", "scope", "openid phone read write", "redirect_uri", "https://evil.example.test/", "response_mode", "fragment", "prompt", "login",
			"nonce", "smuggled", "code_challenge", challengeOf("x"), "dpop_jkt", thumbprintOf("other"), "claims", `{"userinfo":{"phone_number":null}}`,
		}
		for name, q := range map[string]url.Values{
			"by value": b.authorize(t, h, beside(c, h.object(t, c, nil), smuggled...)),
			"pushed":   b.authorize(t, h, byReference(c, h.pushForm(t, c, beside(c, h.object(t, c, nil), smuggled...)), smuggled...)),
		} {
			if q.Get("state") != "signed-state" {
				t.Fatalf("%s: got %v", name, q)
			}
			a := h.exchangeCode(t, c, q.Get("code"))
			if a.status != http.StatusOK || a.str("scope") != "openid email offline_access" || a.str("token_type") != "Bearer" {
				t.Fatalf("%s: exchange: got %d %v", name, a.status, a.body)
			}
			if _, id := claimsOf(t, a.str("id_token")); id["nonce"] != "n-0S6_WzA2Mj" {
				t.Errorf("%s: nonce %v", name, id["nonce"])
			}
		}
		// A parameter that only stands outside does not count either.
		if q := b.authorize(t, h, beside(c, h.object(t, c, map[string]any{"code_challenge": nil, "code_challenge_method": nil}),
			"code_challenge", challengeOf("x"), "code_challenge_method", "S256")); q.Get("error") != "invalid_request" {
			t.Errorf("challenge from outside: got %v", q)
		}
	})
}

func TestForgedRequestObjectsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c, other := h.person(t), h.client(t, signing("ES256")), h.client(t, func(c *Client) { c.JWKS = keySetOf("", "other") })
		keyless, pinned := h.client(t, nil), h.client(t, signing("RS256", func(c *Client) { c.RequestObjectAlg = "PS256" }))
		for _, one := range []registered{c, other, keyless, pinned} {
			b.consent(t, one)
		}
		key, es := testKeys()["ES256"], "ES256"
		good := h.object(t, c, nil)
		now := h.Now()
		cases := map[string]url.Values{
			"alg none":                  beside(c, sign(t, "none", nil, nil, h.objectFor(c, nil))),
			"HMAC by the secret":        beside(c, sign(t, "HS256", []byte(c.secret), nil, h.objectFor(c, nil))),
			"HMAC by the public key":    beside(c, sign(t, "HS256", c.JWKS, nil, h.objectFor(c, nil))),
			"key of another client":     beside(c, sign(t, es, testKeys()["other"], nil, h.objectFor(c, nil))),
			"key in the header":         beside(c, sign(t, es, testKeys()["other"], map[string]any{"jwk": keySetOf("", "other")}, h.objectFor(c, nil))),
			"critical header":           beside(c, sign(t, es, key, map[string]any{"crit": []string{"x"}, "x": 1}, h.objectFor(c, nil))),
			"broken signature":          beside(c, good[:len(good)-8]+"AAAAAAAA"),
			"no signature":              beside(c, good[:strings.LastIndex(good, ".")+1]),
			"another client's":          beside(other, good),
			"client without keys":       beside(keyless, h.object(t, keyless, nil)),
			"alg that is not pinned":    beside(pinned, sign(t, "RS256", testKeys()["RS256"], nil, h.objectFor(pinned, nil))),
			"client_id inside differs":  beside(c, h.object(t, c, map[string]any{"client_id": other.ID})),
			"client_id inside missing":  beside(c, h.object(t, c, map[string]any{"client_id": nil})),
			"client_id is no string":    beside(c, h.object(t, c, map[string]any{"client_id": []string{c.ID}})),
			"iss of another":            beside(c, h.object(t, c, map[string]any{"iss": other.ID})),
			"iss missing":               beside(c, h.object(t, c, map[string]any{"iss": nil})),
			"aud of another server":     beside(c, h.object(t, c, map[string]any{"aud": "https://other.example.test"})),
			"aud missing":               beside(c, h.object(t, c, map[string]any{"aud": nil})),
			"expired":                   beside(c, h.object(t, c, map[string]any{"exp": now.Add(-time.Hour).Unix()})),
			"from the future":           beside(c, h.object(t, c, map[string]any{"nbf": now.Add(time.Hour).Unix()})),
			"exp is no time":            beside(c, h.object(t, c, map[string]any{"exp": -1})),
			"exp is text":               beside(c, h.object(t, c, map[string]any{"exp": "tomorrow"})),
			"a client assertion":        beside(c, h.object(t, c, map[string]any{"sub": c.ID})),
			"typ of an assertion":       beside(c, sign(t, es, key, map[string]any{"typ": "client-authentication+jwt"}, h.objectFor(c, nil))),
			"typ of a DPoP proof":       beside(c, sign(t, es, key, map[string]any{"typ": "dpop+jwt"}, h.objectFor(c, nil))),
			"request inside":            beside(c, h.object(t, c, map[string]any{"request": good})),
			"request_uri inside":        beside(c, h.object(t, c, map[string]any{"request_uri": pushedPrefix + "x"})),
			"NUL in a parameter":        beside(c, h.object(t, c, map[string]any{"state": "a\x00b"})),
			"an encrypted one, garbage": beside(c, "a.b.c.d.e"),
			"text":                      beside(c, "x"),
		}
		for name, v := range cases {
			client := c
			for _, one := range []registered{other, keyless, pinned} {
				if v.Get("client_id") == one.ID {
					client = one
				}
			}
			// Nobody is sent anywhere on the word of such an object: only to the registered redirect URI that stands outside, if any.
			h.page = ErrorPage{}
			if w := b.get(h, "/authorize?"+v.Encode()); w.Code != http.StatusBadRequest || h.page.Code != "invalid_request_object" || w.Header().Get("Location") != "" {
				t.Errorf("%s: got %d %+v %s", name, w.Code, h.page, w.Header().Get("Location"))
			}
			v.Set("redirect_uri", testRedirect)
			v.Set("state", "outside")
			if q := b.authorize(t, h, v); q.Get("error") != "invalid_request_object" || q.Get("state") != "outside" || q.Get("code") != "" {
				t.Errorf("%s: got %v", name, q)
			}
			wantError(t, h.post(t, "/par", client, maps.Clone(v)), http.StatusBadRequest, "invalid_request_object")
		}
		if q := b.authorize(t, h, beside(c, good)); q.Get("code") == "" {
			t.Errorf("the good one: got %v", q)
		}
	})
}

func TestRequestThatMustBeSigned(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, signing("ES256", func(c *Client) { c.RequireRequest = true }))
		b.consent(t, c)
		if q := b.authorize(t, h, c.params()); q.Get("error") != "invalid_request" {
			t.Errorf("unsigned: got %v", q)
		}
		if q := b.authorize(t, h, c.params(decoupledParameter, "x")); q.Get("error") != "invalid_request" {
			t.Errorf("in a device's name: got %v", q)
		}
		wantError(t, h.post(t, "/par", c, c.params()), http.StatusBadRequest, "invalid_request")
		if q := b.authorize(t, h, beside(c, h.object(t, c, nil))); q.Get("code") == "" {
			t.Errorf("signed: got %v", q)
		}
		if q := b.authorize(t, h, byReference(c, h.pushForm(t, c, beside(c, h.object(t, c, nil))))); q.Get("code") == "" {
			t.Errorf("signed and pushed: got %v", q)
		}
	})
}

func TestRequestObjectOfFAPIClientLivesAnHour(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) {
			byKeys(keySetOf("", "ES256", "", "RS256"))(c)
			c.Profile = ProfileFAPI2
		})
		push := func(object string) answer {
			v := beside(c, object, "client_assertion_type", assertionType, "client_assertion", sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(c, nil)))
			return h.post(t, "/par", registered{}, v)
		}
		at := func(d time.Duration) int64 { return h.Now().Add(d).Unix() }
		for name, edits := range map[string]map[string]any{
			"no exp": {"exp": nil}, "no nbf": {"nbf": nil}, "lives too long": {"exp": at(61 * time.Minute)},
			"too old": {"nbf": at(-61 * time.Minute), "exp": at(-time.Minute / 6)}, "two audiences": {"aud": []string{testIssuer, "https://other.example.test"}},
		} {
			if a := push(h.object(t, c, edits)); a.status != http.StatusBadRequest || a.str("error") != "invalid_request_object" {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
		wantError(t, push(sign(t, "RS256", testKeys()["RS256"], nil, h.objectFor(c, nil))), http.StatusBadRequest, "invalid_request_object")
		if a := push(h.object(t, c, nil)); a.status != http.StatusCreated {
			t.Errorf("good: got %d %v", a.status, a.body)
		}
	})
}

func TestRequestObjectByReference(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		if q := h.person(t).authorize(t, h, h.client(t, nil).params("request_uri", "https://app.example.test/r")); q.Get("error") != "request_uri_not_supported" {
			t.Errorf("without a client for it: got %v", q)
		}
		h.fetching()
		p := publish(t, nil)
		b, c := h.person(t), h.client(t, signing("ES256", func(c *Client) { c.RequestURIs = []string{p.URL + "/request#v1"} }))
		b.consent(t, c)
		object := h.object(t, c, nil)
		p.set(http.StatusOK, json.RawMessage(object+"\n"))
		ask := func(uri string) url.Values {
			return b.authorize(t, h, byReference(c, uri, "redirect_uri", testRedirect, "state", "outside"))
		}
		if q := ask(p.URL + "/request#v1"); q.Get("code") == "" || q.Get("state") != "signed-state" {
			t.Fatalf("got %v", q)
		}
		before := p.asked.Load()
		for _, uri := range []string{p.URL + "/request", p.URL + "/request#v2", p.URL + "/", p.URL + "/request?x=y#v1", "http://169.254.169.254/latest", "file:///etc/passwd", "https://evil.example.test/request#v1"} {
			if q := ask(uri); q.Get("error") != "invalid_request_uri" {
				t.Errorf("%s: got %v", uri, q)
			}
		}
		if p.asked.Load() != before {
			t.Error("an address that is not registered was asked")
		}
		wantError(t, h.post(t, "/par", c, c.params("request_uri", p.URL+"/request#v1")), http.StatusBadRequest, "invalid_request")
		if q := ask(p.URL + "/request#v1"); q.Get("code") == "" {
			t.Fatalf("got %v", q)
		}
		both := byReference(c, p.URL+"/request#v1", "request", object, "redirect_uri", testRedirect)
		if q := b.authorize(t, h, both); q.Get("error") != "invalid_request" {
			t.Errorf("by value and by reference: got %v", q)
		}
		for name, set := range map[string]func(){
			"not there": func() { p.set(http.StatusNotFound, json.RawMessage(object)) },
			"too large": func() { p.set(http.StatusOK, json.RawMessage(strings.Repeat("a", keys.MaxEncrypted+1))) },
		} {
			set()
			if q := ask(p.URL + "/request#v1"); q.Get("error") != "invalid_request_uri" {
				t.Errorf("%s: got %v", name, q)
			}
		}
		p.set(http.StatusOK, json.RawMessage(h.object(t, c, map[string]any{"exp": h.Now().Add(-time.Hour).Unix()})))
		if q := ask(p.URL + "/request#v1"); q.Get("error") != "invalid_request_object" {
			t.Errorf("expired: got %v", q)
		}
	})
}

func TestRequestURIFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.fetching()
		target := publish(t, nil)
		hop := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
		t.Cleanup(hop.Close)
		c := h.client(t, signing("ES256", func(c *Client) { c.RequestURIs = []string{hop.URL + "/r"} }))
		target.set(http.StatusOK, json.RawMessage(h.object(t, c, nil)))
		q := h.person(t).authorize(t, h, byReference(c, hop.URL+"/r", "redirect_uri", testRedirect))
		if q.Get("error") != "invalid_request_uri" || target.asked.Load() != 0 {
			t.Errorf("got %v, asked %d times", q, target.asked.Load())
		}
	})
}

func TestMessagesValidation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Messages{
		"request_object_signing_alg":    {RequestObjectAlg: "ES256"},
		"require_signed_request_object": {RequireRequest: true},
		"request_uris":                  {RequestURIs: []string{"https://app.example.test/r"}},
	} {
		client := Client{ID: "x", Name: "x", RedirectURIs: []string{testRedirect}, RequirePKCE: true, Messages: c}.WithDefaults()
		if err := client.Validate(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s without keys: got %v", name, err)
		}
		client.JWKS = keySetOf("", "ES256")
		if err := client.Validate(); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, m := range []Messages{
		{RequestObjectAlg: "none"},
		{RequestObjectAlg: "HS256"},
		{RequestURIs: []string{"http://app.example.test/r"}},
		{RequestURIs: []string{"https://u@app.example.test/r"}},
		{RequestURIs: []string{"urn:x"}},
		{RequestURIs: []string{"https://app.example.test/a/../r"}},
	} {
		client := Client{ID: "x", Name: "x", RedirectURIs: []string{testRedirect}, RequirePKCE: true, Messages: m}.WithDefaults()
		client.JWKS = keySetOf("", "ES256")
		if client.Validate() == nil {
			t.Errorf("%+v is taken", m)
		}
	}
}

func FuzzRequestObject(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJjbGllbnRfaWQiOiJhIiwibWF4X2FnZSI6MSwiY2xhaW1zIjp7fSwieCI6bnVsbCwieSI6ImEifQ.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJyZWRpcmVjdF91cmkiOlsiYSJdfQ.")
	f.Add("..")
	known := must(parseKeySet(keySetOf("", "ES256", "k", "RS256", "", "EdDSA")))
	f.Fuzz(func(t *testing.T, token string) {
		o, err := parseRequestObject(token)
		if err != nil {
			return
		}
		form, err := o.form()
		if err == nil {
			for name, values := range form {
				if len(values) != 1 && !slices.Contains(listParameters, name) || len(values) > 0 && values[0] == "" || !validText(name) || !validText(strings.Join(values, "")) {
					t.Fatalf("%q: parameter %q: %q", token, name, values)
				}
			}
		}
		if verifyByKeys(known, token, o.header) {
			t.Fatalf("%q verifies", token)
		}
	})
}
