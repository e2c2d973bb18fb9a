package oauth

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// dpopAlgs are the algorithms of DPoP proofs.
var dpopAlgs = []string{"ES256", algEdDSA, algEd25519, "PS256"}

// How long a DPoP proof counts.
const (
	proofLife   = time.Minute     // behind its iat, for a proof without nonce
	nonceSlot   = time.Minute     // a nonce is good in the slot it is made in,
	nonceSlots  = 2               // … and in so many after it
	proofMemory = 4 * time.Minute // longer than either
)

// confirmation is the cnf claim: what the bearer of a token must hold (RFC 7800 §3.1, RFC 8705 §3.1, RFC 9449 §6.1).
type confirmation struct {
	JKT         string `json:"jkt,omitempty"`
	Certificate string `json:"x5t#S256,omitempty"`
}

// tokenType is the token_type of tokens that are tied so; certificates need no scheme of their own.
func (c *confirmation) tokenType() string {
	if c != nil && c.JKT != "" {
		return "DPoP"
	}
	return "Bearer"
}

// binding is what ties a refresh token to a key or certificate; the zero value means nothing does.
func (c *confirmation) binding() (b [refreshBindingSize]byte) {
	switch {
	case c == nil:
	case c.JKT != "":
		sum := sha256.Sum256([]byte("jkt:" + c.JKT))
		copy(b[:], sum[:])
	case c.Certificate != "":
		sum := sha256.Sum256([]byte("x5t:" + c.Certificate))
		copy(b[:], sum[:])
	}
	return b
}

// proof is a DPoP proof (RFC 9449 §4.2) taken apart.
type proof struct {
	proofClaims
	alg, token string
	jwk        jose.JSONWebKey
}

type proofClaims struct {
	ID       string       `json:"jti"`
	Method   string       `json:"htm"`
	URL      string       `json:"htu"`
	IssuedAt *numericDate `json:"iat"`
	Hash     string       `json:"ath"`
	Nonce    string       `json:"nonce"`
}

func proofError(hint string) error { return newError("invalid_dpop_proof", hint) }

// parseProof reads a proof and the public key it brings. Nothing but the form is checked, and that its signature is the key's.
func parseProof(token string) (*proof, error) {
	p := &proof{token: token}
	h, err := parseJWS(token, &p.proofClaims)
	switch {
	case err != nil:
		return nil, proofError("The DPoP proof is not a signed JWT.")
	case h.Typ != "dpop+jwt": // RFC 8725 §3.11: no other token of the client is a proof
		return nil, proofError("The typ of the DPoP proof must be dpop+jwt.")
	case !slices.Contains(dpopAlgs, h.Alg):
		return nil, proofError("The algorithm of the DPoP proof is not supported: use " + strings.Join(dpopAlgs, ", ") + ".")
	case h.JWK == nil || holdsPrivateKey([]byte(`{"keys":[`+string(h.JWK)+`]}`)):
		return nil, proofError("The DPoP proof must bring its public key, and only that, as jwk.")
	case p.jwk.UnmarshalJSON(h.JWK) != nil || !usable(p.jwk):
		return nil, proofError("The jwk of the DPoP proof is not a public key that can be used.")
	case !(clientKey{key: p.jwk.Key}).fits(h.Alg):
		return nil, proofError("The jwk of the DPoP proof is not of its algorithm.")
	case p.ID == "" || len(p.ID) > 1024:
		return nil, proofError("The DPoP proof needs a jti.")
	case p.IssuedAt == nil:
		return nil, proofError("The DPoP proof needs an iat.")
	case !verifyJWS(token, h.Alg, p.jwk.Key):
		return nil, proofError("The signature of the DPoP proof does not fit its key.")
	}
	p.alg = h.Alg
	return p, nil
}

// proven checks the DPoP proof of a request to one of our paths and returns the thumbprint of its key; "" if there is no
// proof. With an access token the proof must be for it.
func (s *Server) proven(r *http.Request, path, accessToken string) (jkt string, err error) {
	switch len(r.Header["Dpop"]) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", proofError("Send one DPoP proof.")
	}
	p, err := parseProof(r.Header["Dpop"][0])
	if err != nil {
		return "", err
	}
	switch {
	case p.Method != r.Method:
		return "", proofError("The htm of the DPoP proof is not the method of the request.")
	case !s.isAddress(p.URL, path):
		return "", proofError("The htu of the DPoP proof is not the address of the request.")
	case accessToken != "" && p.Hash != tokenHash(accessToken):
		return "", proofError("The ath of the DPoP proof is not the hash of the access token.")
	}
	if err := s.checkFresh(p); err != nil {
		return "", err
	}
	thumbprint, err := p.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", proofError("The jwk of the DPoP proof is not a public key that can be used.")
	}
	jkt = base64.RawURLEncoding.EncodeToString(thumbprint)
	return jkt, s.spendProof(r.Context(), jkt, p.ID)
}

// checkFresh bounds the age of a proof by a nonce of ours or else by its own word.
func (s *Server) checkFresh(p *proof) error {
	now := s.Now()
	if p.Nonce != "" {
		if !s.isNonce(p.Nonce) {
			return newError("use_dpop_nonce", "The nonce of the DPoP proof is not one of this server, or is old.")
		}
		return nil
	}
	if s.RequireDPoPNonce {
		return newError("use_dpop_nonce", "The DPoP proof needs a nonce of this server.")
	}
	at, ok := p.IssuedAt.time()
	if !ok || at.After(now.Add(clockSkew)) || at.Before(now.Add(-proofLife)) {
		return proofError("The iat of the DPoP proof is not now.")
	}
	return nil
}

// spendProof lets each proof count once (RFC 9449 §11.1).
func (s *Server) spendProof(ctx context.Context, jkt, id string) error {
	sum := sha256.Sum256([]byte(jkt + "\x00" + id))
	first, err := s.Cache.Add(ctx, "proof:"+base64.RawURLEncoding.EncodeToString(sum[:]), proofMemory)
	if err == nil && !first {
		err = proofError("The DPoP proof was used before.")
	}
	return err
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isAddress compares an htu with the addresses of one of our paths, as they are configured: a Host header has no say. Query
// and fragment do not count (RFC 9449 §4.3), nor does spelling that RFC 3986 §6.2.2 and §6.2.3 make equal.
func (s *Server) isAddress(htu, path string) bool {
	have, ok := normalURL(htu)
	if !ok {
		return false
	}
	for _, base := range []string{s.Site.Issuer(), s.Certificates.URL} {
		if want, ok := normalURL(base + path); ok && base != "" && have == want {
			return true
		}
	}
	return false
}

func normalURL(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURILength || u.Hostname() == "" || u.User != nil || u.Opaque != "" || strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname())
	port := u.Port()
	if scheme != "https" && scheme != "http" {
		return "", false
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		port = ""
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", false
		}
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	root := &url.URL{Scheme: scheme, Host: host, Path: "/"}
	return root.ResolveReference(&url.URL{Scheme: scheme, Host: host, Path: u.Path}).String(), true
}

// nonce gives the nonce of a slot of time. It is a MAC of the slot: every replica knows it, and nobody keeps it.
func (s *Server) nonce(slot int64) string {
	return base64.RawURLEncoding.EncodeToString(seal.MAC(s.RefreshKey, "dpop nonce", strconv.FormatInt(slot, 10))[:16])
}

func (s *Server) slot() int64 { return s.Now().Unix() / int64(nonceSlot/time.Second) }

// isNonce accepts the nonce of this slot, of those before that count, and of the next, for a replica whose clock is ahead.
func (s *Server) isNonce(nonce string) bool {
	for slot := s.slot() - nonceSlots; slot <= s.slot()+1; slot++ {
		if hmac.Equal([]byte(nonce), []byte(s.nonce(slot))) {
			return true
		}
	}
	return false
}

// offerNonce gives a client that sends proofs the nonce for its next one (RFC 9449 §8.2).
func (s *Server) offerNonce(w http.ResponseWriter, r *http.Request) {
	if s.RequireDPoPNonce && len(r.Header["Dpop"]) > 0 {
		w.Header().Set("DPoP-Nonce", s.nonce(s.slot()))
	}
}

// possession finds the key or certificate that the sender of a token request proves to hold; tokens will be tied to it. nil
// means that they are good for whoever bears them, which not every client may ask for.
func (s *Server) possession(r *http.Request, client *registration) (*confirmation, error) {
	jkt, err := s.proven(r, "/token", "")
	if err != nil {
		return nil, err
	}
	if jkt == "" && client.DPoPBound {
		return nil, proofError("The client is registered for tokens that are tied to a key: send a DPoP proof.")
	}
	c := &confirmation{JKT: jkt}
	if client.CertificateBound {
		certificate, _, err := s.Certificates.of(r)
		if err != nil || certificate == nil {
			return nil, fosite.ErrInvalidRequest.WithHint("The client is registered for tokens that are tied to its TLS certificate, and presented none.")
		}
		c.Certificate = certificateThumbprint(certificate)
	}
	if *c == (confirmation{}) {
		return nil, nil //nolint:nilnil // a bearer token
	}
	return c, nil
}

// errDowngrade says that a token was sent without the proof it is tied to.
var errDowngrade = newError("invalid_token", "The access token is not valid without proof of its key.")

// checkPossession wants of a request with an access token the proof that the token is tied to (RFC 9449 §7.1, RFC 8705 §3).
func (s *Server) checkPossession(r *http.Request, path string, c *accessClaims, token presentedToken) error {
	cnf := c.Confirmation
	if cnf == nil {
		cnf = &confirmation{}
	}
	if (cnf.JKT != "") != token.dpop { // a bound token as a bearer token, or the other way round
		return errDowngrade
	}
	if cnf.JKT != "" {
		jkt, err := s.proven(r, path, token.value)
		switch {
		case err != nil:
			return err
		case jkt == "":
			return proofError("The DPoP proof is missing.")
		case jkt != cnf.JKT:
			return proofError("The DPoP proof is by another key than the access token's.")
		}
	}
	if cnf.Certificate != "" {
		certificate, _, err := s.Certificates.of(r)
		if err != nil || certificate == nil || certificateThumbprint(certificate) != cnf.Certificate {
			return errDowngrade
		}
	}
	return nil
}
