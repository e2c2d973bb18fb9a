package challenge

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Work asks the browser for computing time: New chooses a number below Effort and tells salt and SHA-256(salt ‖ number), both
// sixteen bytes and the number in decimal; the answer is the number, which only trying finds, in half of Effort tries on
// average and Effort at most. The server checks it with one hash. A challenge is signed, so that nothing is kept for it until
// it is answered.
//
// A challenge is base64url(version, made at, effort, salt, target, signature); an answer is the challenge, a dot, and the number.
type Work struct {
	Key    []byte // signs challenges; the same in all replicas
	Cache  cache.Cache
	Effort int           // hashes at most; 0: 1,000,000
	Life   time.Duration // 0: 30 minutes
	Now    func() time.Time

	// Who cannot compute, without JavaScript, pays with time: a challenge that is Patience old counts unsolved, for Patient
	// forms of one network an hour, which is plenty for a person and nothing for a program.
	Patience time.Duration // 0: 20 seconds
	Patient  int           // 0: 6
}

// MaxEffort is a minute of a good machine: nobody waits longer.
const MaxEffort = 100_000_000

const (
	version    = 1
	saltSize   = 16
	targetSize = 16
	bodySize   = 1 + 8 + 4 + saltSize + targetSize
	signSize   = sha256.Size
	maxAnswer  = 256 // bytes
)

// SoonError says that an unsolved challenge is too young to count; the same one counts when the wait is over.
type SoonError struct{ Wait time.Duration }

// Error implements error.
func (e *SoonError) Error() string {
	return fmt.Sprintf("challenge not solved, counts in %s", e.Wait.Round(time.Second))
}

// OftenError says that a network has sent its share of unsolved challenges.
type OftenError struct{ Wait time.Duration }

// Error implements error.
func (e *OftenError) Error() string {
	return fmt.Sprintf("too many unsolved challenges, next in %s", e.Wait.Round(time.Second))
}

func (g *Work) effort() int             { return or(g.Effort, 1_000_000) }
func (g *Work) life() time.Duration     { return or(g.Life, 30*time.Minute) }
func (g *Work) patience() time.Duration { return or(g.Patience, 20*time.Second) }

func or[T int | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

func (g *Work) now() time.Time {
	if g.Now == nil {
		return time.Now()
	}
	return g.Now()
}

// puzzle is a challenge taken apart.
type puzzle struct {
	made   time.Time
	effort uint32
	salt   [saltSize]byte
	target [targetSize]byte
}

// New implements Guard.
func (g *Work) New(form, network string) string {
	var dice [8]byte
	_, _ = rand.Read(dice[:])                              // never fails (crypto/rand)
	p := puzzle{made: g.now(), effort: uint32(g.effort())} //nolint:gosec // at most MaxEffort
	_, _ = rand.Read(p.salt[:])
	p.target = work(p.salt, binary.BigEndian.Uint64(dice[:])%uint64(p.effort))
	body := p.encode()
	return base64.RawURLEncoding.EncodeToString(append(body, g.sign(form, network, body)...))
}

// work is what the browser repeats.
func work(salt [saltSize]byte, n uint64) (target [targetSize]byte) {
	sum := sha256.Sum256(strconv.AppendUint(salt[:], n, 10))
	copy(target[:], sum[:])
	return target
}

func (p puzzle) encode() []byte {
	b := make([]byte, 0, bodySize+signSize)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(p.made.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, p.effort)
	b = append(b, p.salt[:]...)
	return append(b, p.target[:]...)
}

func (g *Work) sign(form, network string, body []byte) []byte {
	return seal.MAC(g.Key, "challenge", form, network, string(body))
}

// parse reads an answer; solved = false without a number.
func parse(answer string) (p puzzle, body, signature []byte, n uint64, solved bool, err error) {
	if len(answer) > maxAnswer {
		return p, nil, nil, 0, false, ErrWrong
	}
	text, number, _ := strings.Cut(answer, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != bodySize+signSize || raw[0] != version {
		return p, nil, nil, 0, false, ErrWrong
	}
	body, signature = raw[:bodySize], raw[bodySize:]
	p.made = time.UnixMilli(int64(binary.BigEndian.Uint64(body[1:9]))) //nolint:gosec // a wrong one is not signed
	p.effort = binary.BigEndian.Uint32(body[9:13])
	copy(p.salt[:], body[13:])
	copy(p.target[:], body[13+saltSize:])
	if number == "" {
		return p, body, signature, 0, false, nil
	}
	n, err = strconv.ParseUint(number, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != number {
		return p, nil, nil, 0, false, ErrWrong
	}
	return p, body, signature, n, true, nil
}

// Check implements Guard. Beside ErrWrong and ErrOld it reports *SoonError and *OftenError for unsolved challenges.
func (g *Work) Check(ctx context.Context, form, network, answer string) error {
	p, body, signature, n, solved, err := parse(answer)
	if err != nil {
		return err
	}
	if !hmac.Equal(g.sign(form, network, body), signature) {
		return ErrWrong
	}
	age := g.now().Sub(p.made)
	switch {
	case age > g.life():
		return ErrOld
	case age < -time.Minute: // another replica's clock may be a little ahead
		return ErrWrong
	case solved:
		if target := work(p.salt, n); subtle.ConstantTimeCompare(target[:], p.target[:]) != 1 {
			return ErrWrong
		}
	case age < g.patience():
		return &SoonError{Wait: g.patience() - age}
	default:
		wait, err := g.Cache.Allow(ctx, "challenge-patience:"+network, or(g.Patient, 6), time.Hour)
		if err != nil {
			return fmt.Errorf("count unsolved challenges: %w", err)
		}
		if wait > 0 {
			return &OftenError{Wait: wait}
		}
	}
	first, err := g.Cache.Add(ctx, "challenge:"+base64.RawURLEncoding.EncodeToString(p.salt[:]), g.life()+time.Minute-min(age, 0))
	if err != nil {
		return fmt.Errorf("use up challenge: %w", err)
	}
	if !first {
		return ErrWrong
	}
	return nil
}

// Validate refuses settings under which nobody could answer.
func (g *Work) Validate() error {
	if g.Cache == nil || len(g.Key) == 0 {
		return errors.New("a challenge needs a key and a cache")
	}
	if g.effort() > MaxEffort {
		return fmt.Errorf("effort of %d is more than %d", g.Effort, MaxEffort)
	}
	return nil
}
