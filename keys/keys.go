// Package keys keeps the server's signing keys, and those that others encrypt to. Each algorithm has a ring of its own in which a key is first next
// (published, not used yet), then active, then retired (published, no longer used), then gone. The package signs and
// verifies compact JWS (RFC 7515) and publishes the JWK set (RFC 7517); what a token claims is not its business.
package keys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// ErrSignature says that a token was not signed by this server, or by a key that no longer counts.
var ErrSignature = errors.New("token not signed by this server")

// Alg is a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
type Alg string

// The algorithms this server signs with.
const (
	RS256 Alg = "RS256"
	ES256 Alg = "ES256"
	EdDSA Alg = "EdDSA"
)

var all = [...]Alg{RS256, ES256, EdDSA}

// The states of a key; they follow from its times alone.
const (
	Next    = "next"
	Active  = "active"
	Retired = "retired"
	Gone    = "gone"
)

const (
	// propagation bounds how long another replica may publish a key set that lacks a new key: it reloads each minute.
	propagation = 2 * time.Minute
	// skew is how far the clocks of replicas and relying parties may differ.
	skew = time.Minute
	// retryAfter paces the making of the first RSA key while the database is away.
	retryAfter = time.Second
)

// Config is what a Ring needs. DB, Seal, Audit and TokenLife are required.
type Config struct {
	DB    *db.DB
	Seal  *seal.Sealer
	Audit *audit.Log
	Log   *slog.Logger
	Now   func() time.Time

	Rotation    time.Duration // how long a key signs; default 90 days
	CachePeriod time.Duration // max-age of the JWK set; default 1 hour
	TokenLife   time.Duration // longest life of any token signed here
}

// Key describes a signing or encryption key without its private half. A zero time means: not decided yet.
type Key struct {
	KID        string
	Alg        Alg
	Generation int64 // 1 for the first key of an algorithm
	State      string
	CreatedAt  time.Time
	ActiveAt   time.Time // signs from here
	RetiredAt  time.Time // until here
	GoneAt     time.Time // verifies until here
}

// Ring holds the keys in memory and in step with SQL. It is safe for concurrent use.
type Ring struct {
	c Config

	load  sync.Mutex // one reload at a time, so that an older reading never replaces a newer one
	keys  atomic.Pointer[snapshot]
	ready chan struct{} // closed once every algorithm has a key
	stop  context.CancelFunc
	done  sync.WaitGroup

	making sync.Mutex   // of the first encryption keys
	tried  time.Time    // when that was tried last
	looked atomic.Int64 // when keys were last read for a message that names an unknown one
}

// Open loads the keys. On the very first start it makes one of each algorithm, active at once because no relying party
// can have cached a key set without it; the RSA key, which takes a while to find, is made in the background, and whoever
// needs it waits.
func Open(ctx context.Context, c Config) (*Ring, error) {
	if c.DB == nil || c.Seal == nil || c.Audit == nil || c.TokenLife <= 0 {
		return nil, errors.New("keys: DB, Seal, Audit and TokenLife are required")
	}
	if c.Rotation < 0 || c.CachePeriod < 0 {
		return nil, errors.New("keys: Rotation and CachePeriod cannot be negative")
	}
	if c.Rotation == 0 {
		c.Rotation = 90 * 24 * time.Hour
	}
	if c.CachePeriod == 0 {
		c.CachePeriod = time.Hour
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Ring{c: c, ready: make(chan struct{}), stop: stop}
	r.keys.Store(&snapshot{})
	if err := r.first(ctx, ES256, EdDSA); err != nil {
		stop()
		return nil, err
	}
	if r.keys.Load().newest(RS256) != nil {
		close(r.ready)
		return r, nil
	}
	r.done.Go(func() { r.firstRSA(background) })
	return r, nil
}

// Close ends the background work of the first start. Signing and verifying go on working.
func (r *Ring) Close() {
	r.stop()
	r.done.Wait()
}

// MaxAge is how long the key set may be cached (Cache-Control: max-age).
func (r *Ring) MaxAge() time.Duration { return r.c.CachePeriod }

// JWKS returns the published key set (next, active and retired signing keys, the newest encryption keys; public members only) and its strong entity tag,
// quotes included.
func (r *Ring) JWKS(ctx context.Context) (body []byte, etag string, err error) {
	if err := r.wait(ctx); err != nil {
		return nil, "", err
	}
	r.encrypts(ctx)
	s := r.keys.Load()
	if !s.fresh(r.c.Now()) {
		if s, err = r.rebuild(); err != nil {
			return nil, "", err
		}
	}
	return s.body, s.etag, nil
}

// List returns every key that ever was, by algorithm and generation.
func (r *Ring) List(ctx context.Context) ([]Key, error) {
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	if err := r.Reload(ctx); err != nil {
		return nil, err
	}
	now := r.c.Now()
	var list []Key
	for _, alg := range all {
		for _, k := range r.keys.Load().byAlg[alg] {
			list = append(list, k.at(now))
		}
	}
	for _, k := range r.keys.Load().encryption {
		list = append(list, k.at(now))
	}
	return list, nil
}

// Rotate brings in a new key of each algorithm (none named: all) by command. It is published now and signs one cache
// period later, when every relying party can know it. Where a next key already waits, or another replica rotates at the
// same moment, that key is returned instead: there are never two. A new encryption key is used by others as soon as they see it.
func (r *Ring) Rotate(ctx context.Context, algs ...Alg) ([]Key, error) {
	if len(algs) == 0 {
		algs = slices.Concat(all[:], families[:])
	}
	for _, alg := range algs {
		if !slices.Contains(all[:], alg) && !slices.Contains(families[:], alg) {
			return nil, fmt.Errorf("rotate: no algorithm %q; there are RS256, ES256, EdDSA, RSA-OAEP and ECDH-ES", alg)
		}
	}
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	if err := r.Reload(ctx); err != nil {
		return nil, err
	}
	var list []Key
	for _, alg := range algs {
		if slices.Contains(families[:], alg) {
			if err := r.succeedEncryption(ctx, alg, r.keys.Load().newestEncryption(alg), "cli"); err != nil {
				return list, err
			}
			list = append(list, r.keys.Load().newestEncryption(alg).at(r.c.Now()))
			continue
		}
		if newest := r.keys.Load().newest(alg); newest.state(r.c.Now()) != Next {
			if err := r.succeed(ctx, newest, "cli"); err != nil {
				return list, err
			}
		}
		list = append(list, r.keys.Load().newest(alg).at(r.c.Now()))
	}
	return list, nil
}

// Maintain keeps the schedule; the server calls it each minute. It picks up what other replicas did, brings in the next
// key when the active one nears its end, and erases the private half of keys that are gone.
func (r *Ring) Maintain(ctx context.Context) error {
	if err := r.Reload(ctx); err != nil {
		return err
	}
	var failed []error
	lead := min(r.lead(), r.c.Rotation)
	for _, alg := range all {
		newest := r.keys.Load().newest(alg)
		if newest == nil { // the first RSA key is still being made
			continue
		}
		if due := newest.ActiveAt.Add(r.c.Rotation - lead); r.c.Now().Before(due) { // and so never while it is next
			continue
		}
		failed = append(failed, r.succeed(ctx, newest, ""))
	}
	return errors.Join(append(failed, r.erase(ctx), r.maintainEncryption(ctx))...)
}

// lead is the time from the publication of a key to its first use: whoever fetched the key set just before the last
// replica published the key has fetched it again by then.
func (r *Ring) lead() time.Duration { return r.c.CachePeriod + propagation }

// wait returns when every algorithm has a key.
func (r *Ring) wait(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	default:
	}
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the first signing keys: %w", ctx.Err())
	}
}

// first makes the first key of those algorithms that have none, and loads all.
func (r *Ring) first(ctx context.Context, algs ...Alg) error {
	if err := r.Reload(ctx); err != nil {
		return err
	}
	made := false
	for _, alg := range algs {
		if r.keys.Load().newest(alg) != nil {
			continue
		}
		if err := r.create(ctx, alg, nil, ""); err != nil && !errors.Is(err, db.ErrConflict) {
			return fmt.Errorf("make first %s key: %w", alg, err)
		}
		made = true
	}
	if !made {
		return nil
	}
	return r.Reload(ctx)
}

// firstRSA repeats first until it succeeds, because a server that started must not stay without a key.
func (r *Ring) firstRSA(ctx context.Context) {
	for {
		err := r.first(ctx, RS256)
		if err == nil {
			close(r.ready)
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.c.Log.ErrorContext(ctx, "first RSA key not made, trying again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
	}
}

// succeed makes the successor of a key. When another replica was faster its key is taken over.
func (r *Ring) succeed(ctx context.Context, previous *key, actor string) error {
	err := r.create(ctx, previous.Alg, previous, actor)
	if err != nil && !errors.Is(err, db.ErrConflict) {
		return fmt.Errorf("rotate %s key: %w", previous.Alg, err)
	}
	return r.Reload(ctx)
}

// LogValue implements slog.LogValuer: a ring holds private keys.
func (r *Ring) LogValue() slog.Value { return slog.StringValue("keys.Ring") }
