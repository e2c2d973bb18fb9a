// Package cache keeps short-lived state that the server can lose without losing anybody's account: authorization codes,
// interactions, replay marks, rate limits. It is never the only place of something durable.
package cache

import (
	"context"
	"errors"
	"time"
)

// ErrUnavailable says that the store cannot be reached; the caller fails safe.
var ErrUnavailable = errors.New("cache unavailable")

// Cache is implemented by Memory (one process) and Redis (many), which pass one contract test.
type Cache interface {
	// Put stores a copy of value under key, unclaimed, until ttl has passed. A ttl that is not positive has passed.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// PutNew is Put for a key under which there is nothing yet; else it changes nothing and gives first = false. Of many callers one is first.
	PutNew(ctx context.Context, key string, value []byte, ttl time.Duration) (first bool, err error)
	// Get returns the value under key, or ok = false.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
	// GetMany returns the values under keys in their order, nil where there is none. The keys must share one
	// hash tag ("{…}"), so that Redis Cluster can answer in one trip.
	GetMany(ctx context.Context, keys ...string) ([][]byte, error)
	// Take removes and returns the value under key; one caller at most gets it.
	Take(ctx context.Context, key string) (value []byte, ok bool, err error)
	// Claim returns the value under key and leaves it there marked as used: exactly one caller ever sees
	// first = true. It serves one-time codes whose replay must still be recognised.
	Claim(ctx context.Context, key string) (value []byte, first, ok bool, err error)
	// Add marks key until ttl has passed and reports whether it was unmarked.
	Add(ctx context.Context, key string, ttl time.Duration) (bool, error)
	// Allow spends one of limit (at least 1) per window for key, or says how long to wait (GCRA). What is refused
	// is not spent. Keys of Allow are its own: no other method may use them.
	Allow(ctx context.Context, key string, limit int, window time.Duration) (wait time.Duration, err error)
	// Delete forgets keys; an absent one is no error.
	Delete(ctx context.Context, key string) error
	// Ping reports whether the store answers.
	Ping(ctx context.Context) error
	// Close releases connections.
	Close() error
}
