package oauth

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/openid"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// store is fosite's storage over the request's state: an authorization writes one cache record, an exchange claims it
// and inserts at most one row, a refresh is one UPDATE.
type store struct{ *Server }

// GetClient implements fosite.ClientManager.
func (s *store) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	if c := requestState(ctx).client; c != nil && c.ID == id {
		return c, nil
	}
	c, err := s.Clients.registration(ctx, id)
	if errors.Is(err, db.ErrNotFound) {
		return nil, fosite.ErrNotFound
	}
	return c, err
}

// ClientAssertionJWTValid implements fosite.ClientManager; no client authenticates so.
func (s *store) ClientAssertionJWTValid(context.Context, string) error { return fosite.ErrJTIKnown }

// SetClientAssertionJWT implements fosite.ClientManager.
func (s *store) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return fosite.ErrJTIKnown
}

// CreateAuthorizeCodeSession implements oauth2.AuthorizeCodeStorage.
func (s *store) CreateAuthorizeCodeSession(ctx context.Context, key string, r fosite.Requester) error {
	st := requestState(ctx)
	st.codeKey = key
	st.code = &codeRecord{
		ClientID: r.GetClient().GetID(), IssuedAt: st.issuedAt, Scopes: r.GetGrantedScopes(),
		RedirectURI: r.GetRequestForm().Get("redirect_uri"), JKT: st.jkt, Session: r.GetSession().(*session),
	}
	return nil
}

// CreatePKCERequestSession implements pkce.PKCERequestStorage.
func (s *store) CreatePKCERequestSession(ctx context.Context, _ string, r fosite.Requester) error {
	requestState(ctx).code.Challenge = r.GetRequestForm().Get("code_challenge")
	return nil
}

// CreateOpenIDConnectSession implements openid.OpenIDConnectRequestStorage.
func (s *store) CreateOpenIDConnectSession(ctx context.Context, _ string, _ fosite.Requester) error {
	requestState(ctx).code.OpenID = true
	return nil
}

// GetAuthorizeCodeSession claims the code at its first call in a request and answers from the state after that. A code
// is claimed before anything about it is checked, so that no part of it can be guessed by trying.
func (s *store) GetAuthorizeCodeSession(ctx context.Context, key string, _ fosite.Session) (fosite.Requester, error) {
	st := requestState(ctx)
	if st.code != nil && st.codeKey == key {
		return s.codeRequest(ctx, st.code, url.Values{"redirect_uri": {st.code.RedirectURI}})
	}
	record, first, err := s.claimCode(ctx, key)
	if errors.Is(err, db.ErrNotFound) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	st.code, st.codeKey = record, key
	r, err := s.codeRequest(ctx, record, url.Values{"redirect_uri": {record.RedirectURI}})
	if err != nil {
		return nil, err
	}
	if !first {
		return r, fosite.ErrInvalidatedAuthorizeCode
	}
	if record.IssuedAt.Before(r.Client.(*registration).CreatedAt) { // a client that is gone asked for it (identifier reuse)
		return nil, fosite.ErrNotFound
	}
	st.pkceExcused = r.Client.(*registration).pkceExcused(record.Session.Nonce)
	return r, nil
}

// codeRequest gives a code's record the shape fosite wants.
func (s *store) codeRequest(ctx context.Context, record *codeRecord, form url.Values) (*fosite.Request, error) {
	client, err := s.GetClient(ctx, record.ClientID)
	if err != nil {
		return nil, err
	}
	return &fosite.Request{
		ID: record.Session.GrantID, RequestedAt: record.Session.RequestedAt, Client: client,
		RequestedScope: record.Scopes, GrantedScope: record.Scopes, Form: form, Session: record.Session,
	}, nil
}

// InvalidateAuthorizeCodeSession implements oauth2.AuthorizeCodeStorage; the claim has already done it.
func (s *store) InvalidateAuthorizeCodeSession(context.Context, string) error { return nil }

// GetPKCERequestSession implements pkce.PKCERequestStorage.
func (s *store) GetPKCERequestSession(ctx context.Context, key string, _ fosite.Session) (fosite.Requester, error) {
	st := requestState(ctx)
	if st.code == nil || st.codeKey != key || st.code.Challenge == "" {
		return nil, fosite.ErrNotFound
	}
	return s.codeRequest(ctx, st.code, url.Values{"code_challenge": {st.code.Challenge}, "code_challenge_method": {"S256"}})
}

// DeletePKCERequestSession implements pkce.PKCERequestStorage; the challenge dies with the code.
func (s *store) DeletePKCERequestSession(context.Context, string) error { return nil }

// GetOpenIDConnectSession implements openid.OpenIDConnectRequestStorage.
func (s *store) GetOpenIDConnectSession(ctx context.Context, _ string, _ fosite.Requester) (fosite.Requester, error) {
	st := requestState(ctx)
	if st.code == nil || !st.code.OpenID {
		return nil, openid.ErrNoSessionFound
	}
	return s.codeRequest(ctx, st.code, url.Values{"nonce": {st.code.Session.Nonce}})
}

// DeleteOpenIDConnectSession implements openid.OpenIDConnectRequestStorage; it dies with the code.
func (s *store) DeleteOpenIDConnectSession(context.Context, string) error { return nil }

// CreateAccessTokenSession implements oauth2.AccessTokenStorage; access tokens are JWTs and have no row.
func (s *store) CreateAccessTokenSession(context.Context, string, fosite.Requester) error { return nil }

// GetAccessTokenSession implements oauth2.AccessTokenStorage.
func (s *store) GetAccessTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, fosite.ErrNotFound
}

// DeleteAccessTokenSession implements oauth2.AccessTokenStorage.
func (s *store) DeleteAccessTokenSession(context.Context, string) error { return nil }

// GetRefreshTokenSession rotates the grant, in one statement, or finds that the token is a replay.
func (s *store) GetRefreshTokenSession(ctx context.Context, token string, _ fosite.Session) (fosite.Requester, error) {
	st := requestState(ctx)
	g, successor, err := s.Grants.rotate(ctx, token, st.client.ID, st.scopes)
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, fosite.ErrNotFound
	case err != nil:
		return nil, err
	}
	st.grant, st.successor = g, successor
	return &fosite.Request{
		ID: g.ID, RequestedAt: s.Now(), Client: st.client, RequestedScope: g.Scopes, GrantedScope: g.Scopes,
		Form: url.Values{}, Session: g.Session,
	}, nil
}

// CreateRefreshTokenSession writes the row of a new grant. After a rotation there is nothing to write.
func (s *store) CreateRefreshTokenSession(ctx context.Context, token, _ string, r fosite.Requester) error {
	st := requestState(ctx)
	if st.grant != nil {
		return nil
	}
	sess := r.GetSession().(*session)
	now := s.Now()
	st.grant = &grant{
		ID: sess.GrantID, UserID: sess.Subject, ClientID: r.GetClient().GetID(), SessionID: sess.SessionID,
		Scopes: r.GetGrantedScopes(), Session: sess, CreatedAt: grantedAt(sess.GrantID), UsedAt: now, ExpiresAt: now.Add(s.grantLife(st.client)),
	}
	if !sess.Until.IsZero() && sess.Until.Before(st.grant.ExpiresAt) {
		st.grant.ExpiresAt = sess.Until
	}
	return s.Grants.create(ctx, st.grant, token)
}

// DeleteRefreshTokenSession implements oauth2.RefreshTokenStorage; revoking the grant does it.
func (s *store) DeleteRefreshTokenSession(context.Context, string) error { return nil }

// RotateRefreshToken implements oauth2.RefreshTokenStorage; GetRefreshTokenSession has done it.
func (s *store) RotateRefreshToken(context.Context, string, string) error { return nil }

// RevokeRefreshToken ends a whole grant. fosite calls it when a code is presented twice.
func (s *store) RevokeRefreshToken(ctx context.Context, _ string) error {
	record := requestState(ctx).code
	if record == nil {
		return nil
	}
	return s.Grants.codeReplayed(ctx, record)
}

// RevokeAccessToken implements oauth2.TokenRevocationStorage; RevokeRefreshToken ends the access tokens as well.
func (s *store) RevokeAccessToken(context.Context, string) error { return nil }
