package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// ErrDomainTaken says that a mail domain belongs to another provider.
var ErrDomainTaken = errors.New("a domain belongs to another provider")

// Providers keeps the providers. There are few, so all of them are in process memory; a change by another process is seen at the
// next Poll.
type Providers struct {
	db    *db.DB
	seal  *seal.Sealer
	audit *audit.Log
	now   func() time.Time

	mu       sync.RWMutex
	version  int64
	known    []registered          // by name
	byDomain map[string]registered // enabled ones
}

// registered is a provider with the secret of our client there.
type registered struct {
	Provider
	secret string
}

// OpenProviders gives the providers of d.
func OpenProviders(ctx context.Context, d *db.DB, s *seal.Sealer, a *audit.Log, now func() time.Time) (*Providers, error) {
	if now == nil {
		now = time.Now
	}
	p := &Providers{db: d, seal: s, audit: a, now: now, version: -1}
	return p, p.Poll(ctx)
}

// Poll reads the providers anew if another process has changed one since.
func (p *Providers) Poll(ctx context.Context) error {
	version, err := p.db.Version(ctx, "providers")
	if err != nil {
		return fmt.Errorf("poll providers: %w", err)
	}
	p.mu.RLock()
	same := version == p.version
	p.mu.RUnlock()
	if same {
		return nil
	}
	var list []registered
	if err := p.db.Query(ctx, func(row db.Scanner) error {
		r, err := p.scan(row)
		list = append(list, r)
		return err
	}, `SELECT `+columns+` FROM providers ORDER BY id`); err != nil {
		return fmt.Errorf("read providers: %w", err)
	}
	slices.SortStableFunc(list, func(a, b registered) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	byDomain := map[string]registered{}
	for _, r := range list {
		for _, d := range r.Domains {
			if !r.Disabled {
				byDomain[d] = r
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if version >= p.version { // else a later reading was quicker
		p.version, p.known, p.byDomain = version, list, byDomain
	}
	return nil
}

const columns = `id, metadata, secret, disabled, created_at, updated_at`

func (p *Providers) scan(row db.Scanner) (r registered, err error) {
	var id string
	var sealed []byte
	var disabled bool
	var created, updated db.Time
	if err := row.Scan(&id, db.JSON(&r.Provider), &sealed, &disabled, &created, &updated); err != nil {
		return r, err
	}
	r.ID, r.Disabled, r.CreatedAt, r.UpdatedAt = id, disabled, created.Time, updated.Time
	if len(sealed) > 0 {
		secret, err := p.seal.Open(sealed, secretPurpose(id))
		if err != nil {
			return r, fmt.Errorf("secret of provider %s: %w", id, err)
		}
		r.secret = string(secret)
	}
	return r, nil
}

func secretPurpose(id string) string { return "provider-secret:" + id }

// sealSecret gives the column for a secret.
func (p *Providers) sealSecret(id, secret string) []byte {
	if secret == "" {
		return []byte{}
	}
	return p.seal.Seal([]byte(secret), secretPurpose(id))
}

// List gives all providers, by name.
func (p *Providers) List() []Provider {
	p.mu.RLock()
	defer p.mu.RUnlock()
	list := make([]Provider, 0, len(p.known))
	for _, r := range p.known {
		list = append(list, r.Provider)
	}
	return list
}

// Get gives a provider, disabled or not, or db.ErrNotFound.
func (p *Providers) Get(id string) (Provider, error) {
	r, err := p.registered(id)
	return r.Provider, err
}

func (p *Providers) registered(id string) (registered, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, r := range p.known {
		if r.ID == id {
			return r, nil
		}
	}
	return registered{}, db.ErrNotFound
}

// Buttons gives the providers that anybody may choose, by name.
func (p *Providers) Buttons() []Provider {
	return slices.DeleteFunc(p.List(), func(p Provider) bool { return p.Disabled || p.Hidden })
}

// ForAddress gives the provider to which the people of an address's domain are sent.
func (p *Providers) ForAddress(email string) (Provider, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.byDomain) == 0 {
		return Provider{}, false
	}
	r, ok := p.byDomain[DomainOf(email)]
	return r.Provider, ok
}

// Routes reports whether any domain has a provider.
func (p *Providers) Routes() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.byDomain) > 0
}

// Create adds a provider with the secret that it gave to this server.
func (p *Providers) Create(ctx context.Context, n Provider, secret string) (Provider, error) {
	n = n.WithDefaults()
	if err := validate(n, secret); err != nil {
		return Provider{}, err
	}
	n.CreatedAt = p.now().UTC().Truncate(time.Microsecond)
	n.UpdatedAt = n.CreatedAt
	err := p.change(ctx, "provider.create", n, func(ctx context.Context) error {
		_, err := p.db.Exec(ctx, `INSERT INTO providers (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			n.ID, db.JSON(&n), p.sealSecret(n.ID, secret), n.Disabled, db.At(n.CreatedAt), db.At(n.UpdatedAt))
		return err
	})
	return n, err
}

// Update replaces everything about a provider; its secret only if one is given.
func (p *Providers) Update(ctx context.Context, n Provider, secret string) (Provider, error) {
	n = n.WithDefaults()
	old, err := p.registered(n.ID)
	if err != nil {
		return Provider{}, err
	}
	if err := validate(n, cmp.Or(secret, old.secret)); err != nil {
		return Provider{}, err
	}
	n.UpdatedAt = p.now().UTC().Truncate(time.Microsecond)
	err = p.change(ctx, "provider.update", n, func(ctx context.Context) error {
		if secret != "" {
			return one(p.db.Exec(ctx, `UPDATE providers SET metadata = $2, disabled = $3, updated_at = $4, secret = $5 WHERE id = $1`,
				n.ID, db.JSON(&n), n.Disabled, db.At(n.UpdatedAt), p.sealSecret(n.ID, secret)))
		}
		return one(p.db.Exec(ctx, `UPDATE providers SET metadata = $2, disabled = $3, updated_at = $4 WHERE id = $1`,
			n.ID, db.JSON(&n), n.Disabled, db.At(n.UpdatedAt)))
	})
	return n, err
}

func validate(n Provider, secret string) error {
	if err := n.Validate(); err != nil {
		return err
	}
	if (n.AuthMethod == AuthNone) != (secret == "") && n.AuthMethod != AuthNone {
		return fmt.Errorf("secret: give the secret that the provider made for this server, or use the auth method %s", AuthNone)
	}
	if len(secret) > maxURL {
		return fmt.Errorf("secret: at most %d characters", maxURL)
	}
	return nil
}

// Delete removes a provider and with it every link to it.
func (p *Providers) Delete(ctx context.Context, id string) error {
	return p.change(ctx, "provider.delete", Provider{ID: id}, func(ctx context.Context) error {
		return one(p.db.Exec(ctx, `DELETE FROM providers WHERE id = $1`, id))
	})
}

// change runs f, takes the provider's domains, and raises the version that other processes poll.
func (p *Providers) change(ctx context.Context, action string, n Provider, f func(ctx context.Context) error) error {
	err := p.db.Tx(ctx, func(ctx context.Context) error {
		if err := f(ctx); err != nil {
			return err
		}
		if _, err := p.db.Exec(ctx, `DELETE FROM provider_domains WHERE provider_id = $1`, n.ID); err != nil {
			return err
		}
		for _, d := range n.Domains {
			_, err := p.db.Exec(ctx, `INSERT INTO provider_domains (domain, provider_id) VALUES ($1, $2)`, d, n.ID)
			if errors.Is(err, db.ErrConflict) {
				return fmt.Errorf("%s: %w", d, ErrDomainTaken)
			}
			if err != nil {
				return err
			}
		}
		p.audit.Record(ctx, audit.Event{Action: action, Detail: map[string]string{"provider": n.ID}})
		return p.db.Changed(ctx, "providers")
	})
	if err != nil {
		return err
	}
	return p.Poll(ctx)
}

// one turns "no row changed" into db.ErrNotFound.
func one(changed int64, err error) error {
	if err == nil && changed == 0 {
		return db.ErrNotFound
	}
	return err
}
