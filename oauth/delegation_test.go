package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// bounded lets an app in with a budget and returns what it is given.
func (b *browser) bounded(t testing.TB, c registered, budget Budget, v url.Values) answer {
	t.Helper()
	to := must(url.Parse(b.get(b.h, "/authorize?"+v.Encode()).Header().Get("Location")))
	id := to.Query().Get("i")
	if err := errors.Join(b.h.Bound(t.Context(), id, budget), b.h.Approve(t.Context(), id, b.session)); err != nil {
		t.Fatal(err)
	}
	back := must(url.Parse(b.get(b.h, "/authorize/resume?i="+id).Header().Get("Location")))
	a := b.h.exchangeCode(t, c, back.Query().Get("code"))
	if a.status != http.StatusOK {
		t.Fatalf("exchange: %d %v", a.status, a.body)
	}
	return a
}

// agentWorld is an exchangeWorld whose app is an agent.
func newAgentWorld(t *testing.T, h *harness) *exchangeWorld {
	t.Helper()
	w := newExchangeWorld(t, h, nil)
	w.app = h.client(t, func(c *Client) {
		c.Name, c.Agent, c.Audiences = "Agent", true, []string{ordersAPI}
		c.Scopes = append(c.Scopes, "send")
	})
	return w
}

func TestAgentWithoutRefreshTokenIsSeenAndStopped(t *testing.T) {
	t.Parallel()
	stops := map[string]func(t *testing.T, w *exchangeWorld, a Agent) error{
		"pause": func(t *testing.T, w *exchangeWorld, a Agent) error {
			return w.PauseAgent(t.Context(), w.b.user.ID, a.GrantID)
		},
		"end": func(t *testing.T, w *exchangeWorld, a Agent) error {
			return w.EndAgent(t.Context(), w.b.user.ID, a.GrantID)
		},
		"shrink": func(t *testing.T, w *exchangeWorld, a Agent) error {
			return w.ShrinkAgent(t.Context(), w.b.user.ID, a.GrantID, a.Scopes, []string{"openid"})
		},
		"limit": func(t *testing.T, w *exchangeWorld, a Agent) error {
			return w.LimitAgent(t.Context(), w.b.user.ID, a.GrantID, Budget{Uses: 1})
		},
	}
	each(t, func(t *testing.T, h *harness) {
		w := newAgentWorld(t, h)
		for name, stop := range stops {
			got := w.token(t, "openid read send")
			if got.body["refresh_token"] != nil {
				t.Fatal("there is a refresh token")
			}
			a := w.b.agent(t)
			if a.Renews || !slices.Contains(a.Scopes, "send") || !slices.Equal(a.Resources, []string{ordersAPI}) || a.Since.IsZero() || a.Expires.After(h.Now().Add(h.AccessTokenTTL)) {
				t.Errorf("%s: the agent is shown as %+v", name, a)
			}
			exchanged := w.exchangeToken(t, w.orders, got.str("access_token"))
			if !h.introspectToken(t, w.orders, got.str("access_token")) || !h.introspectToken(t, w.orders, exchanged.str("access_token")) {
				t.Fatalf("%s: not active before", name)
			}
			if err := stop(t, w, a); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if h.introspectToken(t, w.orders, got.str("access_token")) || h.introspectToken(t, w.orders, exchanged.str("access_token")) {
				t.Errorf("%s: a token lives on", name)
			}
			wantError(t, w.exchangeToken(t, w.orders, got.str("access_token")), 400, "invalid_request")
			if err := h.ResumeAgent(t.Context(), w.b.user.ID, a.GrantID); !errors.Is(err, db.ErrNotFound) {
				t.Errorf("%s: what cannot go on is said to: %v", name, err)
			}
			_ = h.EndAgent(t.Context(), w.b.user.ID, a.GrantID) // for the next round
			h.advanceClock(time.Second)
		}
		// When its token is over, the agent is.
		w.token(t, "openid read")
		h.advanceClock(time.Hour)
		if list, err := h.Agents(t.Context(), w.b.user.ID); err != nil || len(list) != 0 {
			t.Errorf("afterwards: %+v, %v", list, err)
		}
		if err := h.Grants.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExchangesCountAgainstTheBudget(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newAgentWorld(t, h)
		v := with(w.app.params("scope", "openid offline_access read", "prompt", "consent"), "resource", ordersAPI)
		first := w.b.bounded(t, w.app, Budget{Uses: 4, Life: time.Hour}, v) // one
		if a := w.exchangeToken(t, w.orders, first.str("access_token")); a.status != http.StatusOK || w.b.agent(t).UsesLeft != 2 {
			t.Fatalf("the exchange: %v, %+v", a.body, w.b.agent(t))
		}
		wantError(t, w.exchangeToken(t, w.orders, first.str("access_token"), "resource", openAPI), 400, "invalid_target")
		wantError(t, w.exchangeToken(t, w.orders, first.str("access_token"), "scope", "write"), 400, "invalid_scope")
		if left := w.b.agent(t).UsesLeft; left != 2 {
			t.Errorf("what was refused was counted: %d left", left)
		}
		next := h.refreshToken(t, w.app, first.str("refresh_token")) // three
		if next.status != http.StatusOK {
			t.Fatalf("refresh: %v", next.body)
		}
		// Many at once: one gets the last use.
		var wg sync.WaitGroup
		var got atomic.Int64
		for range 8 {
			wg.Go(func() {
				if w.exchangeToken(t, w.orders, next.str("access_token")).status == http.StatusOK {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 || w.b.agent(t).UsesLeft != 0 {
			t.Errorf("%d of 8 got the last use; %+v", got.Load(), w.b.agent(t))
		}
		wantError(t, h.refreshToken(t, w.app, next.str("refresh_token")), 400, "invalid_grant")
		wantError(t, h.refreshToken(t, w.app, first.str("refresh_token")), 400, "invalid_grant") // a lost answer brings a token as well
		wantError(t, w.exchangeToken(t, w.orders, next.str("access_token")), 400, "invalid_request")
	})
}

func TestRepeatedRefreshCountsAgainstTheBudget(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, agentClient), h.person(t)
		a := b.bounded(t, c, Budget{Uses: 3}, c.params("prompt", "consent"))
		for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusBadRequest} {
			if got := h.refreshToken(t, c, a.str("refresh_token")); got.status != want {
				t.Errorf("%d: got %d %v, want %d", i, got.status, got.body, want)
			}
		}
		if agent := b.agent(t); agent.UsesLeft != 0 {
			t.Errorf("left %d", agent.UsesLeft)
		}
	})
}

func TestIDTokenOfPausedAgentExchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.api(t, mailAPI, nil, "read", "send")
		b, c := h.person(t), h.client(t, func(c *Client) {
			c.Agent, c.GrantTypes, c.Audiences = true, append(c.GrantTypes, GrantTokenExchange), []string{mailAPI}
		})
		w := &exchangeWorld{harness: h, b: b}
		a := b.bounded(t, c, Budget{Uses: 3}, c.params("scope", "openid read"))
		if got := w.exchangeToken(t, c, a.str("id_token"), "subject_token_type", typeIDToken); got.status != http.StatusOK || b.agent(t).UsesLeft != 1 {
			t.Fatalf("exchange: %v, %+v", got.body, b.agent(t))
		}
		if err := h.PauseAgent(t.Context(), b.user.ID, b.agent(t).GrantID); err != nil {
			t.Fatal(err)
		}
		b.consent(t, c)
		wantError(t, w.exchangeToken(t, c, a.str("id_token"), "subject_token_type", typeIDToken), 400, "invalid_request")
	})
}

func TestChainOfTwoIsShown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		third := h.client(t, func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantTokenExchange}, nil, nil
			c.Scopes, c.Audiences, c.ExchangeFrom = []string{"read"}, []string{openAPI}, []string{w.orders.ID}
		})
		mail := must(h.people.Resource(t.Context(), mailAPI))
		mail.ClientID = third.ID
		if err := h.people.UpdateAPI(t.Context(), "", mail); err != nil {
			t.Fatal(err)
		}
		one := w.exchangeToken(t, w.orders, w.token(t, "read").str("access_token"))
		h.advanceClock(time.Second)
		two := w.exchangeToken(t, third, one.str("access_token"), "resource", openAPI)
		if two.status != http.StatusOK {
			t.Fatalf("second exchange: %v", two.body)
		}
		// An ordinary app, without a refresh token: it stands among the agents because somebody acts through it.
		a := w.b.agent(t)
		if a.Client.ID != w.app.ID || a.Renews || len(a.Delegations) != 2 {
			t.Fatalf("agent: %+v", a)
		}
		actor, through := a.Delegations[0].Names()
		if actor != third.ID || !slices.Equal(through, []string{w.orders.ID, w.app.ID}) || !slices.Equal(a.Delegations[0].Resources, []string{openAPI}) {
			t.Errorf("the chain: %s through %v, %+v", actor, through, a.Delegations[0])
		}
		if actor, through = a.Delegations[1].Names(); actor != w.orders.ID || !slices.Equal(through, []string{w.app.ID}) {
			t.Errorf("its first half: %s through %v", actor, through)
		}
		trail := must(h.Audit.Trail(t.Context(), w.b.user.ID, audit.Position{}, 50))
		if !slices.ContainsFunc(trail, func(e audit.Entry) bool {
			return e.Action == "token.exchange" && e.Detail["acting"] == third.ID && e.Detail["through"] == w.orders.ID+" "+w.app.ID
		}) {
			t.Errorf("the audit log does not tell of the chain: %+v", trail)
		}
		if kept := must(h.Grants.Granted(t.Context(), w.b.user.ID)); len(kept) != 1 || len(kept[0].Delegations) != 2 {
			t.Errorf("the person's data: %+v", kept)
		}
		// The person ends it: everything in the chain dies.
		if err := h.EndAgent(t.Context(), w.b.user.ID, a.GrantID); err != nil {
			t.Fatal(err)
		}
		if h.introspectToken(t, third, two.str("access_token")) || h.introspectToken(t, w.orders, one.str("access_token")) {
			t.Error("the chain lives on")
		}
	})
}

func TestExchangeOfUnlistedAppsToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, func(c *Client) { c.ExchangeFrom = []string{"friend"} })
		token := w.token(t, "read").str("access_token")
		wantError(t, w.exchangeToken(t, w.orders, token), 400, "invalid_request")
		c := w.orders.Client
		c.ExchangeFrom = []string{"friend", w.app.ID}
		if err := h.Clients.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := w.exchangeToken(t, w.orders, token); got.status != http.StatusOK {
			t.Errorf("a listed app: %v", got.body)
		}
		if _, _, err := h.Clients.Create(t.Context(), Client{Name: "x", RequirePKCE: true, RedirectURIs: []string{testRedirect}, ExchangeFrom: []string{"y"}}); err == nil {
			t.Error("a client that exchanges nothing has a list of whose tokens")
		}
	})
}

func TestPersonMadeActorByTheirToken(t *testing.T) { // confused deputy: her token was sent for something else
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		hers := w.token(t, "read").str("access_token")
		w.b = h.person(t)
		his := w.token(t, "read").str("access_token")
		wantError(t, w.exchangeToken(t, w.orders, his, "actor_token", hers, "actor_token_type", typeAccessToken), 400, "invalid_request")
	})
}

func TestExchangedTokenDiesWithItsActor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		robot := h.client(t, func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []string{GrantClientCredentials}, nil, nil
			c.Scopes, c.Audiences = []string{"read"}, []string{ordersAPI}
		})
		shown := h.post(t, "/token", robot, url.Values{"grant_type": {GrantClientCredentials}, "resource": {ordersAPI}}).str("access_token")
		got := w.exchangeToken(t, w.orders, w.token(t, "read").str("access_token"), "actor_token", shown, "actor_token_type", typeAccessToken)
		_, c := claimsOf(t, got.str("access_token"))
		if act, _ := c["act"].(map[string]any); act["sub"] != robot.ID || !h.introspectToken(t, w.orders, got.str("access_token")) {
			t.Fatalf("claims %v", c)
		}
		h.post(t, "/revoke", robot, url.Values{"token": {shown}})
		if h.introspectToken(t, w.orders, got.str("access_token")) {
			t.Error("the token lives longer than the one that acts")
		}
	})
}

func TestExchangeTooManyTimes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newExchangeWorld(t, h, nil)
		orders := must(h.people.Resource(t.Context(), mailAPI))
		orders.ClientID = w.orders.ID // it may exchange what it was given for mail, too
		if err := h.people.UpdateAPI(t.Context(), "", orders); err != nil {
			t.Fatal(err)
		}
		token := w.token(t, "read").str("access_token")
		for range maxExchanges {
			got := w.exchangeToken(t, w.orders, token)
			if got.status != http.StatusOK {
				t.Fatalf("exchange: %v", got.body)
			}
			token = got.str("access_token")
		}
		wantError(t, w.exchangeToken(t, w.orders, token), 400, "invalid_request")
		wantError(t, h.refreshToken(t, w.orders, token), 400, "unauthorized_client")
	})
}

func TestExchangeOfOwnTiedTokenWithAnotherKey(t *testing.T) {
	t.Parallel()
	mine, other := &confirmation{JKT: "mine"}, &confirmation{JKT: "other"}
	client := &registration{Client: Client{ID: "service"}}
	for name, c := range map[string]struct {
		sender *confirmation
		token  accessClaims
		ok     bool
	}{
		"no key":                      {nil, accessClaims{ClientID: "app", Confirmation: mine}, false},
		"another app's, own key":      {other, accessClaims{ClientID: "app", Confirmation: mine}, true},
		"own token, another key":      {other, accessClaims{ClientID: "service", Confirmation: mine}, false},
		"own token, a certificate":    {&confirmation{Certificate: "mine"}, accessClaims{ClientID: "service", Confirmation: mine}, false},
		"own token, its key":          {&confirmation{JKT: "mine"}, accessClaims{ClientID: "service", Confirmation: mine}, true},
		"token that is tied to none":  {nil, accessClaims{ClientID: "service"}, true},
		"certificate, nothing proved": {nil, accessClaims{ClientID: "app", Confirmation: &confirmation{Certificate: "x"}}, false},
	} {
		if err := heldFor(&state{confirmation: c.sender}, client, &c.token); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// An app that acts by assertions about a person is seen and stopped like any other agent.
func TestActingByAssertionsIsSeenAndStopped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w := newBearerWorld(t, h)
		w.b.consent(t, w.service)
		ask := func() answer { return w.person(t, nil, nil, "scope", "read") }
		first, second := ask(), ask()
		if first.status != http.StatusOK || second.status != http.StatusOK {
			t.Fatalf("tokens: %v, %v", first.body, second.body)
		}
		a := w.b.agent(t) // one for both
		if a.Client.ID != w.service.ID || a.Renews || !slices.Equal(a.Scopes, []string{"read"}) {
			t.Errorf("shown as %+v", a)
		}
		if err := h.PauseAgent(t.Context(), w.b.user.ID, a.GrantID); err != nil {
			t.Fatal(err)
		}
		for _, token := range []answer{first, second} {
			if h.introspectToken(t, w.service, token.str("access_token")) {
				t.Error("a token lives on")
			}
		}
		if got := ask(); got.status == http.StatusOK {
			t.Errorf("a paused app acts: %v", got.body)
		}
		h.advanceClock(2 * time.Second)
		w.b.consent(t, w.service) // they let it in anew
		if err := h.LimitAgent(t.Context(), w.b.user.ID, a.GrantID, Budget{Uses: 1}); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		w.b.consent(t, w.service)
		if got := ask(); got.status != http.StatusOK || !w.b.agent(t).PausedAt.IsZero() || !h.introspectToken(t, w.service, got.str("access_token")) {
			t.Errorf("after it was let in anew: %v", got.body)
		}
		if got := ask(); got.status == http.StatusOK {
			t.Errorf("a second use of a budget of one: %v", got.body)
		}
		// The operator's own app needs no consent: a pause keeps it out all the same.
		c := w.service.Client
		c.FirstParty = true
		if err := errors.Join(h.Clients.Update(t.Context(), c), h.LimitAgent(t.Context(), w.b.user.ID, a.GrantID, Budget{}), h.PauseAgent(t.Context(), w.b.user.ID, a.GrantID)); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		if got := ask(); got.status == http.StatusOK {
			t.Errorf("a paused app of the operator acts: %v", got.body)
		}
		if err := h.ResumeAgent(t.Context(), w.b.user.ID, a.GrantID); err != nil || !w.b.agent(t).Renews {
			t.Fatalf("resume: %v", err)
		}
		if got := ask(); got.status != http.StatusOK || !h.introspectToken(t, w.service, got.str("access_token")) {
			t.Errorf("after it was let go on: %v", got.body)
		}
	})
}

// An agent without a browser is seen and stopped, too, though it cannot renew what it has.
func TestAgentOnADeviceIsSeenAndStopped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, func(c *Client) { ofDevice(c); c.Agent = true }), h.person(t)
		asked := h.device(t, c, "openid")
		b.decide(t, asked.str("user_code"), true)
		got := h.poll(t, c, asked.str("device_code"))
		if got.status != http.StatusOK || got.body["refresh_token"] != nil {
			t.Fatalf("poll: %v", got.body)
		}
		a := b.agent(t)
		if a.Client.ID != c.ID || a.Renews || h.userinfoAnswer(t, got.str("access_token")).status != http.StatusOK {
			t.Errorf("shown as %+v", a)
		}
		if err := h.PauseAgent(t.Context(), b.user.ID, a.GrantID); err != nil {
			t.Fatal(err)
		}
		if h.userinfoAnswer(t, got.str("access_token")).status == http.StatusOK {
			t.Error("the token lives on")
		}
	})
}

// Somebody's agents, and who acts through them, are nobody else's business.
func TestDelegationsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		w, other := newAgentWorld(t, h), h.person(t)
		if got := w.exchangeToken(t, w.orders, w.token(t, "read").str("access_token")); got.status != http.StatusOK {
			t.Fatal(got.body)
		}
		if list, err := h.Agents(t.Context(), other.user.ID); err != nil || len(list) != 0 {
			t.Errorf("agents of somebody else: %+v, %v", list, err)
		}
		if ways, err := h.Grants.delegations(t.Context(), other.user.ID); err != nil || len(ways) != 0 {
			t.Errorf("delegations of somebody else: %+v, %v", ways, err)
		}
		// Once nobody can use it any more, nothing of it is kept.
		h.advanceClock(keptDelegations + time.Hour)
		if err := h.Grants.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(-keptDelegations - time.Hour)
		if ways, err := h.Grants.delegations(t.Context(), w.b.user.ID); err != nil || len(ways) != 0 {
			t.Errorf("kept: %+v, %v", ways, err)
		}
	})
}
