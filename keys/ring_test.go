package keys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/keys"
)

const (
	rotation    = 90 * 24 * time.Hour
	cachePeriod = time.Hour
	tokenLife   = 2 * time.Hour
	lead        = cachePeriod + 2*time.Minute // publication to use
	clockSkew   = time.Minute
)

var algs = []keys.Alg{keys.RS256, keys.ES256, keys.EdDSA}

// clock is a clock that moves only when told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

func newMaster() []byte {
	m := make([]byte, seal.KeySize)
	_, _ = rand.Read(m)
	return m
}

func config(t testing.TB, d *db.DB, c *clock, master []byte) keys.Config {
	t.Helper()
	s, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return keys.Config{
		DB: d, Seal: s, Audit: audit.New(d, slog.New(slog.DiscardHandler), c.now), Now: c.now,
		Rotation: rotation, CachePeriod: cachePeriod, TokenLife: tokenLife,
	}
}

// open opens a ring whose first keys are all there.
func open(t testing.TB, c keys.Config) *keys.Ring {
	t.Helper()
	r, err := keys.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(r.Close)
	if _, _, err := r.JWKS(t.Context()); err != nil {
		t.Fatalf("JWKS: %v", err)
	}
	return r
}

func sign(t testing.TB, r *keys.Ring, alg keys.Alg) (token, kid string) {
	t.Helper()
	token, err := r.Sign(t.Context(), alg, "at+jwt", map[string]any{"sub": "u1"})
	if err != nil {
		t.Fatalf("sign %s: %v", alg, err)
	}
	v, err := r.Verify(token)
	if err != nil {
		t.Fatalf("verify %s just signed: %v", alg, err)
	}
	if want := (keys.Verified{Alg: alg, KID: v.KID, Typ: "at+jwt", Claims: []byte(`{"sub":"u1"}`)}); !cmp.Equal(v, want) {
		t.Fatalf("verified (-want +got):\n%s", cmp.Diff(want, v))
	}
	return token, v.KID
}

// published gives the key set as a relying party reads it who looks for signatures.
func published(t testing.TB, r *keys.Ring) (set jose.JSONWebKeySet, etag string) {
	t.Helper()
	body, etag, err := r.JWKS(t.Context())
	if err != nil {
		t.Fatalf("JWKS: %v", err)
	}
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatalf("JWKS %s: %v", body, err)
	}
	set.Keys = slices.DeleteFunc(set.Keys, func(k jose.JSONWebKey) bool { return k.Use != "sig" })
	return set, etag
}

// states lists "generation state" of one algorithm.
func states(t testing.TB, r *keys.Ring, alg keys.Alg) []string {
	t.Helper()
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var out []string
	for _, k := range list {
		if k.Alg == alg {
			out = append(out, k.State)
		}
	}
	return out
}

func maintain(t testing.TB, r *keys.Ring) {
	t.Helper()
	if err := r.Maintain(t.Context()); err != nil {
		t.Fatalf("maintain: %v", err)
	}
}

func wantStates(t testing.TB, r *keys.Ring, want ...string) {
	t.Helper()
	for _, alg := range algs {
		if got := states(t, r, alg); !cmp.Equal(got, want) {
			t.Fatalf("%s states: got %v, want %v", alg, got, want)
		}
	}
}

func TestLifeOfAKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c := newClock()
		start := c.now()
		r := open(t, config(t, d, c, newMaster()))
		wantStates(t, r, keys.Active)
		firstSet, firstTag := published(t, r)
		if len(firstSet.Keys) != 3 {
			t.Fatalf("first key set: got %d keys, want 3", len(firstSet.Keys))
		}
		tokens, kids := map[keys.Alg]string{}, map[keys.Alg]string{}
		for _, alg := range algs {
			tokens[alg], kids[alg] = sign(t, r, alg)
			jws, err := jose.ParseSignedCompact(tokens[alg], []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatalf("parse %s: %v", alg, err)
			}
			if found := firstSet.Key(kids[alg]); len(found) != 1 {
				t.Fatalf("key set has %d keys %s, want 1", len(found), kids[alg])
			} else if _, err := jws.Verify(found[0]); err != nil {
				t.Errorf("a relying party cannot verify %s: %v", alg, err)
			}
		}
		first, err := r.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		activeAt := first[0].ActiveAt

		// Not due yet: nothing happens.
		c.set(activeAt.Add(rotation - lead - time.Second))
		maintain(t, r)
		wantStates(t, r, keys.Active)
		if _, tag := published(t, r); tag != firstTag {
			t.Errorf("entity tag changed although no key did: %s, %s", firstTag, tag)
		}

		// Due: published, not used, however often the schedule runs.
		c.set(activeAt.Add(rotation - lead))
		maintain(t, r)
		maintain(t, r)
		wantStates(t, r, keys.Active, keys.Next)
		if set, tag := published(t, r); len(set.Keys) != 6 || tag == firstTag {
			t.Errorf("key set after rotation: got %d keys and tag %s, want 6 and another than %s", len(set.Keys), tag, firstTag)
		}
		turn := c.now().Add(lead)
		c.set(turn.Add(-time.Microsecond))
		for _, alg := range algs {
			if _, kid := sign(t, r, alg); kid != kids[alg] {
				t.Errorf("%s signed with a key before its time", alg)
			}
		}

		// Its turn.
		c.set(turn)
		wantStates(t, r, keys.Retired, keys.Active)
		for _, alg := range algs {
			if _, kid := sign(t, r, alg); kid == kids[alg] {
				t.Errorf("%s signed with a retired key", alg)
			}
		}

		// The last token of the old key dies tokenLife after the turn; until then it verifies and its key is published.
		end := turn.Add(tokenLife + clockSkew)
		c.set(end.Add(-time.Microsecond))
		maintain(t, r)
		for _, alg := range algs {
			if _, err := r.Verify(tokens[alg]); err != nil {
				t.Errorf("%s token signed before the rotation: %v", alg, err)
			}
		}
		if set, _ := published(t, r); len(set.Keys) != 6 {
			t.Errorf("key set before the end: got %d keys, want 6", len(set.Keys))
		}

		// Gone, at the very moment and without maintenance.
		c.set(end)
		wantStates(t, r, keys.Gone, keys.Active)
		set, _ := published(t, r)
		if len(set.Keys) != 3 {
			t.Errorf("key set after the end: got %d keys, want 3", len(set.Keys))
		}
		check := func() {
			t.Helper()
			for _, alg := range algs {
				if len(set.Key(kids[alg])) != 0 {
					t.Errorf("%s key is gone and still published", alg)
				}
				if _, err := r.Verify(tokens[alg]); !errors.Is(err, keys.ErrSignature) {
					t.Errorf("%s token of a gone key: got %v, want ErrSignature", alg, err)
				}
				if v, err := r.VerifyHint(tokens[alg]); err != nil || string(v.Claims) != `{"sub":"u1"}` {
					t.Errorf("%s hint of a gone key: got %s, %v", alg, v.Claims, err)
				}
			}
		}
		check()
		maintain(t, r)
		maintain(t, r)
		check()
		var n int
		if err := d.QueryRow(t.Context(), `SELECT count(*) FROM signing_keys WHERE private IS NULL`).Scan(&n); err != nil || n != 3 {
			t.Errorf("erased private halves: got %d, %v, want 3", n, err)
		}

		var events []string
		if err := d.Query(t.Context(), func(row db.Scanner) error {
			var s string
			err := row.Scan(&s)
			events = append(events, s)
			return err
		}, `SELECT action FROM audit ORDER BY action`); err != nil {
			t.Fatal(err)
		}
		if want := strings.Fields(strings.Repeat("key.create ", 5) + strings.Repeat("key.gone ", 3) + strings.Repeat("key.rotate ", 5)); !cmp.Equal(events, want) {
			t.Errorf("audit: got %v, want %v", events, want)
		}
		if got := first[0].CreatedAt; !got.Equal(start) {
			t.Errorf("created at: got %v, want %v", got, start)
		}
	})
}

func TestReplicasRotateOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c, master := newClock(), newMaster()
		a, b := open(t, config(t, d, c, master)), open(t, config(t, d, c, master))
		old, _ := sign(t, a, keys.ES256)
		for round := range 5 {
			c.set(c.now().Add(rotation - lead + time.Minute)) // by schedule, and by command at the same moment
			var wg sync.WaitGroup
			var mu sync.Mutex
			kids := map[string]bool{}
			for i := range 12 {
				r := []*keys.Ring{a, b}[i%2]
				wg.Go(func() {
					if i%3 == 0 {
						if err := r.Maintain(t.Context()); err != nil {
							t.Errorf("maintain: %v", err)
						}
						return
					}
					made, err := r.Rotate(t.Context(), keys.ES256)
					if err != nil || len(made) != 1 || made[0].State != keys.Next {
						t.Errorf("rotate: %+v, %v", made, err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					kids[made[0].KID] = true
				})
			}
			wg.Wait()
			if len(kids) != 1 {
				t.Fatalf("round %d: rotation made keys %v, want one", round, kids)
			}
			var next int
			if err := d.QueryRow(t.Context(), `SELECT count(*) FROM signing_keys WHERE alg = 'ES256' AND active_at > $1`,
				db.At(c.now())).Scan(&next); err != nil || next != 1 {
				t.Fatalf("round %d: %d next keys (%v), want 1", round, next, err)
			}
			maintain(t, a)
			maintain(t, b)
			if round == 0 {
				for _, r := range []*keys.Ring{a, b} {
					if _, err := r.Verify(old); err != nil {
						t.Errorf("token signed before the rotation: %v", err)
					}
				}
			}
			c.set(c.now().Add(lead))
			token, _ := sign(t, a, keys.ES256)
			if _, err := b.Verify(token); err != nil {
				t.Errorf("token signed by another replica with the new key: %v", err)
			}
		}
	})
}

func TestReplicasStartTogether(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c, master := newClock(), newMaster()
		conf := config(t, d, c, master)
		var rings [3]*keys.Ring
		var wg sync.WaitGroup
		for i := range rings {
			wg.Go(func() {
				r, err := keys.Open(t.Context(), conf)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				rings[i] = r
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		var want []byte
		for _, r := range rings {
			t.Cleanup(r.Close)
			body, _, err := r.JWKS(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = body
			}
			if !bytes.Equal(body, want) {
				t.Errorf("replicas publish different key sets:\n%s\n%s", want, body)
			}
			wantStates(t, r, keys.Active)
		}
	})
}

func TestRestartKeepsKeys(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c := newClock()
		conf := config(t, d, c, newMaster())
		r := open(t, conf)
		body, etag, _ := r.JWKS(t.Context())
		token, _ := sign(t, r, keys.RS256)

		again, err := keys.Open(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		body2, etag2, err := again.JWKS(over) // nothing to wait for
		if err != nil || !bytes.Equal(body, body2) || etag != etag2 {
			t.Errorf("key set after a restart: got %s %s (%v), want %s %s", etag2, body2, err, etag, body)
		}
		if _, err := again.Verify(token); err != nil {
			t.Errorf("token signed before the restart: %v", err)
		}
	})
}

func TestRotateByCommandKeepsOtherAlgorithms(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := open(t, config(t, dbtest.OpenSQLite(t), c, newMaster()))
	made, err := r.Rotate(t.Context(), keys.EdDSA)
	if err != nil || len(made) != 1 {
		t.Fatalf("rotate: %v, %v", made, err)
	}
	k := made[0]
	if k.Alg != keys.EdDSA || k.Generation != 2 || k.State != keys.Next || !k.ActiveAt.Equal(c.now().Add(lead)) {
		t.Errorf("new key: got %+v", k)
	}
	if got := states(t, r, keys.ES256); !cmp.Equal(got, []string{keys.Active}) {
		t.Errorf("ES256: got %v, want one active key", got)
	}
	if _, err := r.Rotate(t.Context(), "HS256"); err == nil {
		t.Error("rotating HS256: got no error")
	}
	if made, err := r.Rotate(t.Context()); err != nil || len(made) != 5 {
		t.Errorf("rotate all: got %d keys, %v, want 5", len(made), err)
	}
	for _, alg := range algs {
		if got := states(t, r, alg); !cmp.Equal(got, []string{keys.Active, keys.Next}) {
			t.Errorf("%s: got %v, want one active and one next", alg, got)
		}
	}
}

func TestLongerTokenLifeKeepsRetiringKeyLonger(t *testing.T) {
	t.Parallel()
	c, d := newClock(), dbtest.OpenSQLite(t)
	conf := config(t, d, c, newMaster())
	r := open(t, conf)
	if _, err := r.Rotate(t.Context(), keys.ES256); err != nil {
		t.Fatal(err)
	}
	turn := c.now().Add(lead)
	conf.TokenLife = 10 * tokenLife // restarted with another setting before the old key retired
	r = open(t, conf)
	c.set(turn.Add(-time.Second))
	token, _ := sign(t, r, keys.ES256)
	c.set(turn.Add(10 * tokenLife))
	maintain(t, r)
	if _, err := r.Verify(token); err != nil {
		t.Errorf("token of the longer life: %v", err)
	}
	c.set(turn.Add(10*tokenLife + clockSkew))
	if _, err := r.Verify(token); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("after its end: got %v, want ErrSignature", err)
	}
}

func TestLostMasterKeyIsNamed(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c := newClock()
		open(t, config(t, d, c, newMaster()))
		_, err := keys.Open(t.Context(), config(t, d, c, newMaster()))
		if !errors.Is(err, seal.ErrOpen) || !strings.Contains(err.Error(), "master key") {
			t.Errorf("open under another master key: got %v, want ErrOpen that speaks of the master key", err)
		}
	})
}

func TestMasterKeyRotates(t *testing.T) {
	t.Parallel()
	c, d, old := newClock(), dbtest.OpenSQLite(t), newMaster()
	conf := config(t, d, c, old)
	token, _ := sign(t, open(t, conf), keys.ES256)
	both, err := seal.New(newMaster(), old)
	if err != nil {
		t.Fatal(err)
	}
	conf.Seal = both
	if _, err := open(t, conf).Verify(token); err != nil {
		t.Errorf("verify under a new master key: %v", err)
	}
}

func TestDatabaseAwayKeepsRingWorking(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	r := open(t, config(t, d, newClock(), newMaster()))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Maintain(t.Context()); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("maintain: got %v, want ErrUnavailable", err)
	}
	for _, alg := range algs {
		sign(t, r, alg)
	}
	if set, _ := published(t, r); len(set.Keys) != 3 {
		t.Errorf("key set: got %d keys, want 3", len(set.Keys))
	}
}

func TestOpenRefusesMissingParts(t *testing.T) {
	t.Parallel()
	whole := config(t, dbtest.OpenSQLite(t), newClock(), newMaster())
	for name, spoil := range map[string]func(*keys.Config){
		"no database":       func(c *keys.Config) { c.DB = nil },
		"no seal":           func(c *keys.Config) { c.Seal = nil },
		"no audit":          func(c *keys.Config) { c.Audit = nil },
		"no token life":     func(c *keys.Config) { c.TokenLife = 0 },
		"negative rotation": func(c *keys.Config) { c.Rotation = -1 },
	} {
		c := whole
		spoil(&c)
		if _, err := keys.Open(t.Context(), c); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestRingIsNotLogged(t *testing.T) {
	t.Parallel()
	r := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	var out strings.Builder
	slog.New(slog.NewTextHandler(io.Writer(&out), nil)).Info("x", "ring", r, "verified", keys.Verified{Claims: []byte("personal")})
	if got := out.String(); !strings.Contains(got, "ring=keys.Ring") || strings.Contains(got, "personal") {
		t.Errorf("log line: %s", got)
	}
}
