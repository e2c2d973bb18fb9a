package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// Bounds on the keys of one client.
const (
	maxKeySet  = 64 << 10 // bytes
	maxKeys    = 20
	maxRSABits = 8192
)

// clientKey is a public key of a client.
type clientKey struct {
	kid, alg    string // "" if the client names none
	use         string // "sig", "enc", or "" for both
	key         any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
	certificate []byte // of x5c, DER
}

// fits reports whether a signature by alg may be the key's: the key decides, not the header (RFC 8725 §3.1).
func (k clientKey) fits(alg string) bool {
	if k.alg != "" && !slices.Contains(namesOf(k.alg), alg) || k.use == useEncryption {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return alg == "RS256" || alg == "PS256"
	case *ecdsa.PublicKey:
		return alg == "ES256" && key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == algEdDSA || alg == algEd25519
	}
	return false
}

// candidates lists the keys that may have signed: those of the kid, or, as many clients have but one key and name it nowhere
// or only on one side, those without a kid.
func candidates(keys []clientKey, kid, alg string) []clientKey {
	var named, nameless []clientKey
	for _, k := range keys {
		switch {
		case !k.fits(alg):
		case kid == "" || k.kid == kid:
			named = append(named, k)
		case k.kid == "":
			nameless = append(nameless, k)
		}
	}
	if len(named) > 0 {
		return named
	}
	return nameless
}

// parseKeySet reads a JSON Web Key Set (RFC 7517 §5) and keeps the keys that can be used here. Others are passed over, as
// §5 wants; a set of which none is left is an error.
func parseKeySet(b []byte) ([]clientKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New(`is not a JSON Web Key Set: give an object with the member "keys"`)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("has more than %d keys", maxKeys)
	}
	var keys []clientKey
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || !usable(jwk) {
			continue
		}
		key := clientKey{kid: jwk.KeyID, alg: jwk.Algorithm, use: jwk.Use, key: jwk.Key}
		if len(jwk.Certificates) > 0 {
			key.certificate = jwk.Certificates[0].Raw
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("has no public key that can be used: RSA of 2048 bits or more, P-256 or Ed25519; for encryption also P-384 and P-521")
	}
	return keys, nil
}

// useEncryption marks a key that signs nothing (RFC 7517 §4.2).
const useEncryption = "enc"

// usable reports whether a key is public and of a kind and size that is neither weak nor slow.
func usable(jwk jose.JSONWebKey) bool {
	if !jwk.Valid() || !jwk.IsPublic() || (jwk.Use != "" && jwk.Use != "sig" && jwk.Use != useEncryption) {
		return false
	}
	switch key := jwk.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048 && key.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256() || jwk.Use != "sig" && (key.Curve == elliptic.P384() || key.Curve == elliptic.P521())
	case ed25519.PublicKey:
		return jwk.Use != useEncryption
	}
	return false
}

// signs reports whether a key can sign anything here.
func (k clientKey) signs() bool {
	return slices.ContainsFunc(assertionAlgs, k.fits)
}

// holdsPrivateKey finds members that must not leave a client. Such a set is refused: the key is not secret any more.
func holdsPrivateKey(b []byte) bool {
	var set struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(b, &set) != nil {
		return false
	}
	for _, key := range set.Keys {
		for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
			if key[member] != nil {
				return true
			}
		}
	}
	return false
}

// How long what a client publishes at its jwks_uri counts.
const (
	keySetLife    = 5 * time.Minute  // a key that was removed is refused after it
	keySetStale   = time.Hour        // … or after this, while the client's server cannot be reached
	keySetRetry   = 10 * time.Second // between fetches that fail
	keySetRefetch = 30 * time.Second // between fetches for a key that is not in the set: strangers can name any
	keySetTimeout = 5 * time.Second
	keySetsMost   = 1000
)

// keySets keeps what clients publish at their jwks_uri. Requests that need the same set at the same time share one fetch.
type keySets struct {
	fetch func(ctx context.Context, url string) ([]byte, error)
	now   func() time.Time

	mu    sync.Mutex
	byURL map[string]*keySet
}

type keySet struct {
	keys    []clientKey
	fetched time.Time // when keys came
	tried   time.Time // when the last fetch began
	err     error     // of the last fetch
	loading chan struct{}
}

func newKeySets(fetch func(ctx context.Context, url string) ([]byte, error), now func() time.Time) *keySets {
	return &keySets{fetch: fetch, now: now, byURL: map[string]*keySet{}}
}

// get returns the keys at a URL. missing says that the key that was looked for is not among those that get returned before.
func (s *keySets) get(ctx context.Context, url string, missing bool) ([]clientKey, error) {
	s.mu.Lock()
	set := s.byURL[url]
	if set == nil {
		set = &keySet{}
		s.makeRoom()
		s.byURL[url] = set
	}
	if set.loading == nil && set.due(s.now(), missing) {
		set.loading, set.tried = make(chan struct{}), s.now()
		go s.load(url, set) //nolint:gosec // others wait for it, too: see load
	}
	loading := set.loading
	s.mu.Unlock()
	if loading != nil {
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.fetched.IsZero() || s.now().Sub(set.fetched) > keySetStale {
		return nil, set.err
	}
	return set.keys, nil
}

func (s *keySet) due(now time.Time, missing bool) bool {
	since := now.Sub(s.tried)
	switch {
	case s.tried.IsZero():
		return true
	case s.err != nil:
		return since >= keySetRetry
	case missing:
		return since >= keySetRefetch
	}
	return since >= keySetLife
}

// load fetches for whoever waits; that the first of them goes away does not concern the others.
func (s *keySets) load(url string, set *keySet) {
	ctx, cancel := context.WithTimeout(context.Background(), keySetTimeout)
	defer cancel()
	b, err := s.fetch(ctx, url)
	var keys []clientKey
	if err == nil {
		keys, err = parseKeySet(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set.err = err
	if err == nil {
		set.keys, set.fetched = keys, s.now()
	}
	close(set.loading)
	set.loading = nil
}

// fetchKeySet asks a client's server.
func fetchKeySet(ctx context.Context, ask *outbound.Client, url string) ([]byte, error) {
	if ask == nil {
		return nil, errNoFetch
	}
	body, _, err := ask.Get(ctx, url, "application/jwk-set+json, application/json", maxKeySet)
	return body, err
}

// makeRoom forgets the set that was asked for longest ago.
func (s *keySets) makeRoom() {
	if len(s.byURL) < keySetsMost {
		return
	}
	oldest := ""
	for url, set := range s.byURL {
		if set.loading == nil && (oldest == "" || set.tried.Before(s.byURL[oldest].tried)) {
			oldest = url
		}
	}
	delete(s.byURL, oldest)
}
