package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// keptSecrets is how many secrets of a client work at once: the newest and, until the next rotation, the one before.
const keptSecrets = 2

// Clients keeps the registered apps. Reads come from process memory; a change by another replica is seen at the next Poll.
type Clients struct {
	db    *db.DB
	audit *audit.Log
	now   func() time.Time

	mu      sync.RWMutex
	byID    map[string]*registration
	version int64
}

// registration is a client as the protocol needs it: with the hashes of its secrets.
type registration struct {
	Client
	secrets [][]byte
}

// OpenClients gives the clients of d.
func OpenClients(ctx context.Context, d *db.DB, a *audit.Log, now func() time.Time) (*Clients, error) {
	if now == nil {
		now = time.Now
	}
	c := &Clients{db: d, audit: a, now: now, byID: map[string]*registration{}}
	return c, c.Poll(ctx)
}

// Poll forgets what is in memory if another process has changed a client since.
func (c *Clients) Poll(ctx context.Context) error {
	var version int64
	err := c.db.QueryRow(ctx, `SELECT version FROM changes WHERE name = 'clients'`).Scan(&version)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("poll clients: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version != c.version {
		c.version = version
		clear(c.byID)
	}
	return nil
}

// Get returns a client, or db.ErrNotFound.
func (c *Clients) Get(ctx context.Context, id string) (Client, error) {
	r, err := c.registration(ctx, id)
	if err != nil {
		return Client{}, err
	}
	return r.Client, nil
}

// registration answers from memory, else from SQL. Unknown ids are not remembered, so that guessing them fills nothing.
func (c *Clients) registration(ctx context.Context, id string) (*registration, error) {
	if !validID(id) {
		return nil, db.ErrNotFound
	}
	c.mu.RLock()
	r, version := c.byID[id], c.version
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	r, err := scanClient(c.db.QueryRow(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = $1`, id))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.version { // else a change came in between
		c.byID[id] = r
	}
	return r, nil
}

const clientColumns = `id, metadata, secrets, disabled, created_at, updated_at`

func scanClient(row db.Scanner) (*registration, error) {
	r := &registration{}
	var id string
	var disabled bool
	var created, updated db.Time
	if err := row.Scan(&id, db.JSON(&r.Client), db.JSON(&r.secrets), &disabled, &created, &updated); err != nil {
		return nil, err
	}
	r.ID, r.Disabled, r.CreatedAt, r.UpdatedAt = id, disabled, created.Time, updated.Time
	return r, nil
}

// List returns up to limit clients in the order of their ids, from the one after the given id.
func (c *Clients) List(ctx context.Context, after string, limit int) ([]Client, error) {
	var list []Client
	err := c.db.Query(ctx, func(row db.Scanner) error {
		r, err := scanClient(row)
		if err == nil {
			list = append(list, r.Client)
		}
		return err
	}, `SELECT `+clientColumns+` FROM clients WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	return list, err
}

// Create registers a client and returns its secret, which is shown this once; a public client has none. Without an id
// it gets a random one.
func (c *Clients) Create(ctx context.Context, client Client) (Client, string, error) {
	client = client.WithDefaults()
	if client.ID == "" {
		client.ID = strings.ToLower(rand.Text())
	}
	if err := client.Validate(); err != nil {
		return Client{}, "", err
	}
	client.CreatedAt = c.now().UTC().Truncate(time.Microsecond)
	client.UpdatedAt = client.CreatedAt
	secret, hashes := "", [][]byte{}
	if !client.Public() {
		var hash []byte
		secret, hash = newSecret()
		hashes = append(hashes, hash)
	}
	err := c.change(ctx, "client.create", client.ID, func(ctx context.Context) error {
		_, err := c.db.Exec(ctx, `INSERT INTO clients (`+clientColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			client.ID, db.JSON(&client), db.JSON(&hashes), client.Disabled, db.At(client.CreatedAt), db.At(client.UpdatedAt))
		return err
	})
	if err != nil {
		return Client{}, "", fmt.Errorf("create client %s: %w", client.ID, err)
	}
	return client, secret, nil
}

// Update replaces everything about a client but its secrets.
func (c *Clients) Update(ctx context.Context, client Client) error {
	if err := client.Validate(); err != nil {
		return err
	}
	client.UpdatedAt = c.now().UTC().Truncate(time.Microsecond)
	return c.change(ctx, "client.update", client.ID, func(ctx context.Context) error {
		return one(c.db.Exec(ctx, `UPDATE clients SET metadata = $2, disabled = $3, updated_at = $4 WHERE id = $1`,
			client.ID, db.JSON(&client), client.Disabled, db.At(client.UpdatedAt)))
	})
}

// RotateSecret makes a new secret. The one before keeps working until the next rotation, so that an app can be
// reconfigured without an outage.
func (c *Clients) RotateSecret(ctx context.Context, id string) (string, error) {
	secret, hash := newSecret()
	err := c.change(ctx, "client.rotate_secret", id, func(ctx context.Context) error {
		r, err := scanClient(c.db.QueryRow(ctx, `UPDATE clients SET updated_at = $2 WHERE id = $1 RETURNING `+clientColumns, id, db.At(c.now())))
		if err != nil {
			return err
		}
		if r.Public() {
			return fmt.Errorf("client %s is public: it has no secret", id)
		}
		hashes := slices.Insert(r.secrets, 0, hash)
		hashes = hashes[:min(len(hashes), keptSecrets)]
		_, err = c.db.Exec(ctx, `UPDATE clients SET secrets = $2 WHERE id = $1`, id, db.JSON(&hashes))
		return err
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// Delete removes a client with its grants and consents; its live tokens fail at every endpoint from then on.
func (c *Clients) Delete(ctx context.Context, id string) error {
	return c.change(ctx, "client.delete", id, func(ctx context.Context) error {
		return one(c.db.Exec(ctx, `DELETE FROM clients WHERE id = $1`, id))
	})
}

// change runs f, raises the version that other replicas poll, and forgets the client here.
func (c *Clients) change(ctx context.Context, action, id string, f func(ctx context.Context) error) error {
	err := c.db.Tx(ctx, func(ctx context.Context) error {
		if err := f(ctx); err != nil {
			return err
		}
		c.audit.Record(ctx, audit.Event{Action: action, ClientID: id})
		_, err := c.db.Exec(ctx, `INSERT INTO changes (name, version) VALUES ('clients', 1)
			ON CONFLICT (name) DO UPDATE SET version = changes.version + 1`)
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.byID, id)
	c.mu.Unlock()
	return c.Poll(ctx)
}

// authenticate compares a presented secret with each kept one, without stopping at the first that fits.
func (r *registration) authenticate(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	ok := 0
	for _, h := range r.secrets {
		ok |= subtle.ConstantTimeCompare(h, sum[:])
	}
	return ok == 1
}

// newSecret gives 256 random bits. A hash without salt and stretching is enough for what nobody can guess.
func newSecret() (secret string, hash []byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	secret = base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(secret))
	return secret, sum[:]
}

// one turns "no row changed" into db.ErrNotFound.
func one(changed int64, err error) error {
	if err == nil && changed == 0 {
		return db.ErrNotFound
	}
	return err
}
