package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a Cache shared by every replica. Keys begin with "gatehouse:".
type Redis struct{ client redis.UniversalClient }

const prefix = "gatehouse:"

// OpenRedis connects to a redis:// or rediss:// URL and checks that the server answers.
func OpenRedis(ctx context.Context, url string) (*Redis, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	options.ContextTimeoutEnabled = true
	options.MaintNotificationsConfig = nil
	r := &Redis{redis.NewClient(options)}
	if err := r.Ping(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return r, nil
}

// Put implements Cache.
func (r *Redis) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return unavailable(r.client.Set(ctx, prefix+key, value, ttl).Err())
}

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool, error) {
	return found(r.client.Get(ctx, prefix+key).Bytes())
}

// GetMany implements Cache.
func (r *Redis) GetMany(ctx context.Context, keys ...string) ([][]byte, error) {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = prefix + key
	}
	answers, err := r.client.MGet(ctx, full...).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	values := make([][]byte, len(keys))
	for i, a := range answers {
		if s, ok := a.(string); ok {
			values[i] = []byte(s)
		}
	}
	return values, nil
}

// Take implements Cache.
func (r *Redis) Take(ctx context.Context, key string) ([]byte, bool, error) {
	return found(r.client.GetDel(ctx, prefix+key).Bytes())
}

// claim marks a value in place by a companion key with the same time to live. A key that is claimed carries a hash tag
// ("code:{…}"), so that both keys live on one node of a Redis Cluster.
var claim = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if not v then return false end
local first = redis.call('SET', KEYS[2], 1, 'NX', 'PX', math.max(1, redis.call('PTTL', KEYS[1])))
return {first and 1 or 0, v}`)

// Claim implements Cache.
func (r *Redis) Claim(ctx context.Context, key string) ([]byte, bool, bool, error) {
	answer, err := claim.Run(ctx, r.client, []string{prefix + key, prefix + key + ":used"}).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, false, false, nil
	}
	if err != nil {
		return nil, false, false, unavailable(err)
	}
	first, _ := answer[0].(int64)
	value, _ := answer[1].(string)
	return []byte(value), first == 1, true, nil
}

// Add implements Cache.
func (r *Redis) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	err := r.client.SetArgs(ctx, prefix+key, 1, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, unavailable(err)
}

// allow is the algorithm of Memory.Allow on the server's clock, in microseconds.
var allow = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local arrival = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now)) + ARGV[1]
local wait = arrival - ARGV[2] - now
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0`)

// Allow implements Cache.
func (r *Redis) Allow(ctx context.Context, key string, limit int, window time.Duration) (time.Duration, error) {
	step := window / time.Duration(limit)
	wait, err := allow.Run(ctx, r.client, []string{prefix + key}, step.Microseconds(), window.Microseconds()).Int64()
	return time.Duration(wait) * time.Microsecond, unavailable(err)
}

// Delete implements Cache.
func (r *Redis) Delete(ctx context.Context, key string) error {
	return unavailable(r.client.Del(ctx, prefix+key).Err())
}

// Ping implements Cache.
func (r *Redis) Ping(ctx context.Context) error { return unavailable(r.client.Ping(ctx).Err()) }

// Close implements Cache.
func (r *Redis) Close() error { return r.client.Close() }

func found(value []byte, err error) ([]byte, bool, error) {
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return value, err == nil, unavailable(err)
}

func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
