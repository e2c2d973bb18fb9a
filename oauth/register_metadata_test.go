package oauth

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
)

// registers makes a client that describes itself.
func (h *harness) registers(t testing.TB, edits ...any) (registered, answer) {
	t.Helper()
	a := h.manage(t, "POST", registrationPath, "", aboutMe(edits...))
	if a.status != http.StatusCreated {
		t.Fatalf("register: %d %v", a.status, a.body)
	}
	c, err := h.Clients.Get(t.Context(), a.str("client_id"))
	if err != nil {
		t.Fatal(err)
	}
	return registered{c, a.str("client_secret")}, a
}

// allowed signs in with consent on the page, which clients that registered themselves need each time.
func (b *browser) allowed(t testing.TB, c registered, edits ...string) answer {
	t.Helper()
	a := b.h.exchangeCode(t, c, b.allows(t, c.params(edits...)).Get("code"))
	if a.status != http.StatusOK {
		t.Fatalf("exchange: %d %v", a.status, a.body)
	}
	return a
}

// Whatever a client may say about itself is taken, told back, and still there after it has read and replaced itself.
func TestRegistrationPassesMetadataOn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		ca := newAuthority(t)
		h.Certificates = Certificates{Direct: true, CAs: pool(ca.certificate)}
		h.Clients.Outbound = h.fetching().Outbound
		sector := publish(t, json.RawMessage(`["`+testRedirect+`"]`))
		var set any
		if err := json.Unmarshal(boxSet("P-256", "RSA"), &set); err != nil {
			t.Fatal(err)
		}
		said := map[string]any{
			"jwks": set, "token_endpoint_auth_method": AuthPrivateKeyJWT, "token_endpoint_auth_signing_alg": "ES256",
			"subject_type": "pairwise", "sector_identifier_uri": sector.URL + "/sector",
			"id_token_signed_response_alg": "ES256", "id_token_encrypted_response_alg": "ECDH-ES", "id_token_encrypted_response_enc": "A256GCM",
			"userinfo_signed_response_alg": "EdDSA", "userinfo_encrypted_response_alg": "RSA-OAEP-256", "userinfo_encrypted_response_enc": "A128GCM",
			"authorization_signed_response_alg": "RS256", "authorization_encrypted_response_alg": "RSA-OAEP", "authorization_encrypted_response_enc": "A128CBC-HS256",
			"introspection_signed_response_alg": "RS256", "introspection_encrypted_response_alg": "ECDH-ES+A128KW", "introspection_encrypted_response_enc": "A256CBC-HS512",
			"request_object_signing_alg": "ES256", "request_object_encryption_alg": "ECDH-ES+A256KW", "request_object_encryption_enc": "A256GCM",
			"require_signed_request_object": true, "request_uris": []any{"https://app.example.test/request#v1"}, "require_pushed_authorization_requests": true,
			"tls_client_certificate_bound_access_tokens": true, "dpop_bound_access_tokens": true,
			"default_max_age": float64(600), "require_auth_time": true, "default_acr_values": []any{identity.ACRPassword}, "initiate_login_uri": "https://app.example.test/login",
			"post_logout_redirect_uris": []any{"https://app.example.test/bye"}, "backchannel_logout_uri": "https://app.example.test/back", "backchannel_logout_session_required": true,
			"frontchannel_logout_uri": "https://app.example.test/front", "contacts": []any{"ops@example.test"}, "client_uri": "https://app.example.test/",
			"logo_uri": "https://app.example.test/logo.png", "policy_uri": "https://app.example.test/policy", "tos_uri": "https://app.example.test/tos",
		}
		var edits []any
		for name, value := range said {
			edits = append(edits, name, value)
		}
		_, made := h.registers(t, edits...)
		access, uri := made.str("registration_access_token"), made.str("registration_client_uri")
		check := func(when string, got answer) {
			t.Helper()
			for name, want := range said {
				if name != "jwks" && !cmp.Equal(got.body[name], want) {
					t.Errorf("%s: %s is %v, want %v", when, name, got.body[name], want)
				}
			}
		}
		check("registered", made)
		check("read", h.manage(t, "GET", uri, access, nil))
		replaced := h.manage(t, "PUT", uri, access, aboutMe(append(edits, "client_id", made.str("client_id"))...))
		check("replaced", replaced)
		access = replaced.str("registration_access_token")
		check("read again", h.manage(t, "GET", uri, access, nil))
		if a := h.manage(t, "PUT", uri, access, aboutMe("client_id", made.str("client_id"))); a.status != http.StatusOK || a.body["subject_type"] != nil ||
			a.body["id_token_encrypted_response_alg"] != nil || a.body["default_max_age"] != nil || a.body["require_signed_request_object"] != nil {
			t.Errorf("what is left out when it replaces itself stays: %v", a.body)
		}
		for _, name := range []string{"tls_client_auth_subject_dn", "tls_client_auth_san_dns", "tls_client_auth_san_uri", "tls_client_auth_san_ip", "tls_client_auth_san_email"} {
			value := map[string]string{"tls_client_auth_subject_dn": "CN=client", "tls_client_auth_san_ip": "192.0.2.1"}[name]
			if value == "" {
				value = "https://app.example.test"
			}
			if _, a := h.registers(t, "token_endpoint_auth_method", AuthTLS, name, value); a.str(name) != value {
				t.Errorf("%s: got %v", name, a.body)
			}
		}
	})
}

func TestOIDCCRegistrationSectorURI(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		h.Clients.Outbound = h.fetching().Outbound
		p := publish(t, json.RawMessage(`["https://other.example.test/cb","`+testRedirect+`"]`))
		b := h.person(t)
		c, a := h.registers(t, "subject_type", "pairwise", "sector_identifier_uri", p.URL+"/sector")
		_, id := claimsOf(t, b.allowed(t, c).str("id_token"))
		if sub, _ := id["sub"].(string); sub == "" || sub == b.user.ID {
			t.Errorf("sub %q", sub)
		}
		// sector-bad: the list lacks the redirect URI. Why an address cannot be fetched strangers do not learn.
		p.set(http.StatusOK, json.RawMessage(`["https://other.example.test/cb"]`))
		bad := aboutMe("subject_type", "pairwise", "sector_identifier_uri", p.URL+"/sector")
		wantError(t, h.manage(t, "POST", registrationPath, "", bad), http.StatusBadRequest, "invalid_client_metadata")
		bad["client_id"], bad["redirect_uris"] = c.ID, []string{"https://app.example.test/elsewhere"}
		wantError(t, h.manage(t, "PUT", a.str("registration_client_uri"), a.str("registration_access_token"), bad), http.StatusBadRequest, "invalid_client_metadata")
		asked := p.asked.Load()
		wantError(t, h.manage(t, "PUT", a.str("registration_client_uri"), "guess", bad), http.StatusUnauthorized, "invalid_token")
		if p.asked.Load() != asked {
			t.Error("a stranger made the server fetch")
		}
		p.set(http.StatusInternalServerError, nil)
		for _, uri := range []string{p.URL + "/sector", "http://127.0.0.1:1/sector", "https://192.168.0.1/sector"} {
			got := h.manage(t, "POST", registrationPath, "", aboutMe("subject_type", "pairwise", "sector_identifier_uri", uri))
			if got.str("error_description") != "sector_identifier_uri: cannot be fetched" && !strings.Contains(got.str("error_description"), "give an https URL") {
				t.Errorf("%s: %v", uri, got.body)
			}
		}
	})
}

func TestOIDCCUserinfoRS256(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		b := h.person(t)
		for _, alg := range signingAlgs {
			c, _ := h.registers(t, "userinfo_signed_response_alg", alg)
			w := h.rawUserinfo(t, b.allowed(t, c).str("access_token"))
			header, claims := claimsOf(t, w.Body.String())
			if w.Header().Get("Content-Type") != "application/jwt" || header["alg"] != alg || claims["iss"] != testIssuer || claims["aud"] != c.ID || claims["nonce"] != nil {
				t.Errorf("%s: got %v %v", alg, header, claims)
			}
		}
	})
}

// What a client registered is held to, not only told back.
func TestRegisteredMetadataIsObeyed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		h.fetching()
		b := h.person(t)
		var set any
		if err := json.Unmarshal(boxSet("P-256"), &set); err != nil {
			t.Fatal(err)
		}
		c, _ := h.registers(t, "token_endpoint_auth_method", AuthBasic, "jwks", set, "id_token_signed_response_alg", "ES256", "id_token_encrypted_response_alg", "ECDH-ES",
			"introspection_signed_response_alg", "EdDSA", "authorization_signed_response_alg", "RS256", "default_max_age", 0)
		if w := b.get(h, "/authorize?"+c.params().Encode()); !strings.Contains(w.Header().Get("Location"), "/login?") {
			t.Errorf("default_max_age 0 on a session of before: got %s, want the sign-in page", w.Header().Get("Location"))
		}
		tokens := b.allowed(t, c, "max_age", "3600") // a request that says it itself
		h.signedBox(t, tokens.str("id_token"), "ECDH-ES", defaultEnc, "P-256")
		w := h.introspectSigned(t, c, tokens.str("access_token"))
		if header, _ := claimsOf(t, w.Body.String()); header["alg"] != "EdDSA" {
			t.Errorf("introspection: %v", header)
		}
		q := must(url.Parse(b.get(h, "/authorize?"+c.params("response_mode", "jwt", "scope", "openid", "prompt", "none").Encode()).Header().Get("Location"))).Query()
		if header, _ := claimsOf(t, q.Get("response")); header["alg"] != "RS256" {
			t.Errorf("answer: %v", header)
		}

		object := publish(t, nil)
		signs, _ := h.registers(t, "jwks", set, "require_signed_request_object", true, "request_object_signing_alg", "ES256", "request_uris", []string{object.URL + "/r#v1"})
		if w := b.get(h, "/authorize?"+signs.params().Encode()); w.Code != http.StatusBadRequest { // a page: nobody has looked at the client
			t.Errorf("unsigned: got %d", w.Code)
		}
		object.set(http.StatusOK, json.RawMessage(h.object(t, signs, nil)))
		b.allows(t, byReference(signs, object.URL+"/r#v1"))

		pushes, _ := h.registers(t, "require_pushed_authorization_requests", true)
		if w := b.get(h, "/authorize?"+pushes.params().Encode()); w.Code != http.StatusBadRequest {
			t.Errorf("not pushed: got %d", w.Code)
		}
		bound, _ := h.registers(t, "dpop_bound_access_tokens", true)
		if a := h.exchangeCode(t, bound, b.allows(t, bound.params()).Get("code")); a.status != http.StatusBadRequest || a.str("error") != "invalid_dpop_proof" {
			t.Errorf("without a proof: got %d %v", a.status, a.body)
		}
		strong, _ := h.registers(t, "default_acr_values", []string{"urn:other:gold", identity.ACRMFA})
		if w := b.get(h, "/authorize?"+strong.params().Encode()); strings.Contains(w.Header().Get("Location"), "/consent") {
			t.Errorf("one factor where two are registered: got %s", w.Header().Get("Location"))
		}

		ca := newAuthority(t)
		h.Certificates = Certificates{Direct: true, CAs: pool(ca.certificate)}
		named, _ := h.registers(t, "token_endpoint_auth_method", AuthTLS, "tls_client_auth_san_dns", "app.example.test", "tls_client_certificate_bound_access_tokens", true)
		form := exchangeForm(b.allows(t, named.params()).Get("code"))
		form.Set("client_id", named.ID)
		stranger := issue(t, ca, testKeys()["other"], nil)
		wantError(t, h.withCertificate(t, "/token", stranger, form), http.StatusUnauthorized, "invalid_client")
		good := issue(t, ca, testKeys()["ES256"], func(c *x509.Certificate) { c.DNSNames = []string{"app.example.test"} })
		a := h.withCertificate(t, "/token", good, form)
		if a.status != http.StatusOK {
			t.Fatalf("with its certificate: %d %v", a.status, a.body)
		}
		if _, claims := claimsOf(t, a.str("access_token")); claims["cnf"] == nil {
			t.Error("the token is not bound to the certificate")
		}
		secret, _ := h.registers(t, "token_endpoint_auth_method", AuthSecretJWT, "token_endpoint_auth_signing_alg", "HS256")
		v := exchangeForm(b.allows(t, secret.params()).Get("code"))
		v.Set("client_assertion_type", assertionType)
		v.Set("client_assertion", sign(t, "HS256", []byte(secret.secret), nil, h.assertionFor(secret, nil)))
		if a := h.post(t, "/token", registered{}, v); a.status != http.StatusOK {
			t.Errorf("client_secret_jwt: %d %v", a.status, a.body)
		}
	})
}

func TestDefaultMaxAge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) { c.DefaultMaxAge = new(int64); *c.DefaultMaxAge = 600 })
		b.consent(t, c)
		if q := b.authorize(t, h, c.params()); q.Get("code") == "" {
			t.Fatalf("a session of now: %v", q)
		}
		h.advanceClock(11 * time.Minute)
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "login_required" {
			t.Errorf("a session of before: %v", q)
		}
		if q := b.authorize(t, h, c.params("max_age", "3600")); q.Get("code") == "" {
			t.Errorf("a request that says it itself: %v", q)
		}
	})
	for _, bad := range []int64{-1, 1 << 40} {
		c := Client{ID: "x", Name: "X", RedirectURIs: []string{testRedirect}, RequirePKCE: true}.WithDefaults()
		c.DefaultMaxAge = &bad
		if c.Validate() == nil {
			t.Errorf("default_max_age %d is taken", bad)
		}
	}
}

// A client that is a document knows people by the same names as its row does later; a list of a sector it cannot have.
func TestDocumentKnowsPeopleByNamesOfItsOwn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p, b := h.publish(t), h.person(t)
		var set any
		if err := json.Unmarshal(boxSet("P-256"), &set); err != nil {
			t.Fatal(err)
		}
		p.says(0, nil, clientDocument(func(m map[string]any) {
			m["redirect_uris"], m["subject_type"], m["jwks"], m["userinfo_encrypted_response_alg"] = []string{testRedirect}, "pairwise", set, "ECDH-ES"
		}))
		c := p.client()
		tokens := b.allowed(t, c)
		_, id := claimsOf(t, tokens.str("id_token"))
		own := h.client(t, pairwise)
		if want := must(h.Clients.registration(t.Context(), own.ID)).subject(b.user.ID); id["sub"] != want {
			t.Errorf("sub %v, want that of the host, %s", id["sub"], want)
		}
		plain, _ := openedBox(t, h.rawUserinfo(t, tokens.str("access_token")).Body.String(), "ECDH-ES", defaultEnc, "P-256")
		if !strings.Contains(plain, id["sub"].(string)) || strings.Contains(plain, b.user.ID) {
			t.Errorf("userinfo %s", plain)
		}
		if _, again := claimsOf(t, h.refreshToken(t, c, tokens.str("refresh_token")).str("id_token")); again["sub"] != id["sub"] {
			t.Errorf("refreshed: sub %v, want %v", again["sub"], id["sub"])
		}
		if _, err := readDocument(p.id(), []byte(clientDocument(func(m map[string]any) {
			m["subject_type"], m["sector_identifier_uri"] = "pairwise", "https://victim.example.test/sector"
		})(p.id())), http.Header{"Content-Type": {"application/json"}}); err == nil || !strings.Contains(err.Error(), "sector_identifier_uri") {
			t.Errorf("sector of another: %v", err)
		}
	})
}
