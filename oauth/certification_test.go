package oauth

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// These tests are named after the modules of the OpenID certification plans that no other test has the meaning of; docs/conformance.md has
// the whole list.

// registeredMetadata are the members that IANA's registry and the specifications named in docs know (RFC 8414 §7.1).
var registeredMetadata = strings.Fields(`
	issuer authorization_endpoint token_endpoint jwks_uri registration_endpoint scopes_supported response_types_supported response_modes_supported
	grant_types_supported token_endpoint_auth_methods_supported token_endpoint_auth_signing_alg_values_supported service_documentation ui_locales_supported
	op_policy_uri op_tos_uri revocation_endpoint revocation_endpoint_auth_methods_supported revocation_endpoint_auth_signing_alg_values_supported
	introspection_endpoint introspection_endpoint_auth_methods_supported introspection_endpoint_auth_signing_alg_values_supported
	code_challenge_methods_supported signed_metadata device_authorization_endpoint tls_client_certificate_bound_access_tokens mtls_endpoint_aliases
	nfv_token_signing_alg_values_supported userinfo_endpoint acr_values_supported subject_types_supported id_token_signing_alg_values_supported
	id_token_encryption_alg_values_supported id_token_encryption_enc_values_supported userinfo_signing_alg_values_supported
	userinfo_encryption_alg_values_supported userinfo_encryption_enc_values_supported request_object_signing_alg_values_supported
	request_object_encryption_alg_values_supported request_object_encryption_enc_values_supported display_values_supported claim_types_supported
	claims_supported claims_locales_supported claims_parameter_supported request_parameter_supported request_uri_parameter_supported
	require_request_uri_registration require_signed_request_object pushed_authorization_request_endpoint require_pushed_authorization_requests
	introspection_signing_alg_values_supported introspection_encryption_alg_values_supported introspection_encryption_enc_values_supported
	authorization_response_iss_parameter_supported check_session_iframe frontchannel_logout_supported frontchannel_logout_session_supported
	backchannel_logout_supported backchannel_logout_session_supported end_session_endpoint backchannel_token_delivery_modes_supported
	backchannel_authentication_endpoint backchannel_authentication_request_signing_alg_values_supported backchannel_user_code_parameter_supported
	authorization_details_types_supported dpop_signing_alg_values_supported client_registration_types_supported protected_resources
	authorization_signing_alg_values_supported authorization_encryption_alg_values_supported authorization_encryption_enc_values_supported
	prompt_values_supported client_id_metadata_document_supported global_token_revocation_endpoint`)

func TestOIDCCDiscoveryEndpointVerification(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	var m map[string]any
	if err := json.Unmarshal((*browser)(nil).get(h, "/.well-known/openid-configuration").Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range m {
		if !slices.Contains(registeredMetadata, name) {
			t.Errorf("%s is no registered member", name)
		}
		if strings.HasSuffix(name, "_supported") && name != "require_request_uri_registration" {
			switch v := value.(type) {
			case bool:
			case []any:
				if len(v) == 0 {
					t.Errorf("%s is an empty list", name)
				}
			default:
				t.Errorf("%s is neither list nor truth: %v", name, value)
			}
		}
	}
	for _, name := range []string{"claims_supported", "scopes_supported", "subject_types_supported", "response_types_supported", "userinfo_endpoint", "grant_types_supported"} {
		if m[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if !slices.Contains(m["scopes_supported"].([]any), any("openid")) || !slices.Contains(m["subject_types_supported"].([]any), any("public")) {
		t.Errorf("scopes %v, subject types %v", m["scopes_supported"], m["subject_types_supported"])
	}
}

func TestOIDCCEnsureRequestWithoutNonceSucceedsForCodeFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		a := h.person(t).tokens(t, h.client(t, nil), "nonce", "")
		header, claims := claimsOf(t, a.str("id_token"))
		if _, has := claims["nonce"]; has || header["kid"] == nil {
			t.Errorf("header %v, claims %v: want a kid and no nonce", header, claims)
		}
		for _, name := range []string{"email", "name"} { // scopes speak of userinfo
			if claims[name] != nil {
				t.Errorf("the ID token tells %s", name)
			}
		}
	})
}

func TestOIDCCAlternateHappyFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		pairs := strings.Split(c.params("scope", "email openid").Encode(), "&")
		slices.Reverse(pairs)
		to := must(url.Parse(b.get(h, "/authorize?"+strings.Join(pairs, "&")).Header().Get("Location")))
		if a := h.exchangeCode(t, c, to.Query().Get("code")); a.status != http.StatusOK || a.str("scope") != "email openid" {
			t.Errorf("parameters in another order: %s, %d %v", to, a.status, a.body)
		}
	})
}

func TestOIDCCPromptNoneLoggedIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		_, first := claimsOf(t, b.tokens(t, c, "max_age", "15000").str("id_token"))
		h.advanceClock(2 * time.Second)
		for name, edits := range map[string][]string{"prompt=none": {"prompt", "none", "max_age", "15000"}, "max_age=10000": {"max_age", "10000"}} {
			_, second := claimsOf(t, b.tokens(t, c, edits...).str("id_token"))
			if second["sub"] != first["sub"] || second["auth_time"] == nil || second["auth_time"] != first["auth_time"] {
				t.Errorf("%s: sub %v and auth_time %v, want %v and %v", name, second["sub"], second["auth_time"], first["sub"], first["auth_time"])
			}
		}
		if w := b.get(h, "/authorize?"+c.params("max_age", "1").Encode()); !strings.Contains(w.Header().Get("Location"), "/login?i=") {
			t.Errorf("max_age=1 led to %s, want the sign-in", w.Header().Get("Location"))
		}
	})
}

func TestOIDCCIDTokenHintThatHasExpired(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		hint := b.tokens(t, c).str("id_token")
		h.advanceClock(2 * time.Hour)
		if q := b.authorize(t, h, c.params("prompt", "none", "id_token_hint", hint)); q.Get("code") == "" {
			t.Errorf("got %v", q)
		}
	})
}

func TestOIDCCCodeReuse30Seconds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		code := b.code(t, c)
		a := h.exchangeCode(t, c, code)
		h.advanceClock(30 * time.Second)
		wantError(t, h.exchangeCode(t, c, code), http.StatusBadRequest, "invalid_grant")
		if got := h.userinfoAnswer(t, a.str("access_token")).status; got != http.StatusUnauthorized {
			t.Errorf("the first access token: %d, want 401", got)
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
	})
}

func TestFAPI2LongStateComesBackUnchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		b.consent(t, c)
		state, nonce := strings.Repeat("a-._~", 200), strings.Repeat("N-._~z", 64)
		q := b.authorize(t, h, c.params("state", state, "nonce", nonce))
		if q.Get("state") != state {
			t.Errorf("state of 1000 characters came back as %q", q.Get("state"))
		}
		if _, claims := claimsOf(t, h.exchangeCode(t, c, q.Get("code")).str("id_token")); claims["nonce"] != nonce {
			t.Errorf("nonce of 384 characters came back as %v", claims["nonce"])
		}
		if q := b.authorize(t, h, c.params("state", state, "prompt", "none login")); q.Get("state") != state || q.Get("error") != "invalid_request" {
			t.Errorf("with an error: %v", q)
		}
	})
}

func TestFAPI2PARAttemptInvalidHTTPMethod(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodDelete} {
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, httptest.NewRequest(method, "/par", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d, want 405", method, w.Code)
		}
	}
}

// The suite counts Shannon's bits over the characters of each value it is given, and wants 96.
func TestOIDCCEntropyOfCodesAndTokens(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	b, c := h.person(t), h.client(t, nil)
	seen := map[string]bool{}
	for range 50 {
		code := b.code(t, c)
		a := h.exchangeCode(t, c, code)
		for name, value := range map[string]string{"code": code, "access token": a.str("access_token"), "refresh token": a.str("refresh_token")} {
			counts := map[rune]float64{}
			for _, r := range value {
				counts[r]++
			}
			bits, n := 0.0, float64(len(value))
			for _, k := range counts {
				bits -= k * math.Log2(k/n)
			}
			if bits < 96 || seen[value] {
				t.Errorf("%s %q: %.0f bits, want 96 and no repetition", name, value, bits)
			}
			seen[value] = true
		}
	}
}

// The modules of the implicit and hybrid plans that differ from those of the basic plan, once for each of their response types.
func eachLegacyType(t *testing.T, f func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType)) {
	t.Helper()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b := h.person(t)
		for _, name := range legacyTypes {
			c := h.client(t, answering(name))
			b.consent(t, c)
			want, _ := responseTypeOf(name)
			f(t, h, b, c, name, want)
		}
	})
}

func TestOIDCCServerImplicitAndHybrid(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		q := b.fronted(t, c, "response_type", name, "nonce", "a-._~Z0", "state", "s-._~S0")
		if q.Get("state") != "s-._~S0" || q.Get("iss") != testIssuer {
			t.Errorf("%s: got %v", name, q)
		}
		var subjects []any
		if want.idToken {
			claims := h.verified(t, q.Get("id_token"))
			if claims["nonce"] != "a-._~Z0" || want.token != (claims["at_hash"] != nil) || want.code != (claims["c_hash"] != nil) {
				t.Errorf("%s: %v", name, claims)
			}
			subjects = append(subjects, claims["iss"], claims["sub"])
		}
		if want.code {
			claims := h.verified(t, h.exchangeCode(t, c, q.Get("code")).str("id_token"))
			if more := []any{claims["iss"], claims["sub"]}; subjects != nil && !slices.Equal(subjects, more) {
				t.Errorf("%s: the ID tokens name %v and %v", name, subjects, more)
			}
		}
	})
}

func TestOIDCCEnsureRequestWithoutNonceFails(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, _ *harness, b *browser, c registered, name string, want responseType) {
		if q := b.fronted(t, c, "response_type", name, "nonce", ""); want.idToken && q.Get("error") != "invalid_request" || !want.idToken && q.Get("code") == "" {
			t.Errorf("%s: got %v", name, q)
		}
	})
}

func TestOIDCCScopesOfImplicitFlow(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		if !want.idToken {
			return
		}
		claims := h.verified(t, b.fronted(t, c, "response_type", name, "scope", "openid profile email address phone").Get("id_token"))
		for _, member := range []string{"name", "given_name", "email", "email_verified", "address", "phone_number", "phone_number_verified", "updated_at"} {
			if (claims[member] != nil) != (name == "id_token") {
				t.Errorf("%s: %s is %v", name, member, claims[member])
			}
		}
		if claims = h.verified(t, b.fronted(t, c, "response_type", name, "scope", "openid email").Get("id_token")); claims["name"] != nil {
			t.Errorf("%s: scope email tells a name", name)
		}
	})
}

func TestOIDCCFormPostImplicitAndHybrid(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		q := b.answered(t, h, c.params("response_type", name, "response_mode", "form_post"), "form_post")
		if q.Has("id_token") != want.idToken || q.Has("access_token") != want.token || q.Has("code") != want.code || q.Get("state") != "s" {
			t.Errorf("%s: got %v", name, q)
		}
		if q := b.answered(t, h, c.params("response_type", name, "response_mode", "form_post", "prompt", "none login"), "form_post"); q.Get("error") != "invalid_request" || q.Get("state") != "s" {
			t.Errorf("%s: error %v", name, q)
		}
	})
}

func TestOIDCCPromptNoneImplicitAndHybrid(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		state := strings.Repeat("aZ09-._~", 16)
		w := (*browser)(nil).get(h, "/authorize?"+c.params("response_type", name, "prompt", "none", "state", state).Encode())
		u := must(url.Parse(w.Header().Get("Location")))
		if q := must(url.ParseQuery(u.EscapedFragment())); u.RawQuery != "" || q.Get("error") != "login_required" || q.Get("state") != state || q.Get("iss") != testIssuer {
			t.Errorf("%s, nobody signed in: %s", name, u)
		}
		first, second := b.fronted(t, c, "response_type", name, "max_age", "15000"), b.fronted(t, c, "response_type", name, "max_age", "10000", "prompt", "none")
		if !want.idToken {
			return
		}
		one, two := h.verified(t, first.Get("id_token")), h.verified(t, second.Get("id_token"))
		if one["sub"] != two["sub"] || one["auth_time"] == nil || one["auth_time"] != two["auth_time"] {
			t.Errorf("%s: %v and %v", name, one, two)
		}
	})
}

func TestOIDCCCodeReuseHybrid(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		if !want.code {
			return
		}
		code := b.fronted(t, c, "response_type", name).Get("code")
		if a := h.exchangeCode(t, c, code); a.status != http.StatusOK {
			t.Fatalf("%s: %d %v", name, a.status, a.body)
		}
		h.advanceClock(30 * time.Second)
		wantError(t, h.exchangeCode(t, c, code), http.StatusBadRequest, "invalid_grant")
	})
}

func TestOIDCCDiscoveryEndpointVerificationDynamic(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.legacy(t)
	var m metadata
	if err := json.Unmarshal(h.metadata.body, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"code", "id_token", "id_token token"} {
		if !slices.Contains(m.ResponseTypesSupported, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{GrantAuthorizationCode, GrantImplicit} {
		if !slices.Contains(m.GrantTypesSupported, name) {
			t.Errorf("%s is missing", name)
		}
	}
}

// The other modules of these plans, by their names: what they ask has to come by the fragment, too.
func TestOIDCCModulesImplicitAndHybrid(t *testing.T) {
	t.Parallel()
	eachLegacyType(t, func(t *testing.T, h *harness, b *browser, c registered, name string, want responseType) {
		ok := func(edits ...string) func(t *testing.T) {
			return func(t *testing.T) {
				if q := b.fronted(t, c, append(edits, "response_type", name)...); q.Has("error") || q.Has("code") != want.code || q.Has("id_token") != want.idToken || q.Has("access_token") != want.token {
					t.Errorf("got %v", q)
				}
			}
		}
		leadsTo := func(path string, edits ...string) func(t *testing.T) {
			return func(t *testing.T) {
				if at := b.get(h, "/authorize?"+c.params(append(edits, "response_type", name)...).Encode()).Header().Get("Location"); !strings.Contains(at, path+"?i=") {
					t.Errorf("got %s, want %s", at, path)
				}
			}
		}
		ask := func(method, header, body string) func(t *testing.T) {
			return func(t *testing.T) {
				q := b.fronted(t, c, "response_type", name)
				token := q.Get("access_token")
				if !want.token {
					if !want.code {
						return
					}
					token = h.exchangeCode(t, c, q.Get("code")).str("access_token")
				}
				r := httptest.NewRequest(method, "/userinfo", strings.NewReader(strings.ReplaceAll(body, "TOKEN", token)))
				if body != "" {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				if header != "" {
					r.Header.Set("Authorization", header+token)
				}
				if a := h.do(t, r); a.status != http.StatusOK || a.str("sub") != b.user.ID {
					t.Errorf("got %d %v", a.status, a.body)
				}
			}
		}
		hint := ""
		for module, f := range map[string]func(t *testing.T){
			"oidcc-display-page":                                   ok("display", "page"),
			"oidcc-display-popup":                                  ok("display", "popup"),
			"oidcc-login-hint":                                     ok("login_hint", "ada@example.test"),
			"oidcc-ui-locales":                                     ok("ui_locales", "se"),
			"oidcc-claims-locales":                                 ok("claims_locales", "se"),
			"oidcc-ensure-request-with-acr-values-succeeds":        ok("acr_values", "1 2"),
			"oidcc-ensure-request-with-unknown-parameter-succeeds": ok("extra", "foobar"),
			"oidcc-ensure-request-with-valid-pkce-succeeds":        ok(),
			"oidcc-claims-essential":                               ok("claims", `{"userinfo":{"name":{"essential":true}}}`),
			"oidcc-prompt-login":                                   leadsTo("/login", "prompt", "login"),
			"oidcc-max-age-1": func(t *testing.T) {
				h.advanceClock(2 * time.Second)
				leadsTo("/login", "max_age", "1")(t)
			},
			"oidcc-userinfo-get":         ask(http.MethodGet, "Bearer ", ""),
			"oidcc-userinfo-post-header": ask(http.MethodPost, "Bearer ", ""),
			"oidcc-userinfo-post-body":   ask(http.MethodPost, "", "access_token=TOKEN"),
			"oidcc-id-token-hint": func(t *testing.T) {
				if want.idToken {
					hint = b.fronted(t, c, "response_type", name).Get("id_token")
					ok("id_token_hint", hint, "prompt", "none")(t)
				}
			},
			"oidcc-ensure-registered-redirect-uri": func(t *testing.T) {
				if w := b.get(h, "/authorize?"+c.params("response_type", name, "redirect_uri", testRedirect+"/other").Encode()); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
					t.Errorf("got %d to %s", w.Code, w.Header().Get("Location"))
				}
			},
			"oidcc-ensure-post-request-succeeds": func(t *testing.T) {
				r := httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader(c.params("response_type", name).Encode()))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				w := httptest.NewRecorder()
				h.handler.ServeHTTP(w, r)
				if u := must(url.Parse(b.get(h, w.Header().Get("Location")).Header().Get("Location"))); u.RawQuery != "" || !strings.Contains(u.Fragment, "state=s") {
					t.Errorf("got %s", u)
				}
			},
			"oidcc-alternate-happy-flow": func(t *testing.T) {
				pairs := strings.Split(c.params("response_type", name, "scope", "email openid").Encode(), "&")
				slices.Reverse(pairs)
				if u := must(url.Parse(b.get(h, "/authorize?"+strings.Join(pairs, "&")).Header().Get("Location"))); u.RawQuery != "" || !strings.Contains(u.Fragment, "state=s") || strings.Contains(u.Fragment, "error=") {
					t.Errorf("got %s", u)
				}
			},
			"oidcc-response-type-missing": func(t *testing.T) {
				if q := b.authorize(t, h, c.params("response_type", "")); q.Get("error") != "invalid_request" || q.Get("state") != "s" {
					t.Errorf("got %v", q)
				}
			},
			"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": func(t *testing.T) {
				if q := b.fronted(t, c, "response_type", name, "request", "eyJhbGciOiJub25lIn0.e30."); q.Get("error") != "invalid_request_object" || q.Get("state") != "s" {
					t.Errorf("got %v", q)
				}
			},
			"oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported": func(t *testing.T) {
				if q := b.fronted(t, c, "response_type", name, "request_uri", "https://app.example.test/object"); !slices.Contains([]string{"request_uri_not_supported", "invalid_request_uri"}, q.Get("error")) {
					t.Errorf("got %v", q)
				}
			},
			"oidcc-ensure-request-object-with-redirect-uri": func(t *testing.T) { // unsigned: never followed
				q := c.params("response_type", name, "redirect_uri", testRedirect+"/other", "request", "eyJhbGciOiJub25lIn0.e30.")
				if w := b.get(h, "/authorize?"+q.Encode()); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
					t.Errorf("got %d to %s", w.Code, w.Header().Get("Location"))
				}
			},
			"oidcc-server-client-secret-post": func(t *testing.T) {
				if !want.code {
					return
				}
				c := h.client(t, func(c *Client) { answering(name)(c); c.AuthMethod = AuthPost })
				b.consent(t, c)
				form := exchangeForm(b.fronted(t, c, "response_type", name).Get("code"))
				form.Set("client_id", c.ID)
				form.Set("client_secret", c.secret)
				if a := h.post(t, "/token", registered{}, form); a.status != http.StatusOK {
					t.Errorf("got %d %v", a.status, a.body)
				}
			},
			"oidcc-refresh-token": func(t *testing.T) {
				if want.code {
					a := h.exchangeCode(t, c, b.fronted(t, c, "response_type", name).Get("code"))
					if a = h.refreshToken(t, c, a.str("refresh_token")); a.status != http.StatusOK {
						t.Errorf("got %d %v", a.status, a.body)
					}
				}
			},
		} {
			t.Run(name+"/"+module, f)
		}
	})
}

// The suite's clients in its basic and dynamic plans: keys without a kid, the token endpoint as audience, no scope, and neither PKCE nor nonce.
func TestOIDCCServerDynamic(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.SelfRegistered.Suite = true
		h.opened(t, RegistrationOpen)
		var set any
		if err := json.Unmarshal(keySetOf("", "RS256"), &set); err != nil {
			t.Fatal(err)
		}
		a := h.manage(t, "POST", registrationPath, "", map[string]any{
			"client_name": "suite client", "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "redirect_uris": []string{testRedirect},
			"token_endpoint_auth_method": AuthPrivateKeyJWT, "contacts": []string{"suite@example.test"}, "jwks": set,
		})
		if a.status != http.StatusCreated || (a.str("registration_client_uri") == "") != (a.str("registration_access_token") == "") {
			t.Fatalf("registration: %d %v", a.status, a.body)
		}
		c, b := registered{Client: Client{ID: a.str("client_id")}}, h.person(t)
		form := exchangeForm(b.allows(t, c.params("scope", "openid profile email", "nonce", "", "code_challenge", "", "code_challenge_method", "")).Get("code"))
		form.Del("code_verifier")
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", sign(t, "RS256", testKeys()["RS256"], nil, h.assertionFor(c, map[string]any{"aud": testIssuer + "/token"})))
		got := h.post(t, "/token", registered{}, form)
		header, claims := claimsOf(t, got.str("id_token"))
		if got.status != http.StatusOK || header["alg"] != "RS256" || header["kid"] == nil || claims["nonce"] != nil {
			t.Errorf("token: %d %v: %v %v", got.status, got.body, header, claims)
		}
		if gone := h.manage(t, "DELETE", a.str("registration_client_uri"), a.str("registration_access_token"), nil); gone.status != http.StatusNoContent {
			t.Errorf("delete: %d", gone.status)
		}
	})
}

// The switch of certification runs reaches confidential clients alone, and nobody without it.
func TestSuiteExcusesNoPublicClientFromPKCE(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		b := h.person(t)
		bare := []string{"code_challenge", "", "code_challenge_method", "", "nonce", ""}
		asks := func(method string) int {
			a := h.manage(t, "POST", registrationPath, "", aboutMe("token_endpoint_auth_method", method))
			c := registered{Client: Client{ID: a.str("client_id")}}
			return b.get(h, "/authorize?"+c.params(bare...).Encode()).Code
		}
		basic := h.client(t, func(c *Client) { c.Profile = ProfileOIDCBasic })
		strict := h.client(t, nil)
		b.consent(t, basic)
		b.consent(t, strict)
		for _, suite := range []bool{false, true} {
			h.SelfRegistered.Suite = suite
			if got := asks(AuthNone); got != http.StatusBadRequest {
				t.Errorf("suite %v, public client: %d, want 400", suite, got)
			}
			if got := asks(AuthBasic) == http.StatusSeeOther; got != suite {
				t.Errorf("suite %v, confidential client: let on %v", suite, got)
			}
			if got := b.authorize(t, h, basic.params(bare...)).Has("code"); got != suite {
				t.Errorf("suite %v, operator's client under oidc-basic: code %v", suite, got)
			}
			if q := b.authorize(t, h, strict.params(bare...)); q.Get("error") != "invalid_request" {
				t.Errorf("suite %v, operator's client: %v", suite, q)
			}
		}
	})
}

func TestOIDCC3rdPartyInitLogin(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.opened(t, RegistrationOpen)
	const login = "https://app.example.test/login"
	a := h.manage(t, "POST", registrationPath, "", aboutMe("initiate_login_uri", login))
	got := h.manage(t, "GET", a.str("registration_client_uri"), a.str("registration_access_token"), nil)
	if a.str("initiate_login_uri") != login || got.status != http.StatusOK || got.str("initiate_login_uri") != login {
		t.Errorf("registered %v, read %v", a.body, got.body)
	}
	wantError(t, h.manage(t, "POST", registrationPath, "", aboutMe("initiate_login_uri", "http://app.example.test/login")), 400, "invalid_client_metadata")
}

func TestFAPI2PARAttemptToUseExpiredRequestURI(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	h := newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	b, c := h.person(t), h.client(t, nil)
	b.consent(t, c)
	uri := h.pushForm(t, c, c.params())
	ahead.Store(int64(91 * time.Second))
	if w := b.get(h, "/authorize?"+byReference(c, uri).Encode()); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
		t.Errorf("got %d to %q, want the error page", w.Code, w.Header().Get("Location"))
	}
}
