package web

import (
	"net/http"
	"time"
)

// Cookie names. Over https they get the __Host- prefix, which no sibling domain can set or overwrite (session fixation).
const (
	sessionCookie = "gatehouse-session"
	loginCookie   = "gatehouse-login"
	mailCookie    = "gatehouse-mail"
	browserCookie = "gatehouse-browser"
)

// SessionToken returns the session cookie's value, or "".
func (s Site) SessionToken(r *http.Request) string { return s.cookie(r, sessionCookie) }

// SetSessionToken sets the session cookie until expires.
func (s Site) SetSessionToken(w http.ResponseWriter, token string, expires time.Time) {
	s.setCookie(w, sessionCookie, token, expires)
	if s.watched {
		s.setBrowserState(w, expires)
	}
}

// ClearSessionToken removes the session cookie.
func (s Site) ClearSessionToken(w http.ResponseWriter) {
	s.setCookie(w, sessionCookie, "", time.Time{})
	if s.watched {
		s.RenewBrowserState(w)
	}
}

// BrowserSecret returns what tells this browser from others while nobody is signed in, or "".
func (s Site) BrowserSecret(r *http.Request) string { return s.cookie(r, browserCookie) }

// SetBrowserSecret keeps a browser's secret until expires.
func (s Site) SetBrowserSecret(w http.ResponseWriter, secret string, expires time.Time) {
	s.setCookie(w, browserCookie, secret, expires)
}

// LoginTicket returns the ticket of a login in progress for an interaction ("" for a login without one). Each interaction
// has a cookie of its own, so that tabs do not disturb each other.
func (s Site) LoginTicket(r *http.Request, interaction string) string {
	return s.cookie(r, ticketName(loginCookie, interaction))
}

// SetLoginTicket sets the ticket of a login in progress.
func (s Site) SetLoginTicket(w http.ResponseWriter, interaction, ticket string, expires time.Time) {
	s.setCookie(w, ticketName(loginCookie, interaction), ticket, expires)
}

// ClearLoginTicket removes the ticket of a login in progress.
func (s Site) ClearLoginTicket(w http.ResponseWriter, interaction string) {
	s.setCookie(w, ticketName(loginCookie, interaction), "", time.Time{})
}

// MailTicket returns the ticket of a sign-in by a code from a mail, per interaction as LoginTicket.
func (s Site) MailTicket(r *http.Request, interaction string) string {
	return s.cookie(r, ticketName(mailCookie, interaction))
}

// SetMailTicket sets the ticket of a sign-in by a code from a mail.
func (s Site) SetMailTicket(w http.ResponseWriter, interaction, ticket string, expires time.Time) {
	s.setCookie(w, ticketName(mailCookie, interaction), ticket, expires)
}

// ClearMailTicket removes the ticket of a sign-in by a code from a mail.
func (s Site) ClearMailTicket(w http.ResponseWriter, interaction string) {
	s.setCookie(w, ticketName(mailCookie, interaction), "", time.Time{})
}

func ticketName(cookie, interaction string) string {
	if interaction == "" {
		return cookie
	}
	return cookie + "-" + interaction
}

func (s Site) name(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

func (s Site) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(s.name(name))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie writes a cookie; the zero time deletes it. SameSite=Lax keeps it out of cross-site posts but lets a person
// arrive from an app's link signed in.
func (s Site) setCookie(w http.ResponseWriter, name, value string, expires time.Time) {
	c := &http.Cookie{Name: s.name(name), Value: value, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, Expires: expires}
	if expires.IsZero() {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
