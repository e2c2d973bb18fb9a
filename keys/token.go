package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxToken bounds the text that Verify looks at: a token arrives in a header or a form of at most this size.
const maxToken = 64 << 10

// allowed is the list of algorithms that may stand in a header: neither "none" nor any HMAC.
var allowed = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

// Verified is what a token says once its signature held. Nothing in Claims has been checked: not iss, not exp.
type Verified struct {
	Alg    Alg
	KID    string
	Typ    string
	Claims []byte // JSON object
}

// LogValue implements slog.LogValuer: claims are personal.
func (v Verified) LogValue() slog.Value { return slog.StringValue(v.Typ + " by " + v.KID) }

// Sign makes a compact JWS over claims, which must marshal to a JSON object, with the active key of alg. typ is the header's
// "typ": "JWT", "at+jwt" (RFC 9068), … It waits, within ctx, only while the first RSA key is being made.
func (r *Ring) Sign(ctx context.Context, alg Alg, typ string, claims any) (string, error) {
	if alg == RS256 {
		if err := r.wait(ctx); err != nil {
			return "", err
		}
	}
	k := r.keys.Load().active(alg, r.c.Now())
	if k == nil {
		return "", fmt.Errorf("no active %s key", alg)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	if payload[0] != '{' {
		return "", errors.New("claims are not a JSON object")
	}
	header, ok := k.headers[typ]
	if !ok {
		header = encodeHeader(k.Alg, k.KID, typ)
	}
	b64 := base64.RawURLEncoding
	token := make([]byte, 0, len(header)+b64.EncodedLen(len(payload))+1+b64.EncodedLen(rsaBits/8))
	token = append(token, header...)
	token = b64.AppendEncode(token, payload)
	signature, err := k.sign(token)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	token = append(token, '.')
	return string(b64.AppendEncode(token, signature)), nil
}

// Verify checks that a token was signed by one of this server's keys that is not gone. Otherwise ErrSignature.
func (r *Ring) Verify(token string) (Verified, error) { return r.verify(token, false) }

// VerifyHint is Verify that also accepts keys that are gone. It is for id_token_hint alone, which grants nothing and may be
// old (OpenID Connect Core §3.1.2.1).
func (r *Ring) VerifyHint(token string) (Verified, error) { return r.verify(token, true) }

func (r *Ring) verify(token string, hint bool) (Verified, error) {
	if len(token) > maxToken {
		return Verified{}, fmt.Errorf("%w: too long", ErrSignature)
	}
	head, err := header(token)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	// kid is a lookup among our own keys and nothing else; the key, not the header, says which algorithm is right.
	k := r.keys.Load().byKID[head["kid"]]
	switch {
	case k == nil:
		return Verified{}, fmt.Errorf("%w: unknown key", ErrSignature)
	case head["alg"] != string(k.Alg): // RFC 8725 §3.1, algorithm confusion
		return Verified{}, fmt.Errorf("%w: not the key's algorithm", ErrSignature)
	case !hint && k.state(r.c.Now()) == Gone:
		return Verified{}, fmt.Errorf("%w: key is gone", ErrSignature)
	}
	jws, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: malformed", ErrSignature)
	}
	payload, err := jws.Verify(k.jwk.Key)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: signature does not hold", ErrSignature)
	}
	// Base64 tolerates stray bits and line breaks: without this check one token has several spellings, and whoever
	// remembers tokens by their text (replay, revocation) can be passed by.
	if !strings.HasSuffix(token, "."+base64.RawURLEncoding.EncodeToString(jws.Signatures[0].Signature)) {
		return Verified{}, fmt.Errorf("%w: not canonical", ErrSignature)
	}
	return Verified{Alg: k.Alg, KID: k.KID, Typ: head["typ"], Claims: payload}, nil
}

// header reads the header of a token. Ours have alg, kid and typ, all strings; any other member (jwk, jku, x5u, x5c, crit,
// b64) is an attempt to bring a key along or to change the rules, and is refused (RFC 8725 §3.5, §3.10).
func header(token string) (map[string]string, error) {
	segment, _, ok := strings.Cut(token, ".")
	if !ok {
		return nil, errors.New("malformed")
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, errors.New("malformed")
	}
	var head map[string]string
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, errors.New("malformed header")
	}
	for name := range head {
		if name != "alg" && name != "kid" && name != "typ" {
			return nil, errors.New("foreign header member")
		}
	}
	return head, nil
}

// signer gives the JWS signature function of a private key (RFC 7518 §3.3, §3.4; RFC 8037 §3.1).
func signer(private crypto.Signer) func(input []byte) ([]byte, error) {
	switch p := private.(type) {
	case *rsa.PrivateKey:
		return func(input []byte) ([]byte, error) {
			sum := sha256.Sum256(input)
			return rsa.SignPKCS1v15(nil, p, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		return func(input []byte) ([]byte, error) {
			sum := sha256.Sum256(input)
			x, y, err := ecdsa.Sign(rand.Reader, p, sum[:])
			if err != nil {
				return nil, err
			}
			out := make([]byte, 64) // r || s, 32 bytes each
			x.FillBytes(out[:32])
			y.FillBytes(out[32:])
			return out, nil
		}
	case ed25519.PrivateKey:
		return func(input []byte) ([]byte, error) { return ed25519.Sign(p, input), nil }
	}
	return func([]byte) ([]byte, error) { return nil, fmt.Errorf("cannot sign with %T", private) }
}

// prebuilt encodes the headers that are in daily use.
func prebuilt(alg Alg, kid string) map[string]string {
	headers := map[string]string{}
	for _, typ := range []string{"JWT", "at+jwt", "logout+jwt", "token-introspection+jwt"} {
		headers[typ] = encodeHeader(alg, kid, typ)
	}
	return headers
}

// encodeHeader encodes a header with its final period.
func encodeHeader(alg Alg, kid, typ string) string {
	text, _ := json.Marshal(struct { // strings always marshal
		Alg Alg    `json:"alg"`
		KID string `json:"kid"`
		Typ string `json:"typ,omitempty"`
	}{alg, kid, typ})
	return base64.RawURLEncoding.EncodeToString(text) + "."
}
