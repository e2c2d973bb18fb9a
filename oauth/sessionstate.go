package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// CheckSessionPath is where the frame of check_session_iframe is: a page, see ui.
const CheckSessionPath = "/check-session"

// sessionState tells an app what to ask the frame of check_session_iframe about (OpenID Connect Session Management 1.0 §2), or "" if that is
// not offered, or the app has no origin that a frame could see. It holds for this app, at this origin, in this browser, until somebody
// signs in or out there; without the cookie nobody can make one or learn anything from it.
func (s *Server) sessionState(w http.ResponseWriter, r *http.Request, req *authorization) string {
	origin := browserOrigin(req.redirect)
	if !s.Site.Watched() || origin == "" {
		return ""
	}
	state := s.Site.BrowserState(r)
	if state == "" {
		state = s.Site.RenewBrowserState(w)
	}
	salt := rand.Text()
	return sessionStateOf(req.client.ID, origin, state, salt)
}

// sessionStateOf is what ui/assets/session.js computes as well.
func sessionStateOf(clientID, origin, browserState, salt string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{clientID, origin, browserState, salt}, " ")))
	return base64.RawURLEncoding.EncodeToString(sum[:]) + "." + salt
}

// browserOrigin is the origin of a website as its browser names it: without a port that goes without saying. Programs have none.
func browserOrigin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" || strings.HasSuffix(host, ":") {
		host = strings.TrimSuffix(strings.TrimSuffix(host, port), ":")
	}
	return u.Scheme + "://" + host
}
