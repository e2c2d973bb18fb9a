// Package seal encrypts what must not be readable in a stolen database or backup: AES-256-GCM under a master key that
// never enters the database. Several master keys may be known so that the master can rotate: the first seals, all open.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// KeySize is the length of a master or data key in bytes.
const KeySize = 32

const (
	version = 1
	idSize  = 4
	header  = 1 + idSize
)

// ErrOpen says that a sealed value was made under an unknown key, for another purpose, or was changed.
var ErrOpen = errors.New("sealed value cannot be opened")

// Sealer seals and opens. It is safe for concurrent use.
type Sealer struct{ keys []key }

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New takes the master keys, newest first; each is KeySize random bytes.
func New(masters ...[]byte) (*Sealer, error) {
	if len(masters) == 0 {
		return nil, errors.New("no master key")
	}
	s := &Sealer{}
	for _, m := range masters {
		if len(m) != KeySize {
			return nil, fmt.Errorf("a master key is %d bytes, this one has %d", KeySize, len(m))
		}
		block, err := aes.NewCipher(m)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("gatehouse key id"), m...))
		s.keys = append(s.keys, key{id: [idSize]byte(sum[:idSize]), aead: aead})
	}
	return s, nil
}

// Seal encrypts plain. purpose is authenticated but not stored: a value sealed for one row or use does not open for
// another, so that a writer in the database cannot move secrets about.
func (s *Sealer) Seal(plain []byte, purpose string) []byte {
	k := s.keys[0]
	out := make([]byte, header+k.aead.NonceSize(), header+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = version
	copy(out[1:], k.id[:])
	nonce := out[header:]
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return k.aead.Seal(out, nonce, plain, []byte(purpose))
}

// Open decrypts what Seal made for the same purpose.
func (s *Sealer) Open(sealed []byte, purpose string) ([]byte, error) {
	if len(sealed) < header || sealed[0] != version {
		return nil, ErrOpen
	}
	for _, k := range s.keys {
		if [idSize]byte(sealed[1:header]) != k.id {
			continue
		}
		rest := sealed[header:]
		if len(rest) < k.aead.NonceSize() {
			return nil, ErrOpen
		}
		plain, err := k.aead.Open(nil, rest[:k.aead.NonceSize()], rest[k.aead.NonceSize():], []byte(purpose))
		if err == nil {
			return plain, nil
		}
		// Another key may have the same short id.
	}
	return nil, ErrOpen
}

// LogValue implements slog.LogValuer: a Sealer holds the master keys.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue("seal.Sealer") }

// Secret returns the named server secret of KeySize bytes, made at its first use and kept sealed in SQL. Unlike a key derived
// from the master it survives a change of the master, so blind indexes and token keys stay valid.
func (s *Sealer) Secret(ctx context.Context, d *db.DB, name string) ([]byte, error) {
	fresh := make([]byte, KeySize)
	_, _ = rand.Read(fresh) // never fails (crypto/rand)
	purpose := "secret:" + name
	if _, err := d.Exec(ctx, `INSERT INTO secrets (name, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		name, s.Seal(fresh, purpose), db.At(time.Now())); err != nil {
		return nil, fmt.Errorf("create secret %s: %w", name, err)
	}
	var sealed []byte
	if err := d.QueryRow(ctx, `SELECT sealed FROM secrets WHERE name = $1`, name).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	plain, err := s.Open(sealed, purpose)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w (is this the master key the database was made with?)", name, err)
	}
	return plain, nil
}

// MAC is HMAC-SHA-256 over parts, each with its length in front so that no two lists of parts collide.
func MAC(secret []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, secret)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:", len(p))
		_, _ = h.Write([]byte(p))
	}
	return h.Sum(nil)
}
