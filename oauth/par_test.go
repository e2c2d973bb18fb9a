package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// pushForm pushes an authorization request and returns its request_uri.
func (h *harness) pushForm(t testing.TB, c registered, form url.Values, proofs ...string) string {
	t.Helper()
	a := h.proved(t, "/par", c, form, proofs...)
	uri := a.str("request_uri")
	if a.status != http.StatusCreated || !strings.HasPrefix(uri, pushedPrefix) || len(uri) < len(pushedPrefix)+43 || a.body["expires_in"] != 90.0 {
		t.Fatalf("push: got %d %v", a.status, a.body)
	}
	return uri
}

func byReference(c registered, uri string, extra ...string) url.Values {
	v := url.Values{"client_id": {c.ID}, "request_uri": {uri}}
	for i := 0; i < len(extra); i += 2 {
		v.Set(extra[i], extra[i+1])
	}
	return v
}

func TestPushedRequest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for name, c := range map[string]registered{"confidential": h.client(t, func(c *Client) { c.RequirePAR = true }), "public": h.client(t, public)} {
			b := h.person(t)
			b.consent(t, c)
			uri := h.pushForm(t, c, c.params("state", "pushed-state"))
			// A person looks at the login page and reloads it; then somebody signed in goes through.
			for range 2 {
				if w := (*browser)(nil).get(h, "/authorize?"+byReference(c, uri).Encode()); w.Code != http.StatusSeeOther || !strings.Contains(w.Header().Get("Location"), "/login") {
					t.Fatalf("%s: signed out: %d %s", name, w.Code, w.Header().Get("Location"))
				}
			}
			// What stands beside is not looked at (parameter smuggling).
			q := b.authorize(t, h, byReference(c, uri, "state", "smuggled", "prompt", "none", "scope", "openid", "dpop_jkt", thumbprintOf("other")))
			if q.Get("state") != "pushed-state" || q.Get("iss") != testIssuer {
				t.Errorf("%s: got %v", name, q)
			}
			a := h.exchangeCode(t, c, q.Get("code"))
			if a.status != http.StatusOK || a.str("scope") != "openid email offline_access" {
				t.Errorf("%s: exchange: got %d %v", name, a.status, a.body)
			}
		}
	})
}

func TestPushedRequestWorksOnceForItsClientAndForATime(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c, other := h.person(t), h.client(t, nil), h.client(t, nil)
		b.consent(t, c)
		b.consent(t, other)
		dead := func(what string, v url.Values) {
			t.Helper()
			h.page = ErrorPage{}
			if w := b.get(h, "/authorize?"+v.Encode()); w.Code != http.StatusBadRequest || h.page.Code != "invalid_request_uri" {
				t.Errorf("%s: got %d %+v %s", what, w.Code, h.page, w.Header().Get("Location"))
			}
		}
		uri := h.pushForm(t, c, c.params())
		dead("another client's", byReference(other, uri))
		dead("invented", byReference(c, pushedPrefix+"x"))
		if q := b.authorize(t, h, byReference(c, uri)); q.Get("code") == "" {
			t.Fatalf("got %v", q)
		}
		dead("used", byReference(c, uri))

		// Two tabs: both began before either ended.
		uri = h.pushForm(t, c, c.params())
		var resume [2]string
		for i := range resume {
			w := (*browser)(nil).get(h, "/authorize?"+byReference(c, uri).Encode())
			id := must(url.Parse(w.Header().Get("Location"))).Query().Get("i")
			resume[i] = "/authorize/resume?i=" + url.QueryEscape(id)
		}

		if w := b.get(h, resume[0]); !strings.Contains(w.Header().Get("Location"), "code=") {
			t.Errorf("first tab: got %d %s", w.Code, w.Header().Get("Location"))
		}
		if w := b.get(h, resume[1]); w.Code != http.StatusBadRequest {
			t.Errorf("second tab: got %d %s", w.Code, w.Header().Get("Location"))
		}
	})
}

func TestPushedRequestIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, other := h.client(t, nil), h.client(t, nil)
		push := func(form url.Values, proofs ...string) answer { return h.proved(t, "/par", c, form, proofs...) }
		for code, form := range map[string]url.Values{
			"invalid_request":           c.params("redirect_uri", "https://evil.example/"),
			"invalid_scope":             c.params("scope", "openid admin"),
			"unsupported_response_type": c.params("response_type", "token"),
			"invalid_request_object":    c.params("request", "eyJ.e30."),
		} {
			wantError(t, push(form), http.StatusBadRequest, code)
		}
		wantError(t, push(c.params("code_challenge", "", "code_challenge_method", "")), http.StatusBadRequest, "invalid_request")
		wantError(t, push(c.params("code_challenge_method", "plain")), http.StatusBadRequest, "invalid_request")
		wantError(t, push(c.params("request_uri", pushedPrefix+"x")), http.StatusBadRequest, "invalid_request")
		// Authenticated as A, pushed for B.
		wantError(t, push(other.params()), http.StatusBadRequest, "invalid_request")
		form := c.params()
		form.Set("client_id", other.ID)
		wantError(t, push(form), http.StatusBadRequest, "invalid_request")
		wantError(t, h.proved(t, "/par", registered{c.Client, "guess"}, c.params()), http.StatusUnauthorized, "invalid_client")
		r := httptest.NewRequest(http.MethodPut, "/par", strings.NewReader(c.params().Encode()))
		if got := h.do(t, r); got.status != http.StatusMethodNotAllowed {
			t.Errorf("PUT: got %d", got.status)
		}
		// By value a request_uri that was not pushed stays refused.
		if q := h.person(t).authorize(t, h, c.params("request_uri", "https://app.example.test/request")); q.Get("error") != "request_uri_not_supported" {
			t.Errorf("got %v", q)
		}
	})
}

func TestRequestThatWasNotPushedIsRefusedWhereItMustBe(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) { c.RequirePAR = true })
		free := h.client(t, nil)
		b.consent(t, c)
		b.consent(t, free)
		if q := b.authorize(t, h, c.params()); q.Get("error") != "invalid_request" || q.Get("code") != "" {
			t.Errorf("client that must push: got %v", q)
		}
		if q := b.authorize(t, h, free.params()); q.Get("code") == "" {
			t.Errorf("client that need not: got %v", q)
		}
		h.RequirePAR = true
		if q := b.authorize(t, h, free.params()); q.Get("error") != "invalid_request" {
			t.Errorf("server that demands it: got %v", q)
		}
	})
}

func TestProofAtPARBindsTheCode(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		proof := func(key string) string { return h.proofBy(t, key, "POST", "/par", "") }
		wantError(t, h.proved(t, "/par", c, c.params("dpop_jkt", thumbprintOf("other")), proof("ES256")), http.StatusBadRequest, "invalid_dpop_proof")
		for _, form := range []url.Values{c.params(), c.params("dpop_jkt", thumbprintOf("ES256"))} {
			code := func() url.Values {
				return exchangeForm(b.authorize(t, h, byReference(c, h.pushForm(t, c, form, proof("ES256")))).Get("code"))
			}
			wantError(t, h.proved(t, "/token", c, code(), h.proofBy(t, "other", "POST", "/token", "")), http.StatusBadRequest, "invalid_grant")
			if a := h.proved(t, "/token", c, code(), h.proofBy(t, "ES256", "POST", "/token", "")); a.status != http.StatusOK {
				t.Errorf("right key: got %d %v", a.status, a.body)
			}
		}
	})
}

// The whole profile: keys, PAR, DPoP.
func TestFAPIClient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) {
			byKeys(keySetOf("k", "PS256"))(c)
			c.Profile = ProfileFAPI2
		})
		b.consent(t, c)
		with := func(form url.Values) url.Values {
			form.Set("client_assertion_type", assertionType)
			form.Set("client_assertion", sign(t, "PS256", testKeys()["PS256"], map[string]any{"kid": "k"}, h.assertionFor(c, nil)))
			return form
		}
		post := func(path string, form url.Values, proof string) answer {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if proof != "" {
				r.Header.Set("DPoP", proof)
			}
			return h.do(t, r)
		}
		if q := b.authorize(t, h, c.params()); q.Get("error") != "invalid_request" {
			t.Errorf("not pushed: got %v", q)
		}
		wantError(t, post("/par", with(c.params("redirect_uri", "", "scope", "read")), ""), http.StatusBadRequest, "invalid_request")
		a := post("/par", with(c.params()), h.proofBy(t, "ES256", "POST", "/par", ""))
		if a.status != http.StatusCreated {
			t.Fatalf("push: got %d %v", a.status, a.body)
		}
		code := b.authorize(t, h, byReference(c, a.str("request_uri"))).Get("code")
		wantError(t, post("/token", with(exchangeForm(code)), ""), http.StatusBadRequest, "invalid_dpop_proof")
		a = post("/token", with(exchangeForm(code)), h.proofBy(t, "ES256", "POST", "/token", ""))
		if a.status != http.StatusOK || a.str("token_type") != "DPoP" {
			t.Fatalf("token: got %d %v", a.status, a.body)
		}
		if header, _ := claimsOf(t, a.str("id_token")); header["alg"] != "ES256" {
			t.Errorf("ID token by %v", header["alg"])
		}
		wantError(t, post("/token", with(refreshForm(a.str("refresh_token"))), ""), http.StatusBadRequest, "invalid_dpop_proof")
		if a = post("/token", with(refreshForm(a.str("refresh_token"))), h.proofBy(t, "other", "POST", "/token", "")); a.status != http.StatusOK {
			t.Errorf("refresh: got %d %v", a.status, a.body)
		}
	})
}
