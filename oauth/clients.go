package oauth

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// keptSecrets is how many secrets of a client work at once: the newest and, until the next rotation, the one before.
const keptSecrets = 2

// Clients keeps the registered apps. Reads come from process memory; a change by another replica is seen at the next Poll.
type Clients struct {
	ClientsConfig

	mu      sync.RWMutex
	byID    map[string]*registration
	hosts   map[string]Host // what operators have said about hosts
	version int64

	pairwise []byte // key of pairwise subjects
}

// ClientsConfig is what Clients are made of.
type ClientsConfig struct {
	DB    *db.DB
	Seal  *seal.Sealer // of the secrets that must be readable (client_secret_jwt)
	Audit *audit.Log
	Now   func() time.Time // nil: time.Now

	Outbound *outbound.Client // fetches sector_identifier_uri; nil: nothing is fetched
}

// registration is a client as the protocol needs it: with its secrets and keys.
type registration struct {
	Client
	secrets  []storedSecret
	readable [][]byte      // the secrets themselves, newest first; with client_secret_jwt only
	keys     []clientKey   // of jwks
	narrow   *registration // without the scopes of open APIs, see widened; nil: it has none of them
	pairwise []byte        // key of the names for people, see subject
	approved bool          // an operator has looked at the host of its document
	suite    bool          // it is the certification suite's, see SelfRegistered
}

// OpenClients gives the clients of a database.
func OpenClients(ctx context.Context, config ClientsConfig) (*Clients, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &Clients{ClientsConfig: config, byID: map[string]*registration{}}
	var err error
	if c.pairwise, err = c.Seal.Secret(ctx, c.DB, "pairwise"); err != nil {
		return nil, err
	}
	return c, c.Poll(ctx)
}

// Poll forgets what is in memory if another process has changed a client since.
func (c *Clients) Poll(ctx context.Context) error {
	version, err := c.DB.Version(ctx, "clients")
	if err != nil {
		return fmt.Errorf("poll clients: %w", err)
	}
	c.mu.RLock()
	same := version == c.version
	c.mu.RUnlock()
	if same {
		return nil
	}
	hosts, err := c.readHosts(ctx)
	if err != nil {
		return fmt.Errorf("poll clients: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.hosts = version, hosts
	clear(c.byID)
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
	if !validID(id) && !validDocumentURL(id) {
		return nil, db.ErrNotFound
	}
	c.mu.RLock()
	r, version := c.byID[id], c.version
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	r, err := scanClient(c.DB.QueryRow(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = $1`, id))
	if err == nil {
		err = c.prepare(r)
	}
	if err != nil {
		return nil, err
	}
	r.Disabled = r.Disabled || c.blocked(r.Client)
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
	err := c.DB.Query(ctx, func(row db.Scanner) error {
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
	if err := c.checkSector(ctx, client); err != nil {
		return Client{}, "", err
	}
	client.CreatedAt = c.Now().UTC().Truncate(time.Microsecond)
	client.UpdatedAt = client.CreatedAt
	secret, secrets := "", []storedSecret{}
	if client.HasSecret() {
		var stored storedSecret
		secret, stored = c.newSecret(client)
		secrets = append(secrets, stored)
	}
	err := c.change(ctx, "client.create", client.ID, func(ctx context.Context) error {
		_, err := c.DB.Exec(ctx, `INSERT INTO clients (`+clientColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			client.ID, db.JSON(&client), db.JSON(&secrets), client.Disabled, db.At(client.CreatedAt), db.At(client.UpdatedAt))
		return err
	})
	if err != nil {
		return Client{}, "", fmt.Errorf("create client %s: %w", client.ID, err)
	}
	return client, secret, nil
}

// Update replaces everything about a client but its secrets. With another way of authentication it drops what that one has no
// use for: all secrets, or their readable copies.
func (c *Clients) Update(ctx context.Context, client Client) error {
	if err := client.Validate(); err != nil {
		return err
	}
	if err := c.checkSector(ctx, client); err != nil {
		return err
	}
	client.UpdatedAt = c.Now().UTC().Truncate(time.Microsecond)
	return c.change(ctx, "client.update", client.ID, func(ctx context.Context) error {
		r, err := scanClient(c.DB.QueryRow(ctx, `UPDATE clients SET metadata = $2, disabled = $3, updated_at = $4 WHERE id = $1 RETURNING `+clientColumns,
			client.ID, db.JSON(&client), client.Disabled, db.At(client.UpdatedAt)))
		if err != nil {
			return err
		}
		kept := keptBy(client, r.secrets)
		if slices.EqualFunc(kept, r.secrets, func(a, b storedSecret) bool { return len(a) == len(b) }) {
			return nil
		}
		_, err = c.DB.Exec(ctx, `UPDATE clients SET secrets = $2 WHERE id = $1`, client.ID, db.JSON(&kept))
		return err
	})
}

// RotateSecret makes a new secret. The one before keeps working until the next rotation, so that an app can be
// reconfigured without an outage.
func (c *Clients) RotateSecret(ctx context.Context, id string) (string, error) {
	var secret string
	err := c.change(ctx, "client.rotate_secret", id, func(ctx context.Context) error {
		r, err := scanClient(c.DB.QueryRow(ctx, `UPDATE clients SET updated_at = $2 WHERE id = $1 RETURNING `+clientColumns, id, db.At(c.Now())))
		if err != nil {
			return err
		}
		if !r.HasSecret() {
			return fmt.Errorf("client %s authenticates by %s: it has no secret", id, r.AuthMethod)
		}
		var stored storedSecret
		secret, stored = c.newSecret(r.Client)
		secrets := slices.Insert(r.secrets, 0, stored)
		secrets = secrets[:min(len(secrets), keptSecrets)]
		_, err = c.DB.Exec(ctx, `UPDATE clients SET secrets = $2 WHERE id = $1`, id, db.JSON(&secrets))
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
		return one(c.DB.Exec(ctx, `DELETE FROM clients WHERE id = $1`, id))
	})
}

// change runs f, raises the version that other replicas poll, and forgets the client here.
func (c *Clients) change(ctx context.Context, action, id string, f func(ctx context.Context) error) error {
	err := c.DB.Tx(ctx, func(ctx context.Context) error {
		if err := f(ctx); err != nil {
			return err
		}
		c.Audit.Record(ctx, audit.Event{Action: action, ClientID: id})
		return c.DB.Changed(ctx, "clients")
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.byID, id)
	c.mu.Unlock()
	return c.Poll(ctx)
}

// one turns "no row changed" into db.ErrNotFound.
func one(changed int64, err error) error {
	if err == nil && changed == 0 {
		return db.ErrNotFound
	}
	return err
}
