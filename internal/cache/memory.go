package cache

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// sweepEvery bounds how long an expired entry keeps its memory, sweepFull how often a full cache looks for such.
	sweepEvery = time.Minute
	sweepFull  = time.Second

	// MemoryLimit bounds what all entries of a Memory hold, in bytes. Strangers cause entries by the million; beyond the limit
	// new ones are refused, because dropping another would forget a limit on guessing or a code that was used.
	MemoryLimit = 64 << 20
	// overhead is about what an entry takes beside its key and value.
	overhead = 128
)

type entry struct {
	value   []byte
	expires time.Time
	claimed bool
}

// Memory is a Cache for a single process; a restart empties it. When it is full it answers ErrUnavailable.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]entry
	size    int // of all entries, expired ones included
	swept   time.Time
}

// NewMemory gives an empty cache on the given clock (nil: the real one).
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, entries: map[string]entry{}}
}

// Put implements Cache.
func (m *Memory) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set(key, value, ttl)
}

// PutNew implements Cache.
func (m *Memory) PutNew(_ context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.live(key); ok {
		return false, nil
	}
	err := m.set(key, value, ttl)
	return err == nil, err
}

// Get implements Cache.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.live(key)
	return bytes.Clone(e.value), ok, nil
}

// GetMany implements Cache.
func (m *Memory) GetMany(_ context.Context, keys ...string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if e, ok := m.live(key); ok {
			values[i] = bytes.Clone(e.value)
		}
	}
	return values, nil
}

// Take implements Cache.
func (m *Memory) Take(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.live(key)
	m.drop(key)
	return e.value, ok, nil
}

// Claim implements Cache.
func (m *Memory) Claim(_ context.Context, key string) ([]byte, bool, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.live(key)
	if !ok {
		return nil, false, false, nil
	}
	first := !e.claimed
	e.claimed = true
	m.entries[key] = e
	return bytes.Clone(e.value), first, true, nil
}

// Add implements Cache.
func (m *Memory) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return m.PutNew(ctx, key, nil, ttl)
}

// Allow implements Cache: GCRA, where an entry's expiry is the theoretical arrival time at which the bucket is full.
func (m *Memory) Allow(_ context.Context, key string, limit int, window time.Duration) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	arrival := now
	if e, ok := m.live(key); ok {
		arrival = e.expires
	}
	arrival = arrival.Add(window / time.Duration(max(limit, 1)))
	if wait := arrival.Add(-window).Sub(now); wait > 0 {
		return wait, nil
	}
	return 0, m.set(key, nil, arrival.Sub(now))
}

// Delete implements Cache.
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
	return nil
}

// Ping implements Cache.
func (m *Memory) Ping(context.Context) error { return nil }

// Close implements Cache.
func (m *Memory) Close() error { return nil }

func (m *Memory) live(key string) (entry, bool) {
	e, ok := m.entries[key]
	if !ok || !e.expires.After(m.now()) {
		return entry{}, false
	}
	return e, true
}

func sizeOf(key string, value []byte) int { return overhead + len(key) + len(value) }

func (m *Memory) drop(key string) {
	if e, ok := m.entries[key]; ok {
		m.size -= sizeOf(key, e.value)
		delete(m.entries, key)
	}
}

// set stores an entry if there is room, and once in a while drops the expired ones.
func (m *Memory) set(key string, value []byte, ttl time.Duration) error {
	now := m.now()
	if now.Sub(m.swept) >= sweepEvery || m.size+sizeOf(key, value) > MemoryLimit && now.Sub(m.swept) >= sweepFull {
		m.swept = now
		for k, e := range m.entries {
			if !e.expires.After(now) {
				m.drop(k)
			}
		}
	}
	size := m.size + sizeOf(key, value)
	if old, ok := m.entries[key]; ok {
		size -= sizeOf(key, old.value)
	}
	if size > MemoryLimit && size > m.size {
		return fmt.Errorf("%w: memory is full", ErrUnavailable)
	}
	// The copy keeps a caller that reuses its buffer from changing what others will read, as a server apart would.
	m.entries[key] = entry{value: append([]byte{}, value...), expires: now.Add(ttl)}
	m.size = size
	return nil
}
