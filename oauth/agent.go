package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Agent is a grant by which a program acts for a person without them, as that person sees it.
type Agent struct {
	GrantID   string
	Client    Client
	Scopes    []string
	Resources []string  // APIs it asked for by name
	Since     time.Time // when the person let it in
	LastUsed  time.Time
	Expires   time.Time
	PausedAt  time.Time // zero: it is not paused
	UsesLeft  int64     // tokens it may still fetch; -1: no bound
	Renews    bool      // it can fetch more by itself; else it has to ask the person again

	Delegations []Delegation // services that go on from it in the person's name, the last used one first
}

// Budget bounds what a person lets an app do. The zero Budget is no bound.
type Budget struct {
	Uses int64         `json:"uses,omitempty"` // how many access tokens it may be given, and services that go on from it
	Life time.Duration `json:"life,omitempty"` // for how long
}

// MaxUses is the largest number of uses that a budget may have.
const MaxUses = 1_000_000

var errBudget = errors.New("a budget has 0 to 1000000 uses and no negative life")

func (b Budget) check() error {
	if b.Uses < 0 || b.Uses > MaxUses || b.Life < 0 {
		return errBudget
	}
	return nil
}

// bind puts a budget into the session of a code, from which the grant is made.
func (b *Budget) bind(s *session, now time.Time) *session {
	if b == nil {
		return s
	}
	s.Uses = b.Uses
	if b.Life > 0 {
		s.Until = now.Add(b.Life)
	}
	return s
}

// isAgent reports whether a client acts for people rather than with them, so that they are offered to bound it.
func isAgent(c Client) bool { return c.Agent || c.profile() == ProfileMCP }

// actor is who acts for whom (RFC 8693 §4.1).
type actor struct {
	Subject string `json:"sub"`
	Act     *actor `json:"act,omitempty"`
}

func (a *actor) equal(b *actor) bool { return slices.Equal(a.chain(), b.chain()) }

func (a *actor) chain() (names []string) {
	for ; a != nil && len(names) < maxListLength; a = a.Act {
		names = append(names, a.Subject)
	}
	return names
}

// markCut stands for the tokens that a grant gave out before the person paused or shrank it. Other than the marks of what has ended it is held
// against the time of a token, not of its grant.
func markCut(grantID string) string { return "c:" + grantID }

// Bound lays a budget on what the person is about to allow.
func (s *Server) Bound(ctx context.Context, id string, b Budget) error {
	if err := b.check(); err != nil {
		return err
	}
	in, _, err := s.waiting(ctx, id)
	if err != nil {
		return err
	}
	in.Budget = &b
	return s.saveInteraction(ctx, in)
}

// Agents lists the programs that act for a person, the newest first.
func (s *Server) Agents(ctx context.Context, userID string) ([]Agent, error) {
	type held struct {
		Resources []string `json:"resources"`
	}
	var list []Agent
	acting := map[string]bool{} // by assertions
	err := s.DB.Query(ctx, func(row db.Scanner) error {
		var a Agent
		var h held
		var created, used, expires, paused db.Time
		var generation int64
		if err := row.Scan(&a.GrantID, &a.Client.ID, db.JSON(&a.Scopes), db.JSON(&h), &created, &used, &expires, &paused, &a.UsesLeft, &generation); err != nil {
			return err
		}
		acting[a.GrantID] = generation == generationActing
		a.Renews = generation > generationBare
		a.Since, a.LastUsed, a.Expires, a.PausedAt = created.Time, used.Time, expires.Time, paused.Time
		a.Resources = h.Resources
		list = append(list, a)
		return nil
	}, `SELECT id, client_id, scopes, session, created_at, used_at, expires_at, paused_at, COALESCE(uses_left, -1), generation FROM grants
		WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY id DESC`, userID, db.At(s.Now()))
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	ways, err := s.Grants.delegations(ctx, userID)
	if err != nil {
		return nil, err
	}
	agents := []Agent{}
	for _, a := range list {
		client, err := s.Clients.Get(ctx, a.Client.ID)
		if errors.Is(err, db.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		a.Client, a.Delegations = client, ways[a.GrantID]
		a.Renews = a.Renews || acting[a.GrantID] && client.FirstParty
		for _, d := range a.Delegations {
			if d.LastUsed.After(a.LastUsed) {
				a.LastUsed = d.LastUsed
			}
		}
		if isAgent(client) || len(a.Delegations) > 0 || acting[a.GrantID] || a.UsesLeft >= 0 || !a.PausedAt.IsZero() {
			agents = append(agents, a)
		}
	}
	return agents, nil
}

// PauseAgent stops a grant of the person until they let it go on. Its living tokens fail at once.
func (s *Server) PauseAgent(ctx context.Context, userID, id string) error {
	return s.alterAgent(ctx, true, func(ctx context.Context) (changed, error) {
		c, err := s.changeGrant(ctx, `UPDATE grants SET paused_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND paused_at IS NULL
			RETURNING id, client_id`, id, userID, db.At(s.Now()))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "agent.pause", Actor: userID, UserID: userID, ClientID: c.clientID, Detail: c.detail()})
		}
		return c, err
	})
}

// ResumeAgent lets a paused grant go on. Tokens from before the pause stay dead; the app fetches new ones. A grant that cannot fetch any
// is db.ErrNotFound: its app has to ask the person.
func (s *Server) ResumeAgent(ctx context.Context, userID, id string) error {
	return s.alterAgent(ctx, false, func(ctx context.Context) (changed, error) {
		c, err := s.changeGrant(ctx, `UPDATE grants SET paused_at = NULL WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND paused_at IS NOT NULL
			AND generation <> 0
			RETURNING id, client_id`, id, userID)
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "agent.resume", Actor: userID, UserID: userID, ClientID: c.clientID, Detail: c.detail()})
		}
		return c, err
	})
}

// ShrinkAgent takes scopes away from a grant: of those it had when the person looked, it keeps the ones named. A grant that has changed since, or
// that would not become smaller, is db.ErrNotFound.
func (s *Server) ShrinkAgent(ctx context.Context, userID, id string, had, keep []string) error {
	left := slices.DeleteFunc(slices.Clone(had), func(scope string) bool { return scope != scopeOfflineAccess && !slices.Contains(keep, scope) })
	if len(left) == len(had) || len(left) == 0 {
		return db.ErrNotFound
	}
	return s.alterAgent(ctx, true, func(ctx context.Context) (changed, error) {
		row, err := s.Grants.byID(ctx, id)
		if err != nil {
			return changed{}, err
		}
		row.Session.Claims.drop(func(scope string) bool { return slices.Contains(had, scope) && !slices.Contains(left, scope) })
		if row.Generation == generationActing { // its scopes are those of the last assertion
			row.Session.Kept = left
		}
		c, err := s.changeGrant(ctx, `UPDATE grants SET scopes = $3, session = $5 WHERE id = $1 AND user_id = $2 AND scopes = $4 AND revoked_at IS NULL
			RETURNING id, client_id`, id, userID, db.JSON(&left), db.JSON(&had), db.JSON(row.Session))
		if err == nil {
			detail := c.detail()
			detail["scope"] = join(left)
			s.Audit.Record(ctx, audit.Event{Action: "agent.shrink", Actor: userID, UserID: userID, ClientID: c.clientID, Detail: detail})
		}
		return c, err
	})
}

// LimitAgent lays a budget on a grant. It never lives longer than before.
func (s *Server) LimitAgent(ctx context.Context, userID, id string, b Budget) error {
	if err := b.check(); err != nil {
		return err
	}
	until := s.Now().AddDate(100, 0, 0)
	if b.Life > 0 {
		until = s.Now().Add(b.Life)
	}
	return s.alterAgent(ctx, true, func(ctx context.Context) (changed, error) {
		c, err := s.changeGrant(ctx, `UPDATE grants SET uses_left = $3, expires_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END
			WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id, client_id`, id, userID, bound(b.Uses), db.At(until))
		if err == nil {
			detail := c.detail()
			detail["uses"], detail["until"] = fmt.Sprint(b.Uses), until.UTC().Format(time.RFC3339)
			s.Audit.Record(ctx, audit.Event{Action: "agent.limit", Actor: userID, UserID: userID, ClientID: c.clientID, Detail: detail})
		}
		return c, err
	})
}

// EndAgent ends a grant of the person for good.
func (s *Server) EndAgent(ctx context.Context, userID, id string) error {
	return s.alterAgent(ctx, true, func(ctx context.Context) (changed, error) {
		c, err := s.changeGrant(ctx, `UPDATE grants SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL
			RETURNING id, client_id`, id, userID, db.At(s.Now()))
		if err != nil {
			return c, err
		}
		s.Audit.Record(ctx, audit.Event{Action: "agent.end", Actor: userID, UserID: userID, ClientID: c.clientID, Detail: c.detail()})
		return c, s.Revocations.forever(ctx, markGrant(id))
	})
}

// changed is a grant that a person has just changed.
type changed struct {
	userID, id, clientID string
}

func (c changed) detail() map[string]string { return map[string]string{"grant_id": c.id} }

// changeGrant runs one UPDATE of a person's own grant; the id of anybody else's is an unknown one.
func (s *Server) changeGrant(ctx context.Context, update, id, userID string, more ...any) (c changed, err error) {
	c.userID = userID
	err = s.DB.QueryRow(ctx, update, append([]any{id, userID}, more...)...).Scan(&c.id, &c.clientID)
	return c, err
}

// alterAgent changes a grant. cut ends the tokens that it gave out so far, and the consent: else the app could come back by the browser, unasked, for
// what it has just lost.
func (s *Server) alterAgent(ctx context.Context, cut bool, change func(ctx context.Context) (changed, error)) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		c, err := change(ctx)
		if err != nil || !cut {
			return err
		}
		// Behind the UPDATE: a refresh that came before it sees the mark, or has made its token before the mark.
		if err := s.Revocations.until(ctx, markCut(c.id)); err != nil {
			return err
		}
		if err := s.Consents.Forget(ctx, c.userID, c.clientID); err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		return nil
	})
}
