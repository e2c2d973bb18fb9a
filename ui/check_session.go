package ui

import (
	"html/template"
	"net/http"

	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// checkSessionRoutes are there only if operators want them.
func (p *Pages) checkSessionRoutes() []web.Route {
	if !p.Site.Watched() {
		return nil
	}
	return []web.Route{{Pattern: "GET " + oauth.CheckSessionPath, Handler: p.checkSession}}
}

// checkSessionPage has nothing to see, and is the same for everybody.
var checkSessionPage = template.Must(template.New("check_session").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Session</title><script src="{{.Script}}" data-cookie="{{.Cookie}}"></script></head><body></body></html>
`))

// checkSessionPolicy is the only one that lets other sites frame a page. There is nothing on it to click.
const checkSessionPolicy = "default-src 'none'; script-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors *"

// checkSession answers GET /check-session: the frame of check_session_iframe (OpenID Connect Session Management 1.0 §3.2). It tells an app
// nothing but whether a session_state that the app already has still holds.
func (p *Pages) checkSession(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", checkSessionPolicy)
	h.Set("Cache-Control", "no-cache")
	return checkSessionPage.Execute(w, struct{ Script, Cookie string }{p.Site.Path("/assets/" + p.assets.names["session.js"]), p.Site.StateCookie()})
}
