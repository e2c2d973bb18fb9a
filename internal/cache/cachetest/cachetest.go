// Package cachetest gives a test a Redis that is as empty, and goes by the same clock, as a cache in memory would.
package cachetest

import (
	"context"
	"crypto/rand"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-id/gatehouse/internal/cache"
)

// URL names the Redis of the tests, from GATEHOUSE_TEST_REDIS. Without it the test fails, because what was tried on one
// cache only was not tried.
func URL(t testing.TB) string {
	t.Helper()
	url := os.Getenv("GATEHOUSE_TEST_REDIS")
	if url == "" {
		t.Fatal("GATEHOUSE_TEST_REDIS is not set: run the tests with `make test`, which starts a private Redis")
	}
	return url
}

// Redis gives a cache whose keys no other test meets in the Redis they share. When the clock, which stands still until the test
// moves it, has moved, what the cache holds is older by as much; nil stands for the real time alone.
func Redis(t testing.TB, clock func() time.Time) cache.Cache {
	t.Helper()
	url := URL(t)
	c, err := cache.OpenRedis(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	if clock == nil {
		clock = func() time.Time { return time.Time{} }
	}
	return &apart{Cache: c, t: t, prefix: "test:" + rand.Text() + ":", clock: clock, client: client, seen: clock(), keys: map[string]kind{}}
}

// apart is a Redis with a prefix before all keys of one test.
type apart struct {
	cache.Cache
	t      testing.TB
	prefix string
	clock  func() time.Time
	client *redis.Client

	mu   sync.Mutex
	seen time.Time // on the clock, when the keys were last made older
	keys map[string]kind
}

// kind is what a key holds.
type kind int

const (
	value kind = iota
	limit      // a time in microseconds
)

// age takes milliseconds from what keys have left to live, and from the times that limits hold.
var age = redis.NewScript(`
local by = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
	local left = redis.call('PTTL', key)
	if left >= 0 and left <= by then
		redis.call('DEL', key)
	elseif left >= 0 then
		redis.call('PEXPIRE', key, left - by)
		if ARGV[1 + i] == '1' then redis.call('SET', key, string.format('%.0f', redis.call('GET', key) - by * 1000), 'KEEPTTL') end
	end
end
return 0`)

// key gives a key's name in the Redis, whose keys are as old as the clock wants them now.
func (a *apart) key(ctx context.Context, key string, k kind) string {
	key = a.prefix + key
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	if by := now.Sub(a.seen); by != 0 {
		names, args := make([]string, 0, len(a.keys)), []any{by.Milliseconds()}
		for name, k := range a.keys {
			names, args = append(names, name), append(args, int(k))
		}
		if err := age.Run(context.WithoutCancel(ctx), a.client, names, args...).Err(); err != nil {
			a.t.Errorf("the keys are not as old as the clock wants them: %v", err)
		}
		a.seen = now
	}
	a.keys["gatehouse:"+key] = k
	return key
}

// Put implements cache.Cache.
func (a *apart) Put(ctx context.Context, key string, v []byte, ttl time.Duration) error {
	return a.Cache.Put(ctx, a.key(ctx, key, value), v, ttl)
}

// PutNew implements cache.Cache.
func (a *apart) PutNew(ctx context.Context, key string, v []byte, ttl time.Duration) (bool, error) {
	return a.Cache.PutNew(ctx, a.key(ctx, key, value), v, ttl)
}

// Get implements cache.Cache.
func (a *apart) Get(ctx context.Context, key string) (v []byte, ok bool, err error) {
	return a.Cache.Get(ctx, a.key(ctx, key, value))
}

// GetMany implements cache.Cache.
func (a *apart) GetMany(ctx context.Context, keys ...string) ([][]byte, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = a.key(ctx, key, value)
	}
	return a.Cache.GetMany(ctx, names...)
}

// Take implements cache.Cache.
func (a *apart) Take(ctx context.Context, key string) (v []byte, ok bool, err error) {
	return a.Cache.Take(ctx, a.key(ctx, key, value))
}

// Claim implements cache.Cache.
func (a *apart) Claim(ctx context.Context, key string) (v []byte, first, ok bool, err error) {
	return a.Cache.Claim(ctx, a.key(ctx, key, value))
}

// Add implements cache.Cache.
func (a *apart) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return a.Cache.Add(ctx, a.key(ctx, key, value), ttl)
}

// Allow implements cache.Cache.
func (a *apart) Allow(ctx context.Context, key string, most int, window time.Duration) (time.Duration, error) {
	return a.Cache.Allow(ctx, a.key(ctx, key, limit), most, window)
}

// Delete implements cache.Cache.
func (a *apart) Delete(ctx context.Context, key string) error {
	return a.Cache.Delete(ctx, a.prefix+key)
}
