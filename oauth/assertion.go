package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"
)

// assertionLife is how far ahead a client assertion may expire. Its jti is remembered for as long.
const assertionLife = time.Hour

// assertion is a client assertion (RFC 7523 §3, OpenID Connect Core §9) taken apart.
type assertion struct {
	assertionClaims
	header joseHeader
	token  string
}

type assertionClaims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  listed       `json:"aud"`
	Expires   *numericDate `json:"exp"`
	NotBefore *numericDate `json:"nbf"`
	IssuedAt  *numericDate `json:"iat"`
	ID        string       `json:"jti"`
}

// listed is an audience that remembers whether it came as a list.
type listed struct {
	audience
	list bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *listed) UnmarshalJSON(b []byte) error {
	l.list = len(b) > 0 && b[0] == '['
	return l.audience.UnmarshalJSON(b)
}

func assertionError(hint string) error { return fosite.ErrInvalidClient.WithHint(hint) }

func parseAssertion(token string) (*assertion, error) {
	a := &assertion{token: token}
	var err error
	if a.header, err = parseJWS(token, &a.assertionClaims); err != nil {
		return nil, assertionError("The client assertion is not a signed JWT.")
	}
	return a, nil
}

// checkAssertion believes an assertion if it is signed by the client's own key, names the client and this server, is of now, and was
// never used before.
func (s *Server) checkAssertion(ctx context.Context, client *registration, a *assertion) error {
	switch strings.ToLower(a.header.Typ) {
	case "", "jwt", "client-authentication+jwt":
	default: // an access token, a request object or a proof by the same key is no assertion (RFC 8725 §3.11)
		return assertionError("The client assertion has the typ of another kind of token.")
	}
	switch {
	case !slices.Contains(client.assertionAlgs(), a.header.Alg):
		return assertionError("The client assertion is signed with an algorithm that the client is not registered for.")
	case a.Issuer != client.ID || a.Subject != client.ID:
		return assertionError("The iss and sub of the client assertion must be the client_id.")
	case a.ID == "" || len(a.ID) > 1024:
		return assertionError("The client assertion needs a jti.")
	}
	if err := s.checkAudience(client, a.Audience); err != nil {
		return err
	}
	expires, err := s.checkTimes(a)
	if err != nil {
		return err
	}
	signed, err := s.verifyAssertion(ctx, client, a)
	if err != nil {
		return err
	}
	if !signed {
		return assertionError("The signature of the client assertion does not fit the client's keys.")
	}
	// Last, so that nobody else can use up the client's ids (denial of service); in one step, so that of two copies one wins.
	sum := sha256.Sum256([]byte(client.ID + "\x00" + a.ID))
	first, err := s.Cache.Add(ctx, "assertion:"+base64.RawURLEncoding.EncodeToString(sum[:]), expires.Add(clockSkew).Sub(s.Now())+time.Second)
	if err != nil {
		return err
	}
	if !first {
		return assertionError("The client assertion was used before.")
	}
	return nil
}

// checkAudience wants every named audience to be this server: an assertion that is also meant for another one could be replayed
// from there. Clients of some profiles (FAPI) name the issuer alone, as a string, for a metadata document that lies cannot talk them out of
// it (audience injection).
func (s *Server) checkAudience(client *registration, aud listed) error {
	names := []string{s.Site.Issuer()}
	if !client.rules().issuerAlone {
		names = append(names, s.Site.URL("/token"), s.Site.URL("/par"), s.Site.URL("/bc-authorize"))
		if base := s.Certificates.URL; base != "" {
			names = append(names, base+"/token", base+"/par", base+"/bc-authorize")
		}
	} else if aud.list {
		return assertionError("The aud of the client assertion must be the issuer, as a string.")
	}
	if len(aud.audience) == 0 || slices.ContainsFunc(aud.audience, func(a string) bool { return !slices.Contains(names, a) }) {
		return assertionError("The aud of the client assertion must be the issuer of this server.")
	}
	return nil
}

func (s *Server) checkTimes(a *assertion) (expires time.Time, err error) {
	now := s.Now()
	if a.Expires == nil {
		return expires, assertionError("The client assertion needs an exp.")
	}
	expires, ok := a.Expires.time()
	switch {
	case !ok || expires.After(now.Add(assertionLife+clockSkew)):
		return expires, assertionError("The client assertion expires too far in the future.")
	case !expires.After(now.Add(-clockSkew)):
		return expires, assertionError("The client assertion has expired.")
	}
	for _, since := range []*numericDate{a.NotBefore, a.IssuedAt} {
		if since == nil {
			continue
		}
		if at, ok := since.time(); !ok || at.After(now.Add(clockSkew)) {
			return expires, assertionError("The client assertion is from the future.")
		}
	}
	return expires, nil
}

// verifyAssertion looks for the key of the client that made the signature.
func (s *Server) verifyAssertion(ctx context.Context, client *registration, a *assertion) (bool, error) {
	if client.AuthMethod == AuthSecretJWT {
		secrets := make([]any, len(client.readable))
		for i, secret := range client.readable {
			secrets[i] = secret
		}
		if len(secrets) == 0 {
			return false, assertionError("The client has no secret for assertions: make a new one.")
		}
		return verifyJWS(a.token, a.header.Alg, secrets...), nil
	}
	signed, err := s.signedBy(ctx, client, a.token, a.header)
	if err != nil {
		s.Log.WarnContext(ctx, "keys of a client cannot be fetched", "client_id", client.ID, "err", err)
		return false, assertionError("The keys at the client's jwks_uri cannot be fetched.")
	}
	return signed, nil
}

// signedBy reports whether a registered key of the client made a signature. An error says that its keys cannot be fetched.
func (s *Server) signedBy(ctx context.Context, client *registration, token string, header joseHeader) (bool, error) {
	if client.JWKSURI == "" {
		return verifyByKeys(client.keys, token, header), nil
	}
	for _, missing := range []bool{false, true} { // the second time for a key that was published since
		keys, err := s.keySets.get(ctx, client.JWKSURI, missing)
		if err != nil {
			return false, err
		}
		if verifyByKeys(keys, token, header) {
			return true, nil
		}
	}
	return false, nil
}

func verifyByKeys(keys []clientKey, token string, header joseHeader) bool {
	var fitting []any
	for _, k := range candidates(keys, header.KID, header.Alg) {
		fitting = append(fitting, k.key)
	}
	return len(fitting) > 0 && verifyJWS(token, header.Alg, fitting...)
}
