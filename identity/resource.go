package identity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Resource is what an API is for those who ask for access tokens by its identifier (RFC 8707).
type Resource struct {
	Scopes   []APIScope    `json:"scopes"` // an access token for it has no others
	TokenTTL time.Duration `json:"access_token_ttl,omitempty"`
	Open     bool          `json:"open,omitempty"` // to clients that registered themselves
	DPoP     bool          `json:"dpop,omitempty"` // access tokens for it are tied to a key
	Format   string        `json:"format"`         // of its access tokens: FormatJWT or FormatOpaque

	Certificate bool `json:"certificate,omitempty"` // access tokens for it are tied to a TLS certificate

	ClientID string `json:"client_id,omitempty"` // the client as which it introspects tokens
}

// Formats of access tokens.
const (
	FormatJWT    = "jwt"    // the API reads it by itself (RFC 9068)
	FormatOpaque = "opaque" // the API asks what it means (RFC 7662)
)

// APIScope is a scope that an API knows.
type APIScope struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"` // for the consent page
}

// Knows reports whether the API knows a scope.
func (r Resource) Knows(scope string) bool {
	for _, s := range r.Scopes {
		if s.Name == scope {
			return true
		}
	}
	return false
}

// Bounds on what an operator may say of an API.
const (
	maxAPIScopes   = 100
	maxAPITokenTTL = time.Hour
)

// reservedScopes have a meaning of their own everywhere: no API gives them another.
var reservedScopes = map[string]bool{
	"openid": true, "profile": true, "email": true, "address": true, "phone": true, "offline_access": true, "groups": true, "roles": true, "permissions": true,
	"global_token_revocation": true, "ssf.manage": true, "ssf.read": true,
}

func (r *Resource) check() error {
	wrong := FieldErrors{}
	seen := map[string]bool{}
	if len(r.Scopes) > maxAPIScopes {
		wrong["scope"] = KeyTooLong
	}
	for i, s := range r.Scopes {
		folded := strings.ToLower(s.Name)
		switch {
		case !permissionName.MatchString(s.Name):
			wrong["scope"] = KeyCharacters
		case reservedScopes[folded], seen[folded]:
			wrong["scope"] = KeyReserved
		}
		seen[folded] = true
		description, key := checkText(s.Description, maxDescription, false)
		if key != "" {
			wrong["description"] = key
		}
		r.Scopes[i].Description = description
	}
	if r.TokenTTL < 0 || r.TokenTTL > maxAPITokenTTL || r.TokenTTL%time.Second != 0 {
		wrong["token-ttl"] = KeyTooLong
	}
	if r.Format == "" {
		r.Format = FormatJWT
	}
	if r.Format != FormatJWT && r.Format != FormatOpaque {
		wrong["format"] = KeyOption
	}
	if r.ClientID != "" && !clientID.MatchString(r.ClientID) {
		wrong["client"] = KeyCharacters
	}
	if r.Scopes == nil {
		r.Scopes = []APIScope{}
	}
	return wrong.err()
}

// UpdateAPI changes name and resource of an API; its identifier and permissions stay.
func (d *Directory) UpdateAPI(ctx context.Context, actor string, a API) error {
	name, key := checkName(a.Name)
	if key != "" {
		return FieldErrors{"name": key}
	}
	if err := a.Resource.check(); err != nil {
		return err
	}
	e := audit.Event{Action: "api.update", Actor: actor, Detail: map[string]string{"api_id": a.ID, "open": fmt.Sprint(a.Open), "dpop": fmt.Sprint(a.DPoP), "format": a.Format}}
	return d.alter(ctx, "update API", e, func(ctx context.Context) error {
		return one(d.db.Exec(ctx, `UPDATE apis SET name = $2, scopes = $3, token_seconds = $4, self_registered = $5, dpop = $6, client_id = $7, updated_at = $8,
			format = $9, certificate = $10 WHERE id = $1`,
			a.ID, name, db.JSON(&a.Scopes), int64(a.TokenTTL/time.Second), a.Open, a.DPoP, a.ClientID, db.At(d.now()), a.Format, a.Certificate))
	})
}

// Resource returns the API with an identifier, without its permissions, or ErrNotFound.
func (d *Directory) Resource(ctx context.Context, identifier string) (API, error) {
	a, err := scanAPI(d.db.QueryRow(ctx, `SELECT `+apiColumns+` FROM apis WHERE identifier = $1`, identifier))
	if err != nil {
		return API{}, fmt.Errorf("read API: %w", err)
	}
	return a, nil
}

// ResourceByID returns the API with an id, without its permissions, or ErrNotFound.
func (d *Directory) ResourceByID(ctx context.Context, id string) (API, error) {
	if _, err := uuid.Parse(id); err != nil {
		return API{}, ErrNotFound
	}
	a, err := scanAPI(d.db.QueryRow(ctx, `SELECT `+apiColumns+` FROM apis WHERE id = $1`, id))
	if err != nil {
		return API{}, fmt.Errorf("read API: %w", err)
	}
	return a, nil
}

// OpenResources lists the APIs that are open to clients that registered themselves, by identifier; at most 200.
func (d *Directory) OpenResources(ctx context.Context) ([]API, error) {
	return d.resources(ctx, `SELECT `+apiColumns+` FROM apis WHERE self_registered = TRUE ORDER BY identifier LIMIT 200`)
}

// ResourcesOf lists the APIs that introspect tokens as a client; at most 200.
func (d *Directory) ResourcesOf(ctx context.Context, clientID string) ([]API, error) {
	if clientID == "" {
		return nil, nil
	}
	return d.resources(ctx, `SELECT `+apiColumns+` FROM apis WHERE client_id = $1 ORDER BY identifier LIMIT 200`, clientID)
}

func (d *Directory) resources(ctx context.Context, query string, args ...any) ([]API, error) {
	var list []API
	err := d.db.Query(ctx, func(row db.Scanner) error {
		a, err := scanAPI(row)
		list = append(list, a)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	return list, nil
}
