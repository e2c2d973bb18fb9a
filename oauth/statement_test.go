package oauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"
)

const directory = "https://directory.example.test"

// trusts makes an issuer of software statements, and one of assertions alone.
func (h *harness) trusts(t testing.TB) {
	t.Helper()
	for _, i := range []Issuer{
		{Issuer: directory, JWKS: keySetOf("", "ES256"), For: []string{ForStatements}},
		{Issuer: "https://second.example.test", JWKS: keySetOf("", "EdDSA"), For: []string{ForStatements, ForTokens}},
		{Issuer: machines, JWKS: keySetOf("", "ES256")},
	} {
		if err := h.Issuers().Create(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
}

func statement(t testing.TB, edits map[string]any) string {
	claims := map[string]any{"iss": directory, "software_id": "4NRB1-0XZABZI9E6-5SM3R", "client_name": "Vouched", "redirect_uris": []string{testRedirect}}
	maps.Copy(claims, edits)
	return sign(t, "ES256", testKeys()["ES256"], nil, claims)
}

func TestSoftwareStatementWinsOverTheClient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		h.trusts(t)
		signed := statement(t, nil)
		stolen := aboutMe("client_name", "My bank", "redirect_uris", []string{"https://evil.example.test/cb"}, "software_id", "mine", "software_statement", signed, "software_version", "1.2")
		a := h.manage(t, "POST", registrationPath, "", stolen)
		check := func(what string, a answer) {
			t.Helper()
			if uris, _ := a.body["redirect_uris"].([]any); a.str("client_name") != "Vouched" || len(uris) != 1 || uris[0] != testRedirect ||
				a.str("software_id") != "4NRB1-0XZABZI9E6-5SM3R" || a.str("software_version") != "1.2" || a.str("software_statement") == "" {
				t.Fatalf("%s: %d %v", what, a.status, a.body)
			}
		}
		check("registered", a)
		if a.str("software_statement") != signed {
			t.Error("the statement came back changed (RFC 7591 §3.2.1)")
		}
		at, token := a.str("registration_client_uri"), a.str("registration_access_token")
		stolen["client_id"] = a.str("client_id")
		check("repeated", h.manage(t, "PUT", at, token, stolen))
		delete(stolen, "software_statement")
		check("left away", h.manage(t, "PUT", at, token, stolen))
		check("read", h.manage(t, "GET", at, token, nil))
		stolen["software_statement"] = sign(t, "EdDSA", testKeys()["EdDSA"], map[string]any{"typ": typStatement}, map[string]any{"iss": "https://second.example.test", "client_name": "My bank"})
		wantError(t, h.manage(t, "PUT", at, token, stolen), 400, "unapproved_software_statement") // of another issuer
		if err := h.Issuers().Delete(t.Context(), directory); err != nil {
			t.Fatal(err)
		}
		check("the issuer is gone", h.manage(t, "GET", at, token, nil))
		stolen["software_statement"] = statement(t, map[string]any{"client_name": "Other"})
		wantError(t, h.manage(t, "PUT", at, token, stolen), 400, "unapproved_software_statement")
	})
}

func TestKeysBesideThoseOfAStatementAreDropped(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.opened(t, RegistrationOpen)
	h.trusts(t)
	var set map[string]any
	if err := json.Unmarshal(keySetOf("", "EdDSA"), &set); err != nil {
		t.Fatal(err)
	}
	mine := aboutMe("token_endpoint_auth_method", AuthPrivateKeyJWT, "jwks_uri", "https://evil.example.test/keys")
	mine["software_statement"] = statement(t, map[string]any{"jwks": set})
	if a := h.manage(t, "POST", registrationPath, "", mine); a.status != http.StatusCreated || a.body["jwks_uri"] != nil || a.body["jwks"] == nil {
		t.Errorf("keys in the statement: %d %v", a.status, a.body)
	}
	mine = aboutMe("token_endpoint_auth_method", AuthPrivateKeyJWT, "jwks", set)
	mine["software_statement"] = statement(t, map[string]any{"jwks_uri": "https://app.example.test/keys"})
	if a := h.manage(t, "POST", registrationPath, "", mine); a.status != http.StatusCreated || a.body["jwks_uri"] == nil || a.body["jwks"] != nil {
		t.Errorf("address of keys in the statement: %d %v", a.status, a.body)
	}
}

func TestForgedSoftwareStatementsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.SelfRegistered.PerHour = 100
		h.opened(t, RegistrationOpen)
		h.trusts(t)
		now := h.Now()
		claims := map[string]any{"iss": directory, "client_name": "Vouched"}
		for name, tc := range map[string]struct{ statement, code string }{
			"no JWT":                  {"x", "invalid_software_statement"},
			"none":                    {sign(t, "none", nil, nil, claims), "invalid_software_statement"},
			"HS256 by the public key": {sign(t, "HS256", []byte(keySetOf("", "ES256")), nil, claims), "invalid_software_statement"},
			"another key":             {sign(t, "ES256", testKeys()["other"], nil, claims), "invalid_software_statement"},
			"an ID token":             {sign(t, "ES256", testKeys()["ES256"], map[string]any{"typ": "at+jwt"}, claims), "invalid_software_statement"},
			"changed":                 {tampered(statement(t, map[string]any{"x": "refs/heads/main"})), "invalid_software_statement"},
			"expired":                 {statement(t, map[string]any{"exp": now.Add(-time.Minute).Unix()}), "invalid_software_statement"},
			"from the future":         {statement(t, map[string]any{"iat": now.Add(time.Hour).Unix()}), "invalid_software_statement"},
			"for another server":      {statement(t, map[string]any{"aud": "https://other.example.test"}), "invalid_software_statement"},
			"redirects as text":       {statement(t, map[string]any{"redirect_uris": "https://app.example.test"}), "invalid_software_statement"},
			"unknown issuer":          {statement(t, map[string]any{"iss": "https://evil.example.test"}), "unapproved_software_statement"},
			"issuer of machines":      {statement(t, map[string]any{"iss": machines}), "unapproved_software_statement"},
			"our own":                 {statement(t, map[string]any{"iss": testIssuer}), "unapproved_software_statement"},
			"bad claims":              {statement(t, map[string]any{"redirect_uris": []string{"http://evil.example.test"}}), "invalid_redirect_uri"},
		} {
			if a := h.manage(t, "POST", registrationPath, "", aboutMe("software_statement", tc.statement)); a.status != http.StatusBadRequest || a.str("error") != tc.code {
				t.Errorf("%s: got %d %v, want %s", name, a.status, a.body, tc.code)
			}
		}
		for name, edits := range map[string]map[string]any{"for us": {"aud": []string{testIssuer}}, "with times": {"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}} {
			if a := h.manage(t, "POST", registrationPath, "", aboutMe("software_statement", statement(t, edits))); a.status != http.StatusCreated {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
	})
}

// The token changes with each update; a lost answer locks nobody out, and once the new token was used the old one is worth nothing.
func TestRegistrationTokenIsRotated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		a := h.manage(t, "POST", registrationPath, "", aboutMe())
		at, first := a.str("registration_client_uri"), a.str("registration_access_token")
		body := aboutMe("client_id", a.str("client_id"))
		update := func(token string) string {
			t.Helper()
			got := h.manage(t, "PUT", at, token, body)
			if got.status != http.StatusOK || got.str("registration_access_token") == "" || got.str("registration_access_token") == token {
				t.Fatalf("update: %d %v", got.status, got.body)
			}
			return got.str("registration_access_token")
		}
		lost := update(first)
		second := update(first) // comes again, as it did not hear the answer
		wantError(t, h.manage(t, "GET", at, lost, nil), 401, "invalid_token")
		if got := h.manage(t, "GET", at, first, nil); got.status != http.StatusOK {
			t.Errorf("the old token before the new one was used: %d", got.status)
		}
		if got := h.manage(t, "GET", at, second, nil); got.status != http.StatusOK || got.str("registration_access_token") != second {
			t.Errorf("the new token: %d %v", got.status, got.body)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			wantError(t, h.manage(t, method, at, first, body), 401, "invalid_token")
		}
		third := update(second)
		fourth := update(third)
		wantError(t, h.manage(t, "PUT", at, second, body), 401, "invalid_token")
		wantError(t, h.manage(t, "PUT", at, fourth, aboutMe("client_id", a.str("client_id"), "redirect_uris", []string{})), 400, "invalid_redirect_uri") // changes nothing
		if got := h.manage(t, "DELETE", at, fourth, nil); got.status != http.StatusNoContent {
			t.Errorf("delete: %d %v", got.status, got.body)
		}
	})
}

func TestInitialTokenBoundsWhatIsRegistered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationToken)
		h.trusts(t)
		_, token, err := h.Clients.CreateToken(t.Context(), "", 10, time.Hour, RegistrationPolicy{Scopes: []string{"openid", "invoices"}, Hosts: []string{"app.example.test"}})
		if err != nil {
			t.Fatal(err)
		}
		a := h.manage(t, "POST", registrationPath, token, aboutMe("scope", "openid email invoices admin"))
		if a.status != http.StatusCreated || a.str("scope") != "openid invoices" {
			t.Fatalf("registered: %d %v", a.status, a.body)
		}
		for _, evil := range []string{"https://evil.example.test/cb", "https://app.example.test.evil.example/cb", "https://app.example.test@evil.example/cb", "com.example.app:/cb", "http://127.0.0.1/cb"} {
			wantError(t, h.manage(t, "POST", registrationPath, token, aboutMe("redirect_uris", []string{evil})), 400, "invalid_redirect_uri")
			wantError(t, h.manage(t, "PUT", a.str("registration_client_uri"), a.str("registration_access_token"), aboutMe("client_id", a.str("client_id"), "redirect_uris", []string{evil})), 400, "invalid_redirect_uri")
		}
		if got := h.manage(t, "PUT", a.str("registration_client_uri"), a.str("registration_access_token"), aboutMe("client_id", a.str("client_id"), "scope", "invoices email")); got.str("scope") != "invoices" {
			t.Errorf("updated: %v", got.body)
		}
		_, token, err = h.Clients.CreateToken(t.Context(), "", 10, time.Hour, RegistrationPolicy{Statement: true})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, h.manage(t, "POST", registrationPath, token, aboutMe()), 400, "invalid_software_statement")
		if a := h.manage(t, "POST", registrationPath, token, aboutMe("software_statement", statement(t, nil))); a.status != http.StatusCreated {
			t.Errorf("with a statement: %v", a.body)
		}
		for name, p := range map[string]RegistrationPolicy{"scope": {Scopes: []string{"a b"}}, "host": {Hosts: []string{"https://app.example.test"}}} {
			if _, _, err := h.Clients.CreateToken(t.Context(), "", 1, time.Hour, p); err == nil {
				t.Errorf("a policy with a bad %s was accepted", name)
			}
		}
	})
}

// MCP clients register anew when they hear it, and only then.
func TestUnknownAndRemovedClientsHear401(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		removed := h.manage(t, "POST", registrationPath, "", aboutMe())
		h.manage(t, "DELETE", removed.str("registration_client_uri"), removed.str("registration_access_token"), nil)
		disabled := h.client(t, func(c *Client) { public(c) })
		off := disabled.Client
		off.Disabled = true
		if err := h.Clients.Update(t.Context(), off); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]registered{
			"unknown": {Client{ID: "nobody", AuthMethod: AuthNone}, ""}, "unknown with a secret": {Client{ID: "nobody"}, "x"},
			"removed": {Client{ID: removed.str("client_id"), AuthMethod: AuthNone}, ""}, "disabled": disabled,
		} {
			for path, form := range map[string]url.Values{
				"/token": exchangeForm("x"), "/par": c.params(), "/revoke": {"token": {"x"}}, "/introspect": {"token": {"x"}}, "/device_authorization": {},
			} {
				if a := h.post(t, path, c, form); a.status != http.StatusUnauthorized || a.str("error") != "invalid_client" || a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s at %s: %d %v, want 401 invalid_client", name, path, a.status, a.body)
				}
			}
			for _, grant := range grantTypes {
				wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {grant}}), 401, "invalid_client")
			}
		}
	})
}

func FuzzSoftwareStatement(f *testing.F) {
	for _, edits := range []map[string]any{nil, {"jwks": map[string]any{"keys": []any{}}}, {"jwks_uri": "https://a.test"}, {"redirect_uris": nil}, {"software_statement": "x", "client_secret": "s", "client_id": "x"}} {
		f.Add(statement(f, edits))
	}
	s := &Server{Config: Config{Clients: &Clients{}, SelfRegistered: SelfRegistered{Scopes: standardScopes}}}
	f.Fuzz(func(t *testing.T, signed string) {
		m, err := readMetadata([]byte(`{"client_id":"c","redirect_uris":["https://app.example.test/cb"],"token_endpoint_auth_method":"none"}`))
		if err != nil {
			t.Fatal(err)
		}
		if m, err = m.stated(signed); err != nil {
			return
		}
		if m.ID != "c" || m.Secret != nil || m.SoftwareStatement != signed {
			t.Errorf("a statement claims what is not its business: %+v", m)
		}
		if c, err := s.fromMetadata(m, RegistrationPolicy{}); err == nil && (c.FirstParty || !c.RequirePKCE || c.Origin != OriginRegistration) {
			t.Errorf("a client that must not be: %+v", c)
		}
	})
}
