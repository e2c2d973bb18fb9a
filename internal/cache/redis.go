package cache

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis is a Cache shared by every replica. Keys begin with "gatehouse:". A value has one byte in front that says whether
// it was claimed, so that claiming needs no second key and keeps the time to live.
type Redis struct{ client redis.UniversalClient }

const (
	prefix  = "gatehouse:"
	fresh   = '0'
	claimed = '1'
)

// OpenRedis connects to a redis:// or rediss:// URL and checks that the server answers. Timeouts that the URL does not set
// are short: a person waits for the answer, and an error that says "try again" is one.
func OpenRedis(ctx context.Context, address string) (*Redis, error) {
	options, err := redis.ParseURL(address)
	if err != nil {
		if bad := (*url.Error)(nil); errors.As(err, &bad) {
			err = bad.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	options.ContextTimeoutEnabled = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if options.DialTimeout == 0 {
		options.DialTimeout = 2 * time.Second
	}
	if options.ReadTimeout == 0 {
		options.ReadTimeout = time.Second
	}
	if options.MaxRetries == 0 {
		options.MaxRetries = 1
	}
	options.DialerRetries = 1
	r := &Redis{redis.NewClient(options)}
	if err := r.Ping(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return r, nil
}

// Put implements Cache.
func (r *Redis) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return unavailable(r.client.Set(ctx, prefix+key, append([]byte{fresh}, value...), atLeast(ttl)).Err())
}

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool, error) {
	return found(r.client.Get(ctx, prefix+key).Bytes())
}

// GetMany implements Cache.
func (r *Redis) GetMany(ctx context.Context, keys ...string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
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
		if s, ok := a.(string); ok && s != "" {
			values[i] = []byte(s[1:])
		}
	}
	return values, nil
}

// Take implements Cache.
func (r *Redis) Take(ctx context.Context, key string) ([]byte, bool, error) {
	return found(r.client.GetDel(ctx, prefix+key).Bytes())
}

// claim marks a value in place and answers with what was there before.
var claim = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, 1) == ARGV[1] then redis.call('SETRANGE', KEYS[1], 0, ARGV[2]) end
return v`)

// Claim implements Cache.
func (r *Redis) Claim(ctx context.Context, key string) ([]byte, bool, bool, error) {
	before, err := claim.Run(ctx, r.client, []string{prefix + key}, string(fresh), string(claimed)).Text()
	if errors.Is(err, redis.Nil) || err == nil && before == "" {
		return nil, false, false, nil
	}
	if err != nil {
		return nil, false, false, unavailable(err)
	}
	return []byte(before[1:]), before[0] == fresh, true, nil
}

// Add implements Cache.
func (r *Redis) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	err := r.client.SetArgs(ctx, prefix+key, []byte{fresh}, redis.SetArgs{Mode: "NX", TTL: atLeast(ttl)}).Err()
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
	step := window / time.Duration(max(limit, 1))
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
	if err != nil || len(value) == 0 {
		return nil, false, unavailable(err)
	}
	return value[1:], true, nil
}

// atLeast keeps a time to live that has run out from becoming none at all: Redis takes zero for "forever".
func atLeast(ttl time.Duration) time.Duration { return max(ttl, time.Millisecond) }

func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
