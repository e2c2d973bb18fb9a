package challenge_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/challenge"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time       { return time.UnixMilli(c.at.Load()) }
func (c *clock) pass(d time.Duration) { c.at.Add(d.Milliseconds()) }

func newClock() *clock {
	c := &clock{}
	c.at.Store(1_800_000_000_000)
	return c
}

func newWork(c *clock, of cache.Cache) *challenge.Work {
	return &challenge.Work{Key: []byte("0123456789abcdef0123456789abcdef"), Cache: of, Effort: 300, Now: c.now}
}

// each runs f on both caches.
func each(t *testing.T, f func(t *testing.T, w *challenge.Work, c *clock)) {
	t.Helper()
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		f(t, newWork(c, cache.NewMemory(c.now)), c)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		f(t, newWork(c, cachetest.Redis(t, c.now)), c)
	})
}

// solve is what the browser does.
func solve(t testing.TB, puzzle string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(puzzle)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		sum := sha256.Sum256([]byte(string(raw[13:29]) + strconv.Itoa(n)))
		if string(sum[:16]) == string(raw[29:45]) {
			return puzzle + "." + strconv.Itoa(n)
		}
	}
	t.Fatal("no number below the effort solves the challenge")
	return ""
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestWork(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		ctx := t.Context()
		puzzle := w.New("form", "192.0.2.7")
		answer := solve(t, puzzle)
		c.pass(29 * time.Minute)
		want(t, "solved", w.Check(ctx, "form", "192.0.2.7", answer), nil)
		if w.New("form", "192.0.2.7") == puzzle {
			t.Error("the same challenge twice")
		}
	})
}

func TestNone(t *testing.T) {
	t.Parallel()
	var g challenge.Guard = challenge.None{}
	if p := g.New("form", "network"); p != "" {
		t.Errorf("challenge %q", p)
	}
	want(t, "nothing asked", g.Check(t.Context(), "form", "network", ""), nil)
}

func TestAttackAnswerReused(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		answer := solve(t, w.New("form", "net"))
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if w.Check(t.Context(), "form", "net", answer) == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d forms for one answer", won.Load())
		}
		c.pass(30 * time.Minute) // as long as it could count
		want(t, "at the end of its life", w.Check(t.Context(), "form", "net", answer), challenge.ErrWrong)
		c.pass(time.Minute)
		want(t, "later", w.Check(t.Context(), "form", "net", answer), challenge.ErrOld)
	})
}

func TestAttackAnswerForSomethingElse(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		ctx := t.Context()
		puzzle := w.New("form", "net")
		answer := solve(t, puzzle)
		number := answer[len(puzzle)+1:]
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "another form", w.Check(ctx, "other", "net", answer), challenge.ErrWrong)
		want(t, "another network", w.Check(ctx, "form", "other", answer), challenge.ErrWrong)
		want(t, "form and network moved", w.Check(ctx, "for", "mnet", answer), challenge.ErrWrong)
		want(t, "another number", w.Check(ctx, "form", "net", puzzle+"."+strconv.Itoa(n+1)), challenge.ErrWrong)
		want(t, "number with a zero in front", w.Check(ctx, "form", "net", puzzle+".0"+number), challenge.ErrWrong)
		want(t, "number with a sign", w.Check(ctx, "form", "net", puzzle+".+"+number), challenge.ErrWrong)
		want(t, "two numbers", w.Check(ctx, "form", "net", answer+"."+number), challenge.ErrWrong)
		want(t, "nothing", w.Check(ctx, "form", "net", ""), challenge.ErrWrong)
		want(t, "garbage", w.Check(ctx, "form", "net", strings.Repeat("A", 4000)), challenge.ErrWrong)
		other := newWork(c, w.Cache)
		other.Key = []byte("another key of another server...")
		want(t, "made by somebody else", w.Check(ctx, "form", "net", solve(t, other.New("form", "net"))), challenge.ErrWrong)
		// Each byte is signed: an easier, younger or chosen puzzle is none of ours.
		raw, err := base64.RawURLEncoding.DecodeString(puzzle)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 1
			want(t, "byte "+strconv.Itoa(i)+" changed", w.Check(ctx, "form", "net", base64.RawURLEncoding.EncodeToString(changed)+"."+number), challenge.ErrWrong)
		}
		c.pass(-2 * time.Minute)
		want(t, "from the future", w.Check(ctx, "form", "net", answer), challenge.ErrWrong)
		c.pass(2 * time.Minute)
		want(t, "the right one, after all", w.Check(ctx, "form", "net", answer), nil)
	})
}

// Without JavaScript patience pays, a few times an hour, and each challenge once.
func TestPatience(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		ctx := t.Context()
		puzzle := w.New("form", "net")
		var soon *challenge.SoonError
		if err := w.Check(ctx, "form", "net", puzzle); !errors.As(err, &soon) || soon.Wait != 20*time.Second {
			t.Errorf("at once: %v", err)
		}
		c.pass(20 * time.Second)
		want(t, "after the wait", w.Check(ctx, "form", "net", puzzle), nil)
		want(t, "again", w.Check(ctx, "form", "net", puzzle), challenge.ErrWrong)
	})
}

func TestAttackPatienceOfAProgram(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		var puzzles []string
		for range 100 {
			puzzles = append(puzzles, w.New("form", "net"))
		}
		c.pass(time.Minute)
		counted := 0
		var often *challenge.OftenError
		for _, p := range puzzles {
			switch err := w.Check(t.Context(), "form", "net", p); {
			case err == nil:
				counted++
			case !errors.As(err, &often) || often.Wait <= 0:
				t.Fatal(err)
			}
		}
		if counted != 6 {
			t.Errorf("%d forms without work, want 6", counted)
		}
		want(t, "solved ones go on", w.Check(t.Context(), "form", "net", solve(t, w.New("form", "net"))), nil)
	})
}

func TestCacheAway(t *testing.T) {
	each(t, func(t *testing.T, w *challenge.Work, c *clock) {
		w.Cache = away{w.Cache}
		want(t, "solved", w.Check(t.Context(), "form", "net", solve(t, w.New("form", "net"))), cache.ErrUnavailable)
		unsolved := w.New("form", "net")
		c.pass(time.Minute)
		want(t, "unsolved", w.Check(t.Context(), "form", "net", unsolved), cache.ErrUnavailable)
	})
}

type away struct{ cache.Cache }

func (away) Add(context.Context, string, time.Duration) (bool, error) {
	return false, cache.ErrUnavailable
}

func (away) Allow(context.Context, string, int, time.Duration) (time.Duration, error) {
	return 0, cache.ErrUnavailable
}

func FuzzCheck(f *testing.F) {
	c := newClock()
	w := newWork(c, cache.NewMemory(c.now))
	puzzle := w.New("form", "net")
	c.pass(time.Minute)
	f.Add(puzzle[:20] + ".1")
	f.Add(".")
	f.Add("AQAA.00")
	f.Add(strings.Repeat("A", 103) + ".4294967296")
	f.Fuzz(func(t *testing.T, answer string) {
		if err := w.Check(t.Context(), "form", "other network", answer); !errors.Is(err, challenge.ErrWrong) {
			t.Errorf("%q: %v", answer, err)
		}
	})
}
