package oauth

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Revocations remembers which access tokens died before their time. A mark stands for one token, a grant, a session, a
// person, or a person at an app. Marks are written to SQL first and then to the cache, where a token is checked in one
// trip; a cache that lost its marks is filled again, and without any cache SQL answers.
type Revocations struct {
	db    *db.DB
	cache cache.Cache
	log   *slog.Logger
	now   func() time.Time
	life  time.Duration // longest life of a code and the access token made from it
}

// OpenRevocations gives the marks of d, kept in c for as long as a token issued before them can live.
func OpenRevocations(d *db.DB, c cache.Cache, log *slog.Logger, life time.Duration, now func() time.Time) *Revocations {
	if now == nil {
		now = time.Now
	}
	return &Revocations{d, c, log, now, life + 5*time.Minute}
}

func markToken(jti string) string          { return "t:" + jti }
func markGrant(id string) string           { return "g:" + id }
func markSession(id string) string         { return "s:" + id }
func markUser(id string) string            { return "u:" + id }
func markApp(userID, client string) string { return "a:" + userID + ":" + client }

const (
	// marks share a hash tag, so that one MGET finds them on one node.
	markPrefix = "{revoked}:"
	// loadedMark tells that the cache holds every mark of the database.
	loadedMark = markPrefix + "loaded"
	loadedFor  = 24 * time.Hour
)

// forever marks what can never become valid again.
func (r *Revocations) forever(ctx context.Context, mark string) error {
	return r.mark(ctx, mark, math.MaxInt64)
}

// until marks tokens issued up to now; later ones live.
func (r *Revocations) until(ctx context.Context, mark string) error {
	return r.mark(ctx, mark, r.now().UnixMilli())
}

func (r *Revocations) mark(ctx context.Context, mark string, before int64) error {
	expires := r.now().Add(r.life)
	if _, err := r.db.Exec(ctx, `INSERT INTO revocations (mark, before, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (mark) DO UPDATE SET before = $2, expires_at = $3`, mark, before, db.At(expires)); err != nil {
		return err
	}
	if err := r.put(ctx, mark, before, r.life); err != nil {
		// The row is written: dropping the sentinel makes every check read SQL again once the cache is back.
		r.log.WarnContext(ctx, "revocation not cached", "err", errors.Join(err, r.cache.Delete(ctx, loadedMark)))
	}
	return nil
}

func (r *Revocations) put(ctx context.Context, mark string, before int64, ttl time.Duration) error {
	return r.cache.Put(ctx, markPrefix+mark, binary.BigEndian.AppendUint64(nil, uint64(before)), ttl) //nolint:gosec // never negative
}

// revoked reports whether any mark concerns a token issued at the given time.
func (r *Revocations) revoked(ctx context.Context, issued time.Time, marks ...string) (bool, error) {
	names := make([]string, 0, len(marks)+1)
	names = append(names, loadedMark)
	for _, m := range marks {
		names = append(names, markPrefix+m)
	}
	values, err := r.cache.GetMany(ctx, names...)
	if err == nil && values[0] == nil {
		err = r.load(ctx)
		if err == nil {
			values, err = r.cache.GetMany(ctx, names...)
		}
	}
	if errors.Is(err, cache.ErrUnavailable) {
		return r.revokedInSQL(ctx, issued, marks)
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(values[1:], func(v []byte) bool {
		return len(v) == 8 && dead(issued, int64(binary.BigEndian.Uint64(v))) //nolint:gosec // written by put
	}), nil
}

func dead(issued time.Time, before int64) bool { return issued.UnixMilli() <= before }

func (r *Revocations) revokedInSQL(ctx context.Context, issued time.Time, marks []string) (bool, error) {
	for _, m := range marks {
		var before int64
		err := r.db.QueryRow(ctx, `SELECT before FROM revocations WHERE mark = $1 AND expires_at > $2`, m, db.At(r.now())).Scan(&before)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return false, err
		}
		if err == nil && dead(issued, before) {
			return true, nil
		}
	}
	return false, nil
}

// load fills a cache that has just started or lost its contents.
func (r *Revocations) load(ctx context.Context) error {
	now := r.now()
	type row struct {
		mark    string
		before  int64
		expires time.Time
	}
	var rows []row
	err := r.db.Query(ctx, func(s db.Scanner) error {
		var one row
		var expires db.Time
		err := s.Scan(&one.mark, &one.before, &expires)
		one.expires = expires.Time
		rows = append(rows, one)
		return err
	}, `SELECT mark, before, expires_at FROM revocations WHERE expires_at > $1`, db.At(now))
	if err != nil {
		return err
	}
	for _, one := range rows {
		if err := r.put(ctx, one.mark, one.before, one.expires.Sub(now)); err != nil {
			return err
		}
	}
	return r.cache.Put(ctx, loadedMark, []byte{1}, loadedFor)
}

func (r *Revocations) purge(ctx context.Context) error {
	_, err := r.db.Exec(ctx, `DELETE FROM revocations WHERE expires_at <= $1`, db.At(r.now()))
	return err
}
