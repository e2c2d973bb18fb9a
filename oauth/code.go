package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// codeBytes is the entropy of an authorization code: 256 bits (RFC 6749 §10.10 asks for 128).
const codeBytes = 32

// codeRecord is all that a code stands for: the grant, the redirect URI, the PKCE challenge and the OpenID Connect part.
type codeRecord struct {
	ClientID    string    `json:"client_id"`
	IssuedAt    time.Time `json:"issued_at"`
	Scopes      []string  `json:"scopes"`
	RedirectURI string    `json:"redirect_uri,omitempty"` // as it was asked for; empty if it was left out
	Challenge   string    `json:"challenge,omitempty"`    // S256
	JKT         string    `json:"dpop_jkt,omitempty"`     // key that must redeem it (RFC 9449 §10)
	OpenID      bool      `json:"openid,omitempty"`
	Session     *session  `json:"session"`
}

// codeStrategy makes codes. What fosite calls their signature is the key under which the cache keeps the record: a hash, so that
// a dump of the cache holds no code.
type codeStrategy struct{}

// AuthorizeCodeSignature implements oauth2.AuthorizeCodeStrategy.
func (codeStrategy) AuthorizeCodeSignature(_ context.Context, code string) string {
	sum := sha256.Sum256([]byte(code))
	return "code:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

// GenerateAuthorizeCode implements oauth2.AuthorizeCodeStrategy.
func (c codeStrategy) GenerateAuthorizeCode(ctx context.Context, _ fosite.Requester) (code, key string, err error) {
	b := make([]byte, codeBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	code = base64.RawURLEncoding.EncodeToString(b)
	return code, c.AuthorizeCodeSignature(ctx, code), nil
}

// ValidateAuthorizeCode implements oauth2.AuthorizeCodeStrategy; a code that was found under its hash is genuine.
func (codeStrategy) ValidateAuthorizeCode(context.Context, fosite.Requester, string) error {
	return nil
}

// saveCode writes the record that fosite's handlers have filled: the one write of an authorization.
func (s *Server) saveCode(ctx context.Context) error {
	st := requestState(ctx)
	value, err := json.Marshal(st.code)
	if err != nil {
		return fmt.Errorf("encode code: %w", err)
	}
	// A used code stays known for as long again, so that a replay is recognised and ends the grant (RFC 6749 §4.1.2).
	return s.Cache.Put(ctx, st.codeKey, value, 2*s.CodeTTL)
}

// claimCode takes a code for this request; first is false if another request had it before.
func (s *Server) claimCode(ctx context.Context, key string) (record *codeRecord, first bool, err error) {
	value, first, ok, err := s.Cache.Claim(ctx, key)
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, db.ErrNotFound
	}
	record = &codeRecord{}
	if err := json.Unmarshal(value, record); err != nil {
		return nil, false, fmt.Errorf("decode code: %w", err)
	}
	if first && s.Now().After(record.IssuedAt.Add(s.CodeTTL)) {
		return nil, false, db.ErrNotFound
	}
	return record, first, nil
}
