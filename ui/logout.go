package ui

import (
	"html/template"
	"net/http"
	"net/url"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// logoutPage asks a person whether to sign out. Request is the app's request, which the form brings back, to be judged anew.
type logoutPage struct {
	Person  string
	Email   string
	App     string
	Refused string // what the app wanted and does not get: "" | "hint" | "redirect"
	Request []hidden
}

type hidden struct{ Name, Value string }

// logoutPage answers GET /logout: a person who wants to leave, or an app that wants them to (RP-Initiated Logout 1.0 §2).
func (p *Pages) logoutPage(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	l, err := p.readLogout(r, query)
	if err != nil {
		return err
	}
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	l = l.For(s.ID)
	if !signedIn {
		return p.farewell(w, r, l)
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	if l.Certain(s, u.Email) {
		return p.depart(w, r, s, l)
	}
	page := logoutPage{Person: u.ID, Email: u.Email, Refused: l.Refused}
	if l.Client.ID != "" {
		page.App = describe(l.Client).Name
	}
	if l.Next != "" {
		page.Request = logoutRequest(query)
	}
	return p.render(w, r, view{Name: "logout", Content: page, AppScheme: l.AppScheme()})
}

// readLogout reads an app's request and takes note of the language it asks for.
func (p *Pages) readLogout(r *http.Request, f form) (oauth.Logout, error) {
	l, err := p.OAuth.ReadLogout(r.Context(), f.values)
	if err == nil {
		learn(r.Context(), func(a *audience) { a.app = uiLocales(l.UILocales) })
	}
	return l, err
}

// logoutRequest picks the parameters of an app's request out of what was sent.
func logoutRequest(f form) (request []hidden) {
	for _, name := range oauth.LogoutParameters {
		if v := f.value(name); v != "" {
			request = append(request, hidden{name, v})
		}
	}
	return request
}

// logout answers POST /logout: the button of our page, or an app's request, which may be a post from another site
// (RP-Initiated Logout 1.0 §2). What comes from elsewhere is asked about like any request of an app, whatever fields it has
// (logout CSRF).
func (p *Pages) logout(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	if p.cross.Check(r) != nil || f.value("person") == "" {
		return p.requestedByPost(w, r, f)
	}
	l, err := p.readLogout(r, f)
	if err != nil {
		return err
	}
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	l = l.For(s.ID)
	if !signedIn {
		return p.farewell(w, r, l)
	}
	if err := shownTo(r, s.UserID); err != nil {
		return err
	}
	return p.depart(w, r, s, l)
}

// maxLogoutRequest bounds what is carried from a post into an address, in bytes.
const maxLogoutRequest = 12 << 10

// requestedByPost turns an app's post into a GET: browsers attach no SameSite cookie to a form of another site.
func (p *Pages) requestedByPost(w http.ResponseWriter, r *http.Request, f form) error {
	query := url.Values{}
	for _, one := range logoutRequest(f) {
		query.Set(one.Name, one.Value)
	}
	path := "/logout"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if len(path) > maxLogoutRequest {
		return errMalformed
	}
	return p.redirect(w, r, path)
}

// depart ends the session and says goodbye.
func (p *Pages) depart(w http.ResponseWriter, r *http.Request, s identity.Session, l oauth.Logout) error {
	frames, err := p.OAuth.Outbox.FrontChannel(r.Context(), s.UserID, s.ID)
	if err != nil {
		return err
	}
	if err := p.leave(w, r, s); err != nil {
		return err
	}
	if len(frames) == 0 {
		return p.farewell(w, r, l)
	}
	page := logoutFramesPage{signedOutPage: signedOut(l)}
	for _, f := range frames {
		page.Frames = append(page.Frames, template.URL(f)) //nolint:gosec // registered: https or loopback
	}
	return p.render(w, r, view{Name: "logout_frames", Refresh: l.Next, Frames: frames, Content: page})
}

// signedOutPage is where signing out ends.
type signedOutPage struct {
	Next template.URL // where the app wants the person; empty: nowhere
	App  string
}

func signedOut(l oauth.Logout) signedOutPage {
	if l.Next == "" {
		return signedOutPage{}
	}
	return signedOutPage{Next: template.URL(l.Next), App: describe(l.Client).Name} //nolint:gosec // registered: https, loopback or a private-use scheme
}

// logoutFramesPage loads a page of each app that forgets the person then (Front-Channel Logout 1.0). Browsers move on only
// when all are there; the script ends the wait for one that never comes.
type logoutFramesPage struct {
	signedOutPage
	Frames []template.URL
}

// farewell sends a person who is signed out where the app wants them, or shows that it is done. Next was compared with what
// the app has registered.
func (p *Pages) farewell(w http.ResponseWriter, r *http.Request, l oauth.Logout) error {
	switch {
	case l.Next == "":
		return p.redirect(w, r, "/signed-out")
	case r.Method != http.MethodPost || l.AppScheme() != "":
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, l.Next, http.StatusSeeOther)
		return nil
	}
	// A page that moves on by itself, for the reason that onward gives.
	return p.render(w, r, view{Name: "signed_out", Refresh: l.Next, Content: signedOut(l)})
}

func (p *Pages) signedOutPage(w http.ResponseWriter, r *http.Request) error {
	return p.render(w, r, view{Name: "signed_out", Content: signedOutPage{}})
}
