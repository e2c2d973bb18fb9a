package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/keys"
)

// typAccessToken keeps ID tokens from being taken for access tokens and the other way round (RFC 9068 §4).
const typAccessToken = "at+jwt"

// errTokenInactive says that an access token is not (any more) valid here.
var errTokenInactive = errors.New("access token is not active")

// accessClaims is the body of an access token (RFC 9068 §2.2).
type accessClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	Expires   int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	GrantID   string   `json:"gid,omitempty"` // see newGrantID
	SessionID string   `json:"sid,omitempty"`
	Sealed    string   `json:"held,omitempty"`     // see conceal
	Userinfo  []string `json:"userinfo,omitempty"` // claims asked for one by one (OpenID Connect Core §5.5)

	Permissions  []string      `json:"permissions,omitempty"` // see permissionNames
	Confirmation *confirmation `json:"cnf,omitempty"`

	Details details  `json:"authorization_details,omitempty"` // RFC 9396 §9.1
	Act     *actor   `json:"act,omitempty"`                   // who acts for the subject (RFC 8693 §4.1)
	Sources []source `json:"src,omitempty"`                   // the tokens for which it was given, the first one first

	userID, sessionID string // by their own names, see reveal
}

func (c *accessClaims) scopes() []string { return strings.Fields(c.Scope) }

// tellsSubjectOnly reports that nothing about the person is covered beside the subject: then nothing about them is read, let
// alone decrypted. That the person still has an account is known by the marks of revocation.
func (c *accessClaims) tellsSubjectOnly() bool {
	return len(c.Userinfo) == 0 && !slices.ContainsFunc(c.scopes(), func(s string) bool { return s != scopeOpenID && s != scopeOfflineAccess })
}

// tokenType is how the token is to be presented (RFC 6749 §7.1, RFC 9449 §5).
func (c *accessClaims) tokenType() string { return c.Confirmation.tokenType() }

// audience is one string or a list of them (RFC 7519 §4.1.3).
type audience []string

// MarshalJSON implements json.Marshaler.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// accessTokens makes access tokens: signed or sealed, not stored.
type accessTokens struct{ *Server }

// AccessTokenSignature implements oauth2.AccessTokenStrategy. Nothing is stored under it: an ES256 signature can be changed
// into another valid one.
func (a *accessTokens) AccessTokenSignature(context.Context, string) string { return "" }

// ValidateAccessToken implements oauth2.AccessTokenStrategy.
func (a *accessTokens) ValidateAccessToken(ctx context.Context, _ fosite.Requester, token string) error {
	_, err := a.checkAccessToken(ctx, token)
	return err
}

// GenerateAccessToken implements oauth2.AccessTokenStrategy.
func (a *accessTokens) GenerateAccessToken(ctx context.Context, r fosite.Requester) (token, signature string, err error) {
	client, sess := r.GetClient().(*registration), r.GetSession().(*session)
	id, err := uuid.NewV7()
	if err != nil {
		return "", "", fmt.Errorf("token id: %w", err)
	}
	c := accessClaims{
		Issuer: a.Site.Issuer(), Subject: sess.Subject, Expires: sess.GetExpiresAt(fosite.AccessToken).Unix(), IssuedAt: a.Now().Unix(), ID: id.String(),
		ClientID: client.ID, Scope: join(r.GetGrantedScopes()), ACR: sess.ACR, AMR: sess.AMR, GrantID: sess.GrantID, SessionID: sess.SessionID,
		Confirmation: requestState(ctx).confirmation, Act: sess.Act, Sources: sess.sources, Details: requestState(ctx).details,
	}
	if c.Subject == "" {
		c.Subject = client.ID // RFC 9068 §2.2: no person is involved
	}
	if !sess.AuthTime.IsZero() && !sess.Undated {
		c.AuthTime = sess.AuthTime.Unix()
	}
	if sess.Claims != nil {
		c.Userinfo = sess.Claims.userinfoNames()
	}
	if t := requestState(ctx).target; t != nil {
		c.Audience, c.Scope = t.resources.identifiers(), join(t.scopes)
		if !t.resources.own() {
			c.Userinfo = nil
		}
	} else {
		c.Audience = a.audience(client, sess, r.GetGrantedScopes())
	}
	if c.Permissions, err = a.tokenPermissions(ctx, client.Client, sess.Subject, r.GetGrantedScopes(), c.Audience); err != nil {
		return "", "", err
	}
	a.conceal(&c, client)
	if requestState(ctx).opaque {
		token, err = a.sealToken(&c)
		return token, "", err
	}
	more, err := a.accessAttributes(ctx, client.ID, sess.Subject, &c)
	if err != nil {
		return "", "", err
	}
	body, err := withAttributes(&c, more)
	if err != nil {
		return "", "", err
	}
	token, err = a.Keys.Sign(ctx, keys.ES256, typAccessToken, body)
	return token, "", err
}

// accessAttributes gives the custom attributes that an access token tells, or introspection of one, which knows what holds by now.
func (s *Server) accessAttributes(ctx context.Context, clientID, userID string, c *accessClaims) (map[string]json.RawMessage, error) {
	if userID == "" || userID == clientID { // no person is involved
		return nil, nil
	}
	return s.attributes(ctx, clientID, userID, c.scopes(), identity.InAccessToken)
}

// audience is what an access token is for that was not asked for by name. A token for userinfo is meant for this server; other audiences are the APIs the client is registered for.
func (s *Server) audience(client *registration, sess *session, scopes []string) (a audience) {
	if sess.Subject == "" && slices.ContainsFunc(scopes, ownScope) {
		return audience{s.Site.Issuer()}
	}
	if len(client.Audiences) == 0 || slices.Contains(scopes, scopeOpenID) {
		a = append(a, s.Site.Issuer())
	}
	return append(a, client.Audiences...)
}

// checkAccessToken verifies a token and that nothing it depends on has ended since: the token itself, its grant, session,
// person, consent, and client. errTokenInactive says no; other errors are the server's own.
func (s *Server) checkAccessToken(ctx context.Context, token string) (*accessClaims, error) {
	c, err := s.verified.get(s, token)
	if err != nil {
		return nil, err
	}
	if c.Expires <= s.Now().Unix() {
		return nil, errTokenInactive
	}
	client, err := s.Clients.registration(ctx, c.ClientID)
	if errors.Is(err, db.ErrNotFound) || (err == nil && client.Disabled) {
		return nil, errTokenInactive
	}
	// A client that was deleted and registered anew under its id does not inherit the tokens of the first (identifier reuse).
	if err == nil && c.IssuedAt < client.CreatedAt.Unix() {
		return nil, errTokenInactive
	}
	if err != nil {
		return nil, err
	}
	revoked, err := s.Revocations.revoked(ctx, grantedAt(c.GrantID), marksOf(c)...)
	if err != nil {
		return nil, err
	}
	if revoked {
		return nil, errTokenInactive
	}
	if c.GrantID != "" {
		if cut, err := s.Revocations.revoked(ctx, time.Unix(c.IssuedAt, 0), markCut(c.GrantID)); err != nil || cut {
			return nil, cmp.Or(err, errTokenInactive)
		}
		if ok, err := s.mayUse(ctx, client.Client, c.userID); err != nil || !ok {
			return nil, cmp.Or(err, errTokenInactive)
		}
		if ok, err := s.sourcesActive(ctx, c); err != nil || !ok {
			return nil, cmp.Or(err, errTokenInactive)
		}
	}
	return c, nil
}

// readToken reads an access token of either form.
func (s *Server) readToken(token string) (*accessClaims, error) {
	if strings.HasPrefix(token, opaquePrefix) {
		return s.openToken(token)
	}
	verified, err := s.Keys.Verify(token)
	if err != nil || verified.Typ != typAccessToken {
		return nil, errTokenInactive
	}
	c := &accessClaims{}
	if json.Unmarshal(verified.Claims, c) != nil {
		return nil, errTokenInactive
	}
	return c, nil
}

// marksOf lists the marks that would concern a token.
func marksOf(c *accessClaims) []string {
	if c.GrantID == "" {
		return []string{markToken(c.ID)}
	}
	marks := []string{markToken(c.ID), markGrant(c.GrantID), markSession(c.sessionID), markUser(c.userID), markApp(c.userID, c.ClientID)}
	if c.sessionID == c.GrantID {
		marks = append(marks, markDevices(c.userID))
	}
	for _, from := range c.Sources {
		marks = append(marks, markToken(from.ID), markApp(c.userID, from.ClientID))
	}
	return marks
}

// newGrantID makes a UUIDv7 whose time is the moment at which session and consent were found good: whatever ends a person or
// a consent after that ends this grant, however late its tokens are signed (revocation race).
func newGrantID(granted time.Time) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("grant id: %w", err)
	}
	ms := granted.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) //nolint:gosec // one byte after the other
	}
	return id.String(), nil
}

// grantedAt reads the moment back out of a grant's id.
func grantedAt(grantID string) time.Time {
	id, err := uuid.Parse(grantID)
	if err != nil {
		return time.Time{} // dead under any mark
	}
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(id[i])
	}
	return time.UnixMilli(ms)
}

// verifiedTokens remembers tokens whose signature was checked: resource servers ask about the same token again and
// again, and the answer to "did we sign this?" does not change while the token lives.
type verifiedTokens struct {
	mu     sync.RWMutex
	claims map[[sha256.Size]byte]*accessClaims
}

// verifiedMost bounds the memory: about 700 bytes a token.
const verifiedMost = 4096

func (v *verifiedTokens) get(s *Server, token string) (*accessClaims, error) {
	sum := sha256.Sum256([]byte(token))
	v.mu.RLock()
	c := v.claims[sum]
	v.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c, err := s.readToken(token)
	if err != nil {
		return nil, err
	}
	if c.Issuer != s.Site.Issuer() || s.reveal(c) != nil {
		return nil, errTokenInactive
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.claims) >= verifiedMost || v.claims == nil {
		v.claims = make(map[[sha256.Size]byte]*accessClaims)
	}
	v.claims[sum] = c
	return c, nil
}
