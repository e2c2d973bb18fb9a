package oauth

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/keys"
)

// Encryption says how what this server sends a client is encrypted (RFC 7516), by the key that the client publishes for it. The JSON names
// are those of OpenID Connect Registration §2, JARM §3 and RFC 9701 §6. Algorithms are for keys ("alg") and for the content ("enc").
type Encryption struct {
	IDTokenKeyAlg       string `json:"id_token_encrypted_response_alg,omitempty"` // logout tokens, too (Back-Channel Logout §2.4)
	IDTokenEnc          string `json:"id_token_encrypted_response_enc,omitempty"`
	UserinfoKeyAlg      string `json:"userinfo_encrypted_response_alg,omitempty"`
	UserinfoEnc         string `json:"userinfo_encrypted_response_enc,omitempty"`
	AnswerKeyAlg        string `json:"authorization_encrypted_response_alg,omitempty"` // of signed answers (JARM)
	AnswerEnc           string `json:"authorization_encrypted_response_enc,omitempty"`
	IntrospectionKeyAlg string `json:"introspection_encrypted_response_alg,omitempty"` // of signed answers (RFC 9701)
	IntrospectionEnc    string `json:"introspection_encrypted_response_enc,omitempty"`
	// What the client says it may use itself. Whatever this server serves is good (OpenID Connect Registration §2).
	RequestObjectKeyAlg string `json:"request_object_encryption_alg,omitempty"`
	RequestObjectEnc    string `json:"request_object_encryption_enc,omitempty"`
}

// defaultEnc is how content is encrypted if only the algorithm for keys is registered (OpenID Connect Registration §2).
const defaultEnc = "A128CBC-HS256"

func (c Client) validateEncryption() error {
	var known []clientKey
	if len(c.JWKS) > 0 {
		known, _ = parseKeySet(c.JWKS) // a mistake in it has words elsewhere: see validateKeys
	}
	for _, e := range []struct{ name, alg, enc string }{
		{"id_token_encrypted_response", c.IDTokenKeyAlg, c.IDTokenEnc},
		{"userinfo_encrypted_response", c.UserinfoKeyAlg, c.UserinfoEnc},
		{"authorization_encrypted_response", c.AnswerKeyAlg, c.AnswerEnc},
		{"introspection_encrypted_response", c.IntrospectionKeyAlg, c.IntrospectionEnc},
		{"request_object_encryption", c.RequestObjectKeyAlg, c.RequestObjectEnc},
	} {
		switch {
		case e.alg == "" && e.enc == "":
			continue
		case e.alg == "":
			return fmt.Errorf("%s_enc: goes with %[1]s_alg", e.name)
		case !slices.Contains(keys.KeyAlgs, e.alg):
			return fmt.Errorf("%s_alg %q: use one of %s", e.name, e.alg, oneOf(keys.KeyAlgs))
		case e.enc != "" && !slices.Contains(keys.ContentAlgs, e.enc):
			return fmt.Errorf("%s_enc %q: use one of %s", e.name, e.enc, oneOf(keys.ContentAlgs))
		case e.name == "request_object_encryption": // by our key
		case c.JWKSURI == "" && !slices.ContainsFunc(known, func(k clientKey) bool { return k.encrypts(e.alg) }):
			return fmt.Errorf("%s_alg %q: needs a public key of the client for it, in jwks or at jwks_uri", e.name, e.alg)
		}
	}
	return nil
}

// encrypts reports whether the key is one for an algorithm.
func (k clientKey) encrypts(alg string) bool {
	if k.use == "sig" || k.alg != "" && k.alg != alg || !slices.Contains(keys.KeyAlgs, alg) {
		return false
	}
	switch k.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RSA-OAEP")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, "ECDH-ES")
	}
	return false
}

// recipient picks the key to encrypt to: one that is for nothing else, if there is one.
func recipient(known []clientKey, alg string) (clientKey, bool) {
	for _, use := range []string{useEncryption, ""} {
		for _, k := range known {
			if k.use == use && k.encrypts(alg) {
				return k, true
			}
		}
	}
	return clientKey{}, false
}

// Nothing is sent in clear text because a key is missing.
var (
	errNoRecipient  = errors.New("the app publishes no key for its encryption")
	errKeysNotThere = errors.New("the keys at the app's jwks_uri cannot be fetched")
)

// recipient is the client's key for an algorithm, as it stands registered or is published.
func (r *registration) recipient(ctx context.Context, sets *keySets, alg string) (clientKey, error) {
	if r.JWKSURI == "" {
		if k, ok := recipient(r.keys, alg); ok {
			return k, nil
		}
		return clientKey{}, errNoRecipient
	}
	for _, missing := range []bool{false, true} { // the second time for a key that was published since
		known, err := sets.get(ctx, r.JWKSURI, missing)
		if err != nil {
			return clientKey{}, fmt.Errorf("%w: %w", errKeysNotThere, err)
		}
		if k, ok := recipient(known, alg); ok {
			return k, nil
		}
	}
	return clientKey{}, errNoRecipient
}

// nested encrypts a signed token to the client (RFC 7519 §5.2), if it is registered for that.
func (r *registration) nested(ctx context.Context, sets *keySets, alg, enc, token string) (string, error) {
	if alg == "" {
		return token, nil
	}
	return r.encrypt(ctx, sets, alg, enc, (&jose.EncrypterOptions{}).WithContentType("JWT"), []byte(token))
}

func (r *registration) encrypt(ctx context.Context, sets *keySets, alg, enc string, options *jose.EncrypterOptions, payload []byte) (string, error) {
	to, err := r.recipient(ctx, sets, alg)
	if err != nil {
		return "", err
	}
	e, err := jose.NewEncrypter(jose.ContentEncryption(cmp.Or(enc, defaultEnc)), jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: to.key, KeyID: to.kid}, options)
	if err != nil {
		return "", fmt.Errorf("encrypt to client %s: %w", r.ID, err)
	}
	jwe, err := e.Encrypt(payload)
	if err != nil {
		return "", fmt.Errorf("encrypt to client %s: %w", r.ID, err)
	}
	return jwe.CompactSerialize()
}

// unsealed is the signed token inside one that was encrypted to this server; any other token stays what it is. Whatever comes out must be
// signed: anybody can encrypt.
func (s *Server) unsealed(ctx context.Context, token string) (string, error) {
	if strings.Count(token, ".") != 4 {
		return token, nil
	}
	payload, _, err := s.Keys.Decrypt(ctx, token)
	return string(payload), err
}
