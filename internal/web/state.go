package web

import (
	"crypto/rand"
	"net/http"
	"time"
)

// stateCookie holds the state of the browser for OpenID Connect Session Management: a random value that says nothing, and changes when
// somebody signs in or out.
const stateCookie = "gatehouse-state"

// Watching gives the site a browser state, which scripts of its own can read in frames on other sites.
func (s Site) Watching() Site {
	s.watched = true
	return s
}

// Watched reports whether the site has a browser state.
func (s Site) Watched() bool { return s.watched }

// StateCookie is the name under which the site's own script finds the browser state.
func (s Site) StateCookie() string { return s.name(stateCookie) }

// BrowserState returns the browser state, or "".
func (s Site) BrowserState(r *http.Request) string { return s.cookie(r, stateCookie) }

// RenewBrowserState gives the browser another state, which lasts until the browser is closed.
func (s Site) RenewBrowserState(w http.ResponseWriter) string {
	return s.setBrowserState(w, time.Time{})
}

// setBrowserState writes the one cookie that scripts may read and other sites' pages may bring along. Browsers take it for secure on
// loopback, too.
func (s Site) setBrowserState(w http.ResponseWriter, expires time.Time) string {
	state := rand.Text()
	http.SetCookie(w, &http.Cookie{
		Name: s.StateCookie(), Value: state, Path: "/", Secure: true, SameSite: http.SameSiteNoneMode, Expires: expires, HttpOnly: false,
	})
	return state
}
