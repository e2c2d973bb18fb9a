package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/ory/fosite"
	"github.com/ory/fosite/token/jwt"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/keys"
)

// idClaims is the body of an ID token (OpenID Connect Core §2). Claims about the person belong to userinfo; only those
// asked for one by one are added.
type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	AuthTime int64    `json:"auth_time,omitempty"`
	Nonce    string   `json:"nonce,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	Hash     string   `json:"at_hash,omitempty"`
	CodeHash string   `json:"c_hash,omitempty"`
	Session  string   `json:"sid,omitempty"`
	ID       string   `json:"jti"`
	GrantID  string   `json:"gid,omitempty"` // for clients that may exchange it
}

// idTokens makes ID tokens. fosite's own strategy would add a private claim, invent auth_time, and judge max_age twice.
type idTokens struct{ *Server }

// GenerateIDToken implements openid.OpenIDConnectTokenStrategy.
func (i *idTokens) GenerateIDToken(ctx context.Context, lifespan time.Duration, r fosite.Requester) (string, error) {
	client, sess := r.GetClient().(*registration), r.GetSession().(*session)
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	now := i.Now()
	c := &idClaims{
		Issuer: i.Site.Issuer(), Subject: client.subject(sess.Subject), Audience: client.ID, Expires: now.Add(lifespan).Unix(), IssuedAt: now.Unix(),
		ACR: sess.ACR, AMR: sess.AMR, Hash: sess.IDTokenClaims().AccessTokenHash, Session: client.session(sess.SessionID), ID: id.String(),
	}
	if !sess.Undated {
		c.AuthTime = sess.AuthTime.Unix()
	}
	if slices.Contains(client.GrantTypes, GrantTokenExchange) {
		c.GrantID = sess.GrantID
	}
	st := requestState(ctx)
	if st.code != nil || st.front != nil { // a refreshed ID token has none (OpenID Connect Core §12.2)
		c.Nonce = sess.Nonce
	}
	var told []string // scopes whose claims it tells
	if st.front != nil {
		c.CodeHash = st.front.codeHash
		if st.front.alone {
			told = r.GetGrantedScopes()
		}
	}
	place := identity.InIDToken
	if told != nil { // there is no access token for userinfo: it tells what that would
		place = identity.InUserinfo
	}
	more, err := i.attributes(ctx, client.ID, sess.Subject, r.GetGrantedScopes(), place)
	if err != nil {
		return "", err
	}
	if told == nil && (sess.Claims == nil || len(sess.Claims.IDToken) == 0) && !wantsRights(r.GetGrantedScopes(), nil) && len(more) == 0 {
		return i.signIDToken(ctx, client, c)
	}
	all, err := i.withMoreClaims(ctx, c, client.Client, sess, r.GetGrantedScopes(), told)
	if err != nil {
		return "", err
	}
	for name, value := range more {
		if _, taken := all[name]; !taken {
			all[name] = value
		}
	}
	return i.signIDToken(ctx, client, all)
}

// signIDToken signs and, for clients that are registered for it, then encrypts (OpenID Connect Core §2).
func (s *Server) signIDToken(ctx context.Context, client *registration, claims any) (string, error) {
	token, err := s.Keys.Sign(ctx, keys.Alg(client.IDTokenAlg), "JWT", claims)
	if err != nil {
		return "", err
	}
	return client.nested(ctx, s.keySets, client.IDTokenKeyAlg, client.IDTokenEnc, token)
}

// withMoreClaims adds what the claims parameter asked to see in the ID token, and groups and roles, which most apps look for there;
// protocol claims are never replaced. The claims of the scopes told are for userinfo otherwise.
func (i *idTokens) withMoreClaims(ctx context.Context, c *idClaims, client Client, sess *session, scopes, told []string) (map[string]any, error) {
	all, asked := map[string]any{}, []string(nil)
	if sess.Claims != nil {
		asked = sess.Claims.idTokenNames()
	}
	if len(asked) > 0 || len(told) > 0 {
		user, err := i.People.User(ctx, sess.Subject)
		if err != nil {
			return nil, err
		}
		all = selectClaims(user, told, asked)
	}
	if err := i.addRights(ctx, all, client, sess.Subject, scopes, asked, maxTokenRights); err != nil {
		return nil, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(b, &all)
}

// hint is what an id_token_hint proves: which person the app saw last, and which app. It may have expired, and its key
// may be retired (OpenID Connect Core §3.1.2.1); it must be ours.
type hint struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Session  string   `json:"sid"`
}

// parseHint reads a hint. One that was encrypted to the client must be decrypted by it first; it may be encrypted anew, to this server
// (OpenID Connect Core §3.1.2.1).
func (s *Server) parseHint(ctx context.Context, token string) (hint, error) {
	token, err := s.unsealed(ctx, token)
	if err != nil {
		return hint{}, err
	}
	verified, err := s.Keys.VerifyHint(token)
	if err != nil {
		return hint{}, err
	}
	var h hint
	if err := json.Unmarshal(verified.Claims, &h); err != nil {
		return hint{}, err
	}
	if verified.Typ != "JWT" || h.Issuer != s.Site.Issuer() || h.Subject == "" {
		return hint{}, keys.ErrSignature
	}
	return h, nil
}

// hintSigner is the part of fosite's jwt.Signer that its request validator uses: reading an id_token_hint.
type hintSigner struct{ *Server }

var errNotUsed = errors.New("fosite does not sign here")

// Decode implements jwt.Signer.
func (h *hintSigner) Decode(ctx context.Context, token string) (*jwt.Token, error) {
	parsed, err := h.parseHint(ctx, token)
	if err != nil {
		return nil, &jwt.ValidationError{Errors: jwt.ValidationErrorSignatureInvalid, Inner: err}
	}
	return &jwt.Token{Claims: jwt.MapClaims{"sub": parsed.Subject}}, nil
}

// Generate implements jwt.Signer.
func (h *hintSigner) Generate(context.Context, jwt.MapClaims, jwt.Mapper) (string, string, error) {
	return "", "", errNotUsed
}

// Validate implements jwt.Signer.
func (h *hintSigner) Validate(context.Context, string) (string, error) { return "", errNotUsed }

// GetSignature implements jwt.Signer.
func (h *hintSigner) GetSignature(context.Context, string) (string, error) { return "", errNotUsed }

// Hash implements jwt.Signer.
func (h *hintSigner) Hash(context.Context, []byte) ([]byte, error) { return nil, errNotUsed }

// GetSigningMethodLength implements jwt.Signer.
func (h *hintSigner) GetSigningMethodLength(context.Context) int { return 0 }

// gone reports whether an error says that a person is not there any more.
func gone(err error) bool { return errors.Is(err, db.ErrNotFound) }
