package oauth

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// scopeGlobalRevocation is needed to end everything of a person, beside an operator's permission for the client.
const scopeGlobalRevocation = "global_token_revocation"

// subjectID names a person (RFC 9493 §3).
type subjectID struct {
	Format  string `json:"format"`
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
	ID      string `json:"id"`
	Email   string `json:"email"`
}

// revokeEverything answers POST /global-token-revocation (draft-parecki-oauth-global-token-revocation): every session, grant and token
// of a person ends, and all apps are told.
func (s *Server) revokeEverything(w http.ResponseWriter, r *http.Request, client *registration) error {
	var asked struct {
		Subject subjectID `json:"sub_id"`
	}
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	ctx := r.Context()
	id := asked.Subject.Subject
	switch asked.Subject.Format {
	case "iss_sub":
		if asked.Subject.Issuer != s.Site.Issuer() {
			id = "" // somebody else's person
		}
	case "opaque":
		id = asked.Subject.ID
	case "email":
		u, err := s.People.UserByEmail(ctx, asked.Subject.Email)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		id = u.ID
	default:
		return newError("invalid_request", "The format of sub_id must be iss_sub, opaque or email.")
	}
	_, err := s.People.User(ctx, id)
	if err == nil {
		_, err = s.People.EndSessions(ctx, id, "")
	}
	if errors.Is(err, db.ErrNotFound) {
		writeJSON(w, http.StatusNotFound, rfcError{Code: "not_found", Description: "The person is not known here."})
		return nil
	}
	if err != nil {
		return err
	}
	s.Audit.Record(ctx, audit.Event{Action: "token.revoke_all", Actor: client.ID, UserID: id, ClientID: client.ID})
	w.WriteHeader(http.StatusNoContent)
	return nil
}
