package cache

import (
	"context"
	"crypto/sha1" //nolint:gosec // the name of a script, see newScript
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a Cache shared by every replica. Keys begin with "gatehouse:". A value has one byte in front that says whether
// it was claimed, so that claiming needs no second key and keeps the time to live.
//
// It holds two functions of the client and not the client itself, and builds the few commands it needs: html/template's
// use of reflection makes the linker keep every exported method of every type that an interface can lead to, and a Redis
// client has thousands (a quarter of the binary).
type Redis struct {
	process func(ctx context.Context, cmd redis.Cmder) error
	close   func() error
}

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
	if options.DialTimeout == 0 {
		options.DialTimeout = 2 * time.Second
	}
	if options.ReadTimeout == 0 {
		options.ReadTimeout = time.Second
	}
	if options.MaxRetries == 0 {
		options.MaxRetries = 1
	}
	quieten()
	client := redis.NewClient(options)
	r := &Redis{client.Process, client.Close}
	if err := r.Ping(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return r, nil
}

// quieten stops go-redis from writing to stderr past the log; what matters comes back as an error. Its logger is a global, hence once.
var quieten = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf implements the logger of go-redis.
func (silent) Printf(context.Context, string, ...any) {}

// Put implements Cache.
func (r *Redis) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return unavailable(r.process(ctx, redis.NewStatusCmd(ctx, "set", prefix+key, append([]byte{fresh}, value...), "px", milliseconds(ttl))))
}

// PutNew implements Cache.
func (r *Redis) PutNew(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	err := r.process(ctx, redis.NewStatusCmd(ctx, "set", prefix+key, append([]byte{fresh}, value...), "px", milliseconds(ttl), "nx"))
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, unavailable(err)
}

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool, error) {
	return r.value(ctx, redis.NewStringCmd(ctx, "get", prefix+key))
}

// GetMany implements Cache.
func (r *Redis) GetMany(ctx context.Context, keys ...string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	args := make([]any, 1, len(keys)+1)
	args[0] = "mget"
	for _, key := range keys {
		args = append(args, prefix+key)
	}
	cmd := redis.NewSliceCmd(ctx, args...)
	if err := r.process(ctx, cmd); err != nil {
		return nil, unavailable(err)
	}
	values := make([][]byte, len(keys))
	for i, a := range cmd.Val() {
		if s, ok := a.(string); ok && s != "" {
			values[i] = []byte(s[1:])
		}
	}
	return values, nil
}

// Take implements Cache.
func (r *Redis) Take(ctx context.Context, key string) ([]byte, bool, error) {
	return r.value(ctx, redis.NewStringCmd(ctx, "getdel", prefix+key))
}

// claim marks a value in place and answers with what was there before.
var claim = newScript(`
local v = redis.call('GET', KEYS[1])
if v and string.sub(v, 1, 1) == ARGV[1] then redis.call('SETRANGE', KEYS[1], 0, ARGV[2]) end
return v`)

// Claim implements Cache.
func (r *Redis) Claim(ctx context.Context, key string) ([]byte, bool, bool, error) {
	before, err := r.run(ctx, claim, prefix+key, string(fresh), string(claimed)).Text()
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
	return r.PutNew(ctx, key, nil, ttl)
}

// allow is the algorithm of Memory.Allow on the server's clock, in microseconds.
var allow = newScript(`
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
	wait, err := r.run(ctx, allow, prefix+key, step.Microseconds(), window.Microseconds()).Int64()
	return time.Duration(wait) * time.Microsecond, unavailable(err)
}

// Delete implements Cache.
func (r *Redis) Delete(ctx context.Context, key string) error {
	return unavailable(r.process(ctx, redis.NewIntCmd(ctx, "del", prefix+key)))
}

// Ping implements Cache.
func (r *Redis) Ping(ctx context.Context) error {
	return unavailable(r.process(ctx, redis.NewStatusCmd(ctx, "ping")))
}

// Close implements Cache.
func (r *Redis) Close() error { return r.close() }

// script is a Lua script and the name the server knows it by once it has run there.
type script struct{ text, sha1 string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // Redis names scripts so; nothing depends on its strength
	return script{text, hex.EncodeToString(sum[:])}
}

// run calls a script on one key by its name, and sends its text if the server does not know it (any more).
func (r *Redis) run(ctx context.Context, s script, key string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, append([]any{"evalsha", s.sha1, 1, key}, args...)...)
	if err := r.process(ctx, cmd); redis.HasErrorPrefix(err, "NOSCRIPT") {
		cmd = redis.NewCmd(ctx, append([]any{"eval", s.text, 1, key}, args...)...)
		_ = r.process(ctx, cmd) // the command keeps its error
	}
	return cmd
}

func (r *Redis) value(ctx context.Context, cmd *redis.StringCmd) ([]byte, bool, error) {
	_ = r.process(ctx, cmd) // the command keeps its error
	value, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil || len(value) == 0 {
		return nil, false, unavailable(err)
	}
	return value[1:], true, nil
}

// milliseconds is a time to live as Redis takes it. One that has run out becomes the shortest there is: zero is refused.
func milliseconds(ttl time.Duration) int64 { return max(ttl.Milliseconds(), 1) }

func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
