package oauth

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
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

	mu    sync.Mutex
	seen  map[string]int64 // young marks that are known to be in the cache
	tried time.Time        // when SQL was last asked for marks of other processes
	read  time.Time        // when it last answered
}

// OpenRevocations gives the marks of d, kept in c for as long as a token issued before them can live.
func OpenRevocations(d *db.DB, c cache.Cache, log *slog.Logger, life time.Duration, now func() time.Time) *Revocations {
	if now == nil {
		now = time.Now
	}
	return &Revocations{db: d, cache: c, log: log, now: now, life: life + 5*time.Minute, seen: map[string]int64{}}
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

	// readEvery bounds how long a mark of a process with another cache goes unseen, above all of "gatehouse user disable"
	// beside a server that keeps its cache in memory.
	readEvery = time.Second
	// readBack is how far behind the last reading the next one begins: a mark may be committed late, by another clock,
	// and with a life that another process knows differently.
	readBack = 15 * time.Minute
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
	// The later of two moments stays: a replica whose clock is behind must not bring a dead token back.
	if err := r.db.QueryRow(ctx, `INSERT INTO revocations (mark, before, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (mark) DO UPDATE SET expires_at = $3,
			before = CASE WHEN revocations.before > excluded.before THEN revocations.before ELSE excluded.before END
		RETURNING before`, mark, before, db.At(expires)).Scan(&before); err != nil {
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
	r.readForeign(ctx)
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
	rows, err := r.rows(ctx, now)
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

type markRow struct {
	mark    string
	before  int64
	expires time.Time
}

// rows reads the marks that expire after a moment.
func (r *Revocations) rows(ctx context.Context, after time.Time) ([]markRow, error) {
	var rows []markRow
	err := r.db.Query(ctx, func(s db.Scanner) error {
		var one markRow
		var expires db.Time
		err := s.Scan(&one.mark, &one.before, &expires)
		one.expires = expires.Time
		rows = append(rows, one)
		return err
	}, `SELECT mark, before, expires_at FROM revocations WHERE expires_at > $1`, db.At(after))
	return rows, err
}

// readForeign brings young marks that another process wrote to SQL into the cache, at most once per readEvery: that process may
// have a cache of its own, or none. Without an answer from SQL the marks at hand count; nobody can write new ones then either.
func (r *Revocations) readForeign(ctx context.Context) {
	r.mu.Lock() // whoever comes meanwhile waits: an idle server's marks may be hours old
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.tried) < readEvery && !now.Before(r.tried) {
		return
	}
	defer func() { r.tried = r.now() }()
	since := r.read
	if since.IsZero() || since.After(now) {
		since = now
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readEvery)
	defer cancel()
	rows, err := r.rows(ctx, since.Add(r.life-readBack))
	if err != nil {
		r.log.WarnContext(ctx, "revocations of other processes not read", "err", err)
		return
	}
	young := make(map[string]int64, len(rows))
	for _, one := range rows {
		if before, known := r.seen[one.mark]; !known || before < one.before {
			if err := r.put(ctx, one.mark, one.before, one.expires.Sub(now)); err != nil {
				return // the check that follows meets the same error
			}
		}
		young[one.mark] = one.before
	}
	r.seen, r.read = young, now
}

func (r *Revocations) purge(ctx context.Context) error {
	_, err := r.db.Exec(ctx, `DELETE FROM revocations WHERE expires_at <= $1`, db.At(r.now()))
	return err
}
