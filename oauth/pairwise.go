package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// SubjectPairwise is the subject type of clients that each know a person under another name (OpenID Connect Core §8.1), so that
// they cannot find out together whom they have in common.
const SubjectPairwise = "pairwise"

// errSectorAway is all that strangers may hear of it: more would tell them about networks (server-side request forgery).
var errSectorAway = errors.New("cannot be fetched")

// maxSector bounds the document at a sector_identifier_uri, in bytes.
const maxSector = 64 << 10

// sector is what the clients of one operator have in common: a host; "" if it cannot be told.
func (c Client) sector() string {
	from := c.RedirectURIs
	if c.SectorURI != "" {
		from = []string{c.SectorURI}
	}
	host := ""
	for _, raw := range from {
		u, err := url.Parse(raw)
		if err != nil || u.Hostname() == "" || host != "" && !strings.EqualFold(host, u.Hostname()) {
			return ""
		}
		host = strings.ToLower(u.Hostname())
	}
	return host
}

func (c Client) validateSubject() error {
	switch c.SubjectType {
	case "", "public":
		if c.SectorURI != "" {
			return fmt.Errorf("sector_identifier_uri: goes with subject_type %s only", SubjectPairwise)
		}
		return nil
	case SubjectPairwise:
	default:
		return fmt.Errorf("subject_type %q: use public or %s", c.SubjectType, SubjectPairwise)
	}
	switch {
	case c.SectorURI != "" && (!webURL(c.SectorURI) || strings.ContainsAny(c.SectorURI, "# \\")):
		return fmt.Errorf("sector_identifier_uri %q: give an https URL without fragment (http only on loopback)", c.SectorURI)
	case c.sector() == "":
		return fmt.Errorf("sector_identifier_uri: must be given, since the redirect URIs do not have one host in common (OpenID Connect Core §8.1)")
	case c.RevokesPeople:
		return fmt.Errorf("subject_type: a client that may end everything of a person must know them by one name: use public")
	}
	return nil
}

// checkSector asks whether the sector knows the client: else anybody could take another's host and learn its names for people.
func (c *Clients) checkSector(ctx context.Context, client Client) error {
	if client.SectorURI == "" {
		return nil
	}
	old, err := c.Get(ctx, client.ID)
	switch {
	case errors.Is(err, db.ErrNotFound):
	case err != nil:
		return err
	case old.SectorURI == client.SectorURI && slices.Equal(old.RedirectURIs, client.RedirectURIs):
		return nil // was checked; its host may be away today
	}
	if c.Outbound == nil {
		return fmt.Errorf("sector_identifier_uri: cannot be fetched here")
	}
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	body, _, err := c.Outbound.Get(ctx, client.SectorURI, "application/json", maxSector)
	if err != nil {
		return fmt.Errorf("sector_identifier_uri: %w: %w", errSectorAway, err)
	}
	var known []string
	if err := json.Unmarshal(body, &known); err != nil {
		return fmt.Errorf("sector_identifier_uri: is not a JSON list of redirect URIs")
	}
	for _, u := range client.RedirectURIs {
		if !slices.Contains(known, u) {
			return fmt.Errorf("sector_identifier_uri: the list there lacks %s", u)
		}
	}
	return nil
}

// subject is how the client knows a person: the one place where a sub is made.
func (r *registration) subject(userID string) string { return r.alias("sub", userID) }

// session is how the client knows a session: one name for all clients would lead from one to the other as well.
func (r *registration) session(id string) string { return r.alias("sid", id) }

func (r *registration) alias(kind, id string) string {
	if r.SubjectType != SubjectPairwise || id == "" {
		return id
	}
	return base64.RawURLEncoding.EncodeToString(seal.MAC(r.pairwise, kind, r.sector(), id))
}

const purposePerson = "person of an access token"

// conceal puts the names that the client knows into an access token. What this server needs to know travels sealed.
func (s *Server) conceal(c *accessClaims, client *registration) {
	if client.SubjectType != SubjectPairwise || c.Subject == client.ID {
		return
	}
	c.Sealed = base64.RawURLEncoding.EncodeToString(s.Seal.Seal([]byte(c.Subject+" "+c.SessionID), purposePerson))
	c.Subject, c.SessionID = client.subject(c.Subject), client.session(c.SessionID)
}

// reveal finds the person and the session of an access token whose signature is good.
func (s *Server) reveal(c *accessClaims) error {
	c.userID, c.sessionID = c.Subject, c.SessionID
	if c.Sealed == "" {
		return nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Sealed)
	if err != nil {
		return err
	}
	plain, err := s.Seal.Open(sealed, purposePerson)
	if err != nil {
		return err
	}
	c.userID, c.sessionID, _ = strings.Cut(string(plain), " ")
	return nil
}

// audienceOf is the client that an ID token was made for.
func (s *Server) audienceOf(ctx context.Context, h hint) (*registration, error) {
	if len(h.Audience) != 1 {
		return &registration{}, nil
	}
	r, err := s.Clients.registration(ctx, h.Audience[0])
	if errors.Is(err, db.ErrNotFound) {
		return &registration{}, nil
	}
	return r, err
}
