package oauth

import (
	"crypto"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// fapiWorld is what the FAPI plans of the certification suite need: a person, and two clients with keys and redirect URIs of their own.
type fapiWorld struct {
	*harness
	b    *browser
	c, d registered
}

const secondRedirect = testRedirect + "?dummy1=lorem&dummy2=ipsum"

func newFAPIWorld(t *testing.T, h *harness, profile string) *fapiWorld {
	t.Helper()
	w := &fapiWorld{harness: h, b: h.person(t)}
	w.c = h.client(t, func(c *Client) { byKeys(keySetOf("k", "PS256"))(c); c.Profile = profile })
	w.d = h.client(t, func(c *Client) {
		byKeys(keySetOf("k", "other"))(c)
		c.Profile, c.RedirectURIs = profile, []string{testRedirect, secondRedirect}
	})
	w.b.consent(t, w.c)
	w.b.consent(t, w.d)
	return w
}

func (w *fapiWorld) key(c registered) (alg string, key crypto.Signer) {
	if c.ID == w.d.ID {
		return "ES256", testKeys()["other"]
	}
	return "PS256", testKeys()["PS256"]
}

// send posts as a client, with an assertion that edits change.
func (w *fapiWorld) send(t testing.TB, path string, c registered, form url.Values, edits map[string]any, proofs ...string) answer {
	t.Helper()
	alg, key := w.key(c)
	form = maps.Clone(form)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", sign(t, alg, key, map[string]any{"kid": "k"}, w.assertionFor(c, edits)))
	return w.raw(t, path, form, proofs...)
}

func (w *fapiWorld) raw(t testing.TB, path string, form url.Values, proofs ...string) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header["Dpop"] = proofs
	return w.do(t, r)
}

func (w *fapiWorld) prove(t testing.TB, key, path string, edits ...map[string]any) string {
	t.Helper()
	return w.proofBy(t, key, "POST", path, "", edits...)
}

// push sends a request and gives its reference.
func (w *fapiWorld) push(t testing.TB, c registered, form url.Values, proofs ...string) string {
	t.Helper()
	a := w.send(t, "/par", c, form, nil, proofs...)
	if a.status != http.StatusCreated {
		t.Fatalf("push: %d %v", a.status, a.body)
	}
	return a.str("request_uri")
}

// code goes through with a pushed request.
func (w *fapiWorld) code(t testing.TB, c registered, form url.Values, proofs ...string) string {
	t.Helper()
	q := w.b.authorize(t, w.harness, byReference(c, w.push(t, c, form, proofs...)))
	if q.Get("code") == "" || q.Get("iss") != testIssuer || q.Get("state") != form.Get("state") {
		t.Fatalf("answer %v", q)
	}
	return q.Get("code")
}

// redeem exchanges a code by the key of a proof.
func (w *fapiWorld) redeem(t testing.TB, c registered, code, key string) answer {
	t.Helper()
	return w.send(t, "/token", c, exchangeForm(code), nil, w.prove(t, key, "/token"))
}

func (w *fapiWorld) whole(t testing.TB, c registered, form url.Values) answer {
	t.Helper()
	a := w.redeem(t, c, w.code(t, c, form), "ES256")
	if a.status != http.StatusOK || a.str("token_type") != "DPoP" {
		t.Fatalf("token: %d %v", a.status, a.body)
	}
	return a
}

// wantPage asks, and wants the error page.
func (w *fapiWorld) wantPage(t testing.TB, v url.Values) {
	t.Helper()
	if r := w.b.get(w.harness, "/authorize?"+v.Encode()); r.Code != http.StatusBadRequest || r.Header().Get("Location") != "" {
		t.Errorf("got %d to %q, want the error page", r.Code, r.Header().Get("Location"))
	}
}

// refused wants an error of a direct request, with one of some codes.
func refused(t testing.TB, a answer, codes ...string) {
	t.Helper()
	if a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized || !slices.Contains(codes, a.str("error")) {
		t.Errorf("got %d %v, want one of %v", a.status, a.body, codes)
	}
}

// fapiModules are the modules of the plan fapi2-security-profile-final, by their names. The one whose request_uri has expired is
// TestFAPI2PARAttemptToUseExpiredRequestURI, as the caches keep their own time; those about TLS are in cmd/gatehouse.
var fapiModules = map[string]func(t *testing.T, w *fapiWorld){
	"discovery-end-point-verification": func(t *testing.T, w *fapiWorld) {
		var m map[string]any
		if err := json.Unmarshal((*browser)(nil).get(w.harness, "/.well-known/openid-configuration").Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		strong := []any{"PS256", "ES256", "EdDSA", "Ed25519"}
		for _, name := range []string{"dpop_signing_alg_values_supported", "id_token_signing_alg_values_supported", "token_endpoint_auth_signing_alg_values_supported"} {
			if list, _ := m[name].([]any); !slices.ContainsFunc(list, func(v any) bool { return slices.Contains(strong, v) }) {
				t.Errorf("%s: %v", name, m[name])
			}
		}
		for name, want := range map[string]any{
			"response_types_supported": "code", "token_endpoint_auth_methods_supported": AuthPrivateKeyJWT, "code_challenge_methods_supported": "S256",
			"scopes_supported": "openid", "subject_types_supported": "public", "grant_types_supported": GrantAuthorizationCode,
		} {
			if list, _ := m[name].([]any); !slices.Contains(list, want) {
				t.Errorf("%s: %v lacks %v", name, m[name], want)
			}
		}
		if m["authorization_response_iss_parameter_supported"] != true || m["pushed_authorization_request_endpoint"] == nil {
			t.Errorf("metadata %v", m)
		}
	},
	"happy-flow": func(t *testing.T, w *fapiWorld) {
		a := w.whole(t, w.c, w.c.params())
		if header, _ := claimsOf(t, a.str("id_token")); header["alg"] != "ES256" {
			t.Errorf("ID token by %v", header["alg"])
		}
		// The second client: dpop_jkt alone, the query of its redirect URI is kept.
		form := w.d.params("redirect_uri", secondRedirect, "dpop_jkt", thumbprintOf("ES256"))
		q := w.b.authorize(t, w.harness, byReference(w.d, w.push(t, w.d, form)))
		if q.Get("dummy1") != "lorem" || q.Get("dummy2") != "ipsum" {
			t.Errorf("the query of the redirect URI: %v", q)
		}
		exchange := exchangeForm(q.Get("code"))
		exchange.Set("redirect_uri", secondRedirect)
		second := w.send(t, "/token", w.d, exchange, nil, w.prove(t, "ES256", "/token"))
		if second.status != http.StatusOK {
			t.Fatalf("second client: %v", second.body)
		}
		token := second.str("access_token")
		if got := w.userinfoAs(t, "DPoP", token, w.proofBy(t, "other", "GET", "/userinfo", token)).status; got != http.StatusUnauthorized {
			t.Errorf("by the key of another: %d", got)
		}
		r := httptest.NewRequest(http.MethodGet, "/userinfo?access_token="+token, nil)
		r.Header.Set("DPoP", w.proofBy(t, "ES256", "GET", "/userinfo", token))
		if got := w.do(t, r).status; got != http.StatusUnauthorized && got != http.StatusBadRequest {
			t.Errorf("token in the query: %d", got)
		}
		for _, accept := range []string{"application/json", "*/*", "text/html, application/json;q=0.5"} {
			r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
			r.Header.Set("Authorization", "DPoP "+token)
			r.Header.Set("Accept", accept)
			r.Header.Set("DPoP", w.proofBy(t, "ES256", "GET", "/userinfo", token))
			if got := w.do(t, r).status; got != http.StatusOK {
				t.Errorf("Accept %s: %d", accept, got)
			}
		}
	},
	"user-rejects-authentication": func(t *testing.T, w *fapiWorld) {
		state := strings.Repeat("aZ09-._~", 16)
		r := w.b.get(w.harness, "/authorize?"+byReference(w.c, w.push(t, w.c, w.c.params("state", state, "prompt", "consent"))).Encode())
		at := must(url.Parse(r.Header().Get("Location")))
		id := at.Query().Get("i")
		if err := w.Deny(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		q := must(url.Parse(w.b.get(w.harness, w.ResumePath(id)).Header().Get("Location"))).Query()
		if q.Get("error") != "access_denied" || q.Get("state") != state || q.Get("iss") != testIssuer || q.Has("code") {
			t.Errorf("got %v", q)
		}
	},
	"ensure-authorization-request-without-state-success": func(t *testing.T, w *fapiWorld) {
		if q := w.b.authorize(t, w.harness, byReference(w.c, w.push(t, w.c, w.c.params("state", "")))); q.Get("code") == "" || q.Has("state") {
			t.Errorf("got %v", q)
		}
	},
	"ensure-authorization-request-without-nonce-success": func(t *testing.T, w *fapiWorld) {
		if _, claims := claimsOf(t, w.whole(t, w.c, w.c.params("nonce", "")).str("id_token")); claims["nonce"] != nil {
			t.Errorf("claims %v", claims)
		}
	},
	"ensure-authorization-request-with-64-char-nonce-success": func(t *testing.T, w *fapiWorld) {
		nonce := strings.Repeat("a-._~Z09", 8)
		if _, claims := claimsOf(t, w.whole(t, w.c, w.c.params("nonce", nonce)).str("id_token")); claims["nonce"] != nonce {
			t.Errorf("claims %v", claims)
		}
	},
	"ensure-authorization-request-with-long-nonce, -long-state": func(t *testing.T, w *fapiWorld) {
		nonce, state := strings.Repeat("N-._~z", 64), strings.Repeat("a-._~", 200)
		if _, claims := claimsOf(t, w.whole(t, w.c, w.c.params("nonce", nonce, "state", state)).str("id_token")); claims["nonce"] != nonce {
			t.Errorf("claims %v", claims)
		}
	},
	"ensure-other-scope-order-succeeds": func(t *testing.T, w *fapiWorld) {
		if a := w.whole(t, w.c, w.c.params("scope", "offline_access email openid")); len(strings.Fields(a.str("scope"))) != 3 {
			t.Errorf("scope %q", a.str("scope"))
		}
	},
	"test-claims-parameter-identity-claims": func(t *testing.T, w *fapiWorld) {
		a := w.whole(t, w.c, w.c.params("scope", "openid profile", "claims", `{"id_token":{"name":{"essential":true}},"userinfo":{"given_name":null}}`))
		if _, claims := claimsOf(t, a.str("id_token")); claims["name"] != "Ada Example" {
			t.Errorf("claims %v", claims)
		}
	},
	"access-token-type-header-case-sensitivity": func(t *testing.T, w *fapiWorld) {
		token := w.whole(t, w.c, w.c.params()).str("access_token")
		for _, scheme := range []string{"DPoP", "dpop", "DPOP"} {
			if got := w.userinfoAs(t, scheme, token, w.proofBy(t, "ES256", "GET", "/userinfo", token)); got.status != http.StatusOK {
				t.Errorf("%s: %d %v", scheme, got.status, got.header)
			}
		}
	},
	"check-dpop-proof-nbf-exp": func(t *testing.T, w *fapiWorld) {
		now := w.Now().Unix()
		more := map[string]any{"nbf": now - 5, "exp": now + 60}
		code := w.code(t, w.c, w.c.params(), w.prove(t, "ES256", "/par", more))
		if a := w.send(t, "/token", w.c, exchangeForm(code), nil, w.prove(t, "ES256", "/token", more)); a.status != http.StatusOK {
			t.Errorf("got %d %v", a.status, a.body)
		}
	},
	"ensure-dpopproof-with-iat-10seconds-before, -after-succeeds": func(t *testing.T, w *fapiWorld) {
		for _, off := range []int64{-10, 10} {
			at := map[string]any{"iat": w.Now().Unix() + off}
			code := w.code(t, w.c, w.c.params(), w.prove(t, "ES256", "/par", at))
			a := w.send(t, "/token", w.c, exchangeForm(code), nil, w.prove(t, "ES256", "/token", at))
			token := a.str("access_token")
			if got := w.userinfoAs(t, "DPoP", token, w.proofBy(t, "ES256", "GET", "/userinfo", token, at)).status; a.status != http.StatusOK || got != http.StatusOK {
				t.Errorf("%d seconds: token %d %v, userinfo %d", off, a.status, a.body, got)
			}
		}
	},
	"ensure-mismatched-dpop-jkt-fails": func(t *testing.T, w *fapiWorld) {
		refused(t, w.send(t, "/par", w.c, w.c.params("dpop_jkt", thumbprintOf("other")), nil, w.prove(t, "ES256", "/par")), "invalid_request", "invalid_dpop_proof")
	},
	"ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt": func(t *testing.T, w *fapiWorld) {
		refused(t, w.redeem(t, w.c, w.code(t, w.c, w.c.params(), w.prove(t, "ES256", "/par")), "other"), "invalid_grant", "invalid_request", "invalid_dpop_proof")
	},
	"ensure-token-endpoint-fails-with-mismatched-dpop-jkt": func(t *testing.T, w *fapiWorld) {
		refused(t, w.redeem(t, w.c, w.code(t, w.c, w.c.params("dpop_jkt", thumbprintOf("ES256"))), "other"), "invalid_grant", "invalid_request", "invalid_dpop_proof")
	},
	"ensure-dpopproof-at-par-endpoint-binding-success, ensure-dpop-auth-code-binding-success": func(t *testing.T, w *fapiWorld) {
		for _, code := range []string{w.code(t, w.c, w.c.params(), w.prove(t, "ES256", "/par")), w.code(t, w.c, w.c.params("dpop_jkt", thumbprintOf("ES256")))} {
			if a := w.redeem(t, w.c, code, "ES256"); a.status != http.StatusOK {
				t.Errorf("got %d %v", a.status, a.body)
			}
		}
	},
	"ensure-different-nonce-inside-and-outside-request-object, -state-, state-only-outside-request-object-not-used": func(t *testing.T, w *fapiWorld) {
		q := w.b.authorize(t, w.harness, byReference(w.c, w.push(t, w.c, w.c.params()), "nonce", "outside", "state", "outside"))
		if _, claims := claimsOf(t, w.redeem(t, w.c, q.Get("code"), "ES256").str("id_token")); q.Get("state") != "s" || claims["nonce"] != "n-0S6_WzA2Mj" {
			t.Errorf("got %v, %v", q, claims)
		}
		if q := w.b.authorize(t, w.harness, byReference(w.c, w.push(t, w.c, w.c.params("state", "")), "state", "outside")); q.Has("state") {
			t.Errorf("state outside alone: %v", q)
		}
	},
	"ensure-request-object-without-redirect-uri-fails, ensure-redirect-uri-in-authorization-request": func(t *testing.T, w *fapiWorld) {
		refused(t, w.send(t, "/par", w.c, w.c.params("redirect_uri", ""), nil), "invalid_request", "invalid_request_object")
		refused(t, w.send(t, "/par", w.d, w.d.params("redirect_uri", ""), nil), "invalid_request", "invalid_request_object")
	},
	"plain-fapi-tolerate-unregistered-redirect-uri": func(t *testing.T, w *fapiWorld) {
		refused(t, w.send(t, "/par", w.c, w.c.params("redirect_uri", "https://other.example.test/cb"), nil), "invalid_request")
	},
	"ensure-unsigned-authorization-request-without-using-par-fails": func(t *testing.T, w *fapiWorld) {
		if q := w.b.authorize(t, w.harness, w.c.params()); q.Get("error") != "invalid_request" || q.Has("code") {
			t.Errorf("got %v", q)
		}
	},
	"ensure-response-type-code-idtoken-fails, -token-fails": func(t *testing.T, w *fapiWorld) {
		for _, kind := range []string{"code id_token", "token", "id_token"} {
			refused(t, w.send(t, "/par", w.c, w.c.params("response_type", kind), nil), "unsupported_response_type", "invalid_request", "unauthorized_client")
		}
	},
	"ensure-client-id-in-token-endpoint": func(t *testing.T, w *fapiWorld) {
		form := exchangeForm(w.code(t, w.d, w.d.params()))
		form.Set("client_id", w.d.ID)
		refused(t, w.send(t, "/token", w.c, form, nil, w.prove(t, "ES256", "/token")), "invalid_client", "invalid_grant")
	},
	"ensure-holder-of-key-required": func(t *testing.T, w *fapiWorld) {
		refused(t, w.send(t, "/token", w.c, exchangeForm(w.code(t, w.c, w.c.params())), nil), "invalid_request", "invalid_grant", "invalid_dpop_proof")
	},
	"ensure-authorization-code-is-bound-to-client": func(t *testing.T, w *fapiWorld) {
		wantError(t, w.redeem(t, w.d, w.code(t, w.c, w.c.params()), "ES256"), 400, "invalid_grant")
	},
	"attempt-reuse-authorization-code-after-one-second": func(t *testing.T, w *fapiWorld) {
		code := w.code(t, w.c, w.c.params())
		token := w.redeem(t, w.c, code, "ES256").str("access_token")
		w.advanceClock(time.Second)
		wantError(t, w.redeem(t, w.c, code, "ES256"), 400, "invalid_grant")
		if got := w.userinfoAs(t, "DPoP", token, w.proofBy(t, "ES256", "GET", "/userinfo", token)).status; got != http.StatusUnauthorized {
			t.Errorf("the first token: %d", got)
		}
	},
	"ensure-token-endpoint-fails-with-expired-auth-code": func(t *testing.T, w *fapiWorld) {
		code := w.code(t, w.c, w.c.params())
		w.advanceClock(62 * time.Second)
		wantError(t, w.redeem(t, w.c, code, "ES256"), 400, "invalid_grant")
	},
	"ensure-signed-client-assertion-with-RS256-fails": func(t *testing.T, w *fapiWorld) {
		form := w.c.params()
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", sign(t, "RS256", testKeys()["RS256"], map[string]any{"kid": "k"}, w.assertionFor(w.c, nil)))
		refused(t, w.raw(t, "/par", form), "invalid_client")
	},
	"ensure-client-assertion-in-token-endpoint": func(t *testing.T, w *fapiWorld) {
		form := exchangeForm(w.code(t, w.c, w.c.params()))
		form.Set("client_id", w.c.ID)
		refused(t, w.raw(t, "/token", form, w.prove(t, "ES256", "/token")), "invalid_client", "invalid_request")
	},
	"client assertions: exp-is-5-minutes-in-past, wrong-aud, no-sub, array-as-audience, par-endpoint-url, token-endpoint-url, nbf-over-60-seconds": func(t *testing.T, w *fapiWorld) {
		now := w.Now()
		for name, edits := range map[string]map[string]any{
			"expired": {"exp": now.Add(-5 * time.Minute).Unix(), "iat": now.Add(-6 * time.Minute).Unix()}, "wrong aud": {"aud": "https://other.example.test"}, "no sub": {"sub": nil},
			"aud as a list": {"aud": []string{testIssuer}}, "aud of PAR": {"aud": testIssuer + "/par"}, "aud of token": {"aud": testIssuer + "/token"},
			"nbf ahead": {"nbf": now.Add(70 * time.Second).Unix(), "iat": now.Add(70 * time.Second).Unix(), "exp": now.Add(130 * time.Second).Unix()},
		} {
			for _, path := range []string{"/par", "/token"} {
				if a := w.send(t, path, w.c, w.c.params("grant_type", "refresh_token"), edits, w.prove(t, "ES256", path)); a.str("error") != "invalid_client" {
					t.Errorf("%s at %s: %d %v", name, path, a.status, a.body)
				}
			}
		}
	},
	"par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted": func(t *testing.T, w *fapiWorld) {
		at := w.Now().Add(8 * time.Second).Unix()
		if a := w.send(t, "/par", w.c, w.c.params(), map[string]any{"nbf": at, "iat": at}); a.status != http.StatusCreated {
			t.Errorf("got %d %v", a.status, a.body)
		}
	},
	"refresh-token": func(t *testing.T, w *fapiWorld) {
		a := w.whole(t, w.c, w.c.params())
		first, before := refreshForm(a.str("refresh_token")), a
		if a = w.send(t, "/token", w.c, first, nil, w.prove(t, "other", "/token")); a.status != http.StatusOK {
			t.Fatalf("by a new key: %d %v", a.status, a.body)
		}
		_, one := claimsOf(t, before.str("id_token"))
		_, two := claimsOf(t, a.str("id_token"))
		for _, name := range []string{"iss", "sub", "aud", "auth_time"} {
			if one[name] != two[name] {
				t.Errorf("%s of the new ID token: %v, want %v", name, two[name], one[name])
			}
		}
		w.advanceClock(29 * time.Second)
		if a := w.send(t, "/token", w.c, first, nil, w.prove(t, "ES256", "/token")); a.status != http.StatusOK {
			t.Errorf("the old token, within the window: %d %v", a.status, a.body)
		}
		first.Set("client_id", w.c.ID)
		refused(t, w.raw(t, "/token", first, w.prove(t, "ES256", "/token")), "invalid_client", "invalid_grant", "invalid_request")
		first.Del("client_id")
		if a := w.send(t, "/token", w.c, first, nil); a.status != http.StatusBadRequest || a.str("error") != "invalid_dpop_proof" {
			t.Errorf("without a proof: %d %v", a.status, a.body)
		}
		other := w.whole(t, w.d, w.d.params()).str("refresh_token")
		wantError(t, w.send(t, "/token", w.c, refreshForm(other), nil, w.prove(t, "ES256", "/token")), 400, "invalid_grant")
	},
	"par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": func(t *testing.T, w *fapiWorld) {
		v := byReference(w.c, w.push(t, w.c, w.c.params()))
		for range 2 {
			if at := (*browser)(nil).get(w.harness, "/authorize?"+v.Encode()).Header().Get("Location"); !strings.Contains(at, "/login?i=") {
				t.Fatalf("led to %s, want the sign-in", at)
			}
		}
		if q := w.b.authorize(t, w.harness, v); q.Get("code") == "" {
			t.Errorf("got %v", q)
		}
	},
	"par-attempt-reuse-request_uri": func(t *testing.T, w *fapiWorld) {
		v := byReference(w.c, w.push(t, w.c, w.c.params()))
		w.b.authorize(t, w.harness, v)
		w.wantPage(t, v)
	},
	"par-attempt-to-use-request_uri-for-different-client": func(t *testing.T, w *fapiWorld) {
		w.wantPage(t, byReference(w.d, w.push(t, w.c, w.c.params())))
	},
	"par-authorization-request-containing-request_uri-form-param": func(t *testing.T, w *fapiWorld) {
		refused(t, w.send(t, "/par", w.c, w.c.params("request_uri", "urn:example"), nil), "invalid_request", "invalid_request_object", "request_uri_not_supported")
	},
	"par-ensure-pkce-required, par-plain-pkce-rejected": func(t *testing.T, w *fapiWorld) {
		for _, edits := range [][]string{{"code_challenge", "", "code_challenge_method", ""}, {"code_challenge_method", "plain"}, {"code_challenge_method", ""}} {
			wantError(t, w.send(t, "/par", w.c, w.c.params(edits...), nil), 400, "invalid_request")
		}
	},
	"ensure-pkce-code-verifier-required, incorrect-pkce-code-verifier-rejected": func(t *testing.T, w *fapiWorld) {
		for _, verifier := range []string{"", strings.Repeat("x", 43)} {
			form := exchangeForm(w.code(t, w.c, w.c.params()))
			form.Set("code_verifier", verifier)
			refused(t, w.send(t, "/token", w.c, form, nil, w.prove(t, "ES256", "/token")), "invalid_grant", "invalid_request")
		}
	},
	"par-without-duplicate-parameters": func(t *testing.T, w *fapiWorld) { w.whole(t, w.d, w.d.params()) },
}

func TestFAPI2SecurityProfileFinal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newFAPIWorld(t, h, ProfileFAPI2)
		for name, module := range fapiModules {
			t.Run(name, func(t *testing.T) { module(t, w) })
		}
	})
}

// The plan fapi2-message-signing-final: what its requests must be like, and that answers are signed for whom wants it.
func TestFAPI2MessageSigningFinal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newFAPIWorld(t, h, ProfileFAPI2Signs)
		now := h.Now()
		object := func(edits map[string]any) map[string]any {
			claims := map[string]any{"iss": w.c.ID, "aud": testIssuer, "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix()}
			for name, v := range w.c.params() {
				claims[name] = v[0]
			}
			maps.Copy(claims, edits)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			return claims
		}
		push := func(signed string) answer {
			return w.send(t, "/par", w.c, url.Values{"client_id": {w.c.ID}, "request": {signed}}, nil)
		}
		by := func(alg, key string, edits map[string]any) string {
			return sign(t, alg, testKeys()[key], map[string]any{"kid": "k"}, object(edits))
		}
		for name, edits := range map[string]map[string]any{
			"aud as a list": {"aud": []string{testIssuer}}, "nbf 8 seconds ahead": {"nbf": now.Add(8 * time.Second).Unix()}, "plain": nil, "signed answer": {"response_mode": "jwt"},
		} {
			a := push(by("PS256", "PS256", edits))
			if a.status != http.StatusCreated {
				t.Errorf("%s: %d %v", name, a.status, a.body)
				continue
			}
			q := w.b.authorize(t, h, byReference(w.c, a.str("request_uri")))
			if name != "signed answer" {
				if q.Get("code") == "" {
					t.Errorf("%s: got %v", name, q)
				}
				continue
			}
			header, claims := claimsOf(t, q.Get("response"))
			if len(q) != 1 || header["alg"] != "ES256" || header["kid"] == nil || claims["iss"] != testIssuer || claims["aud"] != w.c.ID || claims["code"] == nil ||
				int64(claims["exp"].(float64)) > h.Now().Add(10*time.Minute).Unix() {
				t.Errorf("answer %v: %v %v", q, header, claims)
			}
		}
		for name, signed := range map[string]string{
			"no exp": by("PS256", "PS256", map[string]any{"exp": nil}), "no nbf": by("PS256", "PS256", map[string]any{"nbf": nil}),
			"exp over an hour ahead": by("PS256", "PS256", map[string]any{"exp": now.Add(2 * time.Hour).Unix()}), "nbf over an hour old": by("PS256", "PS256", map[string]any{"nbf": now.Add(-2 * time.Hour).Unix()}),
			"expired": by("PS256", "PS256", map[string]any{"exp": now.Add(-5 * time.Minute).Unix()}), "aud wrong": by("PS256", "PS256", map[string]any{"aud": "https://other.example.test"}),
			"RS256": by("RS256", "RS256", nil), "none": sign(t, "none", nil, nil, object(nil)), "key of the other client": by("ES256", "other", nil),
			"request_uri inside": by("PS256", "PS256", map[string]any{"request_uri": "urn:example"}), "bad signature": tampered(by("PS256", "PS256", map[string]any{"x": "refs/heads/main"})),
		} {
			if a := push(signed); a.status != http.StatusBadRequest || !slices.Contains([]string{"invalid_request_object", "invalid_request"}, a.str("error")) {
				t.Errorf("%s: %d %v", name, a.status, a.body)
			}
		}
		refused(t, w.send(t, "/par", w.c, w.c.params(), nil), "invalid_request", "invalid_request_object") // unsigned parameters
		// Errors are signed, too.
		a := push(by("PS256", "PS256", map[string]any{"response_mode": "jwt", "prompt": "none login"}))
		if a.status == http.StatusCreated {
			if _, claims := claimsOf(t, w.b.authorize(t, h, byReference(w.c, a.str("request_uri"))).Get("response")); claims["error"] != "invalid_request" {
				t.Errorf("error %v", claims)
			}
		} else if a.str("error") != "invalid_request" {
			t.Errorf("prompt=none login: %d %v", a.status, a.body)
		}
	})
}
