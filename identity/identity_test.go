package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

const (
	goodPassword  = "kontra-melone-72-fisch"
	otherPassword = "segel-lampe-19-ampel"
)

var home = netip.MustParseAddr("192.0.2.7")

// testCost keeps tests fast; New always takes owaspCost.
var testCost = argonCost{memory: 32, time: 1, threads: 1}

// world is a directory on a clock that only moves when told, with a note of every revocation.
type world struct {
	*Directory
	config Config

	mu      sync.Mutex
	time    time.Time
	revoked []string // "user/session"
	refuse  error    // what Revoke answers
}

// each runs f on SQLite with the cache in memory, and on Postgres with Redis.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	eachWith(t, Config{}, f)
}

func eachWith(t *testing.T, c Config, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		f(t, newWorld(t, d, c))
	})
}

func newWorld(t testing.TB, d *db.DB, c Config) *world {
	t.Helper()
	w := &world{time: time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)}
	master := make([]byte, seal.KeySize)
	_, _ = rand.Read(master)
	sealer, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c.DB, c.Seal, c.Log, c.Now = d, sealer, log, w.now
	if c.Cache = cache.NewMemory(w.now); d.Engine() == db.Postgres {
		c.Cache = cachetest.Redis(t, w.now)
	}
	c.Audit = audit.New(d, log, w.now)
	c.Revoke = func(_ context.Context, userID, sessionID string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.revoked = append(w.revoked, userID+"/"+sessionID)
		return w.refuse
	}
	w.config = c
	if w.Directory, err = open(t.Context(), c, testCost); err != nil {
		t.Fatalf("open: %v", err)
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// revocations gives what was revoked since it was last asked.
func (w *world) revocations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.revoked
	w.revoked = nil
	return r
}

func (w *world) create(t *testing.T, email string) User {
	t.Helper()
	u, err := w.Create(t.Context(), NewUser{Email: email, Password: goodPassword})
	if err != nil {
		t.Fatalf("create %s: %v", email, err)
	}
	return u
}

func (w *world) start(t *testing.T, userID, oldToken string, amr ...string) (string, Session) {
	t.Helper()
	token, s, err := w.StartSession(t.Context(), userID, amr, Device{UserAgent: "Test/1", Address: home}, oldToken, time.Time{})
	if err != nil {
		t.Fatalf("start session: %v", err)
	}
	return token, s
}

// in puts a person into a session that was proven just now, whatever factors they have.
func (w *world) in(t testing.TB, userID string) Session {
	t.Helper()
	now, id := w.now(), uuid.NewString()
	_, hash := newToken()
	if _, err := w.db.Exec(t.Context(), `INSERT INTO sessions (id, user_id, token_hash, auth_time, amr, device, created_at, last_seen_at, expires_at)
		SELECT $1, id, $3, $4, '["pwd"]', $5, $4, $4, $6 FROM users WHERE id = $2`, id, userID, hash, db.At(now), []byte("sealed"), db.At(now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	return Session{ID: id, UserID: userID, AuthTime: now, tokenHash: hash}
}

// audited gives the audit rows as "action outcome user", oldest first.
func (w *world) audited(t *testing.T) []string {
	t.Helper()
	var rows []string
	err := w.db.Query(t.Context(), func(row db.Scanner) error {
		var action, outcome, user string
		err := row.Scan(&action, &outcome, &user)
		rows = append(rows, action+" "+outcome+" "+user)
		return err
	}, `SELECT action, outcome, user_id FROM audit ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantField(t *testing.T, what string, got error, field, key string) {
	t.Helper()
	var wrong FieldErrors
	if !errors.As(got, &wrong) || wrong[field] != key {
		t.Errorf("%s: got error %v, want %s: %s", what, got, field, key)
	}
}

func wantLimit(t *testing.T, what string, got error) {
	t.Helper()
	var limit *LimitError
	if !errors.As(got, &limit) || limit.RetryAfter <= 0 {
		t.Errorf("%s: got error %v, want a LimitError with a wait", what, got)
	}
}

func wantNil(t *testing.T, what string, got error) {
	t.Helper()
	if got != nil {
		t.Fatalf("%s: got error %v, want none", what, got)
	}
}

// race runs f twenty times at once and counts how often it succeeded; every failure must be the wanted error.
func race(t *testing.T, want error, f func() error) int {
	t.Helper()
	errs := make([]error, 20)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, want) {
			t.Errorf("a loser got error %v, want %v", err, want)
		}
	}
	return won
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := New(t.Context(), Config{}); err == nil {
		t.Error("New without a database: got no error")
	}
}

func TestNewHashesAtFullCost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{})
	d, err := New(t.Context(), w.config)
	wantNil(t, "new", err)
	if d.hasher.cost != (argonCost{memory: 19456, time: 2, threads: 1}) {
		t.Errorf("New hashes at %+v, want OWASP's 19 MiB, 2, 1", d.hasher.cost)
	}
}

func TestFieldErrorsUseListedKeys(t *testing.T) {
	t.Parallel()
	if got := (FieldErrors{"b": KeyTooLong, "a": KeyRequired}).Error(); got != "a: error.required, b: error.too_long" {
		t.Errorf("Error() = %q", got)
	}
	if slices.Contains(Keys(), "") || len(Keys()) != len(slices.Compact(slices.Sorted(slices.Values(Keys())))) {
		t.Errorf("Keys() has an empty or double key: %v", Keys())
	}
}
