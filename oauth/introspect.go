package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

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
	Details      details       `json:"authorization_details,omitempty"`
	Act          *actor        `json:"act,omitempty"`

	attributes map[string]json.RawMessage // of the person, as the operator maps them
}

// MarshalJSON implements json.Marshaler.
func (i introspection) MarshalJSON() ([]byte, error) {
	type plain introspection
	body, err := withAttributes(plain(i), i.attributes)
	if err != nil {
		return nil, err
	}
	return json.Marshal(body)
}

// introspect answers POST /introspect (RFC 7662). Only the client a token was issued to, or one that the token is meant
// for, learns anything of it; to others it is inactive, as if it did not exist.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	st := &state{}
	answer, err := s.introspection(withState(r.Context(), st), r)
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	w.Header().Set("Vary", "Accept")
	if !wantsSigned(r) {
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
	token, err := s.Keys.Sign(r.Context(), introspectionAlg(st.client), typIntrospection, signedIntrospection{
		s.Site.Issuer(), st.client.ID, s.Now().Unix(), answer,
	})
	if err == nil {
		token, err = st.client.nested(r.Context(), s.keySets, st.client.IntrospectionKeyAlg, st.client.IntrospectionEnc, token)
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/"+typIntrospection)
	h["Cache-Control"], h["Pragma"] = noStore, noCache
	_, _ = io.WriteString(w, token)
	return nil
}

// typIntrospection keeps signed answers from being taken for tokens (RFC 9701 §5).
const typIntrospection = "token-introspection+jwt"

// signedIntrospection is an answer that can be kept as a proof. What it says of the token stands by itself, so that nobody takes the
// whole for the token.
type signedIntrospection struct {
	Issuer   string        `json:"iss"`
	Audience string        `json:"aud"`
	IssuedAt int64         `json:"iat"`
	Answer   introspection `json:"token_introspection"`
}

// wantsSigned reports whether a request names the signed form of the answer (RFC 9701 §4).
func wantsSigned(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(accept, ",") {
			if kind, params, err := mime.ParseMediaType(one); err == nil && kind == "application/"+typIntrospection && params["q"] != "0" {
				return true
			}
		}
	}
	return false
}

func (s *Server) introspection(ctx context.Context, r *http.Request) (introspection, error) {
	form, err := bodyForm(r)
	if err != nil {
		return introspection{}, err
	}
	st := requestState(ctx)
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
	attributes, err := s.accessAttributes(ctx, c.ClientID, c.userID, c)
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		attributes: attributes,
		Active:     true, Permissions: permissions, Scope: c.Scope, ClientID: c.ClientID, TokenType: c.tokenType(), Expires: c.Expires, IssuedAt: c.IssuedAt, NotBefore: c.IssuedAt,
		Subject: c.Subject, Audience: c.Audience, Issuer: c.Issuer, ID: c.ID, AuthTime: c.AuthTime, ACR: c.ACR, Confirmation: c.Confirmation, Act: c.Act, Details: c.Details,
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
		IssuedAt: g.UsedAt.Unix(), Subject: client.subject(g.UserID), Issuer: s.Site.Issuer(),
	}, nil
}
