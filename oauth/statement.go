package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// maxStatement bounds what is kept of a client that registered itself.
const maxStatement = 8 << 10

// typStatement says that a JWT is a software statement and nothing else (RFC 8725 §3.11).
const typStatement = "software-statement+jwt"

// Software is what a client says of the program it is a copy of (RFC 7591 §2). A statement is signed by somebody whom an operator
// trusts with it: what it claims wins over what the client says, for as long as the client lives.
type Software struct {
	SoftwareID        string `json:"software_id,omitempty"`
	SoftwareVersion   string `json:"software_version,omitempty"`
	SoftwareStatement string `json:"software_statement,omitempty"`
}

func (s Software) validate() error {
	for name, value := range map[string]string{"software_id": s.SoftwareID, "software_version": s.SoftwareVersion} {
		if len(value) > 200 || !printable(value) {
			return fmt.Errorf("%s: at most 200 printable characters", name)
		}
	}
	return nil
}

func badStatement(hint string) error { return newError("invalid_software_statement", hint) }

// checkStatement believes a statement of a trusted issuer that is of now and not for somebody else.
func (s *Server) checkStatement(ctx context.Context, statement string) error {
	var c assertionClaims
	header, err := parseJWS(statement, &c)
	if err != nil || len(statement) > maxStatement {
		return badStatement("The software statement is not a signed JWT, or is too large.")
	}
	typ := strings.TrimPrefix(strings.ToLower(header.Typ), "application/")
	switch typ {
	case "", "jwt", typStatement:
	default:
		return badStatement("The software statement has the typ of another kind of token.")
	}
	issuer, err := s.Issuers().Get(ctx, c.Issuer)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && (issuer.Disabled || !slices.Contains(issuer.For, ForStatements) || c.Issuer == s.Site.Issuer()):
		return newError("unapproved_software_statement", "The issuer of the software statement is not trusted here.")
	case err != nil:
		return err
	case typ != typStatement && slices.Contains(issuer.For, ForTokens): // else whoever has an assertion of it could register as vouched for
		return badStatement("The software statement needs the typ " + typStatement + ": its issuer signs assertions, too.")
	case !slices.Contains(issuer.Algs, header.Alg):
		return badStatement("The software statement is signed with an algorithm that is not accepted of its issuer.")
	}
	here := []string{s.Site.Issuer(), s.Site.URL(registrationPath)}
	if len(c.Audience.audience) > 0 && !slices.ContainsFunc(c.Audience.audience, func(a string) bool { return slices.Contains(here, a) }) {
		return badStatement("The software statement is for another server.")
	}
	now := s.Now()
	if c.Expires != nil {
		if at, ok := c.Expires.time(); !ok || !at.After(now.Add(-clockSkew)) {
			return badStatement("The software statement has expired.")
		}
	}
	for _, since := range []*numericDate{c.NotBefore, c.IssuedAt} {
		if since == nil {
			continue
		}
		if at, ok := since.time(); !ok || at.After(now.Add(clockSkew)) {
			return badStatement("The software statement is from the future.")
		}
	}
	signed, err := s.signedByIssuer(ctx, issuer, statement, header)
	if err != nil {
		s.Log.WarnContext(ctx, "keys of an issuer cannot be fetched", "issuer", issuer.Issuer, "err", err)
		return newError("temporarily_unavailable", "The keys of the statement's issuer cannot be fetched.")
	}
	if !signed {
		return badStatement("The signature of the software statement does not fit the issuer's keys.")
	}
	return nil
}

// stated gives what a client says with what a statement claims in its place. Nothing is verified here.
func (m clientMetadata) stated(statement string) (clientMetadata, error) {
	out := m
	var claimed clientMetadata
	for _, into := range []*clientMetadata{&out, &claimed} {
		if _, err := parseJWS(statement, into); err != nil {
			return m, badStatement("The software statement does not hold the metadata of a client.")
		}
	}
	switch { // else a client could put keys of its own beside those that were vouched for
	case claimed.JWKS != nil && claimed.JWKSURI == "":
		out.JWKSURI = ""
	case claimed.JWKSURI != "" && claimed.JWKS == nil:
		out.JWKS = nil
	}
	if claimed.AuthMethod == "" && len(claimed.AuthMethods) > 0 {
		out.AuthMethod = ""
	}
	out.ID, out.Secret, out.SecretExpires, out.SoftwareStatement = m.ID, m.Secret, m.SecretExpires, statement
	return out, nil
}

// statedBy names who signed a statement.
func statedBy(statement string) string {
	var c assertionClaims
	_, _ = parseJWS(statement, &c) // it was verified when it came
	return c.Issuer
}

// RegistrationPolicy is what clients may be that are registered with an initial access token.
type RegistrationPolicy struct {
	Scopes    []string `json:"scopes,omitempty"`             // what they may ask for; empty: as those without a token
	Hosts     []string `json:"hosts,omitempty"`              // to which their redirect URIs lead; empty: any
	Statement bool     `json:"software_statement,omitempty"` // they need a software statement
}

func (p RegistrationPolicy) validate() error {
	if len(p.Hosts) > maxListLength {
		return fmt.Errorf("hosts: at most %d", maxListLength)
	}
	for _, host := range p.Hosts {
		if !validHost(host) {
			return fmt.Errorf("hosts %q: give a host in lower case, such as app.example.com", host)
		}
	}
	return validateScopes(p.Scopes)
}

// check holds a client against what its initial access token allows.
func (p RegistrationPolicy) check(c Client) error {
	if p.Statement && c.SoftwareStatement == "" {
		return badStatement("A software statement is needed.")
	}
	for _, raw := range c.RedirectURIs {
		u, err := url.Parse(raw)
		if len(p.Hosts) > 0 && (err != nil || u.Host == "" || !slices.Contains(p.Hosts, strings.ToLower(u.Host)) && !slices.Contains(p.Hosts, strings.ToLower(u.Hostname()))) {
			return newError("invalid_redirect_uri", "redirect_uris: the initial access token is for other hosts.")
		}
	}
	return nil
}
