package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

// LogoutAddresses are where an app is told that a person signed out, and where people go who signed out of it. The JSON
// names are those of the three logout specifications of OpenID Connect.
type LogoutAddresses struct {
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI   string   `json:"backchannel_logout_uri,omitempty"`
	BackchannelSession     bool     `json:"backchannel_logout_session_required,omitempty"` // every logout token has a sid anyway
	FrontchannelLogoutURI  string   `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelSession    bool     `json:"frontchannel_logout_session_required,omitempty"` // every call has iss and sid anyway
}

func (a LogoutAddresses) validate(redirects []string) error {
	if len(a.PostLogoutRedirectURIs) > maxListLength {
		return fmt.Errorf("post_logout_redirect_uris: at most %d", maxListLength)
	}
	for _, u := range a.PostLogoutRedirectURIs {
		if err := validateRedirectURI(u); err != nil {
			return fmt.Errorf("post_logout_redirect_uris: %s", strings.TrimPrefix(err.Error(), "redirect_uri "))
		}
	}
	for name, u := range map[string]string{"backchannel_logout_uri": a.BackchannelLogoutURI, "frontchannel_logout_uri": a.FrontchannelLogoutURI} {
		if u != "" && (!webURL(u) || strings.ContainsAny(u, "# \\")) {
			return fmt.Errorf("%s %q: give an https URL without fragment (http only on loopback)", name, u)
		}
	}
	// Front-Channel Logout 1.0 §2. Else any page on the web could be framed where people sign out.
	if u := a.FrontchannelLogoutURI; u != "" && !slices.ContainsFunc(redirects, func(r string) bool { return originOf(r) == originOf(u) }) {
		return fmt.Errorf("frontchannel_logout_uri %q: must have the scheme, host and port of a redirect URI", u)
	}
	return nil
}

// originOf is scheme, host and port of a URL, "" for what has none.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// Why a person who signs out stays here although an app wanted them back.
const (
	RefusedHint     = "hint"     // the ID token is not one of ours, or speaks of another app
	RefusedRedirect = "redirect" // the address is not registered for the app
)

// Logout is an app's request that a person signs out (OpenID Connect RP-Initiated Logout 1.0 §2).
type Logout struct {
	Client     Client // who asks; the zero Client if that is not known
	SessionID  string // that a genuine ID token speaks of, "" without one
	LogoutHint string
	UILocales  []string
	Next       string // where the person goes afterwards: registered for Client, with the state. "": nowhere
	Refused    string // why Next is empty

	names *registration // who made up SessionID and, maybe, LogoutHint
}

// LogoutParameters are those of a logout request.
var LogoutParameters = []string{"id_token_hint", "logout_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"}

// ReadLogout reads a logout request. What is wrong with it never keeps a person from signing out: it costs the app the
// redirect, since an address that nobody vouches for would make this server an open redirector.
func (s *Server) ReadLogout(ctx context.Context, form url.Values) (Logout, error) {
	out := Logout{names: &registration{}, LogoutHint: form.Get("logout_hint"), UILocales: strings.Fields(form.Get("ui_locales"))}
	id := form.Get("client_id")
	if raw := form.Get("id_token_hint"); raw != "" {
		// May have expired, and its key may be gone; ours it must be: neither alg none nor a client's own signature.
		h, err := s.parseHint(ctx, raw)
		if err != nil || len(h.Audience) != 1 || id != "" && id != h.Audience[0] {
			out.Refused = RefusedHint
			s.Log.InfoContext(ctx, "logout request with a foreign id_token_hint", "client_id", id)
			return out, nil
		}
		id, out.SessionID = h.Audience[0], h.Session
	}
	if id != "" {
		client, err := s.Clients.registration(ctx, id)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return Logout{}, err
		}
		if err == nil && !client.Disabled {
			out.Client, out.names = client.Client, client
		}
	}
	if target := form.Get("post_logout_redirect_uri"); target != "" {
		state := form.Get("state")
		if len(state) > maxState || !matchRedirect(out.Client.PostLogoutRedirectURIs, target) {
			out.Refused = RefusedRedirect
			s.Log.InfoContext(ctx, "logout request with an address that is not registered", "client_id", out.Client.ID)
			return out, nil
		}
		out.Next = withParameters(target, map[string]string{"state": state})
	}
	return out, nil
}

// Certain reports whether the person need not be asked: the app has shown an ID token of this very session, which no other site
// can have (logout CSRF). A logout_hint that names somebody else makes it doubtful.
func (l Logout) Certain(sess identity.Session, email string) bool {
	names := l.names
	if names == nil {
		names = &registration{}
	}
	known := l.LogoutHint == "" || slices.Contains([]string{names.session(sess.ID), names.subject(sess.UserID)}, l.LogoutHint) || strings.EqualFold(l.LogoutHint, email)
	return l.SessionID != "" && l.SessionID == names.session(sess.ID) && known
}

// For is what holds for a visitor with a session, or ("") without one. An app that registered itself sends people on only from a session
// that it has shown an ID token of: else anybody could register an address and make this server an open redirector.
func (l Logout) For(sessionID string) Logout {
	if l.Next != "" && l.Client.SelfMade() && (l.SessionID == "" || l.SessionID != sessionID) {
		l.Next, l.Refused = "", RefusedRedirect
	}
	return l
}

// AppScheme is the private-use scheme of a program that the person goes back to, with its colon; "" for a website.
func (l Logout) AppScheme() string {
	if l.Next == "" {
		return ""
	}
	return appScheme(l.Next)
}

// withParameters adds parameters to a registered address, whose own query stays as it is, byte by byte. Empty ones are left out.
func withParameters(address string, parameters map[string]string) string {
	query := url.Values{}
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
	switch {
	case len(query) == 0:
		return address
	case strings.Contains(address, "?"):
		return address + "&" + query.Encode()
	}
	return address + "?" + query.Encode()
}
