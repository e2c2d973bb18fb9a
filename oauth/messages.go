package oauth

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/keys"
)

// Messages says how the messages between a client and this server are protected. The JSON names are those of OpenID Connect
// Registration §2, RFC 9101 §10.4 and JARM §3.
type Messages struct {
	RequestObjectAlg string   `json:"request_object_signing_alg,omitempty"` // "": any that is allowed
	RequestURIs      []string `json:"request_uris,omitempty"`               // where it publishes request objects
	RequireRequest   bool     `json:"require_signed_request_object,omitempty"`
	UserinfoAlg      string   `json:"userinfo_signed_response_alg,omitempty"` // "": JSON without a signature
	SubjectType      string   `json:"subject_type,omitempty"`                 // "", public or SubjectPairwise
	SectorURI        string   `json:"sector_identifier_uri,omitempty"`
	AnswerAlg        string   `json:"authorization_signed_response_alg,omitempty"` // of signed answers; "": as ID tokens
	IntrospectionAlg string   `json:"introspection_signed_response_alg,omitempty"` // "": as ID tokens
}

// Algorithms of request objects. "none" is no signature, and HS256 would need the client's secret.
var requestObjectAlgs = []string{"RS256", "PS256", "ES256", algEdDSA, algEd25519}

// signingAlgs are those that the server signs its answers with.
var signingAlgs = []string{string(keys.RS256), string(keys.ES256), string(keys.EdDSA)}

// requestObjectAlgs lists the algorithms that the client's request objects may be signed with.
func (c Client) requestObjectAlgs() []string {
	allowed := requestObjectAlgs
	if algs := c.rules().algs; algs != nil {
		allowed = algs
	}
	if c.RequestObjectAlg == "" {
		return allowed
	}
	if slices.Contains(allowed, c.RequestObjectAlg) {
		return namesOf(c.RequestObjectAlg)
	}
	return nil
}

// signs reports whether the client's authorization requests must be signed (RFC 9101 §10.5).
func (c Client) signs() bool { return c.RequireRequest || c.rules().signed }

func (c Client) validateMessages() error {
	if c.AnswerAlg != "" && !slices.Contains(signingAlgs, c.AnswerAlg) {
		return fmt.Errorf("authorization_signed_response_alg %q: use one of %s", c.AnswerAlg, strings.Join(signingAlgs, ", "))
	}
	if c.UserinfoAlg != "" && !slices.Contains(signingAlgs, c.UserinfoAlg) {
		return fmt.Errorf("userinfo_signed_response_alg %q: use one of %s", c.UserinfoAlg, strings.Join(signingAlgs, ", "))
	}
	if c.IntrospectionAlg != "" && !slices.Contains(signingAlgs, c.IntrospectionAlg) {
		return fmt.Errorf("introspection_signed_response_alg %q: use one of %s", c.IntrospectionAlg, strings.Join(signingAlgs, ", "))
	}
	if err := c.validateSubject(); err != nil {
		return err
	}
	signs := len(c.JWKS) > 0 || c.JWKSURI != ""
	switch {
	case len(c.requestObjectAlgs()) == 0:
		return fmt.Errorf("request_object_signing_alg %q: use one of %s", c.RequestObjectAlg, strings.Join(requestObjectAlgs, ", "))
	case !signs && c.RequestObjectAlg != "":
		return fmt.Errorf("request_object_signing_alg: signed requests need the client's public keys, as jwks or jwks_uri")
	case !signs && c.signs():
		return fmt.Errorf("require_signed_request_object: signed requests need the client's public keys, as jwks or jwks_uri")
	case !signs && len(c.RequestURIs) > 0:
		return fmt.Errorf("request_uris: signed requests need the client's public keys, as jwks or jwks_uri")
	case len(c.RequestURIs) > maxListLength:
		return fmt.Errorf("request_uris: at most %d", maxListLength)
	}
	for _, raw := range c.RequestURIs {
		u, err := url.Parse(raw)
		if err != nil || !webURL(raw) || hasDotSegment(u.Path) || strings.ContainsAny(raw, " \\") {
			return fmt.Errorf("request_uris %q: give an https URL (http only on loopback)", raw)
		}
	}
	return nil
}
