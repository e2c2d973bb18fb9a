// Package identity keeps people: who they are, how they prove it, and the sessions in which they have proven it. It
// speaks neither HTTP nor OAuth; pages and protocol ask it questions and tell it what a person decided.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Config is what a Directory works with. DB, Cache, Seal, Audit and Log are required.
type Config struct {
	DB    *db.DB
	Cache cache.Cache
	Seal  *seal.Sealer
	Audit *audit.Log
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now

	// Revoke ends the tokens that were issued in a session of a person; an empty sessionID means all sessions. It is
	// called inside the transaction that ends the session, so that neither happens without the other. nil: nothing to end.
	Revoke func(ctx context.Context, userID, sessionID string) error
	// RevokeDevices ends the tokens of a person that hang on no session here: those of devices without a browser. It is called in the
	// transaction that ends all sessions but one.
	RevokeDevices func(ctx context.Context, userID string) error

	SessionIdle time.Duration // a session unused for this long is over (0: 14 days)
	SessionMax  time.Duration // a session this old is over, used or not (0: 90 days)

	ErasureGrace time.Duration // how long a closed account can be opened again before it is erased (0: 7 days)
	ExportLife   time.Duration // how long a file with a person's data waits to be fetched (0: 24 hours)

	LinkLife LinkLife // how long what is sent by mail can be used

	Origin string // of the pages, scheme://host[:port]: passkeys belong to it; empty: there are none
	Name   string // what the pages call themselves, shown where a passkey is made

	PasswordWorkers int // password hashes computed at once, 19 MiB each (0: GOMAXPROCS)
	Limits          Limits
}

// Limits bound guessing. A zero field takes the default named beside it.
type Limits struct {
	AccountTries     int           // wrong passwords for one account per AccountWindow (10)
	AccountWindow    time.Duration // 15 minutes
	AddressTries     int           // passwords from one client address (an IPv6 /64 counts as one) per AddressWindow (100)
	AddressWindow    time.Duration // 15 minutes
	NetworkTries     int           // passwords from one network (an IPv4 /24, an IPv6 /48) per AddressWindow (400)
	OverallPerSecond int           // passwords checked by all replicas together (200)
	CodeTries        int           // codes of one person, of every kind together, per CodeWindow (5)
	CodeWindow       time.Duration // 5 minutes
}

// LinkLife is how long each kind of link, and the code to sign in with, can be used. A zero field takes the default named
// beside it.
type LinkLife struct {
	Verify time.Duration // 24 hours
	Reset  time.Duration // 30 minutes
	Change time.Duration // 24 hours
	Invite time.Duration // 7 days, unless an invitation has a life of its own
	Code   time.Duration // 10 minutes
}

// Directory is the store of people. It is safe for concurrent use; any number of replicas may share one database.
type Directory struct {
	db            *db.DB
	cache         cache.Cache
	seal          *seal.Sealer
	audit         *audit.Log
	log           *slog.Logger
	now           func() time.Time
	revoke        func(ctx context.Context, userID, sessionID string) error
	revokeDevices func(ctx context.Context, userID string) error

	sessionIdle, sessionMax time.Duration
	erasureGrace            time.Duration
	exportLife              time.Duration
	limits                  Limits
	linkLife                LinkLife

	relyingParty *webauthn.WebAuthn // nil: no passkeys here

	emailKey    []byte // makes users.email_index
	recoveryKey []byte // makes recovery_codes.code_hash
	linkKey     []byte // makes linked_accounts.subject_index
	mailCodeKey []byte // makes the hashes of codes sent by mail
	hasher      *hasher

	schema attributeSchema
}

// New opens the directory on a migrated database.
func New(ctx context.Context, c Config) (*Directory, error) {
	return open(ctx, c, owaspCost)
}

// open is New at a given cost of password hashing. Only tests choose another cost than New's.
func open(ctx context.Context, c Config, cost argonCost) (*Directory, error) {
	if c.DB == nil || c.Cache == nil || c.Seal == nil || c.Audit == nil || c.Log == nil {
		return nil, errors.New("identity needs a database, a cache, a sealer, an audit log and a logger")
	}
	d := &Directory{
		db: c.DB, cache: c.Cache, seal: c.Seal, audit: c.Audit, log: c.Log, now: c.Now, revoke: c.Revoke, revokeDevices: c.RevokeDevices,
		sessionIdle: or(c.SessionIdle, 14*24*time.Hour), sessionMax: or(c.SessionMax, 90*24*time.Hour),
		erasureGrace: or(c.ErasureGrace, 7*24*time.Hour), exportLife: or(c.ExportLife, 24*time.Hour),
		limits: Limits{
			AccountTries: or(c.Limits.AccountTries, 10), AccountWindow: or(c.Limits.AccountWindow, 15*time.Minute),
			AddressTries: or(c.Limits.AddressTries, 100), AddressWindow: or(c.Limits.AddressWindow, 15*time.Minute),
			NetworkTries:     or(c.Limits.NetworkTries, 400),
			OverallPerSecond: or(c.Limits.OverallPerSecond, 200),
			CodeTries:        or(c.Limits.CodeTries, 5), CodeWindow: or(c.Limits.CodeWindow, 5*time.Minute),
		},
		linkLife: LinkLife{
			Verify: or(c.LinkLife.Verify, 24*time.Hour), Reset: or(c.LinkLife.Reset, 30*time.Minute), Change: or(c.LinkLife.Change, 24*time.Hour),
			Invite: or(c.LinkLife.Invite, 7*24*time.Hour), Code: or(c.LinkLife.Code, 10*time.Minute),
		},
		hasher: newHasher(cost, c.PasswordWorkers),
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.revokeDevices == nil {
		d.revokeDevices = func(context.Context, string) error { return nil }
	}
	if d.revoke == nil {
		d.revoke = func(context.Context, string, string) error { return nil }
	}
	var err error
	if d.relyingParty, err = newRelyingParty(c.Origin, c.Name); err != nil {
		return nil, fmt.Errorf("passkeys at %q: %w", c.Origin, err)
	}
	if d.emailKey, err = c.Seal.Secret(ctx, c.DB, "email-index"); err != nil {
		return nil, err
	}
	if d.mailCodeKey, err = c.Seal.Secret(ctx, c.DB, "mail-codes"); err != nil {
		return nil, err
	}
	if d.recoveryKey, err = c.Seal.Secret(ctx, c.DB, "recovery-codes"); err != nil {
		return nil, err
	}
	if d.linkKey, err = c.Seal.Secret(ctx, c.DB, "linked-accounts"); err != nil {
		return nil, err
	}
	return d, nil
}

// or gives v, or the default when v is zero or negative.
func or[T int | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}
