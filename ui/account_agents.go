package ui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type agentsPage struct {
	Done   string
	Failed string // locale key of what went wrong
	Person string
	Agents []agentRow
}

type agentRow struct {
	ID       string
	Name     string
	Site     string
	Scopes   []scopeWords
	Had      string // the scopes as the person sees them, to notice a change meanwhile
	APIs     []string
	Ways     []agentWay
	Since    string
	LastUsed string
	Expires  string
	Bounded  bool
	UsesLeft int64
	Renews   bool
	Paused   string // since when; empty: it is not
	Lives    []budgetLife
}

// agentWay is one way in which somebody else acts through an agent.
type agentWay struct {
	Words    string
	APIs     []string
	LastUsed string
}

// acting says who acts for a person, and through which apps their access came; names keeps those that were asked for.
func (p *Pages) acting(ctx context.Context, l *locale, actor string, through []string, names map[string]string) (string, error) {
	var called []string
	for _, id := range append([]string{actor}, through...) {
		name, err := p.appName(ctx, id, names)
		if err != nil {
			return "", err
		}
		called = append(called, name)
	}
	if len(called) == 1 {
		return l.text("account_agents.acting", called[0]), nil
	}
	way := called[1]
	for _, name := range called[2:] {
		way = l.text("account_agents.acting.next", way, name)
	}
	return l.text("account_agents.acting.through", called[0], way), nil
}

// scopeWords is a scope in words; Fixed ones cannot be taken away one by one.
type scopeWords struct {
	Name, Words string
	Fixed       bool
}

// budgetLife is a choice of how long an agent may act.
type budgetLife struct{ Value, Words string }

var budgetLives = []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

func (p *Pages) agentRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/agents", Handler: p.member(p.agentsPage)},
		{Pattern: "POST /account/agents/pause", Handler: p.member(p.changeAgent("agent_paused", func(r *http.Request, userID, id string, _ form) error {
			return p.OAuth.PauseAgent(r.Context(), userID, id)
		}))},
		{Pattern: "POST /account/agents/resume", Handler: p.member(p.changeAgent("agent_resumed", func(r *http.Request, userID, id string, _ form) error {
			return p.OAuth.ResumeAgent(r.Context(), userID, id)
		}))},
		{Pattern: "POST /account/agents/end", Handler: p.member(p.changeAgent("agent_ended", func(r *http.Request, userID, id string, _ form) error {
			return p.OAuth.EndAgent(r.Context(), userID, id)
		}))},
		{Pattern: "POST /account/agents/shrink", Handler: p.member(p.changeAgent("agent_shrunk", p.shrinkAgent))},
		{Pattern: "POST /account/agents/limit", Handler: p.member(p.changeAgent("agent_limited", func(r *http.Request, userID, id string, f form) error {
			b, err := readBudget(f)
			if err != nil {
				return err
			}
			return p.OAuth.LimitAgent(r.Context(), userID, id, b)
		}))},
	}
}

func (p *Pages) agentsPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	agents, err := p.OAuth.Agents(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page, l, now, zone := agentsPage{Done: done(r), Person: u.ID}, p.locale(r.Context()), p.Now(), u.Preferences.Zone
	names := map[string]string{}
	if r.URL.Query().Get("done") == "agent_gone" {
		page.Failed = "account_agents.gone"
	}
	for _, a := range agents {
		row := agentRow{
			ID: a.GrantID, Name: a.Client.Name, Site: webURL(a.Client.ClientURI), Had: strings.Join(a.Scopes, " "), APIs: a.Resources, Renews: a.Renews,
			Since: l.when(a.Since, now, zone), LastUsed: l.when(a.LastUsed, now, zone), Expires: l.moment(a.Expires, zone),
			Bounded: a.UsesLeft >= 0, UsesLeft: a.UsesLeft, Lives: l.budgetLives(),
		}
		if !a.PausedAt.IsZero() {
			row.Paused = l.when(a.PausedAt, now, zone)
		}
		for _, scope := range a.Scopes {
			words, ok := l.texts["scope."+scope]
			if !ok {
				words = scope
			}
			row.Scopes = append(row.Scopes, scopeWords{scope, words, scope == "offline_access"})
		}
		for _, d := range a.Delegations {
			actor, through := d.Names()
			words, err := p.acting(r.Context(), l, actor, through, names)
			if err != nil {
				return err
			}
			row.Ways = append(row.Ways, agentWay{words, d.Resources, l.when(d.LastUsed, now, zone)})
		}
		page.Agents = append(page.Agents, row)
	}
	return p.render(w, r, view{Name: "account_agents", Content: page, Wide: true, Nav: "agents"})
}

func (l *locale) budgetLives() []budgetLife {
	var list []budgetLife
	for _, d := range budgetLives {
		list = append(list, budgetLife{d.String(), l.span(d)})
	}
	return list
}

// changeAgent changes one grant of the person who asks. The id of anybody else's is an unknown one; so is one that has changed under the person's eyes.
func (p *Pages) changeAgent(done string, change func(r *http.Request, userID, id string, f form) error) func(http.ResponseWriter, *http.Request, identity.Session) error {
	return func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		f, err := readForm(r)
		if err != nil {
			return err
		}
		err = change(r, s.UserID, f.value("agent"), f)
		if errors.Is(err, db.ErrNotFound) {
			return p.redirect(w, r, "/account/agents?done=agent_gone")
		}
		if err != nil {
			return err
		}
		return p.redirect(w, r, "/account/agents?done="+done)
	}
}

func (p *Pages) shrinkAgent(r *http.Request, userID, id string, f form) error {
	had := strings.Fields(f.value("had"))
	var keep []string
	for _, scope := range had {
		if f.value("keep:"+scope) != "" {
			keep = append(keep, scope)
		}
	}
	return p.OAuth.ShrinkAgent(r.Context(), userID, id, had, keep)
}

// readBudget reads the fields of the template "budget".
func readBudget(f form) (b oauth.Budget, err error) {
	if uses := f.trimmed("uses"); uses != "" {
		if b.Uses, err = strconv.ParseInt(uses, 10, 64); err != nil || b.Uses < 1 || b.Uses > oauth.MaxUses {
			return b, errMalformed
		}
	}
	if life := f.value("life"); life != "" {
		if b.Life, err = time.ParseDuration(life); err != nil || !slices.Contains(budgetLives, b.Life) {
			return b, errMalformed
		}
	}
	return b, nil
}
