// Package keys keeps the server's signing keys. Each algorithm has a ring of its own in which a key is first next
// (published, not used), then active, then retired (published, no longer used), then gone. The package signs and
// verifies compact JWS (RFC 7515) and publishes the JWK set; what a token claims is not its business.
package keys

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// ErrSignature says that a token was not signed by this server, or by a key that no longer counts.
var ErrSignature = errors.New("token not signed by this server")

// Alg is a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
type Alg string

// The algorithms this server signs with.
const (
	RS256 Alg = "RS256"
	ES256 Alg = "ES256"
	EdDSA Alg = "EdDSA"
)

// Config is what a Ring needs.
type Config struct {
	DB    *db.DB
	Seal  *seal.Sealer
	Audit *audit.Log
	Log   *slog.Logger
	Now   func() time.Time

	Rotation    time.Duration
	CachePeriod time.Duration
	TokenLife   time.Duration
}

// Key describes a signing key without its private half.
type Key struct {
	KID        string
	Alg        Alg
	Generation int64
	State      string
	CreatedAt  time.Time
	ActiveAt   time.Time
	RetiredAt  time.Time
	GoneAt     time.Time
}

// Verified is what a token said once its signature held.
type Verified struct {
	Alg    Alg
	KID    string
	Typ    string
	Claims []byte
}

// Ring holds the keys in memory.
type Ring struct{}

// Open loads the keys and makes those that are missing.
func Open(ctx context.Context, c Config) (*Ring, error) { panic("soon") }

// Close ends background work.
func (r *Ring) Close() { panic("soon") }

// Sign makes a compact JWS.
func (r *Ring) Sign(ctx context.Context, alg Alg, typ string, claims any) (string, error) {
	panic("soon")
}

// Verify checks a token.
func (r *Ring) Verify(token string) (Verified, error) { panic("soon") }

// VerifyHint checks an id_token_hint.
func (r *Ring) VerifyHint(token string) (Verified, error) { panic("soon") }

// JWKS gives the published key set.
func (r *Ring) JWKS(ctx context.Context) (body []byte, etag string, err error) { panic("soon") }

// MaxAge is how long the key set may be cached.
func (r *Ring) MaxAge() time.Duration { panic("soon") }

// Rotate rotates by command.
func (r *Ring) Rotate(ctx context.Context, algs ...Alg) ([]Key, error) { panic("soon") }

// Maintain rotates by schedule.
func (r *Ring) Maintain(ctx context.Context) error { panic("soon") }

// Reload reads the keys again.
func (r *Ring) Reload(ctx context.Context) error { panic("soon") }

// List gives every key.
func (r *Ring) List(ctx context.Context) ([]Key, error) { panic("soon") }
