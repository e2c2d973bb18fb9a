package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/ory/fosite"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// introspection is the answer of RFC 7662 §2.2.
type introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	NotBefore int64    `json:"nbf,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  audience `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`

	Permissions  []string      `json:"permissions,omitempty"` // those of the token that the person still has
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// introspect answers POST /introspect (RFC 7662). Only the client a token was issued to, or one that the token is meant
// for, learns anything of it; to others it is inactive, as if it did not exist.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	answer, err := s.introspection(r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) introspection(r *http.Request) (introspection, error) {
	form, err := bodyForm(r)
	if err != nil {
		return introspection{}, err
	}
	st := &state{}
	ctx := withState(r.Context(), st)
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return introspection{}, err
	}
	if st.client.Public() { // anybody can pose as it
		return introspection{}, fosite.ErrInvalidClient.WithHint("A public client cannot introspect tokens.")
	}
	token := form.Get("token")
	if token == "" {
		return introspection{}, newError("invalid_request", "The token is missing.")
	}
	if _, ok := parseRefreshToken(s.RefreshKey, token); ok {
		return s.introspectRefreshToken(ctx, token, st.client)
	}
	c, err := s.checkAccessToken(ctx, token)
	if errors.Is(err, errTokenInactive) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	if ok, err := s.mayIntrospect(ctx, st.client, c); err != nil || !ok {
		return introspection{}, err
	}
	permissions, err := s.stillPermitted(ctx, c)
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		Active: true, Permissions: permissions, Scope: c.Scope, ClientID: c.ClientID, TokenType: c.tokenType(), Expires: c.Expires, IssuedAt: c.IssuedAt, NotBefore: c.IssuedAt,
		Subject: c.Subject, Audience: c.Audience, Issuer: c.Issuer, ID: c.ID, AuthTime: c.AuthTime, ACR: c.ACR, Confirmation: c.Confirmation,
	}, nil
}

// mayIntrospect reports whether a client may learn of a token: its own, or one for the API that it is or speaks for.
func (s *Server) mayIntrospect(ctx context.Context, client *registration, c *accessClaims) (bool, error) {
	if c.ClientID == client.ID || slices.Contains(c.Audience, client.ID) {
		return true, nil
	}
	apis, err := s.People.ResourcesOf(ctx, client.ID)
	return slices.ContainsFunc(apis, func(a identity.API) bool { return slices.Contains(c.Audience, a.Identifier) }), err
}

// introspectRefreshToken answers the owner alone: a resource server has no business with a refresh token.
func (s *Server) introspectRefreshToken(ctx context.Context, token string, client *registration) (introspection, error) {
	g, err := s.Grants.find(ctx, token)
	if errors.Is(err, db.ErrNotFound) || (err == nil && g.ClientID != client.ID) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	if ok, err := s.mayUse(ctx, client.Client, g.UserID); err != nil || !ok {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: join(g.Scopes), ClientID: g.ClientID, TokenType: "refresh_token", Expires: g.ExpiresAt.Unix(),
		IssuedAt: g.UsedAt.Unix(), Subject: g.UserID, Issuer: s.Site.Issuer(),
	}, nil
}
