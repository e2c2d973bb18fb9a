package oauth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/identity"
)

func opaque(client string) func(r *identity.Resource) {
	return func(r *identity.Resource) { r.Format, r.ClientID = identity.FormatOpaque, client }
}

// introspector registers the client as which an API asks.
func (h *harness) introspector(t testing.TB) registered {
	t.Helper()
	return h.client(t, func(c *Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes, c.Scopes = []string{GrantClientCredentials}, nil, nil, []string{"read"}
	})
}

func wantOpaque(t testing.TB, token string, secrets ...string) {
	t.Helper()
	text, ok := strings.CutPrefix(token, opaquePrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || strings.Contains(token, ".") {
		t.Fatalf("not opaque: %s", token)
	}
	for _, secret := range secrets {
		if strings.Contains(string(b), secret) {
			t.Errorf("the token tells %s", secret)
		}
	}
}

func TestOpaqueAccessToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		orders, mail := h.introspector(t), h.introspector(t)
		h.api(t, ordersAPI, opaque(orders.ID), "read", "write")
		h.api(t, mailAPI, opaque(mail.ID), "read")
		c, b := h.client(t, func(c *Client) { c.Audiences = []string{ordersAPI, mailAPI} }), h.person(t)
		a := h.exchangeCode(t, c, b.allow(t, h, with(c.params("scope", "openid offline_access read write"), "resource", ordersAPI)).Get("code"))
		token := a.str("access_token")
		wantOpaque(t, token, b.user.ID, "read", ordersAPI)
		got := h.post(t, "/introspect", orders, url.Values{"token": {token}})
		for name, want := range map[string]any{
			"active": true, "sub": b.user.ID, "aud": ordersAPI, "scope": "read write", "client_id": c.ID, "iss": testIssuer, "token_type": "Bearer",
		} {
			if !cmp.Equal(got.body[name], want) {
				t.Errorf("%s: got %v, want %v", name, got.body[name], want)
			}
		}
		if h.introspectToken(t, mail, token) {
			t.Error("another API learns of the token") // scanning, RFC 7662 §4
		}
		if !h.introspectToken(t, c, token) {
			t.Error("the app does not learn of its own token")
		}
		if got := h.userinfoAnswer(t, token); got.status == http.StatusOK || got.body["sub"] != nil {
			t.Error("the API reads userinfo with the token it was given")
		}
		next := h.post(t, "/token", c, with(refreshForm(a.str("refresh_token")), "resource", ordersAPI))
		wantOpaque(t, next.str("access_token"))
		if next.str("access_token") == token {
			t.Error("two tokens are the same")
		}
		h.post(t, "/revoke", c, url.Values{"token": {token}})
		if h.introspectToken(t, orders, token) || !h.introspectToken(t, orders, next.str("access_token")) {
			t.Error("revoked the wrong token")
		}
		if err := h.Withdraw(t.Context(), b.user.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		if h.introspectToken(t, orders, next.str("access_token")) {
			t.Error("the token outlives the consent")
		}
	})
}

func TestOpaqueTokenOfAPairwiseClientTiedToAKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		api := h.introspector(t)
		h.api(t, ordersAPI, opaque(api.ID), "read")
		c, b := h.client(t, func(c *Client) { c.Audiences, c.SubjectType = []string{ordersAPI}, SubjectPairwise }), h.person(t)
		// Nothing is asked for by name: the one token is for the API and for userinfo.
		token := b.boundTokens(t, c, "ES256").str("access_token")
		wantOpaque(t, token, b.user.ID)
		got := h.post(t, "/introspect", api, url.Values{"token": {token}})
		cnf, _ := got.body["cnf"].(map[string]any)
		if got.str("sub") == b.user.ID || got.str("sub") == "" || cnf["jkt"] != thumbprintOf("ES256") || got.str("token_type") != "DPoP" {
			t.Errorf("introspection %v", got.body)
		}
		if h.userinfoAnswer(t, token).status != http.StatusUnauthorized {
			t.Error("the token is good for whoever bears it")
		}
		info := h.userinfoAs(t, "DPoP", token, h.proofBy(t, "ES256", "GET", "/userinfo", token))
		if info.status != http.StatusOK || info.str("sub") != got.str("sub") {
			t.Errorf("userinfo: %d %v", info.status, info.body)
		}
	})
}

func TestOpaqueTokenExchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		for _, identifier := range []string{ordersAPI, mailAPI} {
			a := must(h.people.Resource(t.Context(), identifier))
			a.Format = identity.FormatOpaque
			if err := h.people.UpdateAPI(t.Context(), "", a); err != nil {
				t.Fatal(err)
			}
		}
		got := w.exchangeToken(t, w.orders, w.token(t, "read").str("access_token"))
		wantOpaque(t, got.str("access_token"), w.orders.ID)
		answer := h.post(t, "/introspect", w.orders, url.Values{"token": {got.str("access_token")}})
		if act, _ := answer.body["act"].(map[string]any); act["sub"] != w.orders.ID || answer.body["aud"] != mailAPI {
			t.Errorf("introspection %v", answer.body)
		}
	})
}

// What an API wants of its tokens holds for apps that do not name it, too: else leaving a parameter out would be the way around.
func TestAPIRulesBypassedByNamingNoResource(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, ordersAPI, func(r *identity.Resource) { r.DPoP = true }, "read")
		h.api(t, mailAPI, func(r *identity.Resource) { r.Certificate = true }, "read")
		h.api(t, openAPI, func(r *identity.Resource) { r.TokenTTL, r.Format = time.Minute, identity.FormatOpaque }, "read")
		own := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}
		machine := func(audience string) registered {
			return h.client(t, func(c *Client) { c.Audiences = []string{audience} })
		}
		wantError(t, h.post(t, "/token", machine(ordersAPI), own), 400, "invalid_dpop_proof")
		if a := h.proved(t, "/token", machine(ordersAPI), own, h.proofBy(t, "ES256", "POST", "/token", "")); a.str("token_type") != "DPoP" {
			t.Errorf("with a proof: %v", a.body)
		}
		wantError(t, h.post(t, "/token", machine(mailAPI), own), 400, "invalid_request")
		wantError(t, h.post(t, "/token", machine(mailAPI), with(url.Values{"grant_type": {GrantClientCredentials}}, "resource", mailAPI)), 400, "invalid_request")
		a := h.post(t, "/token", machine(openAPI), own)
		wantOpaque(t, a.str("access_token"))
		if a.body["expires_in"] != 60.0 {
			t.Errorf("expires_in %v, want 60", a.body["expires_in"])
		}
	})
}

func TestForgedOpaqueTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := &accessClaims{Issuer: testIssuer, Subject: "x", ClientID: h.client(t, nil).ID, Expires: h.Now().Add(time.Hour).Unix(), IssuedAt: h.Now().Add(time.Minute).Unix(), ID: "1"}
		token := must(h.sealToken(c))
		if _, err := h.checkAccessToken(t.Context(), token); err != nil {
			t.Fatalf("a genuine token: %v", err)
		}
		other := &Server{Config: h.Config}
		other.RefreshKey = []byte("another server's key, of 32 byte")
		elsewhere := *c
		elsewhere.Issuer = "https://elsewhere.example"
		text := strings.TrimPrefix(token, opaquePrefix)
		raw := must(base64.RawURLEncoding.DecodeString(text))
		forged := map[string]string{
			"another server's": must(other.sealToken(c)), "another issuer's": must(h.sealToken(&elsewhere)), "without prefix": text, "cut": token[:len(token)-4],
			"longer": token + "AAAA", "empty": opaquePrefix, "short": opaquePrefix + "AAAA", "claims in the open": opaquePrefix + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+testIssuer+`"}`)),
			"padding": token + "=", "very long": opaquePrefix + strings.Repeat("A", maxOpaque+1), "in capitals": strings.ToUpper(opaquePrefix) + text,
		}
		for _, at := range []int{0, opaqueSaltSize, len(raw) / 2, len(raw) - 1} {
			changed := slices.Clone(raw)
			changed[at] ^= 1
			forged["a bit turned"+string(rune('0'+at%10))] = opaquePrefix + base64.RawURLEncoding.EncodeToString(changed)
		}
		for name, token := range forged {
			if _, err := h.checkAccessToken(t.Context(), token); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
	})
}

func FuzzOpenToken(f *testing.F) {
	s := &Server{Config: Config{RefreshKey: make([]byte, 32)}}
	f.Add(must(s.sealToken(&accessClaims{Issuer: testIssuer, Subject: "x"})))
	f.Add(opaquePrefix)
	f.Add(opaquePrefix + strings.Repeat("A", 60))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := s.openToken(token)
		if (err == nil) != (c != nil) {
			t.Fatalf("%q: %v, %v", token, c, err)
		}
	})
}

func TestAPIRulesBypassedByTokensWithTheRedirect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		h.api(t, ordersAPI, func(r *identity.Resource) { r.DPoP = true }, "read")
		h.api(t, openAPI, func(r *identity.Resource) { r.TokenTTL, r.Format = time.Minute, identity.FormatOpaque }, "read")
		b := h.person(t)
		of := func(audience string) registered {
			c := h.client(t, func(c *Client) { answering("code token")(c); c.Audiences = []string{audience} })
			b.consent(t, c)
			return c
		}
		if q := b.fronted(t, of(ordersAPI), "response_type", "code token"); q.Has("access_token") || q.Get("error") == "" {
			t.Errorf("a token without proof: %v", q)
		}
		q := b.fronted(t, of(openAPI), "response_type", "code token")
		wantOpaque(t, q.Get("access_token"))
		if q.Get("expires_in") != "60" {
			t.Errorf("expires_in %s, want 60", q.Get("expires_in"))
		}
	})
}
