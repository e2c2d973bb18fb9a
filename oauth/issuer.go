package oauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// What an issuer is trusted with.
const (
	ForTokens     = "tokens"              // its assertions get clients tokens (RFC 7523 §2.1)
	ForStatements = "software-statements" // it vouches for apps that register themselves (RFC 7591 §2.3)
)

// Whom the sub of an issuer's assertions names.
const (
	SubjectService = "service" // nobody: a machine, whose token is the client's own
	SubjectLinked  = "linked"  // the person who signs in here by that account of a provider
	SubjectPerson  = "person"  // the person who has that id here
)

// Bounds on the life of an assertion.
const (
	issuerLife    = 5 * time.Minute
	maxIssuerLife = 24 * time.Hour
)

// Issuer is somebody else whose signed statements count here, because an operator says so.
type Issuer struct {
	Issuer    string          `json:"issuer"` // as its statements name it, letter by letter
	For       []string        `json:"for"`
	JWKS      json.RawMessage `json:"jwks,omitempty"`
	JWKSURI   string          `json:"jwks_uri,omitempty"`
	Algs      []string        `json:"algs"`
	Subject   string          `json:"subject,omitempty"`
	Provider  string          `json:"provider,omitempty"`  // with SubjectLinked
	MaxLife   time.Duration   `json:"max_life,omitempty"`  // the longest that its assertions may live
	Reusable  bool            `json:"reusable,omitempty"`  // the same assertion may come again while it lives
	Disabled  bool            `json:"disabled,omitempty"`  // nothing of it counts
	CreatedAt time.Time       `json:"created_at,omitzero"` // when the operator began to trust it
}

// Permit lets a client have tokens for an issuer's assertions.
type Permit struct {
	ID        string            `json:"id"`
	Issuer    string            `json:"issuer"`
	ClientID  string            `json:"client_id"`
	Claims    map[string]string `json:"claims,omitempty"` // that the assertion must have; a sub that ends in * is a prefix
	Scopes    []string          `json:"scopes,omitempty"` // at most; empty: those of the client
	APIs      []string          `json:"apis,omitempty"`   // at most; empty: those of the client
	CreatedAt time.Time         `json:"created_at,omitzero"`
}

// WithDefaults fills what may be left out.
func (i Issuer) WithDefaults() Issuer {
	if len(i.For) == 0 {
		i.For = []string{ForTokens}
	}
	if len(i.Algs) == 0 {
		i.Algs = slices.Clone(assertionAlgs)
	}
	if slices.Contains(i.For, ForTokens) {
		if i.Subject == "" {
			i.Subject = SubjectService
		}
		if i.MaxLife == 0 {
			i.MaxLife = issuerLife
		}
	}
	return i
}

// Validate says in one sentence what is wrong and how to mend it.
func (i Issuer) Validate() error {
	tokens := slices.Contains(i.For, ForTokens)
	switch {
	case !webURL(i.Issuer) || strings.ContainsAny(i.Issuer, "#? "):
		return fmt.Errorf("issuer %q: give the https URL that its tokens name in iss, without query and fragment", i.Issuer)
	case len(i.For) == 0 || !containsAll([]string{ForTokens, ForStatements}, i.For):
		return fmt.Errorf("for: use %s or %s", ForTokens, ForStatements)
	case len(i.JWKS) > 0 == (i.JWKSURI != ""):
		return errors.New("jwks: give either its keys or the address at which it publishes them (jwks_uri)")
	case i.JWKSURI != "" && !webURL(i.JWKSURI):
		return fmt.Errorf("jwks_uri %q: give an https URL (http only on loopback)", i.JWKSURI)
	case len(i.JWKS) > maxKeySet || holdsPrivateKey(i.JWKS):
		return errors.New("jwks: holds a private key, or is too large")
	case len(i.Algs) == 0 || !containsAll(assertionAlgs, i.Algs):
		return fmt.Errorf("algs: use some of %s", oneOf(assertionAlgs))
	case tokens && !slices.Contains([]string{SubjectService, SubjectLinked, SubjectPerson}, i.Subject):
		return fmt.Errorf("subject %q: use %s, %s or %s", i.Subject, SubjectService, SubjectLinked, SubjectPerson)
	case (i.Subject == SubjectLinked) != (i.Provider != ""):
		return fmt.Errorf("provider: name the sign-in provider whose accounts people have linked, with the subject %s and no other", SubjectLinked)
	case i.MaxLife < 0 || i.MaxLife > maxIssuerLife:
		return fmt.Errorf("max_life: at most %s", maxIssuerLife)
	case i.Subject != SubjectService && (i.Reusable || i.MaxLife > issuerLife):
		return fmt.Errorf("max_life, reusable: assertions about people live for %s at most and count once", issuerLife)
	}
	if len(i.JWKS) > 0 {
		if _, err := parseKeySet(i.JWKS); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
	}
	return nil
}

// ends are the characters at which the prefix of a sub may end: without one, repo:acme/shop* would be good for repo:acme/shop-of-a-thief.
const ends = ":/|"

// validate wants a condition on sub where the assertions are those of machines: at most issuers of such tokens anybody can have one.
func (p Permit) validate(i Issuer) error {
	if len(p.Claims) > maxListLength || len(p.Scopes) > maxListLength || len(p.APIs) > maxListLength {
		return fmt.Errorf("claims, scopes, apis: at most %d each", maxListLength)
	}
	for name, value := range p.Claims {
		prefix, is := strings.CutSuffix(value, "*")
		switch {
		case name == "" || len(name) > maxNameLength || value == "" || len(value) > maxURILength || !printable(name+value):
			return fmt.Errorf("claim %q: give NAME=VALUE, printable and not empty", name)
		case strings.Contains(prefix, "*"):
			return fmt.Errorf("claim %s: a * may stand at the end of sub alone", name)
		case is && (name != "sub" || prefix == "" || !strings.ContainsAny(prefix[len(prefix)-1:], ends)):
			return fmt.Errorf("claim %s: a * may stand at the end of sub alone, behind one of %s", name, strings.Join(strings.Split(ends, ""), " "))
		}
	}
	if i.Subject == SubjectService && p.Claims["sub"] == "" {
		return errors.New("claim sub: say for whose tokens it is (sub=…, or a beginning of it such as sub=repo:acme/shop:*): others get tokens there, too")
	}
	if err := validateScopes(p.Scopes); err != nil {
		return err
	}
	return nil
}

// holds reports whether an assertion has what the permit demands.
func (p Permit) holds(claims map[string]json.RawMessage) bool {
	for name, want := range p.Claims {
		have, ok := plainClaim(claims[name])
		if prefix, is := strings.CutSuffix(want, "*"); !ok || is && !strings.HasPrefix(have, prefix) || !is && have != want {
			return false
		}
	}
	return true
}

// plainClaim gives the text of a string, a truth or a number.
func plainClaim(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || strings.ContainsAny(string(raw[:1]), "{[n") {
		return "", false
	}
	if raw[0] != '"' {
		return string(raw), true
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// ClaimNames lists the claims of which a permit demands something.
func (p Permit) ClaimNames() []string { return slices.Sorted(maps.Keys(p.Claims)) }

// Issuers keeps whom an operator trusts.
type Issuers struct {
	DB    *db.DB
	Audit *audit.Log
	Now   func() time.Time
}

// Issuers are those of the server.
func (s *Server) Issuers() Issuers { return Issuers{s.DB, s.Audit, s.Now} }

// Create adds an issuer, or reports db.ErrConflict.
func (s Issuers) Create(ctx context.Context, i Issuer) error {
	i = i.WithDefaults()
	if err := i.Validate(); err != nil {
		return err
	}
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		_, err := s.DB.Exec(ctx, `INSERT INTO issuers (issuer, definition, created_at) VALUES ($1, $2, $3)`, i.Issuer, db.JSON(&i), db.At(s.Now()))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "issuer.create", Detail: i.detail()})
		}
		return err
	})
}

// Update replaces everything about an issuer but its name and permits.
func (s Issuers) Update(ctx context.Context, i Issuer) error {
	if err := i.Validate(); err != nil {
		return err
	}
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		err := one(s.DB.Exec(ctx, `UPDATE issuers SET definition = $2 WHERE issuer = $1`, i.Issuer, db.JSON(&i)))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "issuer.update", Detail: i.detail()})
		}
		return err
	})
}

func (i Issuer) detail() map[string]string {
	return map[string]string{"issuer": i.Issuer, "for": strings.Join(i.For, " "), "subject": i.Subject}
}

// Delete ends the trust in an issuer, with all its permits. Tokens that were given live on until they run out.
func (s Issuers) Delete(ctx context.Context, issuer string) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		err := one(s.DB.Exec(ctx, `DELETE FROM issuers WHERE issuer = $1`, issuer))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "issuer.delete", Detail: map[string]string{"issuer": issuer}})
		}
		return err
	})
}

// Get returns an issuer, or db.ErrNotFound.
func (s Issuers) Get(ctx context.Context, issuer string) (Issuer, error) {
	return scanIssuer(s.DB.QueryRow(ctx, `SELECT issuer, definition, created_at FROM issuers WHERE issuer = $1`, issuer))
}

// List lists up to limit issuers by name.
func (s Issuers) List(ctx context.Context, limit int) ([]Issuer, error) {
	list := []Issuer{}
	err := s.DB.Query(ctx, func(row db.Scanner) error {
		i, err := scanIssuer(row)
		list = append(list, i)
		return err
	}, `SELECT issuer, definition, created_at FROM issuers ORDER BY issuer LIMIT $1`, limit)
	return list, err
}

func scanIssuer(row db.Scanner) (i Issuer, err error) {
	var created db.Time
	var name string
	err = row.Scan(&name, db.JSON(&i), &created)
	i.Issuer, i.CreatedAt = name, created.Time
	return i, err
}

// Permit lets a client have tokens for an issuer's assertions. The issuer and the client must be there.
func (s Issuers) Permit(ctx context.Context, i Issuer, client Client, p Permit) (Permit, error) {
	p.ID, p.Issuer, p.ClientID, p.CreatedAt = strings.ToLower(rand.Text()), i.Issuer, client.ID, s.Now().UTC().Truncate(time.Microsecond)
	if err := p.validate(i); err != nil {
		return Permit{}, err
	}
	switch {
	case !slices.Contains(i.For, ForTokens):
		return Permit{}, fmt.Errorf("issuer %s: is not trusted with %s", i.Issuer, ForTokens)
	case client.SelfMade() || !slices.Contains(client.GrantTypes, GrantJWTBearer):
		return Permit{}, fmt.Errorf("client %s: needs the grant type %s, which operators give", client.ID, GrantJWTBearer)
	case client.Public() && i.Subject != SubjectService:
		return Permit{}, fmt.Errorf("client %s: tokens that speak of a person need a client that can prove who it is", client.ID)
	case !containsAll(client.Scopes, p.Scopes):
		return Permit{}, errors.New("scopes: the client is not registered for one of them")
	case !containsAll(client.Audiences, p.APIs):
		return Permit{}, errors.New("apis: the client is not registered for one of them")
	}
	return p, s.DB.Tx(ctx, func(ctx context.Context) error {
		_, err := s.DB.Exec(ctx, `INSERT INTO issuer_permits (id, issuer, client_id, definition, created_at) VALUES ($1, $2, $3, $4, $5)`,
			p.ID, p.Issuer, p.ClientID, db.JSON(&p), db.At(p.CreatedAt))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "issuer.permit", ClientID: p.ClientID, Detail: map[string]string{"issuer": p.Issuer, "permit": p.ID}})
		}
		return err
	})
}

// Withdraw ends a permit, or reports db.ErrNotFound.
func (s Issuers) Withdraw(ctx context.Context, id string) error {
	return s.DB.Tx(ctx, func(ctx context.Context) error {
		p, err := scanPermit(s.DB.QueryRow(ctx, `DELETE FROM issuer_permits WHERE id = $1 RETURNING definition`, id))
		if err == nil {
			s.Audit.Record(ctx, audit.Event{Action: "issuer.withdraw", ClientID: p.ClientID, Detail: map[string]string{"issuer": p.Issuer, "permit": id}})
		}
		return err
	})
}

// Permits lists the permits of an issuer, at most limit.
func (s Issuers) Permits(ctx context.Context, issuer string, limit int) ([]Permit, error) {
	return s.permits(ctx, `SELECT definition FROM issuer_permits WHERE issuer = $1 ORDER BY client_id, id LIMIT $2`, issuer, limit)
}

// permitsOf lists what a client has at an issuer.
func (s Issuers) permitsOf(ctx context.Context, issuer, clientID string) ([]Permit, error) {
	return s.permits(ctx, `SELECT definition FROM issuer_permits WHERE issuer = $1 AND client_id = $2 ORDER BY id LIMIT $3`, issuer, clientID, maxListLength)
}

func (s Issuers) permits(ctx context.Context, query string, args ...any) ([]Permit, error) {
	list := []Permit{}
	err := s.DB.Query(ctx, func(row db.Scanner) error {
		p, err := scanPermit(row)
		list = append(list, p)
		return err
	}, query, args...)
	return list, err
}

func scanPermit(row db.Scanner) (Permit, error) {
	var p Permit
	err := row.Scan(db.JSON(&p))
	return p, err
}
