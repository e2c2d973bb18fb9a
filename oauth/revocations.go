package oauth

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Revocations remembers which access tokens died before their time. A mark stands for one token, a grant, a session, a
// person, or a person at an app. Marks live in SQL; every process keeps the living ones in memory, so that a check asks
// nobody. A mark counts at once in the process that made it and within readEvery in the others ("gatehouse user disable" is
// one of them).
type Revocations struct {
	db  *db.DB
	now func() time.Time

	mu    sync.RWMutex
	marks map[string]mark
	read  time.Time       // when SQL last told what is new; zero: never
	whole time.Time       // when SQL last told everything
	news  map[string]mark // marks of other processes that Grants.Poll has not acted on

	reading sync.Mutex // one reader at a time
}

// mark is what a mark says: tokens of grants made up to before are dead until nobody can hold one any more.
type mark struct {
	before  int64 // Unix milliseconds
	expires time.Time
}

// MaxAccessTokenTTL is the longest life of an access token that anybody may configure.
const MaxAccessTokenTTL = time.Hour

// A mark outlives every token it concerns, whichever process made it.
const (
	maxCodeTTL = 10 * time.Minute
	markLife   = maxCodeTTL + MaxAccessTokenTTL + 5*time.Minute
)

const (
	// readEvery bounds how long a mark of another process goes unseen.
	readEvery = time.Second
	// readLate is how long marks may go unread, while SQL is away, before a check says so instead of guessing.
	readLate = 30 * time.Second
	// readBack is how far behind the last reading the next one begins: a mark may be committed late or by another clock.
	// Whoever is further behind than that is heard at the next reading of everything.
	readBack  = time.Minute
	readWhole = time.Minute
)

// OpenRevocations gives the marks of d.
func OpenRevocations(d *db.DB, now func() time.Time) *Revocations {
	if now == nil {
		now = time.Now
	}
	return &Revocations{db: d, now: now, marks: map[string]mark{}, news: map[string]mark{}}
}

func markToken(jti string) string          { return "t:" + jti }
func markGrant(id string) string           { return "g:" + id }
func markSession(id string) string         { return "s:" + id }
func markUser(id string) string            { return "u:" + id }
func markDevices(userID string) string     { return "d:" + userID }
func markApp(userID, client string) string { return "a:" + userID + ":" + client }

// forever marks what can never become valid again.
func (r *Revocations) forever(ctx context.Context, name string) error {
	return r.write(ctx, name, math.MaxInt64)
}

// until marks what was granted up to now; what is granted later lives.
func (r *Revocations) until(ctx context.Context, name string) error {
	return r.write(ctx, name, r.now().UnixMilli())
}

// write makes a mark, in the transaction of ctx if there is one. It counts here from now on, even if the transaction
// fails: too dead is the safe side.
func (r *Revocations) write(ctx context.Context, name string, before int64) error {
	now := r.now()
	expires := now.Add(markLife)
	// The later of two moments stays: a replica whose clock is behind must not bring a dead token back.
	if err := r.db.QueryRow(ctx, `INSERT INTO revocations (mark, before, made_at, expires_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (mark) DO UPDATE SET made_at = $3, expires_at = $4,
			before = CASE WHEN revocations.before > excluded.before THEN revocations.before ELSE excluded.before END
		RETURNING before`, name, before, db.At(now), db.At(expires)).Scan(&before); err != nil {
		return err
	}
	r.mu.Lock()
	r.marks[name] = mark{before, expires}
	r.mu.Unlock()
	return nil
}

// revoked reports whether any of the marks concerns what was granted at the given time. It answers db.ErrUnavailable if
// SQL has been away for so long that the marks at hand may lack one.
func (r *Revocations) revoked(ctx context.Context, granted time.Time, names ...string) (bool, error) {
	r.mu.RLock()
	fresh := !r.stale(readEvery)
	r.mu.RUnlock()
	if !fresh {
		if err := r.poll(ctx); err != nil {
			r.mu.RLock()
			late := r.stale(readLate)
			r.mu.RUnlock()
			if late {
				return false, err
			}
		}
	}
	at := granted.UnixMilli()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range names {
		if m, ok := r.marks[name]; ok && at <= m.before {
			return true, nil
		}
	}
	return false, nil
}

// stale reports whether the last reading is older than d, or lies in the future of a clock that was set back.
func (r *Revocations) stale(d time.Duration) bool {
	age := r.now().Sub(r.read)
	return r.read.IsZero() || age >= d || age < 0
}

// poll reads the marks that other processes have made since the last time, all of them the first time.
func (r *Revocations) poll(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	now := r.now()
	r.mu.RLock()
	since, enough := time.Unix(0, 0), !r.stale(readEvery)
	whole := r.read.IsZero() || !r.read.Before(now) || now.Sub(r.whole) >= readWhole
	if !whole {
		since = r.read.Add(-readBack)
	}
	r.mu.RUnlock()
	if enough {
		return nil
	}
	rows := map[string]mark{}
	err := r.db.Query(ctx, func(s db.Scanner) error {
		var name string
		var m mark
		var expires db.Time
		err := s.Scan(&name, &m.before, &expires)
		m.expires = expires.Time
		rows[name] = m
		return err
	}, `SELECT mark, before, expires_at FROM revocations WHERE made_at > $1 AND expires_at > $2`, db.At(since), db.At(now))
	if err != nil {
		return fmt.Errorf("read revocations: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = now
	if whole {
		r.whole = now
	}
	for name, m := range rows {
		if have, ok := r.marks[name]; !ok || have.before < m.before {
			r.marks[name], r.news[name] = m, m
		}
	}
	return nil
}

// takeNews reads what is new and hands over, once, the marks of other processes.
func (r *Revocations) takeNews(ctx context.Context) (map[string]mark, error) {
	err := r.poll(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.news
	r.news = map[string]mark{}
	return news, err
}

// putBack returns a mark that could not be acted on.
func (r *Revocations) putBack(name string, m mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, newer := r.news[name]; !newer {
		r.news[name] = m
	}
}

// purge forgets marks that no living token can meet.
func (r *Revocations) purge(ctx context.Context) error {
	now := r.now()
	r.mu.Lock()
	for name, m := range r.marks {
		if !m.expires.After(now) {
			delete(r.marks, name)
		}
	}
	r.mu.Unlock()
	_, err := r.db.Exec(ctx, `DELETE FROM revocations WHERE expires_at <= $1`, db.At(now))
	return err
}
