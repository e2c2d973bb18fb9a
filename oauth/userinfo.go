package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/keys"
)

// userinfo answers GET and POST /userinfo (OpenID Connect Core §5.3) for an access token in the header or in a POST body
// (RFC 6750 §2.1, §2.2), never in the query.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	s.offerNonce(w, r)
	token, err := sentToken(r)
	if err != nil {
		s.challenge(w, http.StatusBadRequest, token.dpop, "invalid_request", "Send exactly one access token, in the Authorization header or the body.")
		return nil
	}
	if token.value == "" {
		s.challenge(w, http.StatusUnauthorized, false, "", "")
		return nil
	}
	c, err := s.checkAccessToken(r.Context(), token.value)
	if err == nil {
		err = s.checkPossession(r, "/userinfo", c, token)
	}
	switch {
	case errors.Is(err, errTokenInactive):
		s.challenge(w, http.StatusUnauthorized, token.dpop, "invalid_token", "The access token is not valid.")
		return nil
	case err != nil:
		s.refuseToken(w, r, token.dpop || c != nil && c.tokenType() == "DPoP", err)
		return nil
	case !slices.Contains(c.scopes(), scopeOpenID), !slices.Contains(c.Audience, s.Site.Issuer()): // one for an API does not open this (token redirect)
		s.challenge(w, http.StatusForbidden, token.dpop, "insufficient_scope", "The access token lacks the scope openid.")
		return nil
	}
	if c.tellsSubjectOnly() {
		s.writeUserinfo(w, r, c.ClientID, map[string]any{"sub": c.Subject})
		return nil
	}
	user, err := s.People.User(r.Context(), c.userID)
	if gone(err) || (err == nil && user.Status != "active") {
		s.challenge(w, http.StatusUnauthorized, token.dpop, "invalid_token", "The access token is not valid.")
		return nil
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	claims := selectClaims(user, c.scopes(), c.Userinfo)
	claims["sub"] = c.Subject
	client, err := s.Clients.registration(r.Context(), c.ClientID)
	if err == nil {
		err = s.addRights(r.Context(), claims, client.Client, user.ID, c.scopes(), c.Userinfo, maxUserinfoRights)
	}
	if err == nil {
		err = s.addAttributes(r.Context(), claims, c.ClientID, user.ID, c.scopes(), identity.InUserinfo)
	}
	if err != nil {
		s.writeError(w, r, err)
		return nil
	}
	s.writeUserinfo(w, r, c.ClientID, claims)
	return nil
}

// writeUserinfo answers in JSON, or as a JWT, signed or encrypted, if the client is registered for that (OpenID Connect Core §5.3.2). The JWT has no exp, so that it
// cannot pass for an ID token, and says so in its typ.
func (s *Server) writeUserinfo(w http.ResponseWriter, r *http.Request, clientID string, claims map[string]any) {
	client, err := s.Clients.registration(r.Context(), clientID)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if client.UserinfoAlg == "" && client.UserinfoKeyAlg == "" {
		writeJSON(w, http.StatusOK, claims)
		return
	}
	claims["iss"], claims["aud"] = s.Site.Issuer(), client.ID
	token, err := s.protectUserinfo(r.Context(), client, claims)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/jwt")
	h["Cache-Control"], h["Pragma"] = noStore, noCache
	_, _ = io.WriteString(w, token)
}

// protectUserinfo signs claims, encrypts them, or both, in this order.
func (s *Server) protectUserinfo(ctx context.Context, client *registration, claims map[string]any) (string, error) {
	if client.UserinfoAlg == "" {
		plain, err := json.Marshal(claims)
		if err != nil {
			return "", err
		}
		return client.encrypt(ctx, s.keySets, client.UserinfoKeyAlg, client.UserinfoEnc, (&jose.EncrypterOptions{}).WithType(typUserinfo), plain)
	}
	token, err := s.Keys.Sign(ctx, keys.Alg(client.UserinfoAlg), typUserinfo, claims)
	if err != nil {
		return "", err
	}
	return client.nested(ctx, s.keySets, client.UserinfoKeyAlg, client.UserinfoEnc, token)
}

// typUserinfo keeps signed claims from being taken for an ID token, as a hint or in an exchange (RFC 8725 §3.11).
const typUserinfo = "userinfo+jwt"

// refuseToken answers a request whose access token is not valid here, or not with this proof.
func (s *Server) refuseToken(w http.ResponseWriter, r *http.Request, dpop bool, err error) {
	e := describe(err)
	if e.status >= http.StatusInternalServerError {
		s.writeError(w, r, err)
		return
	}
	if e.Code == "use_dpop_nonce" {
		w.Header().Set("DPoP-Nonce", s.nonce(s.slot()))
	}
	s.challenge(w, http.StatusUnauthorized, dpop, e.Code, e.Description)
}

// challenge answers a request without a good access token (RFC 6750 §3, RFC 9449 §7.1). Who sent none learns both ways.
func (s *Server) challenge(w http.ResponseWriter, status int, dpop bool, code, description string) {
	bearer, bound := `Bearer realm="`+s.Site.Issuer()+`"`, `DPoP realm="`+s.Site.Issuer()+`", algs="`+strings.Join(dpopAlgs, " ")+`"`
	if code == "" {
		w.Header()["Www-Authenticate"] = []string{bearer, bound}
		w.WriteHeader(status)
		return
	}
	value := bearer
	if dpop {
		value = bound
	}
	w.Header().Set("WWW-Authenticate", value+`, error="`+code+`", error_description="`+description+`"`)
	writeJSON(w, status, rfcError{Code: code, Description: description})
}

// presentedToken is an access token as a request brought it.
type presentedToken struct {
	value string // "" if there is none
	dpop  bool   // under the scheme DPoP, not as a bearer token
}

var errSentToken = errors.New("not exactly one access token")

// headerToken finds the access token in the header of a request.
func headerToken(r *http.Request) (token presentedToken, err error) {
	switch headers := r.Header.Values("Authorization"); len(headers) {
	case 0:
	case 1:
		scheme, value, ok := strings.Cut(headers[0], " ")
		token.dpop = strings.EqualFold(scheme, "DPoP")
		if !ok || !token.dpop && !strings.EqualFold(scheme, "Bearer") || value == "" || strings.ContainsAny(value, " \t,") {
			return token, errSentToken
		}
		token.value = value
	default:
		return token, errSentToken
	}
	return token, nil
}

// sentToken finds the access token in the header of a request or, as only RFC 6750 has it, in a form.
func sentToken(r *http.Request) (token presentedToken, err error) {
	if token, err = headerToken(r); err != nil {
		return token, err
	}
	if r.URL.Query().Has("access_token") {
		return token, errSentToken
	}
	if r.Method != http.MethodPost || r.ContentLength == 0 {
		return token, nil
	}
	form, err := postedForm(r)
	if err != nil {
		if token.value != "" && r.Header.Get("Content-Type") == "" {
			return token, nil
		}
		return token, errSentToken
	}
	if posted := form.Get("access_token"); posted != "" {
		if token.value != "" {
			return token, errSentToken
		}
		token.value = posted
	}
	return token, nil
}
