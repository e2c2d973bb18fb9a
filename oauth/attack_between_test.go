package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// edited changes a client behind its back.
func (h *harness) edited(t testing.TB, c registered, edit func(c *Client)) {
	t.Helper()
	now, err := h.Clients.Get(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	now.Scopes, now.GrantTypes, now.RedirectURIs = slices.Clone(now.Scopes), slices.Clone(now.GrantTypes), slices.Clone(now.RedirectURIs)
	edit(&now)
	if err := h.Clients.Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == one })
}

// A person has allowed a device, and then something changes before the device asks again.
func TestAttackStateFlippedBeforeTheDevicePolls(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, flip := range map[string]func(b *browser, c registered){
			"user disabled":   func(b *browser, _ registered) { check(h.people.SetStatus(t.Context(), b.user.ID, "disabled")) },
			"this was not me": func(b *browser, _ registered) { _, err := h.people.Disown(t.Context(), b.user.ID, ""); check(err) },
			"consent taken":   func(b *browser, c registered) { check(h.Withdraw(t.Context(), b.user.ID, c.ID)) },
			"client disabled": func(_ *browser, c registered) { h.edited(t, c, func(c *Client) { c.Disabled = true }) },
			"grant type taken": func(_ *browser, c registered) {
				h.edited(t, c, func(c *Client) {
					c.GrantTypes = without(c.GrantTypes, GrantDeviceCode)
					c.GrantTypes = append(c.GrantTypes, GrantAuthorizationCode)
					c.RedirectURIs, c.ResponseTypes = []string{testRedirect}, []string{"code"}
				})
			},
			"scope taken": func(_ *browser, c registered) {
				h.edited(t, c, func(c *Client) { c.Scopes = without(c.Scopes, "email") })
			},
			"group demanded": func(_ *browser, c registered) {
				g := h.inGroup(t, h.person(t), "Few "+c.ID[:8], "")
				h.edited(t, c, func(c *Client) { c.AllowGroups = []string{g.ID} })
			},
			"policy stricter": func(_ *browser, c registered) {
				h.edited(t, c, func(c *Client) { c.DefaultACRValues = []string{identity.ACRPhishingResistant} })
			},
			"client made anew": func(_ *browser, c registered) {
				check(h.Clients.Delete(t.Context(), c.ID))
				h.advanceClock(time.Second)
				h.client(t, func(n *Client) { ofDevice(n); n.ID = c.ID })
			},
		} {
			c, b := h.client(t, ofDevice), h.person(t)
			asked := h.device(t, c, "openid email offline_access")
			b.decide(t, asked.str("user_code"), true)
			flip(b, c)
			if a := h.poll(t, c, asked.str("device_code")); a.status == http.StatusOK || a.str("access_token") != "" {
				t.Errorf("%s: the device got %v", name, a.body)
			}
		}
	})
}

// A client has pushed its request, and then something changes before the person comes with it.
func TestAttackStateFlippedBeforeAPushedRequestIsUsed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for name, flip := range map[string]func(c *Client){
			"client disabled": func(c *Client) { c.Disabled = true },
			"scope taken":     func(c *Client) { c.Scopes = without(c.Scopes, "email") },
			"redirect taken":  func(c *Client) { c.RedirectURIs = []string{"https://app.example.test/other"} },
		} {
			c, b := h.client(t, nil), h.person(t)
			b.consent(t, c)
			uri := h.pushForm(t, c, c.params())
			h.edited(t, c, flip)
			w := b.get(h, "/authorize?"+byReference(c, uri).Encode())
			if to := must(url.Parse(w.Header().Get("Location"))); to.Query().Get("code") != "" {
				t.Errorf("%s: led to %s", name, to)
			}
		}
	})
}

// An operator takes a scope from a client while a code, or a grant with single claims, still holds it.
func TestAttackScopeTakenFromTheClientAfterIssue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		code := b.code(t, c)
		claimed := b.tokens(t, c, "scope", "openid offline_access", "claims", `{"userinfo":{"email":null}}`)
		h.edited(t, c, func(c *Client) { c.Scopes = without(c.Scopes, "email") })
		if a := h.exchangeCode(t, c, code); a.status == http.StatusOK {
			t.Errorf("code: got %v", a.body)
		}
		if a := h.refreshToken(t, c, claimed.str("refresh_token")); a.status == http.StatusOK {
			info := h.userinfoAnswer(t, a.str("access_token"))
			t.Errorf("claim asked for by name: userinfo tells the refreshed token %v", info.body)
		}
	})
}

// A client that works with an API asks for a token without naming scopes. Whoever runs the API must not be able to sign everybody out
// with it.
func TestAttackTokenForAnAPIRedirectedToThisServer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) {
			c.Audiences = []string{"https://api.example.test"}
			c.RevokesPeople, c.SecurityEvents = true, true
			c.Scopes = append(c.Scopes, scopeGlobalRevocation, scopeSSFManage)
		})
		b := h.person(t)
		end := map[string]any{"sub_id": map[string]string{"format": "opaque", "id": b.user.ID}}
		for _, scope := range []string{"", "read " + scopeGlobalRevocation + " " + scopeSSFManage} {
			form := url.Values{"grant_type": {GrantClientCredentials}}
			if scope != "" {
				form.Set("scope", scope)
			}
			token := h.post(t, "/token", c, form).str("access_token")
			_, claims := claimsOf(t, token)
			if claims["aud"] != "https://api.example.test" { // the API refuses it
				continue
			}
			if w := h.ask(t, http.MethodPost, "/global-token-revocation", token, end); w.Code < http.StatusBadRequest {
				t.Errorf("scope %q: the API ends every session of a person: %d", scope, w.Code)
			}
			if w := h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{}); w.Code < http.StatusBadRequest {
				t.Errorf("scope %q: the API makes a stream: %d", scope, w.Code)
			}
		}
		// With the default scopes the API is served as before; by name the client reaches this server.
		_, claims := claimsOf(t, h.post(t, "/token", c, url.Values{"grant_type": {GrantClientCredentials}}).str("access_token"))
		if scope, _ := claims["scope"].(string); claims["aud"] != "https://api.example.test" || strings.Contains(scope, "ssf") || !strings.Contains(scope, "read") {
			t.Errorf("default token: aud %v, scope %v", claims["aud"], claims["scope"])
		}
		if w := h.ask(t, http.MethodPost, "/global-token-revocation", h.own(t, c, scopeGlobalRevocation), end); w.Code != http.StatusNoContent {
			t.Errorf("the client itself: %d %s", w.Code, w.Body)
		}
	})
}

// An operator disables a receiver: nobody tells it of people any more, neither what happens later nor what waits.
func TestAttackDisabledReceiverHearsOfPeople(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		sink := newReceiver(t)
		c, token := h.watcher(t, nil)
		decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{
			"events_requested": allEvents, "delivery": map[string]string{"method": methodPush, "endpoint_url": sink.URL + "/events"},
		}), http.StatusCreated)
		b := h.person(t)
		b.code(t, c)
		change := func() {
			t.Helper()
			if err := h.people.SetPassword(t.Context(), b.session, testPassword+time.Now().String()); err != nil {
				t.Fatal(err)
			}
		}
		change()
		h.edited(t, c, func(c *Client) { c.Disabled = true })
		change()
		h.deliver(t)
		sink.mu.Lock()
		defer sink.mu.Unlock()
		if len(sink.forms) != 0 {
			t.Errorf("a disabled receiver heard %d times", len(sink.forms))
		}
	})
}

// A person takes back what they allowed an app: it is told that their session with it is over, and hears nothing of them afterwards.
func TestAttackAppHearsOfAPersonWhoWithdrew(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		c, token := h.watcher(t, r.hears)
		made := decoded(t, h.ask(t, http.MethodPost, "/ssf/stream", token, map[string]any{"events_requested": allEvents}), http.StatusCreated)
		endpoint := str(made["delivery"].(map[string]any), "endpoint_url")
		b := h.person(t)
		b.tokens(t, c)
		if err := h.Withdraw(t.Context(), b.user.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		told := h.polls(t, token, endpoint)
		for id, claims := range told {
			if claims["events"].(map[string]any)[eventSessionRevoked] == nil {
				t.Errorf("told %v", claims)
			}
			h.polls(t, token, endpoint, id)
		}
		if h.deliver(t); len(told) != 1 || len(r.got()) != 1 {
			t.Errorf("the app was told of its end %d times by event and %d times by logout token, want once each", len(told), len(r.got()))
		}
		if err := h.people.SetPassword(t.Context(), b.session, "another-"+testPassword); err != nil {
			t.Fatal(err)
		}
		if _, err := h.people.EndSessions(t.Context(), b.user.ID, ""); err != nil {
			t.Fatal(err)
		}
		if sets := h.polls(t, token, endpoint); len(sets) != 0 {
			t.Errorf("the app hears on: %v", sets)
		}
		if h.deliver(t); len(r.got()) != 1 {
			t.Errorf("the app got %d logout tokens, want 1", len(r.got()))
		}
	})
}

// A token is revoked while its person is out of the app's group. It must not live again when the person is let in.
func TestAttackRevokedTokenRevivedByTheGroup(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		g := h.inGroup(t, b, "Members", "")
		c := h.client(t, func(c *Client) { c.AllowGroups = []string{g.ID} })
		token := b.tokens(t, c).str("access_token")
		if err := h.people.RemoveMember(t.Context(), "", g.ID, b.user.ID); err != nil {
			t.Fatal(err)
		}
		if a := h.post(t, "/revoke", c, url.Values{"token": {token}}); a.status != http.StatusOK {
			t.Fatalf("revoke: %d %v", a.status, a.body)
		}
		if err := h.people.AddMember(t.Context(), "", g.ID, b.user.ID, false); err != nil {
			t.Fatal(err)
		}
		if h.introspectToken(t, c, token) {
			t.Error("the revoked token is active")
		}
	})
}

// Anybody can make a client here. Nobody is sent to its address by a link alone (RFC 9700 §4.11.2).
func TestAttackStrangerMakesThisServerAnOpenRedirector(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		a := h.manage(t, "POST", registrationPath, "", aboutMe("post_logout_redirect_uris", []string{testRedirect}))
		c := registered{Client: Client{ID: a.str("client_id"), AuthMethod: AuthNone}}
		b := h.person(t)
		for name, edits := range map[string][]string{
			"no PKCE": {"code_challenge", "", "code_challenge_method", ""}, "response type": {"response_type", "token"}, "prompt": {"prompt", "dance"},
			"form": {"response_type", "token", "response_mode", "form_post"},
		} {
			for who, visitor := range map[string]*browser{"signed in": b, "stranger": nil} {
				w := visitor.get(h, "/authorize?"+c.params(edits...).Encode())
				if w.Code != http.StatusBadRequest || strings.Contains(w.Header().Get("Location")+w.Body.String(), "app.example.test") || h.page.ClientURI != "" {
					t.Errorf("%s, %s: %d to %q", name, who, w.Code, w.Header().Get("Location"))
				}
			}
		}
		// The exception of RFC 9700: silent authentication.
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "consent_required" {
			t.Errorf("prompt=none: %v", q)
		}
		// A person who was asked goes to the app, and signs out of it from their session only.
		tokens := h.exchangeCode(t, c, b.allows(t, c.params()).Get("code"))
		leave := url.Values{"client_id": {c.ID}, "post_logout_redirect_uri": {testRedirect}}
		l, err := h.ReadLogout(t.Context(), leave)
		if l = l.For(b.session.ID); err != nil || l.Next != "" || l.Refused != RefusedRedirect {
			t.Errorf("logout by a link alone leads to %q, %v", l.Next, err)
		}
		leave.Set("id_token_hint", tokens.str("id_token"))
		l, err = h.ReadLogout(t.Context(), leave)
		if err != nil || l.For(b.session.ID).Next != testRedirect || l.For("").Next != "" || l.For("another").Next != "" {
			t.Errorf("logout with an ID token: %+v, %v", l, err)
		}
	})
}

// Whoever makes a client with a key of its own can push requests without end.
func TestAttackStrangerFillsTheMemoryByPushing(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.opened(t, RegistrationOpen)
	a := h.manage(t, "POST", registrationPath, "", aboutMe("token_endpoint_auth_method", AuthBasic))
	c := registered{Client{ID: a.str("client_id"), AuthMethod: AuthBasic}, a.str("client_secret")}
	push := func() answer {
		form := c.params().Encode()
		r := httptest.NewRequest(http.MethodPost, "/par", strings.NewReader(form))
		r.SetBasicAuth(c.ID, c.secret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return h.do(t, r.WithContext(web.WithAddress(r.Context(), netip.MustParseAddr("192.0.2.7"))))
	}
	if got := push(); got.status != http.StatusCreated {
		t.Fatalf("push: %d %v", got.status, got.body)
	}
	for range interactionsAtOnce {
		if push().status != http.StatusCreated {
			return
		}
	}
	t.Errorf("%d pushed requests from one network are kept", interactionsAtOnce+1)
}

// A person takes a scope from an agent that has asked for its claims one by one as well.
func TestAttackShrunkAgentKeepsSingleClaims(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, func(c *Client) { c.Agent = true }), h.person(t)
		a := b.tokens(t, c, "scope", "openid email profile offline_access", "claims", `{"userinfo":{"email":null,"name":null},"id_token":{"email":null}}`)
		agents, err := h.Agents(t.Context(), b.user.ID)
		if err != nil || len(agents) != 1 {
			t.Fatalf("agents: %v, %v", agents, err)
		}
		if err := h.ShrinkAgent(t.Context(), b.user.ID, agents[0].GrantID, agents[0].Scopes, []string{"openid", "profile"}); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		next := h.refreshToken(t, c, a.str("refresh_token"))
		if next.status != http.StatusOK {
			t.Fatalf("refresh: %d %v", next.status, next.body)
		}
		_, id := claimsOf(t, next.str("id_token"))
		if info := h.userinfoAnswer(t, next.str("access_token")); info.status != http.StatusOK || info.body["email"] != nil || id["email"] != nil || info.body["name"] == nil {
			t.Errorf("userinfo %d %v, ID token %v: want the name and no address", info.status, info.body, id)
		}
	})
}

// A person ends what an agent may do. It still holds an ID token, which has no mark of the grant, and exchanges it.
func TestAttackIDTokenExchangedAfterTheGrantWasEnded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		c := h.client(t, func(c *Client) {
			c.Agent, c.GrantTypes, c.Audiences = true, []string{GrantAuthorizationCode, GrantRefreshToken, GrantTokenExchange}, []string{mailAPI}
		})
		id := w.b.tokens(t, c).str("id_token")
		if a := w.exchangeToken(t, c, id, "subject_token_type", typeIDToken); a.status != http.StatusOK {
			t.Fatalf("exchange: %d %v", a.status, a.body)
		}
		agents, err := h.Agents(t.Context(), w.b.user.ID)
		if err != nil || len(agents) != 1 {
			t.Fatalf("agents: %v, %v", agents, err)
		}
		if err := h.EndAgent(t.Context(), w.b.user.ID, agents[0].GrantID); err != nil {
			t.Fatal(err)
		}
		wantError(t, w.exchangeToken(t, c, id, "subject_token_type", typeIDToken), http.StatusBadRequest, "invalid_request")
	})
}
