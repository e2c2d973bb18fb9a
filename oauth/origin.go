package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Where a client comes from. The zero value is the operator.
const (
	OriginDocument     = "document"     // its id is the URL of its metadata (Client ID Metadata Document)
	OriginRegistration = "registration" // it registered itself (RFC 7591)
)

// What an operator thinks of a host that publishes documents of clients. A host without a word is unknown: its clients get less.
const (
	TrustApproved = "approved"
	TrustBlocked  = "blocked"
)

// SelfRegistered holds what clients may do that no operator has registered.
type SelfRegistered struct {
	Documents    bool     // an https URL may be a client_id
	Registration string   // who may register clients: RegistrationOff, RegistrationToken, RegistrationOpen
	Scopes       []string // what they may ask for; nil: the standard ones
	PerHour      int      // registrations from one network; 0: 20
	Suite        bool     // in a certification run: confidential clients that register themselves, or have the profile oidc-basic, need neither PKCE nor nonce
}

const (
	strangerTokenTTL = 5 * time.Minute     // access tokens of clients that nobody has approved
	strangerGrantTTL = 30 * 24 * time.Hour // … and their refresh tokens
	unusedTTL        = 24 * time.Hour      // a registration that no person has allowed anything
	idleTTL          = 90 * 24 * time.Hour // one that was used once
)

// SelfMade reports whether no operator has registered the client.
func (c Client) SelfMade() bool { return c.Origin != "" }

// Host is the verified domain of a client: that of the document which is its id. Others have none.
func (c Client) Host() string {
	if c.Origin != OriginDocument {
		return ""
	}
	u, err := url.Parse(c.ID)
	if err != nil {
		return ""
	}
	return u.Host
}

// Host is what an operator has said about a host.
type Host struct {
	Host      string    `json:"host"`
	Trust     string    `json:"trust"` // "" means unknown
	Scopes    []string  `json:"scopes,omitempty"`
	Clients   int       `json:"clients"` // that people have allowed something
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// trust is what holds for a host. Approval is for exactly one host. A block reaches the hosts below it as well, which cost
// nothing to make.
func (c *Clients) trust(host string) Host {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, name := range []string{host, bareHost(host)} {
		for parent := name; parent != ""; _, parent, _ = strings.Cut(parent, ".") {
			if h, ok := c.hosts[parent]; ok && (h.Trust == TrustBlocked || parent == host) {
				return h
			}
		}
	}
	return Host{Host: host}
}

// bareHost is a host without port and final dot, which lead to the same machine: a block cannot be slipped by them.
func bareHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

// blocked reports whether a client lives at a blocked host, or sends people to one.
func (c *Clients) blocked(client Client) bool {
	if !client.SelfMade() {
		return false
	}
	return slices.ContainsFunc(append([]string{client.ID}, client.RedirectURIs...), func(raw string) bool {
		u, err := url.Parse(raw)
		return err == nil && c.trust(strings.ToLower(u.Host)).Trust == TrustBlocked
	})
}

// readHosts reads what operators have said; there is a row for each time that one has.
func (c *Clients) readHosts(ctx context.Context) (map[string]Host, error) {
	hosts := map[string]Host{}
	err := c.DB.Query(ctx, func(row db.Scanner) error {
		var h Host
		var at db.Time
		err := row.Scan(&h.Host, &h.Trust, db.JSON(&h.Scopes), &at)
		h.UpdatedAt = at.Time
		hosts[h.Host] = h
		return err
	}, `SELECT host, trust, scopes, updated_at FROM client_hosts`)
	return hosts, err
}

// Hosts lists the hosts that somebody has an opinion of, or a client at.
func (c *Clients) Hosts(ctx context.Context) ([]Host, error) {
	hosts, err := c.readHosts(ctx)
	if err != nil {
		return nil, err
	}
	err = c.DB.Query(ctx, func(row db.Scanner) error {
		client := Client{Origin: OriginDocument}
		if err := row.Scan(&client.ID); err != nil {
			return err
		}
		h := hosts[client.Host()]
		h.Host = client.Host()
		h.Clients++
		hosts[h.Host] = h
		return nil
	}, `SELECT id FROM clients WHERE origin = $1 ORDER BY id`, OriginDocument)
	list := make([]Host, 0, len(hosts))
	for _, h := range hosts {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Host) int { return strings.Compare(a.Host, b.Host) })
	return list, err
}

// Approve lets the clients of a host be like those that an operator has registered, with the given scopes beside the common ones.
func (c *Clients) Approve(ctx context.Context, host string, scopes []string) error {
	if err := validateScopes(scopes); err != nil {
		return err
	}
	return c.judge(ctx, "client.approve_host", host, TrustApproved, scopes)
}

// Block turns the clients of a host away, and of all hosts below it.
func (c *Clients) Block(ctx context.Context, host string) error {
	return c.judge(ctx, "client.block_host", host, TrustBlocked, nil)
}

// Forget makes a host unknown again.
func (c *Clients) Forget(ctx context.Context, host string) error {
	return c.change(ctx, "client.forget_host", host, func(ctx context.Context) error {
		return one(c.DB.Exec(ctx, `DELETE FROM client_hosts WHERE host = $1`, host))
	})
}

func (c *Clients) judge(ctx context.Context, action, host, trust string, scopes []string) error {
	if !validHost(host) {
		return fmt.Errorf("host %q: give a host in lower case, such as app.example.com, with its port if it has one", host)
	}
	return c.change(ctx, action, host, func(ctx context.Context) error {
		_, err := c.DB.Exec(ctx, `INSERT INTO client_hosts (host, trust, scopes, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (host) DO UPDATE SET trust = excluded.trust, scopes = excluded.scopes, updated_at = excluded.updated_at`,
			host, trust, db.JSON(&scopes), db.At(c.Now()))
		return err
	})
}

func validHost(host string) bool {
	u, err := url.Parse("https://" + host + "/")
	return err == nil && host != "" && u.Host == host && host == strings.ToLower(host) && len(host) <= 255
}

// keep gives a client that a person has just allowed something its row, and a client that is known the time in which it must be used
// again. Only here is a row made for a document: strangers who ask without end fill nothing (storage exhaustion).
func (c *Clients) keep(ctx context.Context, r *registration) error {
	if !r.SelfMade() {
		return nil
	}
	now := c.Now().UTC().Truncate(time.Microsecond)
	if r.Origin == OriginRegistration {
		return one(c.DB.Exec(ctx, `UPDATE clients SET expires_at = $2 WHERE id = $1`, r.ID, db.At(now.Add(idleTTL))))
	}
	err := c.DB.Tx(ctx, func(ctx context.Context) error {
		client := r.Client
		if r.narrow != nil {
			client.Scopes = r.narrow.Scopes // of APIs it has what is open when it asks
		}
		client.Disabled = false
		var created db.Time
		err := c.DB.QueryRow(ctx, `INSERT INTO clients (id, metadata, secrets, disabled, created_at, updated_at, origin, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata, updated_at = excluded.updated_at, expires_at = excluded.expires_at
			RETURNING created_at`,
			client.ID, db.JSON(&client), db.JSON(&[]storedSecret{}), false, db.At(now), db.At(now), client.Origin, db.At(now.Add(idleTTL))).Scan(&created)
		if err == nil && created.Equal(now) {
			c.Audit.Record(ctx, audit.Event{Action: "client.create", ClientID: client.ID})
		}
		return err
	})
	c.mu.Lock()
	delete(c.byID, r.ID)
	c.mu.Unlock()
	return err
}

// expireAtOnce is how many clients Purge removes in one go.
const expireAtOnce = 100

// Purge removes clients that registered themselves and are not used, and initial access tokens that are over.
func (c *Clients) Purge(ctx context.Context) error {
	now := db.At(c.Now())
	if _, err := c.DB.Exec(ctx, `DELETE FROM registration_tokens WHERE expires_at < $1`, now); err != nil {
		return err
	}
	var ids []string
	err := c.DB.Query(ctx, func(row db.Scanner) error {
		var id string
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM clients WHERE expires_at < $1
		AND NOT EXISTS (SELECT 1 FROM grants WHERE grants.client_id = clients.id AND revoked_at IS NULL AND grants.expires_at > $1)
		ORDER BY expires_at LIMIT $2`, now, expireAtOnce)
	for _, id := range ids {
		if err != nil {
			return err
		}
		err = c.change(ctx, "client.expire", id, func(ctx context.Context) error { // unless somebody has allowed it something meanwhile
			return one(c.DB.Exec(ctx, `DELETE FROM clients WHERE id = $1 AND expires_at < $2`, id, now))
		})
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
	}
	return err
}

// client finds whom a request speaks of. In place of Clients.registration it stands where a client may be new: it reads documents,
// and gives clients that no operator has registered no more than they may have.
func (s *Server) client(ctx context.Context, id string) (*registration, error) {
	if documentURL(id) {
		return s.documentClient(ctx, id)
	}
	r, err := s.Clients.registration(ctx, id)
	if err == nil && s.SelfRegistered.Suite {
		tested := *r
		tested.suite = true
		r = &tested
	}
	if err != nil || !r.SelfMade() {
		return r, err
	}
	return s.restrict(r, Host{}), nil
}

// restrict gives a copy of a client that no operator has registered with the least that its rung on the ladder of trust allows.
func (s *Server) restrict(r *registration, h Host) *registration {
	restricted := *r
	restricted.FirstParty, restricted.SecurityEvents, restricted.RevokesPeople, restricted.Impersonates = false, false, false, false // whatever a row says
	restricted.RequirePKCE, restricted.OpenAPIs = true, true
	if r.Origin == OriginDocument {
		restricted.Scopes = slices.Clone(s.SelfRegistered.Scopes)
	}
	if h.Trust == TrustApproved {
		restricted.approved = true
		restricted.Scopes = union(restricted.Scopes, h.Scopes)
		return &restricted
	}
	restricted.AccessTokenTTL = min(s.AccessTokenTTL, strangerTokenTTL)
	return &restricted
}

// stranger reports whether nobody has looked at the client: people are asked each time.
func (r *registration) stranger() bool { return r.SelfMade() && !r.approved }

// grantLife is how long a client's refresh tokens live.
func (s *Server) grantLife(r *registration) time.Duration {
	if r.stranger() {
		return min(s.GrantTTL, strangerGrantTTL)
	}
	return s.GrantTTL
}
