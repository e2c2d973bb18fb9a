package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/ory/fosite"
)

// respond sends an authorization response or error to the app: by query, fragment or a form that posts itself. Every
// one carries iss (RFC 9207), and state as it came; or all of it as one signed JWT.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, req *authorization, params url.Values) {
	params.Set("iss", s.Site.Issuer())
	if req.state != "" {
		params.Set("state", req.state)
	}
	if !params.Has("error") || !req.client.stranger() { // who may watch the session is known to the operator, or to the person
		if state := s.sessionState(w, r, req); state != "" {
			params.Set("session_state", state)
		}
	}
	if req.signed {
		token, err := s.signAnswer(r.Context(), req.client, params)
		if err != nil {
			req.redirect = "" // nothing may go there unsigned
			_ = s.refuse(w, r, req, err)
			return
		}
		params = url.Values{"response": {token}}
	}
	w.Header()["Cache-Control"] = noStore
	w.Header()["Pragma"] = noCache
	w.Header()["Referrer-Policy"] = noReferrer // the answer, and what was asked, are for the app alone
	location := req.redirect
	switch req.mode {
	case fosite.ResponseModeFormPost:
		s.formPost(w, req.redirect, params)
		return
	case fosite.ResponseModeFragment:
		location += "#" + params.Encode()
	default:
		separator := "?"
		if strings.Contains(location, "?") {
			separator = "&" // the registered query stays as it is, byte by byte
		}
		location += separator + params.Encode()
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// unasked reports whether nobody has been looked for yet, for an app that nobody has looked at: it cannot have people sent to its address
// by a request that is wrong on purpose (RFC 9700 §4.11.2).
func (a *authorization) unasked() bool {
	return a.interaction == nil && a.client != nil && a.client.stranger()
}

// refuse tells the app why there is no code, if the request named a redirect URI that is registered; else it tells the person,
// on a page: an unchecked redirect would make this server an open redirector.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, req *authorization, err error) error {
	e := describe(err)
	if e.status >= http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "authorization failed", "err", err)
	} else {
		s.Log.InfoContext(r.Context(), "authorization refused", "client_id", req.clientID(), "error", e.Code, "description", e.Description)
	}
	if req == nil || req.redirect == "" || e.status == http.StatusServiceUnavailable || req.unasked() {
		page := ErrorPage{Status: http.StatusBadRequest, Code: e.Code, Key: "error.oauth." + e.Code}
		if e.Code == "invalid_request_uri" || e.Code == "expired_token" { // the same for the person: begin again at the app
			page.Key = "error.oauth.interaction_over"
		}
		if e.status >= http.StatusInternalServerError {
			page.Status = e.status
		}
		if e.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		var unread *DocumentError
		if errors.As(err, &unread) {
			page.Key = "error.oauth.client_document"
			s.Log.InfoContext(r.Context(), "client document refused", "host", unread.Host, "err", unread)
		}
		if req != nil && req.client != nil && req.client.Disabled && req.client.SelfMade() {
			page.Key = "error.oauth.client_blocked"
			s.errorPage(w, r, page) // without the name and the link that it has given itself
			return nil
		}
		if req != nil && req.client != nil && !req.client.stranger() {
			page.ClientName, page.ClientURI = req.client.Name, req.client.ClientURI
		}
		s.errorPage(w, r, page)
		return nil
	}
	s.respond(w, r, req, url.Values{"error": {e.Code}, "error_description": {e.Description}})
	return nil
}

// formPostScript submits the form; the policy allows it by its hash. Without scripts the button does it.
const formPostScript = "document.forms[0].submit()"

var formPostPage = template.Must(template.New("form_post").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Returning to the app</title></head>
<body><main><h1>Returning to the app</h1><form method="post" action="{{.Action}}">
{{range $name, $values := .Params}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}<noscript><button type="submit">Continue to the app</button></noscript>
</form></main><script>` + formPostScript + `</script></body></html>
`))

var formPostPolicy = func() string {
	sum := sha256.Sum256([]byte(formPostScript))
	// No form-action: browsers apply it to where the app redirects after the post, which is the app's business.
	return "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// formPost is OAuth 2.0 Form Post Response Mode. The action was registered and has a scheme that the server allows.
func (s *Server) formPost(w http.ResponseWriter, action string, params url.Values) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", formPostPolicy)
	_ = formPostPage.Execute(w, struct {
		Action template.URL // validateRedirectURI allows https, loopback and private-use schemes only
		Params url.Values
	}{template.URL(action), params}) //nolint:gosec // see the line above
}
