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
	"github.com/gatehouse-id/gatehouse/internal/audit"
)

// exchangeWorld is an app, the API of orders that it calls, and the API of mail to which that one goes on.
type exchangeWorld struct {
	*harness
	app, orders registered
	b           *browser
}

func newExchangeWorld(t *testing.T, h *harness, edit func(c *Client)) *exchangeWorld {
	t.Helper()
	w := &exchangeWorld{harness: h, b: h.person(t)}
	w.orders = h.client(t, func(c *Client) {
		c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantTokenExchange, GrantClientCredentials}, nil, nil
		c.Scopes, c.Audiences = []string{"read", "send", "write"}, []string{mailAPI}
		if edit != nil {
			edit(c)
		}
	})
	h.api(t, ordersAPI, func(r *identity.Resource) { r.ClientID = w.orders.ID }, "read", "send")
	h.api(t, mailAPI, nil, "read", "send", "write")
	h.api(t, openAPI, nil, "read")
	w.app = h.client(t, func(c *Client) { c.Audiences = []string{ordersAPI}; c.Scopes = append(c.Scopes, "send") })
	return w
}

// token gives the app's access token for the API of orders.
func (w *exchangeWorld) token(t testing.TB, scope string) answer {
	t.Helper()
	v := with(w.app.params("scope", scope, "prompt", "consent"), "resource", ordersAPI)
	a := w.exchangeCode(t, w.app, w.b.allow(t, w.harness, v).Get("code"))
	if a.status != http.StatusOK {
		t.Fatalf("token of the app: %v", a.body)
	}
	return a
}

func (w *exchangeWorld) exchangeToken(t testing.TB, c registered, token string, edits ...string) answer {
	t.Helper()
	v := url.Values{"grant_type": {GrantTokenExchange}, "subject_token": {token}, "subject_token_type": {typeAccessToken}, "resource": {mailAPI}}
	for i := 0; i < len(edits); i += 2 {
		if v.Set(edits[i], edits[i+1]); edits[i+1] == "" {
			v.Del(edits[i])
		}
	}
	return w.post(t, "/token", c, v)
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		first := w.token(t, "openid offline_access read send")
		got := w.exchangeToken(t, w.orders, first.str("access_token"), "scope", "send")
		if got.status != http.StatusOK || got.str("issued_token_type") != typeAccessToken || got.str("token_type") != "Bearer" || got.body["refresh_token"] != nil {
			t.Fatalf("exchange: %v", got.body)
		}
		_, c := claimsOf(t, got.str("access_token"))
		act, _ := c["act"].(map[string]any)
		if c["sub"] != w.b.user.ID || c["aud"] != mailAPI || c["scope"] != "send" || c["client_id"] != w.orders.ID || act["sub"] != w.orders.ID || c["sid"] != w.b.session.ID {
			t.Errorf("claims %v", c)
		}
		_, before := claimsOf(t, first.str("access_token"))
		if c["exp"].(float64) > before["exp"].(float64) {
			t.Error("the new token outlives the old one")
		}
		if a := h.post(t, "/introspect", w.orders, url.Values{"token": {got.str("access_token")}}); a.body["active"] != true || a.body["act"] == nil {
			t.Errorf("introspection %v", a.body)
		}
		events := must(h.Audit.Trail(t.Context(), w.b.user.ID, audit.Position{}, 50))
		if !slices.ContainsFunc(events, func(e audit.Entry) bool {
			return e.Action == "token.exchange" && e.Detail["from_client"] == w.app.ID && e.Detail["actors"] == w.orders.ID && e.Detail["audience"] == mailAPI
		}) {
			t.Error("the audit log does not tell of the chain")
		}
		// The API of mail goes on itself: the actors stand one in the other.
		third := h.client(t, func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantTokenExchange}, nil, nil
			c.Scopes, c.Audiences = []string{"send", "read"}, []string{openAPI}
		})
		mail := must(h.people.Resource(t.Context(), mailAPI))
		mail.ClientID = third.ID
		if err := h.people.UpdateAPI(t.Context(), "", mail); err != nil {
			t.Fatal(err)
		}
		again := w.exchangeToken(t, third, got.str("access_token"), "resource", openAPI)
		_, c = claimsOf(t, again.str("access_token"))
		act, _ = c["act"].(map[string]any)
		if before, _ := act["act"].(map[string]any); act["sub"] != third.ID || before["sub"] != w.orders.ID || c["scope"] != nil {
			t.Errorf("the chain of actors: %v", c)
		}
	})
}

func TestTokenExchangeNeverWidens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		token := w.token(t, "openid read").str("access_token")
		wantError(t, w.exchangeToken(t, w.orders, token, "scope", "read send"), 400, "invalid_scope")
		wantError(t, w.exchangeToken(t, w.orders, token, "scope", "openid"), 400, "invalid_scope")
		for _, elsewhere := range []string{openAPI, ordersAPI, testIssuer, "https://unknown.example.test", w.app.ID} {
			wantError(t, w.exchangeToken(t, w.orders, token, "resource", elsewhere), 400, "invalid_target")
			wantError(t, w.exchangeToken(t, w.orders, token, "audience", elsewhere), 400, "invalid_target")
		}
		wantError(t, w.exchangeToken(t, w.orders, token, "resource", ""), 400, "invalid_target")
		if a := w.exchangeToken(t, w.orders, token); a.str("scope") != "read" {
			t.Errorf("by default: %v", a.body)
		}
	})
}

func TestTokenExchangeOfSomeoneElsesToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		token := w.token(t, "openid read").str("access_token")
		thief := h.client(t, func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantTokenExchange}, nil, nil
			c.Scopes, c.Audiences = []string{"read"}, []string{mailAPI}
		})
		wantError(t, w.exchangeToken(t, thief, token), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.app, token), 400, "unauthorized_client") // not registered for it
		wantError(t, w.exchangeToken(t, w.orders, ""), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token+"x"), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token, "subject_token_type", typeIDToken), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token, "subject_token_type", ""), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token, "requested_token_type", typeIDToken), 400, "invalid_request")
		own := h.post(t, "/token", w.orders, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}}).str("access_token")
		wantError(t, w.exchangeToken(t, w.orders, own), 400, "invalid_request") // no person
		other := w.b.tokens(t, h.client(t, nil)).str("id_token")
		wantError(t, w.exchangeToken(t, w.orders, other, "subject_token_type", typeIDToken), 400, "invalid_request")
		if _, _, err := h.Clients.Create(t.Context(), Client{Name: "x", AuthMethod: AuthNone, RequirePKCE: true, GrantTypes: []string{GrantTokenExchange}, Audiences: []string{mailAPI}}); err == nil {
			t.Error("a client without a secret may exchange tokens")
		}
	})
}

// TestTokenExchangeEndsWithItsSource ends everything that the source hangs on, one after the other, before and after the exchange.
func TestTokenExchangeEndsWithItsSource(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, w *exchangeWorld, first answer){
		"token revoked": func(t *testing.T, w *exchangeWorld, first answer) {
			w.post(t, "/revoke", w.app, url.Values{"token": {first.str("access_token")}})
		},
		"grant revoked": func(t *testing.T, w *exchangeWorld, first answer) {
			w.post(t, "/revoke", w.app, url.Values{"token": {first.str("refresh_token")}})
		},
		"consent withdrawn": func(t *testing.T, w *exchangeWorld, _ answer) {
			if err := w.Withdraw(t.Context(), w.b.user.ID, w.app.ID); err != nil {
				t.Fatal(err)
			}
		},
		"signed out": func(t *testing.T, w *exchangeWorld, _ answer) {
			if err := w.people.EndSession(t.Context(), w.b.user.ID, w.b.session.ID); err != nil {
				t.Fatal(err)
			}
		},
		"app disabled": func(t *testing.T, w *exchangeWorld, _ answer) {
			c := w.app.Client
			c.Disabled = true
			if err := w.Clients.Update(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		},
		"group left": func(t *testing.T, w *exchangeWorld, _ answer) {
			g, err := w.people.CreateGroup(t.Context(), "", "Empty", "")
			if err != nil {
				t.Fatal(err)
			}
			c := w.app.Client
			c.AllowGroups = []string{g.ID}
			if err := w.Clients.Update(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		},
	}
	each(t, func(t *testing.T, h *harness) {
		for name, end := range ends {
			w := newExchangeWorldAgain(t, h)
			first := w.token(t, "offline_access read")
			got := w.exchangeToken(t, w.orders, first.str("access_token"))
			if !h.introspectToken(t, w.orders, got.str("access_token")) {
				t.Fatalf("%s: not active before", name)
			}
			end(t, w, first)
			if h.introspectToken(t, w.orders, got.str("access_token")) {
				t.Errorf("%s: the exchanged token lives on", name)
			}
			wantError(t, w.exchangeToken(t, w.orders, first.str("access_token")), 400, "invalid_request")
		}
	})
}

// newExchangeWorldAgain makes another world on APIs that are there already.
func newExchangeWorldAgain(t *testing.T, h *harness) *exchangeWorld {
	t.Helper()
	for _, identifier := range []string{ordersAPI, mailAPI, openAPI} {
		if a, err := h.people.Resource(t.Context(), identifier); err == nil {
			if err := h.people.DeleteAPI(t.Context(), "", a.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, g := range must(h.people.Groups(t.Context(), "", 10)) {
		if err := h.people.DeleteGroup(t.Context(), "", g.ID); err != nil {
			t.Fatal(err)
		}
	}
	return newExchangeWorld(t, h, nil)
}

func TestTokenExchangeOfIDToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, mailAPI, nil, "read", "send")
		b, c := h.person(t), h.client(t, func(c *Client) {
			c.GrantTypes = append(c.GrantTypes, GrantTokenExchange)
			c.Audiences = []string{mailAPI}
			c.Scopes = append(c.Scopes, "send")
		})
		w := &exchangeWorld{harness: h, b: b}
		q := b.allow(t, h, c.params("scope", "openid read"))
		id := h.exchangeCode(t, c, q.Get("code")).str("id_token")
		h.advanceClock(2 * time.Second)
		wantError(t, w.exchangeToken(t, c, id, "subject_token_type", typeIDToken, "scope", "send"), 400, "invalid_scope") // never allowed
		got := w.exchangeToken(t, c, id, "subject_token_type", typeIDToken)
		if got.str("scope") != "read" || !h.introspectToken(t, c, got.str("access_token")) {
			t.Errorf("exchange: %v", got.body)
		}
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		if h.introspectToken(t, c, got.str("access_token")) {
			t.Error("the token outlives the session")
		}
		wantError(t, w.exchangeToken(t, c, id, "subject_token_type", typeIDToken), 400, "invalid_request")
	})
}

func TestImpersonationOnlyByPolicy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, func(c *Client) { c.Impersonates = true })
		token := w.token(t, "read").str("access_token")
		_, c := claimsOf(t, w.exchangeToken(t, w.orders, token).str("access_token"))
		if c["act"] != nil {
			t.Errorf("impersonation leaves a trace: %v", c)
		}
		actorToken := h.post(t, "/token", w.orders, url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}}).str("access_token")
		_, c = claimsOf(t, w.exchangeToken(t, w.orders, token, "actor_token", actorToken, "actor_token_type", typeAccessToken).str("access_token"))
		if act, _ := c["act"].(map[string]any); act["sub"] != w.orders.ID {
			t.Errorf("delegation: %v", c)
		}
		wantError(t, w.exchangeToken(t, w.orders, token, "actor_token", token+"x", "actor_token_type", typeAccessToken), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token, "actor_token", actorToken), 400, "invalid_request")
		wantError(t, w.exchangeToken(t, w.orders, token, "actor_token_type", typeAccessToken), 400, "invalid_request")
	})
}

func TestTokenExchangeKeepsPossession(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		_, _, err := (&tokenExchange{store: &store{h.Server}, access: &accessTokens{h.Server}}).subject(t.Context(), url.Values{}, nil)
		if err == nil {
			t.Error("no subject token is one")
		}
		c := &accessClaims{Confirmation: &confirmation{JKT: "x"}}
		if c.tokenType() != "DPoP" {
			t.Fatal("the token is not tied")
		}
		// A token that is tied to a key, made by hand: its exchange needs a proof.
		_, claims := claimsOf(t, w.token(t, "read").str("access_token"))
		claims["cnf"] = map[string]string{"jkt": strings.Repeat("a", 43)}
		bound := must(h.Keys.Sign(t.Context(), "ES256", typAccessToken, claims))
		wantError(t, w.exchangeToken(t, w.orders, bound), 400, "invalid_dpop_proof")
	})
}

func TestSignedIntrospection(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		token := b.tokens(t, c).str("access_token")
		r := httptest.NewRequest(http.MethodPost, "/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
		r.SetBasicAuth(c.ID, c.secret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/token-introspection+jwt")
		rec := httptest.NewRecorder()
		h.handler.ServeHTTP(rec, r)
		if got := rec.Header().Get("Content-Type"); rec.Code != http.StatusOK || got != "application/token-introspection+jwt" {
			t.Fatalf("%d %s: %s", rec.Code, got, rec.Body)
		}
		verified, err := h.Keys.Verify(rec.Body.String())
		var got signedIntrospection
		if err != nil || verified.Typ != typIntrospection || json.Unmarshal(verified.Claims, &got) != nil {
			t.Fatalf("signed answer: %v, %+v", err, verified)
		}
		if got.Issuer != testIssuer || got.Audience != c.ID || !got.Answer.Active || got.Answer.Subject != b.user.ID {
			t.Errorf("answer %+v", got)
		}
		if h.introspectToken(t, c, rec.Body.String()) || h.userinfoAnswer(t, rec.Body.String()).status != http.StatusUnauthorized {
			t.Error("the answer counts as a token")
		}
	})
}
