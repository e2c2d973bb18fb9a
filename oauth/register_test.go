package oauth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

// opened lets clients register themselves.
func (h *harness) opened(t testing.TB, who string) {
	t.Helper()
	h.SelfRegistered.Registration = who
	mux := http.NewServeMux()
	web.Mount(mux, h.Site, h.Routes(), func(_ http.ResponseWriter, _ *http.Request, err error) {
		t.Errorf("handler returned an error: %v", err)
	})
	h.handler = http.MaxBytesHandler(mux, 64<<10)
}

// manage sends JSON to the registration endpoint, or to what it named.
func (h *harness) manage(t testing.TB, method, url, token string, body any) answer {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, strings.TrimPrefix(url, testIssuer), strings.NewReader(string(b)))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return h.do(t, r)
}

func aboutMe(edits ...any) map[string]any {
	m := map[string]any{
		"client_name": "Test agent", "redirect_uris": []string{testRedirect}, "token_endpoint_auth_method": "none", "unknown": 1,
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "application_type": "web",
	}
	for i := 0; i < len(edits); i += 2 {
		m[edits[i].(string)] = edits[i+1]
	}
	return m
}

func TestClientRegistersItself(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		for _, method := range []string{AuthNone, AuthBasic} {
			a := h.manage(t, "POST", registrationPath, "", aboutMe("token_endpoint_auth_method", method))
			if a.status != http.StatusCreated || a.str("client_id") == "" || a.str("registration_access_token") == "" || (a.str("client_secret") != "") != (method == AuthBasic) {
				t.Fatalf("%s: %d %v", method, a.status, a.body)
			}
			c := registered{Client{ID: a.str("client_id"), AuthMethod: method}, a.str("client_secret")}
			b := h.person(t)
			_, in := b.asks(t, c.params())
			if in.Stranger == nil || in.Stranger.Host != "" || in.Stranger.Approved {
				t.Errorf("the page knows %+v, want an app that has proven nothing", in.Stranger)
			}
			tokens := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
			if tokens.status != http.StatusOK || tokens.body["expires_in"].(float64) > strangerTokenTTL.Seconds() {
				t.Fatalf("exchange: %d %v", tokens.status, tokens.body)
			}
			b.asks(t, c.params()) // each time

			uri, access := a.str("registration_client_uri"), a.str("registration_access_token")
			if got := h.manage(t, "GET", uri, access, nil); got.status != 200 || got.str("client_id") != c.ID || got.str("client_secret") != "" {
				t.Errorf("read: %d %v", got.status, got.body)
			}
			changed := aboutMe("client_id", c.ID, "client_name", "Other name", "token_endpoint_auth_method", method, "redirect_uris", []string{"https://app.example.test/new"})
			if got := h.manage(t, "PUT", uri, access, changed); got.status != 200 || got.str("client_name") != "Other name" {
				t.Errorf("replace: %d %v", got.status, got.body)
			}
			if w := b.get(h, "/authorize?"+c.params().Encode()); w.Code != http.StatusBadRequest {
				t.Errorf("the redirect URI of before: %d, want the error page", w.Code)
			}
			if got := h.manage(t, "DELETE", uri, access, nil); got.status != http.StatusNoContent {
				t.Errorf("delete: %d %v", got.status, got.body)
			}
			wantError(t, h.manage(t, "GET", uri, access, nil), 401, "invalid_token")
			wantError(t, h.refreshToken(t, c, tokens.str("refresh_token")), 401, "invalid_client")
			wantError(t, h.userinfoAnswer(t, tokens.str("access_token")), 401, "invalid_token")
		}
	})
}

// A registration access token opens its own client and no other, and none that an operator has disabled or registered.
func TestRegistrationTokenOpensOneClient(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		mine, other, operators := h.manage(t, "POST", registrationPath, "", aboutMe()), h.manage(t, "POST", registrationPath, "", aboutMe()), h.client(t, nil)
		access := mine.str("registration_access_token")
		for _, url := range []string{other.str("registration_client_uri"), registrationPath + "/" + operators.ID, registrationPath + "/none"} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				wantError(t, h.manage(t, method, url, access, aboutMe("client_id", url[strings.LastIndex(url, "/")+1:])), 401, "invalid_token")
			}
		}
		for _, token := range []string{"", "x", access + "x", access[1:]} {
			wantError(t, h.manage(t, "GET", mine.str("registration_client_uri"), token, nil), 401, "invalid_token")
		}
		c, err := h.Clients.Get(t.Context(), mine.str("client_id"))
		if err != nil {
			t.Fatal(err)
		}
		c.Disabled = true
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			wantError(t, h.manage(t, method, mine.str("registration_client_uri"), access, aboutMe("client_id", c.ID)), 401, "invalid_token")
		}
		if c, err = h.Clients.Get(t.Context(), c.ID); err != nil || !c.Disabled {
			t.Errorf("the disabled client is %+v, %v", c, err)
		}
	})
}

// What only operators give cannot be registered, nor lost by registering anew.
func TestRegistrationCannotPromoteItself(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		greedy := aboutMe(
			"first_party", true, "security_events", true, "global_token_revocation", true, "require_pkce", false, "scope", "openid ssf.manage admin", "scopes", []string{"admin"},
			"audiences", []string{"urn:api"}, "origin", "", "access_token_ttl", int64(time.Hour), "grant_types", []string{"authorization_code", "client_credentials", GrantDeviceCode},
			"client_id", "my-own", "disabled", true, "allow_groups", []string{"x"},
		)
		a := h.manage(t, "POST", registrationPath, "", greedy)
		check := func(what string) Client {
			got, err := h.Clients.Get(t.Context(), a.str("client_id"))
			if err != nil || got.ID == "my-own" || got.FirstParty || got.SecurityEvents || got.RevokesPeople || !got.RequirePKCE || !slices.Equal(got.Scopes, []string{"openid"}) ||
				got.Audiences != nil || got.Origin != OriginRegistration || got.AccessTokenTTL != 0 || len(got.GrantTypes) != 1 || got.Disabled {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
			return got
		}
		c := check("registered")
		c.AllowGroups = []string{"0199f6f0-0000-7000-8000-000000000000"} // the operator shuts it
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		greedy["client_id"], greedy["allow_groups"] = c.ID, []string{}
		if got := h.manage(t, "PUT", a.str("registration_client_uri"), a.str("registration_access_token"), greedy); got.status != 200 {
			t.Fatalf("replace: %d %v", got.status, got.body)
		}
		if got := check("replaced"); len(got.AllowGroups) != 1 {
			t.Error("the client let itself into all groups")
		}
	})
}

func TestRegistrationRefusesBadMetadata(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		if err := h.Clients.Block(t.Context(), "bad.test"); err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			body map[string]any
			code string
		}{
			"fragment":          {aboutMe("redirect_uris", []string{"https://app.example.test/cb#f"}), "invalid_redirect_uri"},
			"script":            {aboutMe("redirect_uris", []string{"javascript:alert(1)"}), "invalid_redirect_uri"},
			"plain http":        {aboutMe("redirect_uris", []string{"http://app.example.test/cb"}), "invalid_redirect_uri"},
			"no redirect":       {aboutMe("redirect_uris", []string{}), "invalid_redirect_uri"},
			"blocked host":      {aboutMe("redirect_uris", []string{"https://a.bad.test/cb"}), "invalid_redirect_uri"},
			"unknown method":    {aboutMe("token_endpoint_auth_method", "magic"), "invalid_client_metadata"},
			"certificates":      {aboutMe("token_endpoint_auth_method", AuthTLS, "tls_client_auth_san_dns", "a.test"), "invalid_client_metadata"},
			"no keys":           {aboutMe("token_endpoint_auth_method", AuthPrivateKeyJWT), "invalid_client_metadata"},
			"jwks and jwks_uri": {aboutMe("token_endpoint_auth_method", AuthPrivateKeyJWT, "jwks", map[string]any{"keys": []any{}}, "jwks_uri", "https://a.test/"), "invalid_client_metadata"},
			"script as logo":    {aboutMe("logo_uri", "javascript:alert(1)"), "invalid_client_metadata"},
			"http login":        {aboutMe("initiate_login_uri", "http://app.example.test/"), "invalid_client_metadata"},
			"machine only":      {aboutMe("grant_types", []string{"client_credentials"}), "invalid_client_metadata"},
			"name":              {aboutMe("client_name", strings.Repeat("x", 500)), "invalid_client_metadata"},
			"types":             {aboutMe("redirect_uris", "https://app.example.test/cb"), "invalid_client_metadata"},
		} {
			a := h.manage(t, "POST", registrationPath, "", tc.body)
			if a.status != http.StatusBadRequest || a.str("error") != tc.code {
				t.Errorf("%s: %d %v, want %s", name, a.status, a.body, tc.code)
			}
		}
		if list, err := h.Clients.List(t.Context(), "", 10); err != nil || len(list) != 0 {
			t.Errorf("clients: %v, %v, want none", list, err)
		}
	})
}

// mod_auth_openidc names all of its addresses, and on a developer's machine none of them has TLS.
func TestRegistrationOfAnAppOnLoopback(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		base := "http://127.0.0.1:8080/private/callback"
		a := h.manage(t, "POST", registrationPath, "", aboutMe("redirect_uris", []string{base}, "initiate_login_uri", base, "backchannel_logout_uri", base+"?logout=backchannel"))
		if a.status != http.StatusCreated || a.str("initiate_login_uri") != base {
			t.Errorf("got %d %v, want the client", a.status, a.body)
		}
	})
}

func TestRegistrationNeedsInitialToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationToken)
		wantError(t, h.manage(t, "POST", registrationPath, "", aboutMe()), 401, "invalid_token")
		wantError(t, h.manage(t, "POST", registrationPath, "guess", aboutMe()), 401, "invalid_token")
		_, token, err := h.Clients.CreateToken(t.Context(), "for a test", 1, time.Hour, RegistrationPolicy{})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, h.manage(t, "POST", registrationPath, token, aboutMe("redirect_uris", []string{})), 400, "invalid_redirect_uri") // costs no use
		if a := h.manage(t, "POST", registrationPath, token, aboutMe()); a.status != http.StatusCreated {
			t.Fatalf("with a token: %d %v", a.status, a.body)
		}
		wantError(t, h.manage(t, "POST", registrationPath, token, aboutMe()), 401, "invalid_token")
		made, late, err := h.Clients.CreateToken(t.Context(), "", 5, time.Hour, RegistrationPolicy{})
		if err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Hour)
		wantError(t, h.manage(t, "POST", registrationPath, late, aboutMe()), 401, "invalid_token")
		if err := h.Clients.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list, err := h.Clients.Tokens(t.Context(), 10); err != nil || len(list) != 0 || h.Clients.DeleteToken(t.Context(), made.ID) == nil {
			t.Errorf("tokens that are over: %v, %v", list, err)
		}
	})
}

// Registrations that nobody uses go; those that people use stay (storage exhaustion).
func TestUnusedRegistrationsExpire(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		unused, used := h.manage(t, "POST", registrationPath, "", aboutMe()), h.manage(t, "POST", registrationPath, "", aboutMe())
		operators := h.client(t, nil)
		c, b := registered{Client{ID: used.str("client_id"), AuthMethod: AuthNone}, ""}, h.person(t)
		tokens := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
		h.advanceClock(unusedTTL + time.Hour)
		if err := h.Clients.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.post(t, "/token", registered{Client{ID: unused.str("client_id"), AuthMethod: AuthNone}, ""}, exchangeForm("x")), 401, "invalid_client")
		if a := h.refreshToken(t, c, tokens.str("refresh_token")); a.status != http.StatusOK {
			t.Errorf("a client in use: %d %v", a.status, a.body)
		}
		h.advanceClock(idleTTL)
		if err := h.Clients.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.refreshToken(t, c, tokens.str("refresh_token")), 401, "invalid_client")
		if _, err := h.Clients.Get(t.Context(), operators.ID); err != nil {
			t.Errorf("the operator's client went, too: %v", err)
		}
	})
}

func TestFloodOfRegistrations(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.SelfRegistered.PerHour = 3
		h.opened(t, RegistrationOpen)
		from := func(address string) *http.Request {
			b, _ := json.Marshal(aboutMe())
			r := httptest.NewRequest("POST", registrationPath, strings.NewReader(string(b)))
			r.Header.Set("Content-Type", "application/json")
			return r.WithContext(web.WithAddress(r.Context(), netip.MustParseAddr(address)))
		}
		for i := range 5 {
			want := http.StatusCreated
			if i >= 3 {
				want = http.StatusServiceUnavailable
			}
			if a := h.do(t, from("192.0.2.1")); a.status != want {
				t.Errorf("registration %d: %d, want %d", i+1, a.status, want)
			}
		}
		if a := h.do(t, from("198.51.100.1")); a.status != http.StatusCreated {
			t.Errorf("another network: %d", a.status)
		}
	})
}

func TestRegistrationOffIsAbsent(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.opened(t, RegistrationOff)
	if a := h.manage(t, "POST", registrationPath, "", aboutMe()); a.status != http.StatusNotFound {
		t.Errorf("status %d, want 404", a.status)
	}
	for who, want := range map[string]bool{RegistrationOff: false, "": false, RegistrationToken: true, RegistrationOpen: true} {
		h.SelfRegistered = SelfRegistered{Registration: who, Documents: want}
		d, err := h.buildMetadata()
		if err != nil || strings.Contains(string(d.body), "registration_endpoint") != want || strings.Contains(string(d.body), "client_id_metadata_document_supported") != want {
			t.Errorf("%q: %s, %v", who, d.body, err)
		}
	}
}

func FuzzRegistration(f *testing.F) {
	for _, m := range []map[string]any{aboutMe(), aboutMe("grant_types", nil), aboutMe("scope", "openid email"), {}} {
		b, _ := json.Marshal(m)
		f.Add(b)
	}
	s := &Server{Config: Config{Clients: &Clients{}, SelfRegistered: SelfRegistered{Scopes: standardScopes}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := readMetadata(body)
		if err != nil {
			return
		}
		c, err := s.fromMetadata(m, RegistrationPolicy{})
		if err != nil {
			return
		}
		c.ID = "new"
		if c.FirstParty || c.SecurityEvents || c.RevokesPeople || !c.RequirePKCE || c.Origin != OriginRegistration || c.Validate() != nil {
			t.Errorf("a client that must not be: %+v", c)
		}
	})
}
