package oauth

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/identity"
)

// drivers says how each member of the metadata is used: with the value itself, or with each value of a list, by an app that has read the
// document. A member, or a value, that nobody can use fails TestEveryMetadataValueIsDriven.
var drivers = map[string]func(t *testing.T, s *stage, value string){
	"issuer": func(t *testing.T, s *stage, issuer string) {
		q := s.b.authorize(t, s.harness, s.app.params())
		_, id := claimsOf(t, s.exchangeCode(t, s.app, q.Get("code")).str("id_token"))
		if q.Get("iss") != issuer || id["iss"] != issuer {
			t.Errorf("answer %v, ID token %v", q, id)
		}
	},
	"authorization_endpoint": func(t *testing.T, s *stage, _ string) {
		w := s.b.get(s.harness, s.path("authorization_endpoint")+"?"+s.app.params().Encode())
		if answerIn(w).Get("code") == "" {
			t.Errorf("got %d %s", w.Code, w.Header().Get("Location"))
		}
	},
	"token_endpoint": func(t *testing.T, s *stage, _ string) {
		s.good(t, s.post(t, s.path("token_endpoint"), s.app, exchangeForm(s.b.code(t, s.app))))
	},
	"device_authorization_endpoint": func(t *testing.T, s *stage, _ string) {
		s.good(t, s.post(t, s.path("device_authorization_endpoint"), s.client(t, ofDevice), url.Values{"scope": {"openid"}}))
	},
	"userinfo_endpoint": func(t *testing.T, s *stage, _ string) {
		r := httptest.NewRequest(http.MethodGet, s.path("userinfo_endpoint"), nil)
		r.Header.Set("Authorization", "Bearer "+s.tokens(t).str("access_token"))
		if a := s.good(t, s.do(t, r)); a.str("sub") != s.b.user.ID {
			t.Errorf("got %v", a.body)
		}
	},
	"revocation_endpoint": func(t *testing.T, s *stage, _ string) {
		token := s.tokens(t).str("access_token")
		s.good(t, s.post(t, s.path("revocation_endpoint"), s.app, url.Values{"token": {token}}))
		if s.introspectToken(t, s.app, token) {
			t.Error("the token is still good")
		}
	},
	"introspection_endpoint": func(t *testing.T, s *stage, _ string) {
		a := s.good(t, s.post(t, s.path("introspection_endpoint"), s.app, url.Values{"token": {s.tokens(t).str("access_token")}}))
		if a.body["active"] != true {
			t.Errorf("got %v", a.body)
		}
	},
	"end_session_endpoint": func(t *testing.T, s *stage, value string) { // the page is drawn by ui: TestMetadataNamesPages
		out, err := s.ReadLogout(t.Context(), url.Values{
			"id_token_hint": {s.tokens(t).str("id_token")}, "post_logout_redirect_uri": {"https://app.example.test/bye"}, "state": {"s"},
		})
		if err != nil || out.Next != "https://app.example.test/bye?state=s" || value != testIssuer+"/logout" {
			t.Errorf("%s: got %+v, %v", value, out, err)
		}
	},
	"check_session_iframe": func(t *testing.T, s *stage, value string) { // the page is drawn by ui: TestCheckSessionFrame
		w, _ := s.b.in(s.harness, "", "/authorize?"+s.app.params().Encode())
		if answerIn(w).Get("session_state") == "" || value != testIssuer+CheckSessionPath {
			t.Errorf("%s: got %s", value, w.Header().Get("Location"))
		}
	},
	"jwks_uri": func(t *testing.T, s *stage, _ string) {
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(s.b.get(s.harness, s.path("jwks_uri")).Body.Bytes(), &set); err != nil {
			t.Fatal(err)
		}
		token := s.tokens(t).str("id_token")
		header, _ := claimsOf(t, token)
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(set.Key(header["kid"].(string))[0]); err != nil {
			t.Error(err)
		}
	},
	"scopes_supported": func(t *testing.T, s *stage, scope string) {
		a := s.b.tokens(t, s.app, "scope", strings.TrimSuffix("openid "+strings.TrimPrefix(scope, "openid"), " "))
		if !slices.Contains(strings.Fields(a.str("scope")), scope) || (a.body["refresh_token"] != nil) != (scope == scopeOfflineAccess) {
			t.Errorf("got %v", a.body)
		}
	},
	"response_types_supported": func(t *testing.T, s *stage, value string) {
		c := s.client(t, answering(slices.Compact([]string{"code", value})...))
		s.b.consent(t, c)
		q := answerIn(s.b.get(s.harness, "/authorize?"+c.params("response_type", value).Encode()))
		for name, word := range map[string]string{"code": "code", "id_token": "id_token", "access_token": "token"} {
			if slices.Contains(strings.Fields(value), word) != q.Has(name) {
				t.Errorf("got %v", q)
			}
		}
		if q.Has("error") || q.Get("state") != "s" {
			t.Errorf("got %v", q)
		}
	},
	"response_modes_supported": func(t *testing.T, s *stage, mode string) {
		q := s.b.answered(t, s.harness, s.app.params("response_mode", mode), mode)
		if strings.HasSuffix(mode, "jwt") {
			if claims := s.signedAnswer(t, s.app, q); claims["code"] == nil {
				t.Errorf("got %v", claims)
			}
		} else if q.Get("code") == "" {
			t.Errorf("got %v", q)
		}
	},
	"grant_types_supported": func(t *testing.T, s *stage, grant string) {
		drive := grantDrivers[grant]
		if drive == nil {
			t.Fatal("nobody drives this grant type")
		}
		drive(t, s)
	},
	"subject_types_supported": func(t *testing.T, s *stage, subject string) {
		_, id := claimsOf(t, s.b.tokens(t, s.client(t, func(c *Client) { c.SubjectType = subject })).str("id_token"))
		if (id["sub"] == s.b.user.ID) != (subject == "public") || id["sub"] == nil {
			t.Errorf("sub %v", id["sub"])
		}
	},
	"id_token_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		token := s.b.tokens(t, s.client(t, func(c *Client) { c.IDTokenAlg = alg })).str("id_token")
		if header, _ := claimsOf(t, token); header["alg"] != alg {
			t.Errorf("signed by %v", header["alg"])
		}
		s.verified(t, token)
	},
	"token_endpoint_auth_methods_supported": func(t *testing.T, s *stage, method string) { s.redeems(t, s.proving(t, method, ""), "") },
	"token_endpoint_auth_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		s.redeems(t, s.proving(t, methodFor(alg), alg), alg)
	},
	"revocation_endpoint_auth_methods_supported": func(t *testing.T, s *stage, method string) { s.revokes(t, s.proving(t, method, ""), "") },
	"revocation_endpoint_auth_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		s.revokes(t, s.proving(t, methodFor(alg), alg), alg)
	},
	"introspection_endpoint_auth_methods_supported": func(t *testing.T, s *stage, method string) { s.introspects(t, s.proving(t, method, ""), "") },
	"introspection_endpoint_auth_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		s.introspects(t, s.proving(t, methodFor(alg), alg), alg)
	},
	"introspection_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		c := s.client(t, func(c *Client) { c.IntrospectionAlg = alg })
		w := s.introspectSigned(t, c, s.b.tokens(t, c).str("access_token"))
		if header, _ := claimsOf(t, w.Body.String()); header["alg"] != alg {
			t.Errorf("signed by %v", header["alg"])
		}
	},
	"code_challenge_methods_supported": func(t *testing.T, s *stage, method string) {
		form := exchangeForm(s.b.code(t, s.app, "code_challenge_method", method))
		form.Set("code_verifier", "b-code-verifier-with-enough-characters-0123456789")
		wantError(t, s.post(t, "/token", s.app, form), http.StatusBadRequest, "invalid_grant")
		s.good(t, s.exchangeCode(t, s.app, s.b.code(t, s.app, "code_challenge_method", method)))
	},
	"acr_values_supported": func(t *testing.T, s *stage, acr string) {
		amr := map[string][]string{
			identity.ACRPassword: {identity.AMRPassword}, identity.ACRMFA: {identity.AMRPassword, identity.AMROTP, identity.AMRMFA},
			identity.ACRPhishingResistant: {identity.AMRHardware, identity.AMRPresence, identity.AMRMFA},
		}[acr]
		b := s.harness.person(t)
		var err error
		b.token, b.session, err = s.people.StartSession(t.Context(), b.user.ID, amr, identity.Device{Address: netip.MustParseAddr("192.0.2.1")}, b.token, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if _, id := claimsOf(t, b.tokens(t, s.app, "acr_values", acr).str("id_token")); id["acr"] != acr {
			t.Errorf("acr %v", id["acr"])
		}
	},
	"prompt_values_supported": func(t *testing.T, s *stage, prompt string) {
		to := s.b.get(s.harness, "/authorize?"+s.app.params("prompt", prompt).Encode()).Header().Get("Location")
		want := map[string]string{"none": testRedirect + "?code=", "login": "/login?", "consent": "/consent?", "select_account": "/"}[prompt]
		if want == "" || !strings.HasPrefix(to, want) {
			t.Errorf("led to %s, want %q", to, want)
		}
	},
	"claim_types_supported": func(t *testing.T, s *stage, kind string) {
		if info := s.userinfoAnswer(t, s.tokens(t).str("access_token")); kind != "normal" || info.body["email"] != s.b.user.Email {
			t.Errorf("got %v", info.body)
		}
	},
	"claims_supported": func(t *testing.T, s *stage, claim string) {
		_, personal := claimScope[claim]
		if personal {
			request := `{"userinfo":{"` + claim + `":null},"id_token":{"` + claim + `":null}}`
			a := s.b.tokens(t, s.app, "scope", "openid "+claimScope[claim], "claims", request)
			_, id := claimsOf(t, a.str("id_token"))
			if info := s.userinfoAnswer(t, a.str("access_token")); info.body[claim] == nil || id[claim] == nil {
				t.Errorf("userinfo %v, ID token %v", info.body[claim], id[claim])
			}
			return
		}
		_, id := claimsOf(t, s.tokens(t).str("id_token"))
		if claim == "c_hash" {
			c := s.client(t, answering("code id_token"))
			s.b.consent(t, c)
			_, id = claimsOf(t, s.b.fronted(t, c, "response_type", "code id_token").Get("id_token"))
		}
		if id[claim] == nil {
			t.Errorf("the ID token lacks it: %v", id)
		}
	},
	"ui_locales_supported": func(t *testing.T, s *stage, language string) { // the texts are in ui: TestMetadataNamesPages, TestLanguagesComplete
		if _, in := s.b.asks(t, s.app.params("prompt", "consent", "ui_locales", language)); !slices.Equal(in.UILocales, []string{language}) {
			t.Errorf("the page is told %v", in.UILocales)
		}
	},
	"claims_parameter_supported": func(t *testing.T, s *stage, value string) {
		_, id := claimsOf(t, s.b.tokens(t, s.app, "claims", `{"id_token":{"email":{"essential":true}}}`).str("id_token"))
		if fmt.Sprint(id["email"] != nil) != value {
			t.Errorf("ID token %v", id)
		}
	},
	"request_parameter_supported": func(t *testing.T, s *stage, value string) {
		c := s.client(t, signing("ES256"))
		s.b.consent(t, c)
		if q := s.b.authorize(t, s.harness, beside(c, s.object(t, c, nil), "redirect_uri", testRedirect)); fmt.Sprint(q.Get("code") != "") != value {
			t.Errorf("got %v", q)
		}
	},
	"request_uri_parameter_supported": func(t *testing.T, s *stage, value string) {
		if q := s.byReference(t, func(address string) string { return address }); fmt.Sprint(q.Get("code") != "") != value {
			t.Errorf("got %v", q)
		}
	},
	"require_request_uri_registration": func(t *testing.T, s *stage, value string) {
		if q := s.byReference(t, func(address string) string { return address + "?other" }); fmt.Sprint(q.Get("error") == "invalid_request_uri") != value {
			t.Errorf("got %v", q)
		}
	},
	"request_object_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		c := s.client(t, signing(alg, func(c *Client) { c.RequestObjectAlg = alg }))
		s.b.consent(t, c)
		if q := s.b.authorize(t, s.harness, beside(c, sign(t, alg, testKeys()[alg], nil, s.objectFor(c, nil)))); q.Get("code") == "" {
			t.Errorf("got %v", q)
		}
	},
	"userinfo_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		w := s.rawUserinfo(t, s.b.tokens(t, s.client(t, func(c *Client) { c.UserinfoAlg = alg })).str("access_token"))
		if header, _ := claimsOf(t, w.Body.String()); header["alg"] != alg {
			t.Errorf("signed by %v", header["alg"])
		}
		s.verified(t, w.Body.String())
	},
	"authorization_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		c := s.client(t, func(c *Client) { c.AnswerAlg = alg })
		s.b.consent(t, c)
		q := s.b.authorize(t, s.harness, c.params("response_mode", "jwt"))
		if header, _ := claimsOf(t, q.Get("response")); header["alg"] != alg || s.signedAnswer(t, c, q)["code"] == nil {
			t.Errorf("signed by %v", header["alg"])
		}
	},
	"authorization_response_iss_parameter_supported": func(t *testing.T, s *stage, value string) {
		for _, edits := range [][]string{nil, {"scope", "nonsense"}} {
			if q := s.b.authorize(t, s.harness, s.app.params(edits...)); fmt.Sprint(q.Get("iss") == testIssuer) != value {
				t.Errorf("got %v", q)
			}
		}
	},
	"id_token_encryption_alg_values_supported":       func(t *testing.T, s *stage, alg string) { s.encryptedIDToken(t, alg, "A256GCM") },
	"id_token_encryption_enc_values_supported":       func(t *testing.T, s *stage, enc string) { s.encryptedIDToken(t, "ECDH-ES", enc) },
	"userinfo_encryption_alg_values_supported":       func(t *testing.T, s *stage, alg string) { s.encryptedUserinfo(t, alg, "A256GCM") },
	"userinfo_encryption_enc_values_supported":       func(t *testing.T, s *stage, enc string) { s.encryptedUserinfo(t, "ECDH-ES", enc) },
	"request_object_encryption_alg_values_supported": func(t *testing.T, s *stage, alg string) { s.encryptedRequest(t, alg, "A256GCM") },
	"request_object_encryption_enc_values_supported": func(t *testing.T, s *stage, enc string) { s.encryptedRequest(t, "RSA-OAEP-256", enc) },
	"authorization_encryption_alg_values_supported":  func(t *testing.T, s *stage, alg string) { s.encryptedAnswer(t, alg, "A256GCM") },
	"authorization_encryption_enc_values_supported":  func(t *testing.T, s *stage, enc string) { s.encryptedAnswer(t, "ECDH-ES", enc) },
	"introspection_encryption_alg_values_supported":  func(t *testing.T, s *stage, alg string) { s.encryptedIntrospection(t, alg, "A256GCM") },
	"introspection_encryption_enc_values_supported":  func(t *testing.T, s *stage, enc string) { s.encryptedIntrospection(t, "ECDH-ES", enc) },
	"mtls_endpoint_aliases": func(t *testing.T, s *stage, name string) {
		alias := s.said["mtls_endpoint_aliases"].(map[string]any)[name].(string)
		path, ok := strings.CutPrefix(alias, testMTLS)
		if main, _ := s.said[name].(string); !ok || main != testIssuer+path {
			t.Fatalf("%s is the alias of %s", alias, s.said[name])
		}
		c := s.proving(t, AuthTLS, "")
		if name == "device_authorization_endpoint" {
			c = s.client(t, func(c *Client) {
				ofDevice(c)
				c.AuthMethod, c.TLSDNS = AuthTLS, testCertificateName
			})
		}
		if name == "backchannel_authentication_endpoint" {
			c = s.client(t, func(c *Client) {
				ofCallCentre(c)
				c.AuthMethod, c.TLSDNS = AuthTLS, testCertificateName
			})
		}
		form := map[string]url.Values{
			"backchannel_authentication_endpoint": {"scope": {"openid"}, "login_hint": {s.harness.person(t).user.Email}},
			"token_endpoint":                      credentialsForm(c), "revocation_endpoint": {"token": {"x"}}, "introspection_endpoint": {"token": {"x"}}, "device_authorization_endpoint": {"scope": {"openid"}},
			"pushed_authorization_request_endpoint": c.params(), "userinfo_endpoint": {"access_token": {s.tokens(t).str("access_token")}},
		}[name]
		if form == nil {
			t.Fatal("nobody drives this alias")
		}
		if name != "userinfo_endpoint" {
			form.Set("client_id", c.ID)
		}
		s.good(t, s.withCertificate(t, path, s.certificate, form, func(r *http.Request) { r.Host = strings.TrimPrefix(testMTLS, "https://") }))
	},
	"global_token_revocation_endpoint": func(t *testing.T, s *stage, _ string) {
		c := s.client(t, func(c *Client) { c.RevokesPeople, c.Scopes = true, append(c.Scopes, scopeGlobalRevocation) })
		b := s.harness.person(t)
		token := b.tokens(t, s.app).str("access_token")
		w := s.ask(t, http.MethodPost, s.path("global_token_revocation_endpoint"), s.own(t, c, scopeGlobalRevocation), map[string]any{"sub_id": map[string]string{"format": "opaque", "id": b.user.ID}})
		if w.Code != http.StatusNoContent || s.introspectToken(t, s.app, token) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	},
	"backchannel_logout_supported":         func(t *testing.T, s *stage, value string) { s.loggedOut(t, value, "sub") },
	"backchannel_logout_session_supported": func(t *testing.T, s *stage, value string) { s.loggedOut(t, value, "sid") },
	"frontchannel_logout_supported":        func(t *testing.T, s *stage, value string) { s.framed(t, value, "iss=") },
	"frontchannel_logout_session_supported": func(t *testing.T, s *stage, value string) {
		s.framed(t, value, "sid=")
	},
	"client_id_metadata_document_supported": func(t *testing.T, s *stage, value string) {
		a := s.exchangeCode(t, s.document.client(), s.b.allows(t, s.document.client().params()).Get("code"))
		if fmt.Sprint(a.status == http.StatusOK) != value {
			t.Errorf("got %d %v", a.status, a.body)
		}
	},
	"registration_endpoint": func(t *testing.T, s *stage, _ string) {
		a := s.manage(t, http.MethodPost, s.path("registration_endpoint"), "", aboutMe())
		if a.status != http.StatusCreated {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		c := registered{Client: Client{ID: a.str("client_id"), AuthMethod: AuthNone}}
		s.good(t, s.exchangeCode(t, c, s.b.allows(t, c.params()).Get("code")))
	},
	"pushed_authorization_request_endpoint": func(t *testing.T, s *stage, _ string) {
		a := s.post(t, s.path("pushed_authorization_request_endpoint"), s.app, s.app.params())
		if q := s.b.authorize(t, s.harness, byReference(s.app, a.str("request_uri"))); q.Get("code") == "" {
			t.Errorf("got %v, then %v", a.body, q)
		}
	},
	"require_pushed_authorization_requests": func(t *testing.T, s *stage, value string) {
		if q := s.b.authorize(t, s.harness, s.app.params()); fmt.Sprint(q.Get("error") != "") != value {
			t.Errorf("got %v", q)
		}
		s.RequirePAR = true
		defer func() { s.RequirePAR = false }()
		var m metadata
		if err := json.Unmarshal(must(s.buildMetadata()).body, &m); err != nil || !m.RequirePushed {
			t.Errorf("a server that demands it does not say so: %v", err)
		}
		if q := s.b.authorize(t, s.harness, s.app.params()); q.Get("error") != "invalid_request" {
			t.Errorf("where it is demanded: got %v", q)
		}
	},
	"dpop_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		a := s.good(t, s.proved(t, "/token", s.app, exchangeForm(s.b.code(t, s.app)), s.proofBy(t, alg, http.MethodPost, "/token", "")))
		if a.str("token_type") != "DPoP" {
			t.Errorf("got %v", a.body)
		}
		token := a.str("access_token")
		s.good(t, s.userinfoAs(t, "DPoP", token, s.proofBy(t, alg, http.MethodGet, "/userinfo", token)))
	},
	"tls_client_certificate_bound_access_tokens": func(t *testing.T, s *stage, value string) {
		c := s.client(t, func(c *Client) { public(c); c.CertificateBound = true })
		form := exchangeForm(s.b.code(t, c))
		form.Set("client_id", c.ID)
		token := s.good(t, s.withCertificate(t, "/token", s.certificate, form)).str("access_token")
		_, claims := claimsOf(t, token)
		if fmt.Sprint(claims["cnf"] != nil) != value {
			t.Errorf("claims %v", claims)
		}
		s.good(t, s.withCertificate(t, "/userinfo", s.certificate, url.Values{"access_token": {token}}))
		wantError(t, s.userinfoAnswer(t, token), http.StatusUnauthorized, "invalid_token")
	},
	"backchannel_authentication_endpoint": func(t *testing.T, s *stage, _ string) {
		b := s.harness.person(t)
		a := s.good(t, s.post(t, s.path("backchannel_authentication_endpoint"), s.client(t, ofCallCentre), url.Values{"scope": {"openid"}, "login_hint": {b.user.Email}}))
		if a.str("auth_req_id") == "" || len(b.waiting(t)) != 1 {
			t.Errorf("got %v", a.body)
		}
	},
	"backchannel_token_delivery_modes_supported": func(t *testing.T, s *stage, mode string) {
		pinged := newReceiver(t)
		b, c := s.harness.person(t), s.client(t, func(c *Client) {
			if ofCallCentre(c); mode == DeliveryPing {
				c.DeliveryMode, c.NotificationEndpoint = DeliveryPing, pinged.URL+"/ping"
			}
		})
		s.asked(t, c, "login_hint", b.user.Email, "client_notification_token", "token")
		b.grant(t)
		s.deliver(t)
		pinged.mu.Lock()
		defer pinged.mu.Unlock()
		if (len(pinged.forms) == 1) != (mode == DeliveryPing) || c.DeliveryMode != mode {
			t.Errorf("pinged %d times", len(pinged.forms))
		}
	},
	"backchannel_authentication_request_signing_alg_values_supported": func(t *testing.T, s *stage, alg string) {
		b, c := s.harness.person(t), s.client(t, func(c *Client) {
			ofCallCentre(c)
			c.JWKS, c.BackchannelRequestAlg = keySetOf("", alg), alg
		})
		now := s.Now()
		request := sign(t, alg, testKeys()[alg], nil, map[string]any{
			"iss": c.ID, "aud": testIssuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(), "scope": "openid", "login_hint": b.user.Email,
		})
		s.good(t, s.post(t, "/bc-authorize", c, url.Values{"request": {request}}))
	},
	"backchannel_user_code_parameter_supported": func(t *testing.T, s *stage, value string) { // false: a code is not looked at
		b := s.harness.person(t)
		s.asked(t, s.client(t, ofCallCentre), "login_hint", b.user.Email, "user_code", "wrong")
		if fmt.Sprint(len(b.waiting(t)) == 0) != value {
			t.Errorf("%d requests wait", len(b.waiting(t)))
		}
	},
	"authorization_details_types_supported": func(t *testing.T, s *stage, kind string) {
		c := s.client(t, func(c *Client) { c.DetailsTypes = []string{kind} })
		a := s.exchangeCode(t, c, s.b.allows(t, c.params("authorization_details", `[{"type":"`+kind+`","amount":{"value":"5"},"creditor":"Bob"}]`)).Get("code"))
		if details, _ := s.good(t, a).body["authorization_details"].([]any); len(details) != 1 {
			t.Errorf("got %v", a.body)
		}
	},
}

// grantDrivers get a token by each grant type.
var grantDrivers = map[string]func(t *testing.T, s *stage){
	GrantAuthorizationCode: func(t *testing.T, s *stage) { s.tokens(t) },
	GrantRefreshToken: func(t *testing.T, s *stage) {
		s.good(t, s.refreshToken(t, s.app, s.tokens(t).str("refresh_token")))
	},
	GrantClientCredentials: func(t *testing.T, s *stage) { s.own(t, s.app, "read") },
	GrantImplicit: func(t *testing.T, s *stage) {
		c := s.client(t, answering("id_token"))
		s.b.consent(t, c)
		s.verified(t, s.b.fronted(t, c, "response_type", "id_token").Get("id_token"))
	},
	GrantDeviceCode: func(t *testing.T, s *stage) {
		h := embedded(t) // whose clock moves
		c := h.client(t, ofDevice)
		asked := h.device(t, c, "openid")
		h.person(t).decide(t, asked.str("user_code"), true)
		s.good(t, h.poll(t, c, asked.str("device_code")))
	},
	GrantCIBA: func(t *testing.T, s *stage) {
		h := embedded(t)
		c, b := h.client(t, ofCallCentre), h.person(t)
		id := h.asked(t, c, "login_hint", b.user.Email)
		b.grant(t)
		s.good(t, h.fetch(t, c, id))
	},
	GrantTokenExchange: func(t *testing.T, s *stage) {
		w := newExchangeWorld(t, embedded(t), nil)
		s.good(t, w.exchangeToken(t, w.orders, w.token(t, "openid read").str("access_token")))
	},
	GrantJWTBearer: func(t *testing.T, s *stage) { s.good(t, newBearerWorld(t, embedded(t)).machine(t, nil)) },
}

const (
	testMTLS            = "https://mtls.example.test"
	testCertificateName = "app.example.test"
)

// stage is a server with everything turned on, a person of whom everything is known, and an app that may ask for it.
type stage struct {
	*harness
	said        map[string]any
	b           *browser
	app         registered
	document    *publisher
	certificate *x509.Certificate
}

func newStage(t *testing.T) *stage {
	t.Helper()
	h := embedded(t)
	s := &stage{harness: h, document: h.publish(t)}
	ca := newAuthority(t)
	h.Certificates = Certificates{Direct: true, CAs: pool(ca.certificate), URL: testMTLS}
	s.certificate = issue(t, ca, testKeys()["ES256"], func(c *x509.Certificate) { c.DNSNames = []string{testCertificateName} })
	h.opened(t, RegistrationOpen)
	h.watched(t)
	h.legacy(t)
	h.payments(t)
	if err := json.Unmarshal(h.ask(t, http.MethodGet, "/.well-known/openid-configuration", "", nil).Body.Bytes(), &s.said); err != nil {
		t.Fatal(err)
	}
	s.b = s.somebody(t)
	h.inGroup(t, s.b, "Sales", ordersAPI, "read")
	s.app = s.client(t, func(c *Client) { c.PostLogoutRedirectURIs = []string{"https://app.example.test/bye"} })
	s.b.consent(t, s.app)
	return s
}

// somebody has told everything about herself.
func (s *stage) somebody(t *testing.T) *browser {
	t.Helper()
	user, err := s.people.Create(t.Context(), identity.NewUser{
		Email: strings.ToLower(rand.Text()) + "@example.test", Password: testPassword, EmailVerified: true, Role: "user", Profile: identity.Profile{
			Name: "Ada Example", GivenName: "Ada", FamilyName: "Example", MiddleName: "M", Nickname: "a", PreferredUsername: "ada", ProfileURL: "https://ada.example.test/",
			Picture: "https://ada.example.test/picture", Website: "https://ada.example.test/", Gender: "female", Birthdate: "1990-12-10", Zoneinfo: "Europe/Berlin", Locale: "de",
			PhoneNumber: "+4930123456", Address: identity.Address{Country: "DE"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{h: s.harness, user: user}
	b.signIn(t)
	return b
}

// client is one that may ask for everything about a person.
func (s *stage) client(t testing.TB, edit func(c *Client)) registered {
	t.Helper()
	return s.harness.client(t, func(c *Client) {
		withRights(c)
		c.Audiences = []string{ordersAPI}
		if edit != nil {
			edit(c)
		}
	})
}

// path is where the document says that an endpoint is.
func (s *stage) path(member string) string {
	return strings.TrimPrefix(s.said[member].(string), testIssuer)
}

func (s *stage) tokens(t testing.TB) answer { return s.b.tokens(t, s.app) }

func (s *stage) good(t testing.TB, a answer) answer {
	t.Helper()
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		t.Fatalf("got %d %v %s", a.status, a.body, a.header.Get("WWW-Authenticate"))
	}
	return a
}

func methodFor(alg string) string {
	if alg == "HS256" {
		return AuthSecretJWT
	}
	return AuthPrivateKeyJWT
}

// proving is a client that proves itself in one way.
func (s *stage) proving(t testing.TB, method, alg string) registered {
	t.Helper()
	return s.client(t, func(c *Client) {
		c.AuthMethod, c.AuthAlg = method, alg
		switch method {
		case AuthNone:
			public(c)
		case AuthPrivateKeyJWT:
			c.JWKS = keySetOf("", orES256(alg))
		case AuthSelfSignedTLS:
			c.JWKS = keySetOf("", "ES256")
		case AuthTLS:
			c.TLSDNS = testCertificateName
		}
	})
}

func orES256(alg string) string {
	if alg == "" {
		return "ES256"
	}
	return alg
}

// as sends a form with the proof of the client's method.
func (s *stage) as(t testing.TB, path string, c registered, alg string, form url.Values) answer {
	t.Helper()
	switch c.AuthMethod {
	case AuthBasic, AuthNone:
		return s.post(t, path, c, form)
	case AuthPost:
		form.Set("client_id", c.ID)
		form.Set("client_secret", c.secret)
	case AuthSecretJWT, AuthPrivateKeyJWT:
		key := any([]byte(c.secret))
		if alg = orES256(alg); c.AuthMethod == AuthSecretJWT {
			alg = "HS256"
		} else {
			key = testKeys()[alg]
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", sign(t, alg, key, nil, s.assertionFor(c, nil)))
	case AuthTLS, AuthSelfSignedTLS:
		form.Set("client_id", c.ID)
		return s.withCertificate(t, path, s.certificate, form)
	default:
		t.Fatalf("nobody drives the method %s", c.AuthMethod)
	}
	return s.post(t, path, registered{}, form)
}

func (s *stage) redeems(t testing.TB, c registered, alg string) answer {
	t.Helper()
	return s.good(t, s.as(t, "/token", c, alg, exchangeForm(s.b.code(t, c))))
}

func (s *stage) revokes(t testing.TB, c registered, alg string) {
	t.Helper()
	token := s.redeems(t, c, alg).str("access_token")
	s.good(t, s.as(t, "/revoke", c, alg, url.Values{"token": {token}}))
	wantError(t, s.userinfoAnswer(t, token), http.StatusUnauthorized, "invalid_token")
}

func (s *stage) introspects(t testing.TB, c registered, alg string) {
	t.Helper()
	token := s.redeems(t, c, alg).str("access_token")
	if a := s.good(t, s.as(t, "/introspect", c, alg, url.Values{"token": {token}})); a.body["active"] != true {
		t.Errorf("got %v", a.body)
	}
}

// byReference asks by a request object that is published, at another address than the registered one if edit says so.
func (s *stage) byReference(t *testing.T, edit func(address string) string) url.Values {
	t.Helper()
	p := publish(t, nil)
	c := s.client(t, signing("ES256", func(c *Client) { c.RequestURIs = []string{p.URL + "/r"} }))
	s.b.consent(t, c)
	p.set(http.StatusOK, json.RawMessage(s.object(t, c, nil)))
	return s.b.authorize(t, s.harness, byReference(c, edit(p.URL+"/r"), "redirect_uri", testRedirect))
}

func (s *stage) boxing(t testing.TB, alg, enc string) registered {
	t.Helper()
	c := s.client(t, func(c *Client) { c.JWKS, c.Encryption = boxSet("P-256", "RSA"), all(alg, enc) })
	s.b.consent(t, c)
	return c
}

func (s *stage) encryptedIDToken(t testing.TB, alg, enc string) {
	t.Helper()
	if _, claims := s.signedBox(t, s.b.tokens(t, s.boxing(t, alg, enc)).str("id_token"), alg, enc, boxFor(alg)); claims["sub"] != s.b.user.ID {
		t.Errorf("got %v", claims)
	}
}

func (s *stage) encryptedUserinfo(t testing.TB, alg, enc string) {
	t.Helper()
	w := s.rawUserinfo(t, s.b.tokens(t, s.boxing(t, alg, enc)).str("access_token"))
	if plain, _ := openedBox(t, w.Body.String(), alg, enc, boxFor(alg)); !strings.Contains(plain, s.b.user.ID) {
		t.Errorf("got %s", plain)
	}
}

func (s *stage) encryptedAnswer(t testing.TB, alg, enc string) {
	t.Helper()
	q := s.b.authorize(t, s.harness, s.boxing(t, alg, enc).params("response_mode", "jwt"))
	if _, claims := s.signedBox(t, q.Get("response"), alg, enc, boxFor(alg)); claims["code"] == nil {
		t.Errorf("got %v", claims)
	}
}

func (s *stage) encryptedIntrospection(t testing.TB, alg, enc string) {
	t.Helper()
	c := s.boxing(t, alg, enc)
	w := s.introspectSigned(t, c, s.b.tokens(t, c).str("access_token"))
	if typ, _ := s.signedBox(t, w.Body.String(), alg, enc, boxFor(alg)); typ != typIntrospection {
		t.Errorf("typ %s", typ)
	}
}

func (s *stage) encryptedRequest(t testing.TB, alg, enc string) {
	t.Helper()
	c := s.client(t, signing("ES256"))
	s.b.consent(t, c)
	if q := s.b.authorize(t, s.harness, beside(c, s.toServer(t, alg, enc, s.object(t, c, nil), nil))); q.Get("code") == "" {
		t.Errorf("got %v", q)
	}
}

// loggedOut ends a session and looks for a claim in what the app is told.
func (s *stage) loggedOut(t *testing.T, value, claim string) {
	t.Helper()
	r, b := newReceiver(t), s.harness.person(t)
	_, id := claimsOf(t, b.tokens(t, s.client(t, r.hears)).str("id_token"))
	if err := s.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
		t.Fatal(err)
	}
	s.deliver(t)
	got := r.got()
	if len(got) != 1 {
		t.Fatalf("told %d times", len(got))
	}
	if claims := s.verified(t, got[0]); fmt.Sprint(claims[claim] == id[claim] && id[claim] != nil) != value {
		t.Errorf("logout token %v, ID token %v", claims, id)
	}
}

// framed looks for a parameter in the address of the app's page that a person who signs out loads.
func (s *stage) framed(t *testing.T, value, parameter string) {
	t.Helper()
	b := s.harness.person(t)
	b.tokens(t, s.client(t, func(c *Client) { c.FrontchannelLogoutURI = "https://app.example.test/front" }))
	pages, err := s.Outbox.FrontChannel(t.Context(), b.user.ID, b.session.ID)
	if err != nil || len(pages) != 1 || fmt.Sprint(strings.Contains(pages[0], parameter)) != value {
		t.Errorf("pages %v, %v", pages, err)
	}
}

// What the metadata promise is kept: each member, and each value of each list, is used by an app that goes by the document.
func TestEveryMetadataValueIsDriven(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, name := range structMembers(t) {
		if s.said[name] == nil {
			t.Errorf("%s is not in the document of a server with everything turned on: turn it on in newStage", name)
		}
	}
	for name, value := range s.said {
		drive := drivers[name]
		if drive == nil {
			t.Errorf("nobody drives %s: give it a line in drivers", name)
			continue
		}
		for _, one := range valuesOf(value) {
			t.Run(name+"/"+one, func(t *testing.T) { drive(t, s, one) })
		}
	}
	for name := range drivers {
		if s.said[name] == nil {
			t.Errorf("%s has a driver, but is not in the document", name)
		}
	}
	for grant := range grantDrivers {
		if !slices.Contains(valuesOf(s.said["grant_types_supported"]), grant) {
			t.Errorf("the grant type %s has a driver, but is not in the document", grant)
		}
	}
}

// structMembers are the names that the document can have.
func structMembers(t testing.TB) []string {
	t.Helper()
	var full map[string]any
	if err := json.Unmarshal(must(json.Marshal(metadata{
		Aliases: map[string]string{"x": "x"}, BackchannelLogout: true, BackchannelSession: true, FrontchannelLogout: true, FrontchannelSession: true, CheckSession: "x",
		ClientDocuments: true, RegistrationEndpoint: "x", CertificateBound: true,
	})), &full); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range full {
		names = append(names, name)
	}
	return names
}

// valuesOf takes lists apart; of objects the names.
func valuesOf(value any) (all []string) {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			all = append(all, fmt.Sprint(one))
		}
	case map[string]any:
		for name := range v {
			all = append(all, name)
		}
	default:
		all = []string{fmt.Sprint(v)}
	}
	return all
}
