package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Ways in which a client proves who it is (OpenID Connect Core §9, RFC 8705 §2).
const (
	AuthBasic         = "client_secret_basic"
	AuthPost          = "client_secret_post"
	AuthSecretJWT     = "client_secret_jwt"
	AuthPrivateKeyJWT = "private_key_jwt"
	AuthTLS           = "tls_client_auth"
	AuthSelfSignedTLS = "self_signed_tls_client_auth"
	AuthNone          = "none"
)

// Credentials is what a client is known by beside its secret, and what its tokens are tied to. The JSON names are those of
// RFC 7591, 8705, 9126 and 9449.
type Credentials struct {
	AuthAlg          string          `json:"token_endpoint_auth_signing_alg,omitempty"` // of its assertions; "": any that is allowed
	JWKS             json.RawMessage `json:"jwks,omitempty"`
	JWKSURI          string          `json:"jwks_uri,omitempty"`
	TLSSubjectDN     string          `json:"tls_client_auth_subject_dn,omitempty"` // RFC 4514; exactly one of these five
	TLSDNS           string          `json:"tls_client_auth_san_dns,omitempty"`
	TLSURI           string          `json:"tls_client_auth_san_uri,omitempty"`
	TLSIP            string          `json:"tls_client_auth_san_ip,omitempty"`
	TLSEmail         string          `json:"tls_client_auth_san_email,omitempty"`
	CertificateBound bool            `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DPoPBound        bool            `json:"dpop_bound_access_tokens,omitempty"`
	RequirePAR       bool            `json:"require_pushed_authorization_requests,omitempty"`
	Profile          string          `json:"security_profile,omitempty"` // see profiles; "": the default
}

// Public reports whether the client keeps no secret (RFC 6749 §2.1).
func (c Client) Public() bool { return c.AuthMethod == AuthNone }

// HasSecret reports whether the client proves itself by a secret that the server has made.
func (c Client) HasSecret() bool {
	return c.AuthMethod == AuthBasic || c.AuthMethod == AuthPost || c.AuthMethod == AuthSecretJWT
}

// Algorithms of client assertions. HS256 stands apart: it is for client_secret_jwt alone, so that nobody can sign by HMAC with a
// public key (algorithm confusion, RFC 8725 §2.1).
var (
	assertionAlgs     = []string{"RS256", "PS256", "ES256", algEdDSA, algEd25519}
	assertionAlgsFAPI = []string{"PS256", "ES256", algEdDSA, algEd25519} // FAPI 2.0 Security Profile §5.4
	secretAlgs        = []string{"HS256"}
)

// assertionAlgs lists the algorithms that the client's assertions may be signed with.
func (c Client) assertionAlgs() []string {
	var allowed []string
	switch {
	case c.AuthMethod == AuthSecretJWT:
		allowed = secretAlgs
	case c.AuthMethod != AuthPrivateKeyJWT:
	case c.rules().algs != nil:
		allowed = c.rules().algs
	default:
		allowed = assertionAlgs
	}
	if c.AuthAlg == "" {
		return allowed
	}
	if slices.Contains(allowed, c.AuthAlg) {
		return namesOf(c.AuthAlg)
	}
	return nil
}

func (c Client) validateCredentials() error {
	switch c.AuthMethod {
	case AuthBasic, AuthPost, AuthSecretJWT, AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS, AuthNone:
	default:
		return fmt.Errorf("token_endpoint_auth_method %q: use %s, %s, %s, %s, %s, %s or %s", c.AuthMethod,
			AuthBasic, AuthPost, AuthPrivateKeyJWT, AuthSecretJWT, AuthTLS, AuthSelfSignedTLS, AuthNone)
	}
	if c.AuthAlg != "" && len(c.assertionAlgs()) == 0 {
		return fmt.Errorf("token_endpoint_auth_signing_alg %q: use RS256, PS256, ES256 or EdDSA with %s, HS256 with %s, nothing with other methods",
			c.AuthAlg, AuthPrivateKeyJWT, AuthSecretJWT)
	}
	if err := c.validateKeys(); err != nil {
		return err
	}
	if err := c.validateTLSName(); err != nil {
		return err
	}
	return c.validateProfile()
}

func (c Client) validateKeys() error {
	byKey := c.AuthMethod == AuthPrivateKeyJWT || c.AuthMethod == AuthSelfSignedTLS
	switch {
	case len(c.JWKS) > 0 && c.JWKSURI != "":
		return fmt.Errorf("jwks: give either jwks or jwks_uri (RFC 7591 §2)")
	case c.JWKSURI != "" && !webURL(c.JWKSURI):
		return fmt.Errorf("jwks_uri %q: give an https URL (http only on loopback)", c.JWKSURI)
	case byKey && len(c.JWKS) == 0 && c.JWKSURI == "":
		return fmt.Errorf("jwks: %s needs the client's public keys, as jwks or jwks_uri", c.AuthMethod)
	}
	if len(c.JWKS) == 0 {
		return nil
	}
	if len(c.JWKS) > maxKeySet {
		return fmt.Errorf("jwks: at most %d bytes", maxKeySet)
	}
	if holdsPrivateKey(c.JWKS) {
		return fmt.Errorf("jwks: holds a private or symmetric key; make a new key pair and register its public half")
	}
	keys, err := parseKeySet(c.JWKS)
	switch {
	case err != nil:
		return fmt.Errorf("jwks: %w", err)
	case byKey && !slices.ContainsFunc(keys, clientKey.signs):
		return fmt.Errorf("jwks: has no public signature key that can be used: RSA of 2048 bits or more, P-256 or Ed25519")
	}
	return nil
}

func (c Client) validateTLSName() error {
	names := 0
	for _, name := range []string{c.TLSSubjectDN, c.TLSDNS, c.TLSURI, c.TLSIP, c.TLSEmail} {
		if name != "" {
			names++
		}
		if len(name) > maxURILength || !printable(name) {
			return fmt.Errorf("tls_client_auth_subject_dn: at most %d printable characters", maxURILength)
		}
	}
	switch {
	case c.AuthMethod == AuthTLS && names != 1:
		return fmt.Errorf("tls_client_auth_subject_dn: %s needs the subject or exactly one alternative name of the certificate (RFC 8705 §2.1.2)", AuthTLS)
	case c.AuthMethod != AuthTLS && names != 0:
		return fmt.Errorf("tls_client_auth_subject_dn: names of certificates go with %s only", AuthTLS)
	}
	if c.TLSSubjectDN != "" {
		if _, err := parseDN(c.TLSSubjectDN); err != nil {
			return fmt.Errorf("tls_client_auth_subject_dn %q: %w", c.TLSSubjectDN, err)
		}
	}
	if _, err := netip.ParseAddr(c.TLSIP); c.TLSIP != "" && err != nil {
		return fmt.Errorf("tls_client_auth_san_ip %q: give an IP address", c.TLSIP)
	}
	if u, err := url.Parse(c.TLSURI); c.TLSURI != "" && (err != nil || !u.IsAbs()) {
		return fmt.Errorf("tls_client_auth_san_uri %q: give an absolute URI", c.TLSURI)
	}
	if strings.ContainsAny(c.TLSDNS, "* ") {
		return fmt.Errorf("tls_client_auth_san_dns %q: give one name without wildcards", c.TLSDNS)
	}
	return nil
}

// storedSecret is what the database keeps of a secret: its SHA-256 and, for clients whose method needs the secret itself,
// a copy behind it that is sealed under the master key.
type storedSecret []byte

func (s storedSecret) hash() []byte { return s[:min(len(s), sha256.Size)] }

func (s storedSecret) sealed() []byte { return s[min(len(s), sha256.Size):] }

func secretPurpose(clientID string) string { return "client secret " + clientID }

// newSecret gives 256 random bits. A hash without salt and stretching is enough for what nobody can guess.
func (c *Clients) newSecret(client Client) (secret string, stored storedSecret) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	secret = base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(secret))
	stored = sum[:]
	if client.AuthMethod == AuthSecretJWT {
		stored = append(stored, c.Seal.Seal([]byte(secret), secretPurpose(client.ID))...)
	}
	return secret, stored
}

// keptBy drops what a client's way of authentication has no use for.
func keptBy(client Client, secrets []storedSecret) []storedSecret {
	kept := []storedSecret{}
	for _, s := range secrets {
		switch {
		case client.AuthMethod == AuthSecretJWT:
			kept = append(kept, s)
		case client.HasSecret():
			kept = append(kept, s.hash())
		}
	}
	return kept
}

// prepare reads once what each request of the client would need.
func (c *Clients) prepare(r *registration) error {
	r.pairwise = c.pairwise
	if r.AuthMethod == AuthSecretJWT {
		for _, s := range r.secrets {
			if len(s.sealed()) == 0 {
				continue // from before the client changed its method
			}
			secret, err := c.Seal.Open(s.sealed(), secretPurpose(r.ID))
			if err != nil {
				return fmt.Errorf("secret of client %s: %w", r.ID, err)
			}
			r.readable = append(r.readable, secret)
		}
	}
	if len(r.JWKS) > 0 {
		keys, err := parseKeySet(r.JWKS)
		if err != nil {
			return fmt.Errorf("keys of client %s: %w", r.ID, err)
		}
		r.keys = keys
	}
	return nil
}

// authenticate compares a presented secret with each kept one, without stopping at the first that fits.
func (r *registration) authenticate(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	ok := 0
	for _, s := range r.secrets {
		ok |= subtle.ConstantTimeCompare(s.hash(), sum[:])
	}
	return ok == 1
}
