package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// letAct lets a program act for whoever is signed in, within a budget, and returns its client and refresh token.
func (b *browser) letAct(w *world) (oauth.Client, string) {
	b.t.Helper()
	app := w.app(b.t, func(c *oauth.Client) {
		c.Name, c.Agent, c.Scopes = "Diligent agent", true, []string{"openid", "email", "offline_access", "calendar.read"}
	})
	p := b.get(authorize(app, url.Values{"scope": {"openid email offline_access calendar.read"}})).want(http.StatusOK, "consent-budget")
	code := b.press(p, "consent-allow", map[string]string{"uses": "3", "life": "24h0m0s"}).atApp().Get("code")
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	got := w.browser(b.t).roundTrip(http.MethodPost, "/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {app.ID}, "code": {code}, "redirect_uri": {app.RedirectURIs[0]},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
	}, nil)
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || answer.Refresh == "" {
		b.t.Fatalf("exchange: %d %s", got.status, got.body)
	}
	return app, answer.Refresh
}

// renew uses a refresh token and returns its successor, or "".
func (w *world) renew(t testing.TB, app oauth.Client, token string) string {
	t.Helper()
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	got := w.browser(t).roundTrip(http.MethodPost, "/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {app.ID}, "refresh_token": {token}}, nil)
	if got.status != http.StatusOK {
		return ""
	}
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Refresh
}

func TestAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	app, token := b.letAct(w)
	list, err := w.server.Agents(t.Context(), u.ID)
	if err != nil || len(list) != 1 || list[0].UsesLeft != 2 {
		t.Fatalf("agents: %+v, %v", list, err)
	}
	id := list[0].GrantID
	p := b.get("/account/agents").says("Diligent agent", "calendar.read", "see your email address", "Uses left")
	p = b.press(p, "agent-pause-"+id, nil).says("The agent is paused.", "Paused")
	if w.renew(t, app, token) != "" {
		t.Error("a paused agent renewed its access")
	}
	w.clock.forward(2 * time.Second)
	b.press(p, "agent-pause-"+id, nil).says("The agent goes on.")
	if token = w.renew(t, app, token); token == "" {
		t.Fatal("the agent does not go on")
	}
	had := list[0].Scopes
	form := url.Values{"person": {u.ID}, "agent": {id}, "had": {strings.Join(had, " ")}, "keep:openid": {"1"}}
	p = b.follow(b.post("/account/agents/shrink", form)).says("The agent may do less now.")
	if strings.Contains(p.text(), "calendar.read") {
		t.Error("the scope is still shown")
	}
	b.follow(b.post("/account/agents/shrink", form)).says("changed meanwhile")
	p = b.press(b.get("/account/agents"), "agent-limit-"+id, map[string]string{"uses": "1", "life": "1h0m0s"}).says("The limit is set.")
	w.clock.forward(2 * time.Second)
	if token = w.renew(t, app, token); token == "" {
		t.Error("the one use was refused")
	}
	if w.renew(t, app, token) != "" {
		t.Error("a second use of a budget of one")
	}
	b.press(p, "agent-end-"+id, nil).says("The agent has no access any more.", "No program acts for you.")
	b.get("/account/activity").says("Paused an agent", "Ended an agent")
}

func TestAttackAgentOfSomebodyElseFromTheirOwnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.person(t, alice)
	mallory := w.person(t, "mallory@example.test")
	b, m := w.browser(t), w.browser(t)
	b.signIn(alice)
	m.signIn("mallory@example.test")
	_, _ = b.letAct(w)
	list, err := w.server.Agents(t.Context(), u.ID)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	for _, what := range []string{"pause", "resume", "end", "limit", "shrink"} {
		m.follow(m.post("/account/agents/"+what, url.Values{"person": {mallory.ID}, "agent": {list[0].GrantID}, "had": {"openid email"}, "keep:openid": {"1"}, "uses": {"1"}})).says("changed meanwhile")
	}
	if now, err := w.server.Agents(t.Context(), u.ID); err != nil || len(now) != 1 || now[0].UsesLeft != 2 || !now[0].PausedAt.IsZero() {
		t.Errorf("it was changed: %+v, %v", now, err)
	}
	for _, uses := range []string{"0", "-1", "x", "1000001"} {
		if p := b.post("/account/agents/limit", url.Values{"person": {u.ID}, "agent": {list[0].GrantID}, "uses": {uses}}); p.status != http.StatusBadRequest {
			t.Errorf("uses %q: got %d, want 400", uses, p.status)
		}
	}
	if p := b.post("/account/agents/limit", url.Values{"person": {u.ID}, "agent": {list[0].GrantID}, "life": {"87600h"}}); p.status != http.StatusBadRequest {
		t.Errorf("a life of its own choice: got %d, want 400", p.status)
	}
}

// goOn lets a service go on from an agent to another API, in the name of whoever the refresh token stands for.
func (w *world) goOn(t testing.TB, app oauth.Client, refresh string) (service oauth.Client, next string) {
	t.Helper()
	const calendar, rooms = "https://calendar.example.test", "https://rooms.example.test"
	service, secret, err := w.server.Clients.Create(t.Context(), oauth.Client{
		ID: "calendar", Name: "Calendar", RequirePKCE: true, AuthMethod: oauth.AuthPost, GrantTypes: []string{oauth.GrantTokenExchange}, Scopes: []string{"calendar.read"},
		Audiences: []string{rooms},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []identity.API{
		{Identifier: calendar, Name: "Calendar API", Resource: identity.Resource{ClientID: service.ID, Scopes: []identity.APIScope{{Name: "calendar.read"}}}},
		{Identifier: rooms, Name: "Rooms", Resource: identity.Resource{Scopes: []identity.APIScope{{Name: "calendar.read"}}}},
	} {
		if _, err := w.people.CreateResource(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
	}
	app.Audiences = []string{calendar}
	if err := w.server.Clients.Update(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Refresh string `json:"refresh_token"`
		Access  string `json:"access_token"`
	}
	ask := func(form url.Values) {
		t.Helper()
		got := w.browser(t).roundTrip(http.MethodPost, "/token", form, nil)
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != http.StatusOK {
			t.Fatalf("token: %d %s", got.status, got.body)
		}
	}
	ask(url.Values{"grant_type": {"refresh_token"}, "client_id": {app.ID}, "refresh_token": {refresh}, "resource": {calendar}})
	ask(url.Values{
		"grant_type": {oauth.GrantTokenExchange}, "client_id": {service.ID}, "client_secret": {secret}, "resource": {rooms},
		"subject_token": {answer.Access}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	})
	return service, answer.Refresh
}

func TestWhoActsThroughAnAgentIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b := w.browser(t)
	b.signIn(alice)
	app, token := b.letAct(w)
	w.goOn(t, app, token)
	b.get("/account/agents").says("Calendar acting for you through Diligent agent", "https://rooms.example.test")
	b.get("/account/activity").says("Calendar acting for you through Diligent agent")
}
