package oauth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
)

func TestIntrospectionTellsOnlyTheOwnerAndTheAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		api, stranger := h.client(t, nil), h.client(t, nil)
		c := h.client(t, func(c *Client) { c.Audiences = []string{api.ID} })
		a := h.person(t).tokens(t, c)
		for name, tc := range map[string]struct {
			as     registered
			token  string
			active bool
		}{
			"owner":                            {c, a.str("access_token"), true},
			"audience":                         {api, a.str("access_token"), true},
			"foreign client":                   {stranger, a.str("access_token"), false},
			"owner, refresh token":             {c, a.str("refresh_token"), true},
			"audience, refresh token":          {api, a.str("refresh_token"), false},
			"ID token taken for an access one": {c, a.str("id_token"), false},
			"rubbish":                          {c, "rubbish", false},
			"access token cut":                 {c, a.str("access_token")[:100], false},
		} {
			got := h.post(t, "/introspect", tc.as, url.Values{"token": {tc.token}})
			if got.status != http.StatusOK || got.body["active"] != tc.active || (!tc.active && len(got.body) != 1) {
				t.Errorf("%s: %d %v, want active %v and nothing else if not", name, got.status, got.body, tc.active)
			}
		}
		full := h.post(t, "/introspect", api, url.Values{"token": {a.str("access_token")}}).body
		for _, member := range []string{"scope", "client_id", "token_type", "exp", "iat", "nbf", "sub", "aud", "iss", "jti", "auth_time", "acr"} {
			if full[member] == nil {
				t.Errorf("answer lacks %s", member)
			}
		}
		wantError(t, h.post(t, "/introspect", registered{}, url.Values{"token": {a.str("access_token")}}), 401, "invalid_client")
		wantError(t, h.post(t, "/introspect", c, url.Values{}), 400, "invalid_request")
		h.advanceClock(11 * time.Minute)
		if h.introspectToken(t, c, a.str("access_token")) {
			t.Error("an expired token is active")
		}
	})
}

func TestRevokedTokenStaysDeadUnderAChangedSignature(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		token := h.person(t).tokens(t, c).str("access_token")
		twin := malleate(t, token)
		if !h.introspectToken(t, c, twin) {
			t.Log("the verifier refuses the changed signature altogether")
		}
		if a := h.post(t, "/revoke", c, url.Values{"token": {token}}); a.status != http.StatusOK {
			t.Fatalf("revoke: %d %v", a.status, a.body)
		}
		if h.introspectToken(t, c, token) || h.introspectToken(t, c, twin) {
			t.Error("a revoked token is active")
		}
	})
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, other, b := h.client(t, nil), h.client(t, nil), h.person(t)
		a := b.tokens(t, c)
		for _, token := range []string{"access_token", "refresh_token"} {
			wantError(t, h.post(t, "/revoke", other, url.Values{"token": {a.str(token)}}), 400, "unauthorized_client")
		}
		if !h.introspectToken(t, c, a.str("access_token")) {
			t.Fatal("a foreign client revoked the token")
		}
		if got := h.post(t, "/revoke", c, url.Values{"token": {a.str("refresh_token")}, "token_type_hint": {"access_token"}}); got.status != http.StatusOK {
			t.Fatalf("revoke: %d %v", got.status, got.body)
		}
		if h.introspectToken(t, c, a.str("access_token")) || h.introspectToken(t, c, a.str("refresh_token")) {
			t.Error("tokens of a revoked grant live")
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), 400, "invalid_grant")
		if got := h.post(t, "/revoke", c, url.Values{"token": {"unknown"}}); got.status != http.StatusOK {
			t.Errorf("unknown token: %d, want 200 (RFC 7009 §2.2)", got.status)
		}
		wantError(t, h.post(t, "/revoke", registered{}, url.Values{"token": {"x"}}), 401, "invalid_client")
	})
}

func TestRevocationsSurviveTheLossOfTheCache(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	token := h.person(t).tokens(t, c).str("access_token")
	if a := h.post(t, "/revoke", c, url.Values{"token": {token}}); a.status != http.StatusOK {
		t.Fatal(a)
	}
	h.Cache = cache.NewMemory(nil) // as after a restart or FLUSHALL
	fresh := OpenRevocations(h.DB, h.Now)
	h.Revocations, h.Grants.revocations = fresh, fresh
	if h.introspectToken(t, c, token) {
		t.Error("the token lives again")
	}
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		a := b.tokens(t, c, "scope", "openid profile email address phone")
		ask := func(method, target, header, body string) answer {
			r := httptest.NewRequest(method, target, strings.NewReader(body))
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			if body != "" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			return h.do(t, r)
		}
		token := a.str("access_token")
		plain := b.tokens(t, c, "scope", "read").str("access_token")
		for name, tc := range map[string]struct {
			got    answer
			status int
			code   string
		}{
			"GET":                  {ask("GET", "/userinfo", "Bearer "+token, ""), 200, ""},
			"scheme in lower case": {ask("GET", "/userinfo", "bearer "+token, ""), 200, ""},
			"POST with header":     {ask("POST", "/userinfo", "Bearer "+token, ""), 200, ""},
			"POST with body":       {ask("POST", "/userinfo", "", "access_token="+token), 200, ""},
			"token in the query":   {ask("GET", "/userinfo?access_token="+token, "", ""), 400, "invalid_request"},
			"token twice":          {ask("POST", "/userinfo", "Bearer "+token, "access_token="+token), 400, "invalid_request"},
			"no token":             {ask("GET", "/userinfo", "", ""), 401, ""},
			"rubbish":              {ask("GET", "/userinfo", "Bearer x.y.z", ""), 401, "invalid_token"},
			"ID token":             {ask("GET", "/userinfo", "Bearer "+a.str("id_token"), ""), 401, "invalid_token"},
			"scope openid missing": {ask("GET", "/userinfo", "Bearer "+plain, ""), 403, "insufficient_scope"},
		} {
			if tc.got.status != tc.status || tc.got.str("error") != tc.code {
				t.Errorf("%s: got %d %v, want %d %s", name, tc.got.status, tc.got.body, tc.status, tc.code)
			}
			if tc.status >= 401 && !strings.HasPrefix(tc.got.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%s: no challenge", name)
			}
		}
		info := h.userinfoAnswer(t, token).body
		if info["sub"] != b.user.ID || info["phone_number_verified"] != false || info["address"].(map[string]any)["country"] != "DE" {
			t.Errorf("userinfo %v", info)
		}
		if _, number := info["updated_at"].(float64); !number {
			t.Errorf("updated_at %v is not a number", info["updated_at"])
		}
	})
}

func TestAllProfileClaims(t *testing.T) {
	t.Parallel()
	u := identity.User{ID: "u", Email: "a@example.test", EmailVerified: true, UpdatedAt: time.Unix(1e9, 0), Profile: identity.Profile{
		Name: "n", GivenName: "g", FamilyName: "f", MiddleName: "m", Nickname: "k", PreferredUsername: "p", ProfileURL: "https://p.example", Picture: "https://i.example",
		Website: "https://w.example", Gender: "x", Birthdate: "2000-01-01", Zoneinfo: "Europe/Berlin", Locale: "de", PhoneNumber: "+491", Address: identity.Address{Formatted: "street"},
	}}
	got := selectClaims(u, standardScopes, nil)
	for name := range claimScope {
		if got[name] == nil && !slices.Contains(rightsScopes, name) {
			t.Errorf("%s is missing", name)
		}
	}
	if got := selectClaims(identity.User{ID: "u", UpdatedAt: time.Unix(1e9, 0)}, standardScopes, nil); len(got) != 2 {
		t.Errorf("an empty profile gives %v, want sub and updated_at alone", got)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	var nobody *browser
	var documents []string
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		w := nobody.get(h, path)
		var m map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %d %v", path, w.Code, err)
		}
		documents = append(documents, w.Body.String())
		if m["issuer"] != testIssuer || m["authorization_response_iss_parameter_supported"] != true || !slices.Contains(m["id_token_signing_alg_values_supported"].([]any), any("RS256")) {
			t.Errorf("%s: %v", path, m)
		}
		for name, value := range m {
			if strings.HasSuffix(name, "_endpoint") || name == "jwks_uri" {
				u := must(url.Parse(value.(string)))
				if !strings.HasPrefix(u.String(), testIssuer+"/") {
					t.Errorf("%s is %s", name, u)
				}
				if name == "end_session_endpoint" { // a page, tried by ui's TestLogoutByApp
					continue
				}
				r := httptest.NewRequest(http.MethodPost, u.Path, nil)
				if name == "jwks_uri" || name == "authorization_endpoint" {
					r.Method = http.MethodGet
				}
				if a := h.do(t, r); a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed {
					t.Errorf("%s does not answer: %d", name, a.status)
				}
			}
		}
	}
	if documents[0] != documents[1] {
		t.Error("the two documents differ")
	}
	w := nobody.get(h, "/jwks")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != 5 {
		t.Fatalf("jwks: %v %s", err, w.Body)
	}
	kids := map[any]bool{}
	for _, k := range set.Keys {
		kids[k["kid"]] = true
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if k[private] != nil {
				t.Errorf("jwks holds a private member %s", private)
			}
		}
	}
	if len(kids) != 5 || !strings.Contains(w.Header().Get("Cache-Control"), "max-age=3600") {
		t.Errorf("kids %v, Cache-Control %q", kids, w.Header().Get("Cache-Control"))
	}
	r := httptest.NewRequest(http.MethodGet, "/jwks", nil)
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	if a := h.do(t, r); a.status != http.StatusNotModified {
		t.Errorf("unchanged jwks: %d, want 304", a.status)
	}
}

func TestBrowserAppsMayCall(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	for path, method := range map[string]string{"/token": "POST", "/userinfo": "GET", "/revoke": "POST", "/jwks": "GET", "/.well-known/openid-configuration": "GET"} {
		for _, m := range []string{method, http.MethodOptions} {
			r := httptest.NewRequest(m, path, nil)
			r.Header.Set("Origin", "https://spa.example.test")
			a := h.do(t, r)
			if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %s: %v", m, path, a.header)
			}
		}
	}
	if a := h.do(t, httptest.NewRequest(http.MethodGet, "/authorize", nil)); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the authorization endpoint allows cross-origin reading")
	}
}

func TestStorageDownIsNoSuccessAndNoRefusal(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(h *harness){
		"database": func(h *harness) { _ = h.DB.Close() },
		"cache":    func(h *harness) { h.Cache = deadCache{} },
	} {
		h := embedded(t)
		c, b := h.client(t, nil), h.person(t)
		a := b.tokens(t, c)
		code := b.code(t, c)
		broken(h)
		down := func(what string, got answer) {
			t.Helper()
			if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || got.str("error") != "temporarily_unavailable" {
				t.Errorf("%s down: %s: %d %v, want 503 with Retry-After", name, what, got.status, got.body)
			}
		}
		if name == "database" {
			down("refresh", h.refreshToken(t, c, a.str("refresh_token")))
			down("revoke", h.post(t, "/revoke", c, url.Values{"token": {a.str("refresh_token")}}))
			h.advanceClock(readLate)
			down("introspect", h.post(t, "/introspect", c, url.Values{"token": {a.str("access_token")}}))
			down("userinfo", h.userinfoAnswer(t, a.str("access_token")))
			down("exchange", h.exchangeCode(t, c, code))
			if w := b.get(h, "/authorize?"+c.params().Encode()); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("authorize: %d", w.Code)
			}
			continue
		}
		down("exchange", h.exchangeCode(t, c, code))
		if w := b.get(h, "/authorize?"+c.params().Encode()); w.Code != http.StatusServiceUnavailable {
			t.Errorf("authorize: %d", w.Code)
		}
		if !h.introspectToken(t, c, a.str("access_token")) { // marks are read from SQL
			t.Error("cache down: a live token is inactive")
		}
		if got := h.refreshToken(t, c, a.str("refresh_token")); got.status != http.StatusOK {
			t.Errorf("cache down: refresh %d %v", got.status, got.body)
		}
		if got := h.post(t, "/revoke", c, url.Values{"token": {a.str("access_token")}}); got.status != http.StatusOK {
			t.Errorf("cache down: revoke %d %v", got.status, got.body)
		}
		if h.introspectToken(t, c, a.str("access_token")) {
			t.Error("cache down: a revoked token is active")
		}
	}
}
