package cache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
)

const long = time.Hour

// engine is a cache under test and the way to let a time to live run out.
type engine struct {
	cache.Cache
	ttl time.Duration // short, for what is going to expire
	// gone waits until the key has expired. A real server decides when; the fake clock is moved.
	gone func(t *testing.T, key string)
}

// each runs f on both engines. Keys are random, so that tests share one server.
func each(t *testing.T, f func(t *testing.T, c engine)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		var now atomic.Int64
		now.Store(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
		c := cache.NewMemory(func() time.Time { return time.Unix(0, now.Load()) })
		f(t, engine{c, time.Minute, func(*testing.T, string) { now.Add(int64(time.Minute)) }})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		c := openRedis(t)
		f(t, engine{c, 20 * time.Millisecond, func(t *testing.T, key string) {
			t.Helper()
			for begin := time.Now(); ; {
				if time.Since(begin) > 30*time.Second {
					t.Fatal("the key did not expire")
				}
				if _, ok, err := c.Get(t.Context(), key); err != nil {
					t.Fatalf("get: %v", err)
				} else if !ok {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}})
	})
}

func openRedis(t testing.TB) *cache.Redis {
	t.Helper()
	c, err := cache.OpenRedis(t.Context(), cachetest.URL(t))
	if err != nil {
		t.Fatalf("open redis: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func key() string { return "test:{" + rand.Text() + "}" }

func put(t *testing.T, c cache.Cache, key, value string, ttl time.Duration) {
	t.Helper()
	if err := c.Put(t.Context(), key, []byte(value), ttl); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func wantGet(t *testing.T, c cache.Cache, key, want string, wantOK bool) {
	t.Helper()
	got, ok, err := c.Get(t.Context(), key)
	if err != nil || ok != wantOK || string(got) != want {
		t.Errorf("get: got %q, %v, %v, want %q, %v", got, ok, err, want, wantOK)
	}
}

func TestPutGetDelete(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		wantGet(t, c, k, "", false)
		put(t, c, k, "one", long)
		put(t, c, k, "two", long)
		wantGet(t, c, k, "two", true)
		binary := "\x00\xff\r\n0"
		put(t, c, k, binary, long)
		wantGet(t, c, k, binary, true)
		put(t, c, k, "", long)
		if got, ok, err := c.Get(t.Context(), k); got == nil || len(got) != 0 || !ok || err != nil {
			t.Errorf("empty value: got %v, %v, %v, want an empty slice that is there", got, ok, err)
		}
		if err := c.Delete(t.Context(), k); err != nil {
			t.Errorf("delete: %v", err)
		}
		wantGet(t, c, k, "", false)
		if err := c.Delete(t.Context(), k); err != nil {
			t.Errorf("delete of nothing: %v", err)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestValuesAreCopies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k, buffer := key(), []byte("value")
		if err := c.Put(t.Context(), k, buffer, long); err != nil {
			t.Fatal(err)
		}
		buffer[0] = 'X'
		for range 2 {
			got, _, _ := c.Get(t.Context(), k)
			got[0] = 'Y'
			many, _ := c.GetMany(t.Context(), k)
			many[0][0] = 'Z'
			claimed, _, _, _ := c.Claim(t.Context(), k)
			claimed[0] = 'W'
		}
		wantGet(t, c, k, "value", true)
	})
}

func TestGetMany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		tag := key()
		put(t, c, tag+"a", "A", long)
		put(t, c, tag+"c", "", long)
		if _, err := c.Add(t.Context(), tag+"d", long); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetMany(t.Context(), tag+"a", tag+"b", tag+"c", tag+"d", tag+"a")
		if want := [][]byte{[]byte("A"), nil, {}, {}, []byte("A")}; err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %q, %v (-want +got):\n%s", got, err, cmp.Diff(want, got))
		}
		if got, err := c.GetMany(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("no keys: got %v, %v", got, err)
		}
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k, kept := key(), key()
		put(t, c, kept, "kept", long)
		put(t, c, k, "v", c.ttl)
		c.gone(t, k)
		wantGet(t, c, k, "", false)
		if got, err := c.GetMany(t.Context(), k); err != nil || got[0] != nil {
			t.Errorf("GetMany: got %q, %v, want nil", got, err)
		}
		if _, ok, err := c.Take(t.Context(), k); ok || err != nil {
			t.Errorf("Take: got %v, %v, want nothing", ok, err)
		}
		if _, first, ok, err := c.Claim(t.Context(), k); first || ok || err != nil {
			t.Errorf("Claim: got %v, %v, %v, want nothing", first, ok, err)
		}
		if fresh, err := c.Add(t.Context(), k, c.ttl); !fresh || err != nil {
			t.Errorf("Add: got %v, %v, want true", fresh, err)
		}
		c.gone(t, k)
		if fresh, err := c.Add(t.Context(), k, long); !fresh || err != nil {
			t.Errorf("Add after the mark expired: got %v, %v, want true", fresh, err)
		}
		put(t, c, k, "v", c.ttl)
		if _, first, ok, err := c.Claim(t.Context(), k); !first || !ok || err != nil {
			t.Errorf("Claim: got %v, %v, %v, want the first", first, ok, err)
		}
		c.gone(t, k) // claiming does not prolong
		wantGet(t, c, kept, "kept", true)
	})
}

// A time to live computed from a moment in the past must never become "forever", as 0 is to Redis.
func TestPastTTLIsNotForever(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		for _, ttl := range []time.Duration{0, -time.Hour, -1, 1} {
			k := key()
			put(t, c, k, "old", long)
			put(t, c, k, "v", ttl)
			c.gone(t, k)
			if fresh, err := c.Add(t.Context(), k, ttl); !fresh || err != nil {
				t.Errorf("Add for %v: got %v, %v, want true", ttl, fresh, err)
			}
			c.gone(t, k)
		}
	})
}

func TestCodeReplayIsRecognised(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		put(t, c, k, "code", long)
		for i := range 3 {
			v, first, ok, err := c.Claim(t.Context(), k)
			if string(v) != "code" || first != (i == 0) || !ok || err != nil {
				t.Errorf("claim %d: got %q, %v, %v, %v", i, v, first, ok, err)
			}
		}
		wantGet(t, c, k, "code", true)
		// A new value is a new code.
		put(t, c, k, "other", long)
		if v, first, ok, err := c.Claim(t.Context(), k); string(v) != "other" || !first || !ok || err != nil {
			t.Errorf("claim of a new value: got %q, %v, %v, %v", v, first, ok, err)
		}
		if err := c.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if _, first, ok, err := c.Claim(t.Context(), k); first || ok || err != nil {
			t.Errorf("claim of a deleted value: got %v, %v, %v", first, ok, err)
		}
		put(t, c, k, "", long)
		if v, first, ok, err := c.Claim(t.Context(), k); len(v) != 0 || !first || !ok || err != nil {
			t.Errorf("claim of an empty value: got %q, %v, %v, %v", v, first, ok, err)
		}
		if v, ok, err := c.Take(t.Context(), k); len(v) != 0 || !ok || err != nil {
			t.Errorf("take of a claimed value: got %q, %v, %v", v, ok, err)
		}
	})
}

// race runs f fifty times at once and counts how often it says true.
func race(t *testing.T, f func() (bool, error)) int {
	t.Helper()
	var wins atomic.Int32
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 50 {
		wg.Go(func() {
			<-start
			won, err := f()
			if err != nil {
				t.Errorf("race: %v", err)
			}
			if won {
				wins.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(wins.Load())
}

func TestConcurrentClaimHasOneFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		put(t, c, k, "code", long)
		if n := race(t, func() (bool, error) {
			v, first, ok, err := c.Claim(t.Context(), k)
			if string(v) != "code" || !ok {
				t.Errorf("claim: got %q, %v", v, ok)
			}
			return first, err
		}); n != 1 {
			t.Errorf("got %d first claims, want 1", n)
		}
	})
}

func TestConcurrentTakeHasOneWinner(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		put(t, c, k, "once", long)
		if n := race(t, func() (bool, error) {
			v, ok, err := c.Take(t.Context(), k)
			if ok != (string(v) == "once") {
				t.Errorf("take: got %q, %v", v, ok)
			}
			return ok, err
		}); n != 1 {
			t.Errorf("got %d winners, want 1", n)
		}
		wantGet(t, c, k, "", false)
	})
}

func TestConcurrentPutNewHasOneFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		if n := race(t, func() (bool, error) { return c.PutNew(t.Context(), k, []byte("answer"), long) }); n != 1 {
			t.Errorf("got %d first, want 1", n)
		}
		if first, err := c.PutNew(t.Context(), k, []byte("another"), long); first || err != nil {
			t.Errorf("again: got %v, %v, want false", first, err)
		}
		wantGet(t, c, k, "answer", true)
		if v, first, ok, err := c.Claim(t.Context(), k); string(v) != "answer" || !first || !ok || err != nil {
			t.Errorf("claim: got %q, %v, %v, %v", v, first, ok, err)
		}
		if first, err := c.PutNew(t.Context(), k, []byte("another"), long); first || err != nil {
			t.Errorf("after a claim: got %v, %v, want false", first, err)
		}
	})
}

func TestConcurrentAddHasOneFresh(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k := key()
		if n := race(t, func() (bool, error) { return c.Add(t.Context(), k, long) }); n != 1 {
			t.Errorf("got %d fresh marks, want 1", n)
		}
		if fresh, err := c.Add(t.Context(), k, long); fresh || err != nil {
			t.Errorf("again: got %v, %v, want false", fresh, err)
		}
	})
}

func TestConcurrentGuessesStayWithinTheLimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c engine) {
		k, other := key(), key()
		const limit, window = 7, 24 * time.Hour // one more is allowed after hours only: timing cannot decide
		spend := func(k string) func() (bool, error) {
			return func() (bool, error) {
				wait, err := c.Allow(t.Context(), k, limit, window)
				if wait < 0 || wait > window/limit+time.Second {
					t.Errorf("wait: got %v, want at most %v", wait, window/limit)
				}
				return wait == 0, err
			}
		}
		if n := race(t, spend(k)); n != limit {
			t.Errorf("got %d allowed, want %d", n, limit)
		}
		if n := race(t, spend(other)); n != limit {
			t.Errorf("another key: got %d allowed, want %d", n, limit)
		}
		if err := c.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if wait, err := c.Allow(t.Context(), k, limit, window); wait != 0 || err != nil {
			t.Errorf("after Delete: got %v, %v, want to be allowed", wait, err)
		}
		k = key()
		if wait, err := c.Allow(t.Context(), k, 0, window); wait != 0 || err != nil {
			t.Errorf("limit 0 counts as 1: got %v, %v", wait, err)
		}
		if wait, err := c.Allow(t.Context(), k, 0, window); wait == 0 || err != nil {
			t.Errorf("limit 0, second: got %v, %v, want a wait", wait, err)
		}
	})
}

// The limit comes back one by one, not all at once at the end of a window.
func TestAllowRefills(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	c, k := cache.NewMemory(func() time.Time { return now }), key()
	try := func(want time.Duration) {
		t.Helper()
		if got, err := c.Allow(t.Context(), k, 3, 3*time.Minute); got != want || err != nil {
			t.Errorf("at %v: got %v, %v, want %v", now, got, err, want)
		}
	}
	for range 3 {
		try(0)
	}
	try(time.Minute)
	try(time.Minute) // what is refused is not spent
	now = now.Add(59 * time.Second)
	try(time.Second)
	now = now.Add(time.Second)
	try(0)
	try(time.Minute)
	now = now.Add(2 * time.Minute)
	try(0)
	try(0)
	try(time.Minute)
	now = now.Add(time.Hour) // idleness saves up no more than the limit
	for range 3 {
		try(0)
	}
	try(time.Minute)
}

// The same on the server's clock: after the wait that Redis names, one more is allowed.
func TestAllowRefillsOnRedis(t *testing.T) {
	t.Parallel()
	c, k := openRedis(t), key()
	const limit, window = 2, 400 * time.Millisecond
	deadline := time.Now().Add(20 * time.Second)
	for allowed := 0; allowed < 5; {
		wait, err := c.Allow(t.Context(), k, limit, window)
		if err != nil || wait > window/limit {
			t.Fatalf("got %v, %v, want a wait of at most %v", wait, err, window/limit)
		}
		if wait == 0 {
			allowed++
		}
		if time.Now().After(deadline) {
			t.Fatal("the limit never came back")
		}
		time.Sleep(wait)
	}
}

func TestMemoryDropsWhatExpired(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	c := cache.NewMemory(func() time.Time { return now })
	for range 1000 {
		put(t, c, key(), "v", time.Second)
	}
	now = now.Add(2 * time.Minute)
	put(t, c, key(), "v", time.Second)
	if n := c.Len(); n != 1 {
		t.Errorf("got %d entries kept, want 1", n)
	}
}

// A full cache refuses what is new, keeps what it has, and takes more once something has expired.
func TestStrangersCannotFillTheMemory(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	c := cache.NewMemory(func() time.Time { return time.Unix(0, now.Load()) })
	put(t, c, "kept", "here", 2*long)
	big := strings.Repeat("x", 1<<20)
	filled := 0
	for c.Put(t.Context(), strconv.Itoa(filled), []byte(big), long) == nil {
		if filled++; filled > cache.MemoryLimit>>20 {
			t.Fatalf("more than %d bytes were stored", cache.MemoryLimit)
		}
	}
	for name, err := range map[string]error{
		"put":     c.Put(t.Context(), "new", []byte(big), long),
		"replace": c.Put(t.Context(), "0", []byte(big+big), long),
	} {
		if !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("%s in a full cache: got error %v, want %v", name, err, cache.ErrUnavailable)
		}
	}
	wantGet(t, c, "kept", "here", true)
	put(t, c, "0", "smaller", long)
	if err := c.Delete(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "1", big, long)
	now.Add(int64(long))
	put(t, c, "new", big, long)
	wantGet(t, c, "kept", "here", true)
}

func TestUnreachableRedis(t *testing.T) {
	t.Parallel()
	c := openRedis(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, k := t.Context(), key()
	calls := map[string]func() error{
		"Put":     func() error { return c.Put(ctx, k, nil, long) },
		"PutNew":  func() error { first, err := c.PutNew(ctx, k, nil, long); return noValue(first, err) },
		"Get":     func() error { _, ok, err := c.Get(ctx, k); return noValue(ok, err) },
		"GetMany": func() error { _, err := c.GetMany(ctx, k); return err },
		"Take":    func() error { _, ok, err := c.Take(ctx, k); return noValue(ok, err) },
		"Claim":   func() error { _, first, ok, err := c.Claim(ctx, k); return noValue(first || ok, err) },
		"Add":     func() error { ok, err := c.Add(ctx, k, long); return noValue(ok, err) },
		"Allow":   func() error { _, err := c.Allow(ctx, k, 1, long); return err },
		"Delete":  func() error { return c.Delete(ctx, k) },
		"Ping":    func() error { return c.Ping(ctx) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
}

// noValue turns a value that came with an error into another error.
func noValue(ok bool, err error) error {
	if ok && err != nil {
		return errors.New("an answer beside the error")
	}
	return err
}

func TestOpenRedisErrors(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"nobody listens": "redis://:hunter2@127.0.0.1:1/0",
		"bad port":       "redis://:hunter2@127.0.0.1:port/0",
		"other scheme":   "http://:hunter2@127.0.0.1/0",
		"bad database":   "redis://:hunter2@127.0.0.1/x",
		"bad escape":     "redis://:hunter2%zz@127.0.0.1/0",
	} {
		_, err := cache.OpenRedis(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want an error without the password", name, err)
		}
	}
	if _, err := cache.OpenRedis(t.Context(), "redis://127.0.0.1:1/0"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("nobody listens: got %v, want ErrUnavailable", err)
	}
}

// A request that its client gave up is not a failure of the store.
func TestCanceledIsNotUnavailable(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := openRedis(t)
	if _, _, err := c.Get(ctx, key()); !errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
}

func BenchmarkClaim(b *testing.B) {
	for name, c := range map[string]cache.Cache{"memory": cache.NewMemory(nil), "redis": openRedis(b)} {
		b.Run(name, func(b *testing.B) {
			value := bytes.Repeat([]byte("x"), 1000)
			for b.Loop() {
				k := key()
				if err := c.Put(b.Context(), k, value, time.Minute); err != nil {
					b.Fatal(err)
				}
				if _, first, _, err := c.Claim(b.Context(), k); err != nil || !first {
					b.Fatal(first, err)
				}
			}
		})
	}
}
