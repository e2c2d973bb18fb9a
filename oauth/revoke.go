package oauth

import (
	"context"
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// revoke answers POST /revoke (RFC 7009). A token that is not known is revoked already; a store that is down is no success.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	if err := s.revocation(r); err != nil {
		s.writeError(w, r, err)
		return nil
	}
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) revocation(r *http.Request) error {
	form, err := bodyForm(r)
	if err != nil {
		return err
	}
	st := &state{}
	ctx := withState(r.Context(), st)
	if _, err := s.authenticateClient(ctx, r, form); err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return newError("invalid_request", "The token is missing.")
	}
	if _, ok := parseRefreshToken(s.RefreshKey, token); ok {
		return s.revokeRefreshToken(ctx, token, st.client)
	}
	c, err := s.checkAccessToken(ctx, token)
	if errors.Is(err, errTokenInactive) {
		return s.revokeInactive(ctx, token, st.client)
	}
	if err != nil {
		return err
	}
	if c.ClientID != st.client.ID {
		return newError("unauthorized_client", "The token was issued to another client.")
	}
	s.Audit.Record(ctx, audit.Event{Action: "token.revoke", Actor: st.client.ID, UserID: c.userID, ClientID: c.ClientID})
	return s.Revocations.forever(ctx, markToken(c.ID))
}

// revokeInactive keeps an access token that is not good at the moment from becoming so again: a person may be let into an app's group
// tomorrow.
func (s *Server) revokeInactive(ctx context.Context, token string, client *registration) error {
	c, err := s.verified.get(s, token)
	if err != nil || c.ClientID != client.ID || len(client.AllowGroups) == 0 || c.Expires <= s.Now().Unix() {
		return nil //nolint:nilerr // revoked already (RFC 7009 §2.2)
	}
	return s.Revocations.forever(ctx, markToken(c.ID))
}

// revokeRefreshToken ends the whole grant, access tokens included (RFC 7009 §2.1). A token that was rotated does it too: an
// app that signs a person out may never have got the answer that brought the successor.
func (s *Server) revokeRefreshToken(ctx context.Context, token string, client *registration) error {
	g, err := s.Grants.family(ctx, token)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if g.ClientID != client.ID {
		return newError("unauthorized_client", "The token was issued to another client.")
	}
	s.Audit.Record(ctx, audit.Event{Action: "grant.revoke", Actor: client.ID, UserID: g.UserID, ClientID: g.ClientID, Detail: map[string]string{"grant_id": g.ID}})
	return s.Grants.revoke(ctx, g.ID)
}
