package oauth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// errScopeWidened says that a refresh asked for a scope its grant does not have (RFC 6749 §6).
var errScopeWidened = errors.New("scope exceeds the grant")

// errGrantOver says that the person, the session or the consent behind a code has ended meanwhile.
var errGrantOver = errors.New("authorization has ended")

// Grants keeps one row per authorization that may be refreshed. A refresh rotates the row in place, so the table grows
// with people and not with time.
type Grants struct {
	db          *db.DB
	audit       *audit.Log
	now         func() time.Time
	revocations *Revocations
	key         []byte        // of refresh tokens
	window      time.Duration // a rotated token repeated within it gets the same successor
}

// GrantsConfig is what Grants are made of.
type GrantsConfig struct {
	DB           *db.DB
	Audit        *audit.Log
	Revocations  *Revocations
	Key          []byte        // secret of refresh tokens, 32 bytes
	ReplayWindow time.Duration // 0: 30 s
	Now          func() time.Time
}

// OpenGrants gives the grants of a database.
func OpenGrants(c GrantsConfig) *Grants {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ReplayWindow == 0 {
		c.ReplayWindow = 30 * time.Second
	}
	return &Grants{c.DB, c.Audit, c.Now, c.Revocations, c.Key, c.ReplayWindow}
}

// grant is one row.
type grant struct {
	ID, UserID, ClientID, SessionID string
	Scopes                          []string
	Session                         *session
	Generation                      int64
	CreatedAt, UsedAt, ExpiresAt    time.Time
	RevokedAt, PausedAt             time.Time
	UsesLeft                        int64 // -1: no bound

	current, previous []byte // hashes of refresh tokens
}

// create inserts a grant with its first refresh token; "" for one that none continues. If the code was presented a second time meanwhile, the row
// exists already, revoked, and stays so.
func (g *Grants) create(ctx context.Context, row *grant, token string) error {
	hash := []byte{}
	if token != "" {
		hash, row.Generation = hashRefreshToken(token), 1
	}
	var left any // the first token counts
	if row.Session.Uses > 0 {
		left = row.Session.Uses - 1
	}
	_, err := g.db.Exec(ctx, `
		INSERT INTO grants (id, user_id, client_id, session_id, scopes, session, refresh_hash, previous_hash, generation, created_at, used_at, expires_at, uses_left)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $13, $9, $10, $11, $12)
		ON CONFLICT (id) DO NOTHING`,
		row.ID, row.UserID, row.ClientID, row.SessionID, db.JSON(&row.Scopes), db.JSON(row.Session), hash, []byte{},
		db.At(row.CreatedAt), db.At(row.UsedAt), db.At(row.ExpiresAt), left, row.Generation)
	if errors.Is(err, db.ErrNotFound) { // the person or the client was deleted
		return errGrantOver
	}
	return err
}

// rotate exchanges a refresh token for its successor. It returns db.ErrNotFound for a token that is not (any more)
// good for this client, and revokes the grant if the token shows that someone has a copy of it.
func (g *Grants) rotate(ctx context.Context, token, clientID string, scopes []string) (*grant, string, error) {
	t, ok := parseRefreshToken(g.key, token)
	if ok {
		t, ok = t.heldBy(requestState(ctx))
	}
	if !ok {
		return nil, "", db.ErrNotFound
	}
	if asked := requestState(ctx).resources; len(scopes)+len(asked) > 0 { // a request that asks too much must not cost the client its token
		row, err := g.byID(ctx, t.grantID.String())
		if err != nil {
			return nil, "", err
		}
		if row.ClientID == clientID && slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(row.Scopes, s) }) {
			return nil, "", errScopeWidened
		}
		if granted := row.Session.Resources; row.ClientID == clientID && len(granted) > 0 && !containsAll(granted, asked) {
			return nil, "", errTargetWidened
		}
	}
	successor := t.next(g.key).encode(g.key)
	now := g.now()
	row := &grant{ID: t.grantID.String(), ClientID: clientID, Session: &session{}, Generation: int64(t.generation) + 1, UsedAt: now}
	// A genuine token is ahead of its row only if the database has lost the rotation that made it, in a crash or by being restored.
	// So the rotation need not wait for the disk: its loss is made good here by the token itself.
	var expires db.Time
	err := g.db.QueryRow(g.db.Hasty(ctx), `
		UPDATE grants SET refresh_hash = $1, previous_hash = $6, generation = $5 + 1, used_at = $2, uses_left = uses_left - 1
		WHERE id = $3 AND client_id = $4 AND (generation = $5 AND refresh_hash = $6 OR generation < $5) AND revoked_at IS NULL AND expires_at > $2
			AND paused_at IS NULL AND (uses_left IS NULL OR uses_left > 0)
			AND EXISTS (SELECT 1 FROM users WHERE users.id = grants.user_id AND users.status = 'active')
		RETURNING user_id, session_id, scopes, session, expires_at`,
		hashRefreshToken(successor), db.At(now), row.ID, clientID, int64(t.generation), hashRefreshToken(token)).
		Scan(&row.UserID, &row.SessionID, db.JSON(&row.Scopes), db.JSON(row.Session), &expires)
	if err == nil {
		row.ExpiresAt, row.Session.Until = expires.Time, expires.Time
		return row, successor, nil
	}
	if !errors.Is(err, db.ErrNotFound) {
		return nil, "", err
	}
	return g.replay(ctx, t, token, successor, clientID)
}

// replay judges a genuine token that is not the current one of a living grant. The same client repeating itself within
// the window (a lost answer, two tabs) gets the same successor. Anything else means that two parties hold the token:
// the grant ends, and only this grant (RFC 9700 §4.14.2).
func (g *Grants) replay(ctx context.Context, t refreshToken, token, successor, clientID string) (*grant, string, error) {
	row, err := g.byID(ctx, t.grantID.String())
	if err != nil {
		return nil, "", err
	}
	now := g.now()
	if !row.RevokedAt.IsZero() || !row.ExpiresAt.After(now) {
		return nil, "", db.ErrNotFound
	}
	row.Session.Until = row.ExpiresAt
	old := int64(t.generation) < row.Generation
	justRotated := int64(t.generation) == row.Generation-1 && hmac.Equal(row.previous, hashRefreshToken(token)) && bytes.Equal(row.current, hashRefreshToken(successor))
	switch {
	case row.ClientID == clientID && !old:
		return nil, "", db.ErrNotFound // the account is disabled, or the grant paused or used up
	case row.ClientID == clientID && justRotated && !row.PausedAt.IsZero():
		return nil, "", db.ErrNotFound
	case row.ClientID == clientID && justRotated && now.Sub(row.UsedAt) <= g.window:
		active, err := g.userActive(ctx, row.UserID)
		if err != nil || !active {
			return nil, "", errors.Join(err, db.ErrNotFound)
		}
		if row.UsesLeft >= 0 { // it brings another access token
			n, err := g.db.Exec(ctx, `UPDATE grants SET uses_left = uses_left - 1 WHERE id = $1 AND uses_left > 0`, row.ID)
			if err != nil || n == 0 {
				return nil, "", errors.Join(err, db.ErrNotFound)
			}
		}
		return row, successor, nil
	}
	g.audit.Record(ctx, audit.Event{
		Action: "grant.theft", Outcome: audit.Failure, Actor: clientID, UserID: row.UserID, ClientID: row.ClientID,
		Detail: map[string]string{"grant_id": row.ID, "presented_generation": fmt.Sprint(t.generation), "generation": fmt.Sprint(row.Generation)},
	})
	return nil, "", errors.Join(g.revoke(ctx, row.ID), db.ErrNotFound)
}

func (g *Grants) userActive(ctx context.Context, userID string) (bool, error) {
	var n int64
	err := g.db.QueryRow(ctx, `SELECT COUNT(*) FROM users WHERE id = $1 AND status = 'active'`, userID).Scan(&n)
	return n == 1, err
}

// bound is what a column keeps of a number of uses.
func bound(uses int64) any {
	if uses == 0 {
		return nil
	}
	return uses
}

// find returns the living grant of a refresh token that is current (or ahead, see rotate), or db.ErrNotFound. It changes
// nothing.
func (g *Grants) find(ctx context.Context, token string) (*grant, error) {
	row, err := g.family(ctx, token)
	if err != nil {
		return nil, err
	}
	t, _ := parseRefreshToken(g.key, token)
	if int64(t.generation) <= row.Generation && !hmac.Equal(row.current, hashRefreshToken(token)) {
		return nil, db.ErrNotFound
	}
	if !row.PausedAt.IsZero() || row.UsesLeft == 0 {
		return nil, db.ErrNotFound
	}
	return row, nil
}

// family returns the living grant that a refresh token belongs or once belonged to, or db.ErrNotFound.
func (g *Grants) family(ctx context.Context, token string) (*grant, error) {
	t, ok := parseRefreshToken(g.key, token)
	if !ok {
		return nil, db.ErrNotFound
	}
	row, err := g.byID(ctx, t.grantID.String())
	if err != nil {
		return nil, err
	}
	if !row.RevokedAt.IsZero() || !row.ExpiresAt.After(g.now()) {
		return nil, db.ErrNotFound
	}
	if active, err := g.userActive(ctx, row.UserID); err != nil || !active {
		return nil, errors.Join(err, db.ErrNotFound)
	}
	return row, nil
}

func (g *Grants) byID(ctx context.Context, id string) (*grant, error) {
	row := &grant{ID: id, Session: &session{}}
	var created, used, expires, revoked, paused db.Time
	err := g.db.QueryRow(ctx, `
		SELECT user_id, client_id, session_id, scopes, session, refresh_hash, previous_hash, generation, created_at, used_at, expires_at, revoked_at,
			paused_at, COALESCE(uses_left, -1)
		FROM grants WHERE id = $1`, id).
		Scan(&row.UserID, &row.ClientID, &row.SessionID, db.JSON(&row.Scopes), db.JSON(row.Session), &row.current, &row.previous, &row.Generation,
			&created, &used, &expires, &revoked, &paused, &row.UsesLeft)
	row.PausedAt = paused.Time
	row.CreatedAt, row.UsedAt, row.ExpiresAt, row.RevokedAt = created.Time, used.Time, expires.Time, revoked.Time
	return row, err
}

// revoke ends one grant: its refresh token at once, its access tokens by a mark.
func (g *Grants) revoke(ctx context.Context, id string) error {
	if _, err := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, db.At(g.now())); err != nil {
		return err
	}
	return g.revocations.forever(ctx, markGrant(id))
}

// codeReplayed ends the grant of a code that was presented twice (RFC 6749 §4.1.2). The first exchange may be about to insert the row; a
// revoked row in its place wins the race.
func (g *Grants) codeReplayed(ctx context.Context, record *codeRecord) error {
	now := db.At(g.now())
	_, err := g.db.Exec(ctx, `
		INSERT INTO grants (id, user_id, client_id, session_id, scopes, session, refresh_hash, previous_hash, generation, created_at, used_at, expires_at, revoked_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 0, $8, $8, $9, $8)
		ON CONFLICT (id) DO UPDATE SET revoked_at = $8`,
		record.Session.GrantID, record.Session.Subject, record.ClientID, record.Session.SessionID, db.JSON(&record.Scopes), db.JSON(record.Session),
		[]byte{}, now, db.At(g.now().Add(24*time.Hour)))
	if err != nil {
		return err
	}
	g.audit.Record(ctx, audit.Event{
		Action: "code.replay", Outcome: audit.Failure, Actor: requestState(ctx).client.ID, UserID: record.Session.Subject, ClientID: record.ClientID,
		Detail: map[string]string{"grant_id": record.Session.GrantID},
	})
	return g.revocations.forever(ctx, markGrant(record.Session.GrantID))
}

// EndUser ends what was issued to a person in one session, or in all of them if sessionID is empty. It is called in the
// transaction that ends the session or disables the account. The mark comes first: an exchange in progress inserts its
// row and then looks for marks, so one of the two sees the other; between processes Poll makes up for what both missed.
func (g *Grants) EndUser(ctx context.Context, userID, sessionID string) error {
	if sessionID != "" {
		if err := g.revocations.forever(ctx, markSession(sessionID)); err != nil {
			return err
		}
		_, err := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $3 WHERE session_id = $2 AND user_id = $1 AND revoked_at IS NULL`,
			userID, sessionID, db.At(g.now()))
		return err
	}
	if err := g.revocations.until(ctx, markUser(userID)); err != nil {
		return err
	}
	_, err := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $1 WHERE user_id = $2 AND revoked_at IS NULL`, db.At(g.now()), userID)
	return err
}

// EndDevices ends what a person gave to devices and apps that are a sign-in of their own (see decoupledCode), in the same order.
func (g *Grants) EndDevices(ctx context.Context, userID string) error {
	if err := g.revocations.until(ctx, markDevices(userID)); err != nil {
		return err
	}
	_, err := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $1 WHERE user_id = $2 AND session_id = id AND revoked_at IS NULL`, db.At(g.now()), userID)
	return err
}

// endApp ends what a person gave to one client, in the same order.
func (g *Grants) endApp(ctx context.Context, userID, clientID string) error {
	if err := g.revocations.until(ctx, markApp(userID, clientID)); err != nil {
		return err
	}
	_, err := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $1 WHERE user_id = $2 AND client_id = $3 AND revoked_at IS NULL`,
		db.At(g.now()), userID, clientID)
	return err
}

// lastUsed tells for each client of a person when a grant was made and when it was last used.
func (g *Grants) lastUsed(ctx context.Context, userID string) (map[string]grant, error) {
	uses := map[string]grant{}
	err := g.db.Query(ctx, func(row db.Scanner) error {
		var one grant
		var created, used db.Time
		if err := row.Scan(&one.ClientID, db.JSON(&one.Scopes), &created, &used); err != nil {
			return err
		}
		one.CreatedAt, one.UsedAt = created.Time, used.Time
		if have, ok := uses[one.ClientID]; ok {
			if have.CreatedAt.Before(one.CreatedAt) {
				one.CreatedAt = have.CreatedAt
			}
			one.Scopes = union(have.Scopes, one.Scopes)
		}
		uses[one.ClientID] = one
		return nil
	}, `SELECT client_id, scopes, created_at, used_at FROM grants
		WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY used_at`, userID, db.At(g.now()))
	return uses, err
}

// Poll learns of what other processes have ended, and ends the grants concerned once more: a grant may have been inserted
// here while a session was ended there. serve calls it each second.
func (g *Grants) Poll(ctx context.Context) error {
	marks, err := g.revocations.takeNews(ctx)
	for name, m := range marks {
		kind, id, _ := strings.Cut(name, ":")
		where, args := "", []any{db.At(g.now()), id}
		switch kind {
		case "s":
			where = `session_id = $2`
		case "u":
			where, args = `user_id = $2 AND created_at <= $3`, append(args, db.At(time.UnixMilli(m.before)))
		case "d":
			where, args = `session_id = id AND user_id = $2 AND created_at <= $3`, append(args, db.At(time.UnixMilli(m.before)))
		case "a":
			user, client, _ := strings.Cut(id, ":")
			where, args = `user_id = $2 AND created_at <= $3 AND client_id = $4`, []any{db.At(g.now()), user, db.At(time.UnixMilli(m.before)), client}
		default:
			continue
		}
		if _, failed := g.db.Exec(ctx, `UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL AND `+where, args...); failed != nil {
			g.revocations.putBack(name, m)
			err = errors.Join(err, failed)
		}
	}
	return err
}

// Purge deletes what has expired. A revoked grant is kept for a day, so that its tokens are still recognised.
func (g *Grants) Purge(ctx context.Context) error {
	now := g.now()
	_, err := g.db.Exec(ctx, `DELETE FROM grants WHERE expires_at <= $1 OR revoked_at <= $2`, db.At(now), db.At(now.Add(-24*time.Hour)))
	_, failed := g.db.Exec(ctx, `DELETE FROM delegations WHERE used_at <= $1`, db.At(now.Add(-keptDelegations)))
	return errors.Join(err, failed, g.revocations.purge(ctx))
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
