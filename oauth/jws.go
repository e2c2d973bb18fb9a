package oauth

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses a member that stands twice, and takes names by the letter
)

// maxJWS bounds what a client may send as one signed text.
const maxJWS = 16 << 10

// clockSkew is how far a client's clock may be wrong.
const clockSkew = 30 * time.Second

var errMalformedJWS = errors.New("not a signed JWT in compact form")

// joseHeader is what is read of the header of a JWS that a client made. Keys and addresses of keys that it brings along (jwk, jku, x5u,
// x5c) are not read at all; DPoP, whose proofs do bring their key, reads it by itself.
type joseHeader struct {
	Alg  string          `json:"alg"`
	KID  string          `json:"kid"`
	Typ  string          `json:"typ"`
	JWK  json.RawMessage `json:"jwk"`
	Crit json.RawMessage `json:"crit"`
	B64  json.RawMessage `json:"b64"`
}

// parseJWS takes a compact JWS apart. Nothing is verified.
func parseJWS(token string, claims any) (joseHeader, error) {
	var h joseHeader
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 || len(token) > maxJWS {
		return h, errMalformedJWS
	}
	for i, into := range []any{&h, claims} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil || len(text) == 0 || text[0] != '{' || json.Unmarshal(text, into) != nil {
			return h, errMalformedJWS
		}
	}
	if h.Crit != nil || h.B64 != nil { // changes the rules (RFC 7515 §4.1.11, RFC 7797)
		return h, errMalformedJWS
	}
	return h, nil
}

// The two names of one algorithm: RFC 9864 §2.2 calls EdDSA on the curve Ed25519 by its curve, as oauth4webapi and openid-client do.
const (
	algEdDSA   = "EdDSA"
	algEd25519 = "Ed25519"
)

// namesOf lists the names by which an algorithm goes.
func namesOf(alg string) []string {
	if alg == algEdDSA || alg == algEd25519 {
		return []string{algEdDSA, algEd25519}
	}
	return []string{alg}
}

// verifyJWS reports whether one of the keys made the signature, by exactly this algorithm.
func verifyJWS(token, alg string, keys ...any) bool {
	if alg == algEd25519 { // go-jose knows the older name alone
		return verifyEd25519(token, keys)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return false
	}
	for _, key := range keys {
		if _, err := jws.Verify(key); err == nil {
			return true
		}
	}
	return false
}

func verifyEd25519(token string, keys []any) bool {
	at := strings.LastIndexByte(token, '.')
	if at < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(token[at+1:])
	if err != nil {
		return false
	}
	for _, key := range keys {
		if public, ok := key.(ed25519.PublicKey); ok && ed25519.Verify(public, []byte(token[:at]), signature) {
			return true
		}
	}
	return false
}

// numericDate is a time of RFC 7519 §2, which may have a fraction; nil if it is missing.
type numericDate float64

// time converts; ok is false for a number that is no moment.
func (n *numericDate) time() (at time.Time, ok bool) {
	f := float64(*n)
	if math.IsNaN(f) || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(f * 1000)), true
}
