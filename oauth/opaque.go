package oauth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// An opaque access token is what an API is given that wants to learn of tokens by introspection alone: the same claims as in a JWT, but
// encrypted, so that neither the app nor whoever finds it can read anything, and nothing is stored for it. Each is sealed by AES-256-GCM
// under a key of its own, made of the server's key and 24 random bytes, so that no number of tokens wears out a key.
const (
	opaquePrefix   = "gatehouse_at_" // scanners for leaked secrets find it
	opaqueSaltSize = 24
	maxOpaque      = 16 << 10 // characters
)

func (s *Server) opaqueSealer(salt string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(seal.MAC(s.RefreshKey, "opaque access token", salt))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealToken gives the opaque form of a token.
func (s *Server) sealToken(c *accessClaims) (string, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode access token: %w", err)
	}
	b := make([]byte, opaqueSaltSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	aead, err := s.opaqueSealer(string(b))
	if err != nil {
		return "", err
	}
	b = aead.Seal(b, make([]byte, aead.NonceSize()), plain, []byte(opaquePrefix)) // the key is used this once
	return opaquePrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// openToken reads what sealToken made; errTokenInactive is anything else.
func (s *Server) openToken(token string) (*accessClaims, error) {
	text, ok := strings.CutPrefix(token, opaquePrefix)
	if !ok || len(text) > maxOpaque {
		return nil, errTokenInactive
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < opaqueSaltSize {
		return nil, errTokenInactive
	}
	aead, err := s.opaqueSealer(string(b[:opaqueSaltSize]))
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), b[opaqueSaltSize:], []byte(opaquePrefix))
	c := &accessClaims{}
	if err != nil || json.Unmarshal(plain, c) != nil {
		return nil, errTokenInactive
	}
	return c, nil
}

// demand holds a token request against what the APIs want of their access tokens, and gives the life of the token.
func (s *Server) demand(ctx context.Context, client *registration, apis []identity.API) (time.Duration, error) {
	st, life, own := requestState(ctx), s.accessLife(client), client.AccessTokenTTL
	for _, a := range apis {
		if a.DPoP && (st.confirmation == nil || st.confirmation.JKT == "") {
			return 0, proofError("Access tokens for this resource are tied to a key: send a DPoP proof.")
		}
		if a.Certificate && (st.confirmation == nil || st.confirmation.Certificate == "") {
			return 0, newError("invalid_request", "Access tokens for this resource are tied to a TLS certificate: the client must be registered for such tokens.")
		}
		if a.TokenTTL > 0 && (own == 0 || a.TokenTTL < own) {
			own, life = a.TokenTTL, a.TokenTTL
		}
		st.opaque = st.opaque || a.Format == identity.FormatOpaque
	}
	return life, nil
}

// apis are the APIs that a token is for, though none was asked for by name.
func (s *Server) apis(ctx context.Context, client *registration, sess *session, granted []string) (list []identity.API, err error) {
	for _, identifier := range s.audience(client, sess, granted) {
		a, ok, err := s.known.get(ctx, s, identifier)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, a)
		}
	}
	return list, nil
}

// knownAPIs remembers for a second what is registered under the audiences of clients, which are asked for with each token.
type knownAPIs struct {
	mu   sync.Mutex
	list map[string]knownAPI
}

type knownAPI struct {
	identity.API
	ok   bool
	read time.Time
}

const (
	knownFor  = time.Second
	knownMost = 1000
)

func (k *knownAPIs) get(ctx context.Context, s *Server, identifier string) (identity.API, bool, error) {
	if identifier == s.Site.Issuer() {
		return identity.API{}, false, nil
	}
	now := s.Now()
	k.mu.Lock()
	have, ok := k.list[identifier]
	k.mu.Unlock()
	if age := now.Sub(have.read); ok && age >= 0 && age < knownFor {
		return have.API, have.ok, nil
	}
	a, err := s.People.Resource(ctx, identifier)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return a, false, err
	}
	have = knownAPI{a, err == nil, now}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list) >= knownMost || k.list == nil {
		k.list = map[string]knownAPI{}
	}
	k.list[identifier] = have
	return have.API, have.ok, nil
}

// registered leaves this server out.
func (rs resources) registered() []identity.API {
	var list []identity.API
	for _, r := range slices.DeleteFunc(slices.Clone(rs), func(r resource) bool { return r.self }) {
		list = append(list, r.API)
	}
	return list
}
