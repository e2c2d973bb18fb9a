package oauth

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// userinfo answers GET and POST /userinfo (OpenID Connect Core §5.3) for an access token in the header or in a POST body
// (RFC 6750 §2.1, §2.2), never in the query.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	token, err := bearerToken(r)
	if err != nil {
		s.challenge(w, r, http.StatusBadRequest, "invalid_request", "Send exactly one access token, in the Authorization header or the body.")
		return nil
	}
	if token == "" {
		s.challenge(w, r, http.StatusUnauthorized, "", "")
		return nil
	}
	c, err := s.checkAccessToken(r.Context(), token)
	switch {
	case errors.Is(err, errTokenInactive):
		s.challenge(w, r, http.StatusUnauthorized, "invalid_token", "The access token is not valid.")
		return nil
	case err != nil:
		s.writeError(w, r, err)
		return nil
	case !slices.Contains(c.scopes(), scopeOpenID):
		s.challenge(w, r, http.StatusForbidden, "insufficient_scope", "The access token lacks the scope openid.")
		return nil
	}
	if c.tellsSubjectOnly() {
		writeJSON(w, http.StatusOK, map[string]string{"sub": c.Subject})
		return nil
	}
	user, err := s.People.User(r.Context(), c.Subject)
	if gone(err) || (err == nil && user.Status != "active") {
		s.challenge(w, r, http.StatusUnauthorized, "invalid_token", "The access token is not valid.")
		return nil
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	claims := selectClaims(user, c.scopes(), c.Userinfo)
	client, err := s.Clients.registration(r.Context(), c.ClientID)
	if err == nil {
		err = s.addRights(r.Context(), claims, client.Client, user.ID, c.scopes(), c.Userinfo, maxUserinfoRights)
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	writeJSON(w, http.StatusOK, claims)
	return nil
}

// challenge answers a request without a good access token (RFC 6750 §3).
func (s *Server) challenge(w http.ResponseWriter, _ *http.Request, status int, code, description string) {
	value := `Bearer realm="` + s.Site.Issuer() + `"`
	if code == "" {
		w.Header().Set("WWW-Authenticate", value)
		w.WriteHeader(status)
		return
	}
	w.Header().Set("WWW-Authenticate", value+`, error="`+code+`", error_description="`+description+`"`)
	writeJSON(w, status, rfcError{Code: code, Description: description})
}

var errBearer = errors.New("not exactly one bearer token")

// bearerToken finds the access token of a request; "" if there is none.
func bearerToken(r *http.Request) (string, error) {
	var token string
	switch headers := r.Header.Values("Authorization"); len(headers) {
	case 0:
	case 1:
		scheme, value, ok := strings.Cut(headers[0], " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || value == "" || strings.ContainsAny(value, " \t,") {
			return "", errBearer
		}
		token = value
	default:
		return "", errBearer
	}
	if r.URL.Query().Has("access_token") {
		return "", errBearer
	}
	if r.Method != http.MethodPost || r.ContentLength == 0 {
		return token, nil
	}
	form, err := postedForm(r)
	if err != nil {
		if token != "" && r.Header.Get("Content-Type") == "" {
			return token, nil
		}
		return "", errBearer
	}
	if posted := form.Get("access_token"); posted != "" {
		if token != "" {
			return "", errBearer
		}
		token = posted
	}
	return token, nil
}
