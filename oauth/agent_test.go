package oauth

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

func agentClient(c *Client) {
	c.Profile, c.GrantTypes = ProfileMCP, []string{GrantAuthorizationCode, GrantRefreshToken}
}

// agent gives the one agent of a person.
func (b *browser) agent(t testing.TB) Agent {
	t.Helper()
	list, err := b.h.Agents(t.Context(), b.user.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("agents: %+v, %v; want one", list, err)
	}
	return list[0]
}

// lives reports whether tokens are good at introspection and userinfo alike.
func (h *harness) lives(t testing.TB, c registered, a answer) bool {
	t.Helper()
	introspected, read := h.introspectToken(t, c, a.str("access_token")), h.userinfoAnswer(t, a.str("access_token")).status == http.StatusOK
	if introspected != read {
		t.Errorf("introspection says %v, userinfo %v", introspected, read)
	}
	return introspected
}

func TestPausedAgentCanDoNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, agentClient), h.person(t)
		b.consent(t, c)
		a := b.tokens(t, c)
		agent := b.agent(t)
		if !h.lives(t, c, a) || !slices.Equal(agent.Scopes, []string{"openid", "email", "offline_access"}) || agent.UsesLeft != -1 || agent.Client.ID != c.ID {
			t.Fatalf("before: %+v", agent)
		}
		if err := h.PauseAgent(t.Context(), b.user.ID, agent.GrantID); err != nil {
			t.Fatal(err)
		}
		if h.lives(t, c, a) || h.introspectToken(t, c, a.str("refresh_token")) {
			t.Error("tokens of a paused agent live on")
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
		// Nor does it come back by the browser, unasked.
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "consent_required" {
			t.Errorf("a paused agent was let in again: %v", q)
		}
		if b.agent(t).PausedAt.IsZero() {
			t.Error("the pause is not shown")
		}
		h.advanceClock(2 * time.Second)
		if err := h.ResumeAgent(t.Context(), b.user.ID, agent.GrantID); err != nil {
			t.Fatal(err)
		}
		if h.lives(t, c, a) {
			t.Error("a token from before the pause came back to life")
		}
		if again := h.refreshToken(t, c, a.str("refresh_token")); again.status != http.StatusOK || !h.lives(t, c, again) {
			t.Errorf("after the pause: %d %v", again.status, again.body)
		}
	})
}

func TestPauseReachesARepeatedRefresh(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, agentClient), h.person(t)
		token := b.tokens(t, c).str("refresh_token")
		if a := h.refreshToken(t, c, token); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		if err := h.PauseAgent(t.Context(), b.user.ID, b.agent(t).GrantID); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.refreshToken(t, c, token), http.StatusBadRequest, "invalid_grant") // within the replay window
	})
}

func TestShrunkAgentCannotWidenAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, agentClient), h.person(t)
		b.consent(t, c)
		a := b.tokens(t, c)
		agent := b.agent(t)
		if err := h.ShrinkAgent(t.Context(), b.user.ID, agent.GrantID, agent.Scopes, []string{"openid"}); err != nil {
			t.Fatal(err)
		}
		if h.lives(t, c, a) {
			t.Error("a token with the scopes from before lives on")
		}
		h.advanceClock(2 * time.Second)
		small := h.refreshToken(t, c, a.str("refresh_token"))
		if small.status != http.StatusOK || small.str("scope") != "openid offline_access" {
			t.Fatalf("refresh: %d %v", small.status, small.body)
		}
		if info := h.userinfoAnswer(t, small.str("access_token")); info.body["email"] != nil {
			t.Errorf("userinfo still tells the address: %v", info.body)
		}
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "consent_required" {
			t.Errorf("it got its scopes back without asking: %v", q)
		}
		// What the person looked at is no longer so: nothing is changed on a guess.
		if err := h.ShrinkAgent(t.Context(), b.user.ID, agent.GrantID, agent.Scopes, []string{"email"}); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("shrink of a grant that has changed: %v, want db.ErrNotFound", err)
		}
	})
}

func TestBudgetOfAnAgentIsNotExceeded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, agentClient), h.person(t)
		w := b.get(h, "/authorize?"+c.params().Encode())
		_, id, ok := strings.Cut(w.Header().Get("Location"), "/consent?i=")
		if !ok {
			t.Fatalf("led to %s", w.Header().Get("Location"))
		}
		if err := h.Bound(t.Context(), id, Budget{Uses: -1}); err == nil {
			t.Error("a negative budget was taken")
		}
		if err := h.Bound(t.Context(), id, Budget{Uses: 3, Life: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		to := b.get(h, "/authorize/resume?i="+id).Header().Get("Location")
		_, query, _ := strings.Cut(to, "code=")
		code, _, _ := strings.Cut(query, "&")
		a := h.exchangeCode(t, c, code)
		if a.status != http.StatusOK {
			t.Fatalf("exchange: %d %v", a.status, a.body)
		}
		if agent := b.agent(t); agent.UsesLeft != 2 || agent.Expires.After(h.Now().Add(time.Hour)) {
			t.Errorf("the budget is not shown: %+v", agent)
		}
		for range 2 {
			h.advanceClock(time.Minute)
			if a = h.refreshToken(t, c, a.str("refresh_token")); a.status != http.StatusOK {
				t.Fatalf("within the budget: %d %v", a.status, a.body)
			}
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
		if h.introspectToken(t, c, a.str("refresh_token")) {
			t.Error("a refresh token that is used up is said to be good")
		}
		// Neither does a token live longer than the grant.
		h.advanceClock(-2 * time.Minute)
		if err := h.LimitAgent(t.Context(), b.user.ID, b.agent(t).GrantID, Budget{Uses: 9, Life: 90 * time.Second}); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(2 * time.Second)
		if a = h.refreshToken(t, c, a.str("refresh_token")); a.status != http.StatusOK || a.body["expires_in"].(float64) > 90 {
			t.Errorf("token of a grant with 90 seconds to live: %d %v", a.status, a.body)
		}
		h.advanceClock(2 * time.Minute)
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
	})
}

func TestAgentsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b, other := h.client(t, agentClient), h.person(t), h.person(t)
		a := b.tokens(t, c)
		agent := b.agent(t)
		for name, err := range map[string]error{
			"pause":  h.PauseAgent(t.Context(), other.user.ID, agent.GrantID),
			"resume": h.ResumeAgent(t.Context(), other.user.ID, agent.GrantID),
			"shrink": h.ShrinkAgent(t.Context(), other.user.ID, agent.GrantID, agent.Scopes, []string{"openid"}),
			"limit":  h.LimitAgent(t.Context(), other.user.ID, agent.GrantID, Budget{Uses: 1}),
			"end":    h.EndAgent(t.Context(), other.user.ID, agent.GrantID),
		} {
			if !errors.Is(err, db.ErrNotFound) {
				t.Errorf("%s: got %v, want db.ErrNotFound", name, err)
			}
		}
		if list, err := h.Agents(t.Context(), other.user.ID); err != nil || len(list) != 0 {
			t.Errorf("agents of somebody else: %v, %v", list, err)
		}
		if !h.lives(t, c, a) {
			t.Error("somebody else ended it")
		}
		if err := h.EndAgent(t.Context(), b.user.ID, agent.GrantID); err != nil {
			t.Fatal(err)
		}
		if h.lives(t, c, a) {
			t.Error("an ended agent lives on")
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
	})
}

func TestOrdinaryAppsAreNoAgents(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		b.tokens(t, h.client(t, nil))
		if list, err := h.Agents(t.Context(), b.user.ID); err != nil || len(list) != 0 {
			t.Errorf("got %v, %v", list, err)
		}
		b.tokens(t, h.client(t, func(c *Client) { c.Agent = true }))
		b.agent(t)
	})
}
