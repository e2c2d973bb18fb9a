package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/google/uuid"
	"github.com/ory/fosite"
)

// A refresh token is grant id (16 bytes), generation (4), secret (32), a binding (16) if it is tied to a key, and a tag over
// them (16), in base64url. The tag
// proves that this server made the token, so that nobody can end a person's grant with an invented "old" token for a
// grant id read from an access token. The secret of the next generation follows from the token before it and the server's key: a
// replay within the window gets the very same successor without anything being stored for it.
const (
	refreshIDSize      = 16
	refreshSecretSize  = 32
	refreshBindingSize = 16
	refreshTagSize     = 16
	refreshTagged      = refreshIDSize + 4 + refreshSecretSize
	refreshSize        = refreshTagged + refreshTagSize
)

// refreshToken is a refresh token taken apart.
type refreshToken struct {
	grantID    uuid.UUID
	generation uint32
	secret     [refreshSecretSize]byte
	binding    [refreshBindingSize]byte // to the key of a public client (RFC 9449 §5, RFC 8705 §4); zero: none
}

func (t refreshToken) bound() bool { return t.binding != [refreshBindingSize]byte{} }

// encode gives the token as the client sees it.
func (t refreshToken) encode(key []byte) string {
	b := make([]byte, 0, refreshSize+refreshBindingSize)
	b = append(b, t.grantID[:]...)
	b = binary.BigEndian.AppendUint32(b, t.generation)
	b = append(b, t.secret[:]...)
	if t.bound() {
		b = append(b, t.binding[:]...)
	}
	b = append(b, refreshTag(key, b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseRefreshToken accepts only what encode made with the same key, in the one way it encodes.
func parseRefreshToken(key []byte, token string) (refreshToken, bool) {
	size := refreshSize
	if len(token) == base64.RawURLEncoding.EncodedLen(refreshSize+refreshBindingSize) {
		size += refreshBindingSize
	}
	if len(token) != base64.RawURLEncoding.EncodedLen(size) {
		return refreshToken{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || !hmac.Equal(b[size-refreshTagSize:], refreshTag(key, b[:size-refreshTagSize])) {
		return refreshToken{}, false
	}
	t := refreshToken{
		grantID:    uuid.UUID(b[:refreshIDSize]),
		generation: binary.BigEndian.Uint32(b[refreshIDSize:]),
		secret:     [refreshSecretSize]byte(b[refreshIDSize+4 : refreshTagged]),
	}
	if size > refreshSize {
		t.binding = [refreshBindingSize]byte(b[refreshTagged : refreshTagged+refreshBindingSize])
	}
	return t, true
}

// next is the one successor of a token.
func (t refreshToken) next(key []byte) refreshToken {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte("successor"))
	_, _ = h.Write(t.grantID[:])
	_ = binary.Write(h, binary.BigEndian, t.generation)
	_, _ = h.Write(t.secret[:])
	return refreshToken{grantID: t.grantID, generation: t.generation + 1, secret: [refreshSecretSize]byte(h.Sum(nil)), binding: t.binding}
}

func refreshTag(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte("tag"))
	_, _ = h.Write(b)
	return h.Sum(nil)[:refreshTagSize]
}

// hashRefreshToken is what the grant's row keeps.
func hashRefreshToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// refreshStrategy hands fosite the refresh tokens; what fosite calls their signature is the token itself, which the
// storage needs whole.
type refreshStrategy struct{ key []byte }

// RefreshTokenSignature implements oauth2.RefreshTokenStrategy.
func (refreshStrategy) RefreshTokenSignature(_ context.Context, token string) string { return token }

// GenerateRefreshToken implements oauth2.RefreshTokenStrategy: the successor after a rotation, else a new family.
func (r refreshStrategy) GenerateRefreshToken(ctx context.Context, requester fosite.Requester) (token, signature string, err error) {
	if t := requestState(ctx).successor; t != "" {
		return t, t, nil
	}
	id, err := uuid.Parse(requester.GetSession().(*session).GrantID)
	if err != nil {
		return "", "", err
	}
	t := refreshToken{grantID: id, generation: 1, binding: requestState(ctx).binding()}
	_, _ = rand.Read(t.secret[:]) // never fails (crypto/rand)
	token = t.encode(r.key)
	return token, token, nil
}

// ValidateRefreshToken implements oauth2.RefreshTokenStrategy; the rotation has judged it.
func (refreshStrategy) ValidateRefreshToken(context.Context, fosite.Requester, string) error {
	return nil
}

// binding is what the refresh token of this request is to be tied to. A confidential client's is tied to the client already.
func (st *state) binding() [refreshBindingSize]byte {
	if st.client == nil || !st.client.Public() {
		return [refreshBindingSize]byte{}
	}
	return st.confirmation.binding()
}

// heldBy decides whether the sender of a request holds the key that a token is tied to, before anything about the token is changed: a
// thief without the key cannot even end the grant. A token that is not tied yet is from now on, if the sender shows a key.
func (t refreshToken) heldBy(st *state) (refreshToken, bool) {
	if t.bound() {
		return t, t.binding == st.confirmation.binding()
	}
	t.binding = st.binding()
	return t, true
}
