package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

const (
	ordersAPI = "https://orders.example.test"
	mailAPI   = "https://mail.example.test/v1"
	openAPI   = "https://mcp.example.test/mcp"
)

// api registers an API that knows some scopes.
func (h *harness) api(t testing.TB, identifier string, edit func(r *identity.Resource), scopes ...string) identity.API {
	t.Helper()
	a := identity.API{Identifier: identifier, Name: "API " + identifier}
	for _, s := range scopes {
		a.Scopes = append(a.Scopes, identity.APIScope{Name: s, Description: "Do " + s})
	}
	if edit != nil {
		edit(&a.Resource)
	}
	a, err := h.people.CreateResource(t.Context(), "", a)
	if err != nil {
		t.Fatalf("create API: %v", err)
	}
	return a
}

// apis registers two APIs and a client of both.
func (h *harness) apis(t testing.TB) registered {
	t.Helper()
	h.api(t, ordersAPI, func(r *identity.Resource) { r.TokenTTL = 2 * time.Minute }, "read", "write")
	h.api(t, mailAPI, nil, "read", "send")
	return h.client(t, func(c *Client) {
		c.Audiences = []string{ordersAPI, mailAPI}
		c.Scopes = append(c.Scopes, "send")
	})
}

// allow goes through the consent page.
func (b *browser) allow(t testing.TB, h *harness, v url.Values) url.Values {
	t.Helper()
	w := b.get(h, "/authorize?"+v.Encode())
	to := must(url.Parse(w.Header().Get("Location")))
	if to.Path != "/consent" {
		t.Fatalf("led to %s, want the consent page; %s", to, w.Body)
	}
	id := to.Query().Get("i")
	if err := h.Approve(t.Context(), id, b.session); err != nil {
		t.Fatal(err)
	}
	back := must(url.Parse(b.get(h, "/authorize/resume?i="+url.QueryEscape(id)).Header().Get("Location")))
	return back.Query()
}

// with adds values that stand several times.
func with(v url.Values, name string, values ...string) url.Values {
	v[name] = values
	return v
}

func audienceOf(t testing.TB, token string) (aud []string, scope string) {
	t.Helper()
	_, claims := claimsOf(t, token)
	scope, _ = claims["scope"].(string)
	switch a := claims["aud"].(type) {
	case string:
		return []string{a}, scope
	case []any:
		for _, one := range a {
			aud = append(aud, one.(string))
		}
	}
	return aud, scope
}

func TestResourceIndicators(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		v := with(c.params("scope", "openid offline_access read write send"), "resource", ordersAPI, mailAPI, ordersAPI)
		got := h.exchangeCode(t, c, b.allow(t, h, v).Get("code"))
		aud, scope := audienceOf(t, got.str("access_token"))
		if !slices.Equal(aud, []string{ordersAPI, mailAPI}) || scope != "read write send" || got.str("scope") != scope {
			t.Errorf("audience %v, scope %q, answer %v", aud, scope, got.body)
		}
		if got.body["expires_in"] != float64(120) {
			t.Errorf("expires_in %v, want the shortest life of the APIs", got.body["expires_in"])
		}
		_, claims := claimsOf(t, got.str("access_token"))
		if life := claims["exp"].(float64) - claims["iat"].(float64); life < 119 || life > 121 {
			t.Errorf("the token lives for %v s, want 120", life)
		}
		if got.str("id_token") == "" {
			t.Error("no ID token")
		}
		if a := h.userinfoAnswer(t, got.str("access_token")); a.status != http.StatusForbidden {
			t.Errorf("userinfo takes a token for an API: %d", a.status)
		}
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.str("refresh_token")}, "resource": {mailAPI}}
		next := h.post(t, "/token", c, refresh)
		if aud, scope := audienceOf(t, next.str("access_token")); !slices.Equal(aud, []string{mailAPI}) || scope != "read send" {
			t.Errorf("narrowed at refresh: audience %v, scope %q", aud, scope)
		}
		if next.body["expires_in"] != float64(600) {
			t.Errorf("expires_in %v, want the server's", next.body["expires_in"])
		}
		again := h.refreshToken(t, c, next.str("refresh_token")) // the grant keeps all
		if aud, _ := audienceOf(t, again.str("access_token")); len(aud) != 2 {
			t.Errorf("after narrowing once the audience is %v", aud)
		}
		// Asked again for the same, the person is not asked.
		q := b.authorize(t, h, v)
		form := exchangeForm(q.Get("code"))
		form["resource"] = []string{ordersAPI}
		narrowed := h.post(t, "/token", c, form)
		if aud, scope := audienceOf(t, narrowed.str("access_token")); !slices.Equal(aud, []string{ordersAPI}) || scope != "read write" {
			t.Errorf("narrowed at the exchange: audience %v, scope %q", aud, scope)
		}
		self := with(c.params("scope", "openid email read"), "resource", h.Site.Issuer(), ordersAPI)
		code := b.allow(t, h, self).Get("code")
		wantError(t, h.exchangeCode(t, c, code), 400, "invalid_target") // one token for both could be brought to userinfo by the API
		form = exchangeForm(b.authorize(t, h, self).Get("code"))
		form["resource"] = []string{h.Site.Issuer()}
		own := h.post(t, "/token", c, form)
		if a := h.userinfoAnswer(t, own.str("access_token")); a.str("email") != b.user.Email || own.str("scope") != "openid email" {
			t.Errorf("a token for this server: %v, userinfo %v", own.body, a.body)
		}
	})
}

func TestResourceOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		h.api(t, "https://secret.example.test", nil, "read")
		h.api(t, openAPI, func(r *identity.Resource) { r.Open = true }, "tools")
		b.consent(t, c)
		for _, bad := range []string{
			"https://secret.example.test", "https://unknown.example.test", openAPI, ordersAPI + "/", ordersAPI + "#x", "orders", "//orders.example.test",
			strings.ToUpper(ordersAPI), "https://orders.example.test:443",
		} {
			q := b.authorize(t, h, with(c.params(), "resource", ordersAPI, bad))
			if q.Get("error") != "invalid_target" {
				t.Errorf("authorize with %q: %v", bad, q)
			}
			wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "resource": {bad}}), 400, "invalid_target")
			wantError(t, h.post(t, "/par", c, with(c.params(), "resource", bad)), 400, "invalid_target")
		}
		many := make([]string, 0, 9)
		for i := range 9 {
			many = append(many, ordersAPI+"/"+string(rune('a'+i)))
			h.api(t, many[i], nil)
		}
		wide := c.Client
		wide.Audiences = append(wide.Audiences, many...)
		if err := h.Clients.Update(t.Context(), wide); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "resource": many}), 400, "invalid_target")
	})
}

func TestResourceNeverWidensAtTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		q := b.allow(t, h, with(c.params("scope", "offline_access read"), "resource", ordersAPI))
		form := exchangeForm(q.Get("code"))
		form["resource"] = []string{mailAPI} // the client may have it, but the person was not asked
		wantError(t, h.post(t, "/token", c, form), 400, "invalid_target")
		q = b.authorize(t, h, with(c.params("scope", "offline_access read"), "resource", ordersAPI))
		got := h.exchangeCode(t, c, q.Get("code"))
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.str("refresh_token")}, "resource": {ordersAPI, mailAPI}}
		wantError(t, h.post(t, "/token", c, refresh), 400, "invalid_target")
		refresh["resource"] = []string{ordersAPI}
		if a := h.post(t, "/token", c, refresh); a.status != http.StatusOK {
			t.Errorf("a refresh that asked too much cost the client its token: %v", a.body)
		}
	})
}

func TestResourceConsentIsForOneAPI(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		b.allow(t, h, with(c.params("scope", "openid read"), "resource", ordersAPI))
		b.allow(t, h, with(c.params("scope", "openid read"), "resource", mailAPI)) // fails if it is not asked
		b.allow(t, h, with(c.params("scope", "openid write"), "resource", ordersAPI))
		b.allow(t, h, c.params("scope", "openid read")) // and for none by name
		if q := b.authorize(t, h, with(c.params("scope", "openid read write"), "resource", ordersAPI, mailAPI)); q.Get("code") == "" {
			t.Errorf("asked again for what was allowed: %v", q)
		}
		apps := must(h.Apps(t.Context(), b.user.ID))
		if len(apps) != 1 || !slices.Contains(apps[0].Resources, ordersAPI) || slices.ContainsFunc(apps[0].Scopes, func(s string) bool { return strings.Contains(s, " ") }) {
			t.Errorf("apps with access: %+v", apps)
		}
	})
}

func TestResourceTakenAwayBetweenIssueAndUse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		got := h.exchangeCode(t, c, b.allow(t, h, with(c.params("scope", "offline_access read"), "resource", ordersAPI)).Get("code"))
		less := c.Client
		less.Audiences = []string{mailAPI}
		if err := h.Clients.Update(t.Context(), less); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.refreshToken(t, c, got.str("refresh_token")), 400, "invalid_target")
	})
}

func TestOpenResourceForSelfRegisteredClients(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, openAPI, func(r *identity.Resource) { r.Open = true }, "tools", "write")
		h.api(t, ordersAPI, nil, "refund")
		c, b := h.client(t, func(c *Client) { public(c); c.OpenAPIs = true }), h.person(t)
		v := with(c.params("scope", "openid tools offline_access"), "resource", openAPI)
		got := h.exchangeCode(t, c, b.allow(t, h, v).Get("code"))
		if aud, scope := audienceOf(t, got.str("access_token")); !slices.Equal(aud, []string{openAPI}) || scope != "tools" {
			t.Errorf("audience %v, scope %q; %v", aud, scope, got.body)
		}
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.str("refresh_token")}, "resource": {openAPI}, "scope": {"tools"}}
		if a := h.post(t, "/token", c, refresh); a.status != http.StatusOK || a.str("scope") != "tools" {
			t.Errorf("refresh: %v", a.body)
		}
		if q := b.authorize(t, h, with(c.params("scope", "refund"), "resource", openAPI)); q.Get("error") != "invalid_scope" {
			t.Errorf("a scope of an API that is not open: %v", q)
		}
		if q := b.authorize(t, h, with(c.params("scope", "tools"), "resource", ordersAPI)); q.Get("error") != "invalid_target" {
			t.Errorf("an API that is not open: %v", q)
		}
	})
}

func TestResourceOfDevice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, ordersAPI, nil, "read")
		c, b := h.client(t, func(c *Client) { ofDevice(c); c.Audiences = []string{ordersAPI} }), h.person(t)
		wantError(t, h.post(t, "/device_authorization", c, url.Values{"scope": {"read"}, "resource": {mailAPI}}), 400, "invalid_target")
		asked := h.post(t, "/device_authorization", c, url.Values{"scope": {"openid read"}, "resource": {ordersAPI}})
		b.decide(t, asked.str("user_code"), true)
		got := h.poll(t, c, asked.str("device_code"))
		if aud, scope := audienceOf(t, got.str("access_token")); !slices.Equal(aud, []string{ordersAPI}) || scope != "read" {
			t.Errorf("audience %v, scope %q; %v", aud, scope, got.body)
		}
	})
}

func TestResourcePushed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.apis(t), h.person(t)
		pushed := h.post(t, "/par", c, with(c.params("scope", "read"), "resource", ordersAPI, mailAPI))
		got := h.exchangeCode(t, c, b.allow(t, h, url.Values{"client_id": {c.ID}, "request_uri": {pushed.str("request_uri")}, "resource": {ordersAPI}}).Get("code"))
		if aud, _ := audienceOf(t, got.str("access_token")); len(aud) != 2 {
			t.Errorf("audience %v, want what was pushed", aud)
		}
	})
}

func TestResourceThatWantsDPoP(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, ordersAPI, func(r *identity.Resource) { r.DPoP = true }, "read")
		c := h.client(t, func(c *Client) { c.Audiences = []string{ordersAPI} })
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "resource": {ordersAPI}}
		wantError(t, h.post(t, "/token", c, form), 400, "invalid_dpop_proof")
	})
}

func TestIntrospectionByTheAPIAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		server := h.client(t, nil)
		other := h.client(t, nil)
		h.api(t, ordersAPI, func(r *identity.Resource) { r.ClientID = server.ID }, "read")
		h.api(t, mailAPI, func(r *identity.Resource) { r.ClientID = other.ID }, "read")
		c := h.client(t, func(c *Client) { c.Audiences = []string{ordersAPI, mailAPI} })
		token := h.post(t, "/token", c, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "resource": {ordersAPI}}).str("access_token")
		if !h.introspectToken(t, server, token) {
			t.Error("the API does not see its own token")
		}
		if h.introspectToken(t, other, token) {
			t.Error("another API sees the token")
		}
	})
}

func TestProtectedResourceMetadata(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		a := h.api(t, ordersAPI, func(r *identity.Resource) { r.DPoP = true }, "read", "write")
		got := h.do(t, httptest.NewRequest(http.MethodGet, "/resource-metadata/"+a.ID, nil))
		if got.str("resource") != ordersAPI || got.body["dpop_bound_access_tokens_required"] != true || got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("metadata %v, header %v", got.body, got.header)
		}
		if servers, _ := got.body["authorization_servers"].([]any); len(servers) != 1 || servers[0] != testIssuer {
			t.Errorf("authorization_servers %v", got.body["authorization_servers"])
		}
		if scopes, _ := got.body["scopes_supported"].([]any); len(scopes) != 2 {
			t.Errorf("scopes_supported %v", got.body["scopes_supported"])
		}
		for _, id := range []string{"x", "00000000-0000-0000-0000-000000000000"} {
			if got := h.do(t, httptest.NewRequest(http.MethodGet, "/resource-metadata/"+id, nil)); got.status != http.StatusNotFound {
				t.Errorf("%s: %d, want 404", id, got.status)
			}
		}
	})
}

// FuzzResource shows that no value of the parameter reaches a token unless it is, byte by byte, an API of the client.
func FuzzResource(f *testing.F) {
	for _, seed := range []string{ordersAPI, ordersAPI + "#", "https://orders.example.test\x00", "%", "", testIssuer, "urn:x"} {
		f.Add(seed)
	}
	h := newHarness(f, dbtest.OpenSQLite(f), cache.NewMemory(nil))
	h.api(f, ordersAPI, nil, "read")
	c := h.client(f, func(c *Client) { c.Audiences = []string{ordersAPI} })
	client := must(h.Clients.registration(f.Context(), c.ID))
	f.Fuzz(func(t *testing.T, value string) {
		got, err := h.resources(t.Context(), client, []string{value})
		if (err == nil) != (value == ordersAPI || value == testIssuer) || err == nil && got[0].Identifier != value {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	})
}
