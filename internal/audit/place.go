package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Place is from where an act was done, as the request said.
type Place struct {
	Address   netip.Addr `json:"address,omitzero"`
	UserAgent string     `json:"user_agent,omitempty"`
}

// places seals and opens places. A place is sealed under the data key of the person the row is about (data_keys), so that
// erasing the person makes it unreadable without touching the row, which the chain of hashes forbids. A row about
// nobody is sealed under a key of the server, and goes with retention.
//
// There is no keyed hash beside it to group rows by network: its key would have to be the server's, so that it would outlive
// the person, and with 2^32 addresses to try it would give each of them away to whoever holds that key.
type places struct {
	db     *db.DB
	master *seal.Sealer
	nobody *seal.Sealer

	mu    sync.Mutex
	own   map[string]*seal.Sealer // by user id
	since time.Time               // own holds nothing older
}

// Bounds on the keys kept in memory: how many, and how long, so that a destroyed key does not live on there.
const (
	maxOwn  = 1024
	ownLife = time.Minute
)

// maxUserAgent is how many bytes of a browser's name are kept.
const maxUserAgent = 300

func openPlaces(ctx context.Context, d *db.DB, s *seal.Sealer) (*places, error) {
	key, err := s.Secret(ctx, d, "audit-place")
	if err != nil {
		return nil, err
	}
	nobody, err := seal.New(key)
	return &places{db: d, master: s, nobody: nobody, own: map[string]*seal.Sealer{}}, err
}

func placePurpose(id string) string { return "audit-place:" + id }

// sealPlace gives what stands in the row's place: nothing if there is no request, or no key of the person any more. The server's
// key never stands in for a person's.
func (l *Log) sealPlace(ctx context.Context, id, userID string) []byte {
	p := Place{Address: web.Address(ctx), UserAgent: web.UserAgent(ctx)}
	if l.places == nil || !p.Address.IsValid() && p.UserAgent == "" {
		return []byte{}
	}
	if len(p.UserAgent) > maxUserAgent {
		p.UserAgent = p.UserAgent[:maxUserAgent]
	}
	p.UserAgent = strings.ToValidUTF8(p.UserAgent, "")
	s, err := l.places.sealer(ctx, userID)
	if err != nil {
		l.log.WarnContext(ctx, "audit row without its place", "user_id", userID, "err", err)
	}
	if s == nil {
		return []byte{}
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return []byte{}
	}
	return s.Seal(plain, placePurpose(id))
}

// sealer gives the key for rows about a person, or nil if the person is erased.
func (p *places) sealer(ctx context.Context, userID string) (*seal.Sealer, error) {
	if userID == "" {
		return p.nobody, nil
	}
	if s := p.remembered(userID); s != nil {
		return s, nil
	}
	var dataKey []byte
	err := p.db.QueryRow(ctx, `SELECT wrapped FROM data_keys WHERE user_id = $1`, userID).Scan(&dataKey)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil //nolint:nilnil // no key is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("read data key: %w", err)
	}
	s, err := p.master.Person(userID, dataKey)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // the key was destroyed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own[userID] = s
	return s, nil
}

func (p *places) remembered(userID string) *seal.Sealer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); len(p.own) >= maxOwn || now.Sub(p.since) > ownLife {
		clear(p.own)
		p.since = now
	}
	return p.own[userID]
}

// openPlace gives the place of a row, or none if it cannot be read (any more).
func (l *Log) openPlace(ctx context.Context, id, userID string, sealed []byte) (p Place) {
	if l.places == nil || len(sealed) == 0 {
		return p
	}
	s, err := l.places.sealer(ctx, userID)
	if err != nil || s == nil {
		return p
	}
	plain, err := s.Open(sealed, placePurpose(id))
	if err != nil || json.Unmarshal(plain, &p) != nil {
		return Place{}
	}
	return p
}
