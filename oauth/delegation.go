package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Delegation is one way in which a service goes on to other APIs in a person's name, by token exchange.
type Delegation struct {
	GrantID   string    `json:"grant_id"`
	ClientID  string    `json:"client_id"`        // who holds the tokens
	Actors    []string  `json:"actors,omitempty"` // as the tokens say, the one that acts first; none: they do not say that somebody acts
	Through   []string  `json:"through"`          // the clients that the access came through, the last one first
	Resources []string  `json:"resources"`
	Scopes    []string  `json:"scopes"`
	Since     time.Time `json:"since"`
	LastUsed  time.Time `json:"last_used"`
	Expires   time.Time `json:"expires"`
}

// Names tell a delegation in one line: who acts, and through whom.
func (d Delegation) Names() (actor string, through []string) {
	actor = d.ClientID
	if len(d.Actors) > 0 {
		actor = d.Actors[0]
	}
	for _, name := range append([]string{d.ClientID}, d.Through...) { // ClientID: to which the one that acts showed its token
		if name != actor && !slices.Contains(through, name) {
			through = append(through, name)
		}
	}
	return actor, through
}

// id is the same for all tokens of one way.
func (d Delegation) id() string {
	resources := slices.Sorted(slices.Values(d.Resources))
	b, _ := json.Marshal([]any{d.GrantID, d.ClientID, d.Actors, d.Through, resources}) // strings and lists of them
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const (
	// keptDelegations is for how long an unused delegation is kept, for the person to see.
	keptDelegations = 30 * 24 * time.Hour
	// maxDelegations bounds what a page shows.
	maxDelegations = 200
)

// errSpent says that a grant gives no more: it is paused, used up or over.
var errSpent = errors.New("the grant gives no more")

// spend counts a token that is made for another one against the budget of the grant they hang on, and remembers the way. A grant
// without a row, of an app that keeps no access, gets one: its person sees who acts for them.
func (g *Grants) spend(ctx context.Context, c *accessClaims, d Delegation) error {
	now := g.now()
	return g.db.Tx(ctx, func(ctx context.Context) error {
		n, err := g.db.Exec(ctx, `UPDATE grants SET uses_left = uses_left - 1 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND paused_at IS NULL
			AND expires_at > $3 AND (uses_left IS NULL OR uses_left > 0)`, d.GrantID, c.userID, db.At(now))
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := g.byID(ctx, d.GrantID); err == nil {
				return errSpent
			} else if !errors.Is(err, db.ErrNotFound) {
				return err
			}
			root := c.ClientID
			if len(c.Sources) > 0 {
				root = c.Sources[0].ClientID
			}
			err := g.create(ctx, &grant{
				ID: d.GrantID, UserID: c.userID, ClientID: root, SessionID: c.sessionID, Scopes: c.scopes(), CreatedAt: grantedAt(d.GrantID), UsedAt: now,
				ExpiresAt: time.Unix(c.Expires, 0), Session: &session{Subject: c.userID, GrantID: d.GrantID, SessionID: c.sessionID},
			}, "")
			if errors.Is(err, errGrantOver) {
				return errSpent
			}
			if err != nil {
				return err
			}
		}
		_, err = g.db.Exec(ctx, `INSERT INTO delegations (id, grant_id, user_id, definition, created_at, used_at, expires_at) VALUES ($1, $2, $3, $4, $5, $5, $6)
			ON CONFLICT (id) DO UPDATE SET definition = excluded.definition, used_at = excluded.used_at, expires_at = excluded.expires_at`,
			d.id(), d.GrantID, c.userID, db.JSON(&d), db.At(now), db.At(d.Expires))
		return err
	})
}

// Generations of grants that no refresh token continues.
const (
	generationBare   = 0  // one token
	generationActing = -1 // whatever tokens an app gets by assertions about the person (RFC 7523)
)

// acting gives the grant under which an app acts for a person by assertions, so that the person can stop all that it gets: the one
// that is, or the id of a new one, which dates from when the person was found good. A pause took the consent back, so whoever has it again
// was let in anew; an app that needs none, being the operator's, stays out until the person lets it go on, and keeps no more than was left
// to it.
func (g *Grants) acting(ctx context.Context, userID string, client *registration, began time.Time) (sess *session, err error) {
	var paused db.Time
	var left int64
	var row session
	sess = &session{Subject: userID}
	err = g.db.QueryRow(ctx, `SELECT id, paused_at, COALESCE(uses_left, -1), session FROM grants
		WHERE user_id = $1 AND client_id = $2 AND generation = -1 AND revoked_at IS NULL AND expires_at > $3 ORDER BY id DESC LIMIT 1`, userID, client.ID, db.At(g.now())).
		Scan(&sess.GrantID, &paused, &left, db.JSON(&row))
	switch {
	case errors.Is(err, db.ErrNotFound):
		sess.GrantID, err = newGrantID(began)
	case err == nil && (!paused.IsZero() && client.FirstParty || left == 0):
		err = errSpent
	case client.FirstParty:
		sess.Kept = row.Kept
	}
	return sess, err
}

// act counts a token of such a grant, whose row is made with the first one.
func (g *Grants) act(ctx context.Context, anew bool, row *grant) error {
	var now session
	err := g.db.QueryRow(ctx, `UPDATE grants SET used_at = $2, scopes = $3, uses_left = uses_left - 1, paused_at = NULL WHERE id = $1 AND revoked_at IS NULL
		AND (paused_at IS NULL OR $4 = TRUE) AND expires_at > $2 AND (uses_left IS NULL OR uses_left > 0) RETURNING session`,
		row.ID, db.At(row.UsedAt), db.JSON(&row.Scopes), anew).Scan(db.JSON(&now))
	if err == nil && !anew {
		row.Session.Kept = now.Kept
	}
	if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if _, err := g.byID(ctx, row.ID); err == nil {
		return errSpent
	} else if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	return g.create(ctx, row, "")
}

// delegations lists the ways in which services go on in a person's name, by grant, the last used one first.
func (g *Grants) delegations(ctx context.Context, userID string) (map[string][]Delegation, error) {
	ways := map[string][]Delegation{}
	err := g.db.Query(ctx, func(row db.Scanner) error {
		var d Delegation
		var since, used, expires db.Time
		if err := row.Scan(db.JSON(&d), &since, &used, &expires); err != nil {
			return err
		}
		d.Since, d.LastUsed, d.Expires = since.Time, used.Time, expires.Time
		ways[d.GrantID] = append(ways[d.GrantID], d)
		return nil
	}, `SELECT definition, created_at, used_at, expires_at FROM delegations WHERE user_id = $1 ORDER BY used_at DESC LIMIT $2`, userID, maxDelegations)
	if err != nil {
		return nil, fmt.Errorf("list delegations: %w", err)
	}
	return ways, nil
}

// keep writes the row of a grant that no refresh token continues, if its person is to see and bound it.
func (s *Server) keep(ctx context.Context, client *registration, sess *session) error {
	st := requestState(ctx)
	if st.code == nil || st.grant != nil || !isAgent(client.Client) && sess.Uses == 0 && sess.Until.IsZero() {
		return nil
	}
	now := s.Now()
	st.grant = &grant{
		ID: sess.GrantID, UserID: sess.Subject, ClientID: client.ID, SessionID: sess.SessionID, Scopes: st.code.Scopes, Session: sess,
		CreatedAt: grantedAt(sess.GrantID), UsedAt: now, ExpiresAt: sess.GetExpiresAt(fosite.AccessToken),
	}
	return s.Grants.create(ctx, st.grant, "")
}
