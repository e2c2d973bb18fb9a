package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// argonCost is what one argon2id hash costs (RFC 9106 §3.1).
type argonCost struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8  // lanes
}

// owaspCost is OWASP's first recommendation for argon2id: 19 MiB, two passes, one lane.
var owaspCost = argonCost{memory: 19 * 1024, time: 2, threads: 1}

const (
	saltSize = 16
	hashSize = 32

	// queuePerWorker bounds the wait for a worker: sixteen hashes are about half a second. Whoever comes later is
	// refused at once instead of waiting for a timeout (denial of service by slow hashes).
	queuePerWorker = 16

	// maxPasswordBytes bounds the work of normalising a password. It leaves room for MaxPassword characters in
	// decomposed form.
	maxPasswordBytes = 4096
)

// hasher computes and checks password hashes, a bounded number at once, since each takes a core and megabytes of memory.
type hasher struct {
	cost  argonCost
	admit chan struct{} // one for each hash that is computed or waits
	work  chan struct{} // one for each hash that is computed
	done  atomic.Int64  // hashes computed so far
}

func newHasher(cost argonCost, workers int) *hasher {
	workers = or(workers, runtime.GOMAXPROCS(0))
	return &hasher{cost: cost, admit: make(chan struct{}, workers*(1+queuePerWorker)), work: make(chan struct{}, workers)}
}

// enter takes a place in the queue or reports ErrBusy; leave gives it back.
func (h *hasher) enter() error {
	select {
	case h.admit <- struct{}{}:
		return nil
	default:
		return ErrBusy
	}
}

func (h *hasher) leave() { <-h.admit }

// do runs f on a worker. The caller has entered.
func (h *hasher) do(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case h.work <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.work }()
	f()
	h.done.Add(1)
	return nil
}

// hash makes the PHC string of a password under a fresh salt.
func (h *hasher) hash(ctx context.Context, password string) (phc string, err error) {
	if err := h.enter(); err != nil {
		return "", err
	}
	defer h.leave()
	return h.hashEntered(ctx, password)
}

// hashEntered is hash for a caller that has a place in the queue.
func (h *hasher) hashEntered(ctx context.Context, password string) (phc string, err error) {
	p := argonHash{cost: h.cost, salt: make([]byte, saltSize)}
	_, _ = rand.Read(p.salt) // never fails (crypto/rand)
	err = h.do(ctx, func() { p.key = p.derive(password, hashSize) })
	return p.String(), err
}

// verify reports whether phc is the hash of password, and whether it was made in another way or at another cost than
// today's. The caller has entered.
func (h *hasher) verify(ctx context.Context, phc, password string) (ok, outdated bool, err error) {
	p, err := parsePHC(phc)
	if err != nil {
		f, err := parseForeign(phc)
		if err != nil {
			return false, false, err
		}
		err = h.do(ctx, func() { ok = f.matches(password) })
		return ok, true, err
	}
	var key []byte
	if err := h.do(ctx, func() { key = p.derive(password, len(p.key)) }); err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(key, p.key) == 1
	return ok, p.cost != h.cost || len(p.salt) != saltSize || len(p.key) != hashSize, nil
}

// matches is verify for a caller that has not entered.
func (h *hasher) matches(ctx context.Context, phc, password string) (bool, error) {
	if err := h.enter(); err != nil {
		return false, err
	}
	defer h.leave()
	ok, _, err := h.verify(ctx, phc, password)
	return ok, err
}

// decoy makes a hash that no password has and that takes as long to check as the given one; for none, as long as a hash of
// today's cost.
func (h *hasher) decoy(phc string) string {
	p, err := parsePHC(phc)
	if err != nil {
		if f, err := parseForeign(phc); err == nil {
			return f.decoy().String()
		}
		p = argonHash{cost: h.cost, salt: make([]byte, saltSize), key: make([]byte, hashSize)}
	}
	_, _ = rand.Read(p.salt) // never fails (crypto/rand)
	_, _ = rand.Read(p.key)
	return p.String()
}

// argonHash is an argon2id hash in parts.
type argonHash struct {
	cost      argonCost
	salt, key []byte
}

// derive hashes the NFC form of a password, so that the same characters typed on another system make the same hash.
func (p argonHash) derive(password string, size int) []byte {
	return argon2.IDKey([]byte(norm.NFC.String(password)), p.salt, p.cost.time, p.cost.memory, p.cost.threads, uint32(size)) //nolint:gosec // size ≤ 64
}

// String gives the PHC string.
func (p argonHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.memory, p.cost.time, p.cost.threads,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.key))
}

var (
	errPHC = errors.New("malformed password hash")

	phcPattern = regexp.MustCompile(`^\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$`)
)

// parsePHC reads a PHC string. The parameters are bounded (64 MiB, 16 passes, 4 lanes), so that a hash planted in the
// database or in an import cannot exhaust memory or time (PHC bomb).
func parsePHC(s string) (argonHash, error) {
	if len(s) > 256 {
		return argonHash{}, errPHC
	}
	m := phcPattern.FindStringSubmatch(s)
	if m == nil {
		return argonHash{}, errPHC
	}
	memory, _ := strconv.ParseUint(m[1], 10, 32) // digits by the pattern
	passes, _ := strconv.ParseUint(m[2], 10, 32)
	threads, _ := strconv.ParseUint(m[3], 10, 8)
	if memory < 8*threads || memory > 64*1024 || passes < 1 || passes > 16 || threads < 1 || threads > 4 {
		return argonHash{}, errPHC
	}
	p := argonHash{cost: argonCost{uint32(memory), uint32(passes), uint8(threads)}}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(m[4])
	p.key, err2 = base64.RawStdEncoding.Strict().DecodeString(m[5])
	if err1 != nil || err2 != nil || p.String() != s { // also refuses leading zeros
		return argonHash{}, errPHC
	}
	return p, nil
}
