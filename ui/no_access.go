package ui

import "net/http"

type noAccessPage struct {
	ID     string
	App    *app
	Email  string
	Person string // user id the page is shown to
}

// noAccessPage tells a signed-in person that the app is not for them; the app hears of it when they go back.
func (p *Pages) noAccessPage(w http.ResponseWriter, r *http.Request) error {
	v, u, ok, err := p.interactive(w, r)
	if !ok {
		return err
	}
	content := noAccessPage{ID: v.ID, App: v.app(), Email: u.Email, Person: u.ID}
	return p.show(w, r, v, view{Name: "no_access", Status: http.StatusForbidden, Title: p.locale(r.Context()).text("no_access.title", content.App.Name), Content: content})
}

// noAccess ends the app's request.
func (p *Pages) noAccess(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	v, u, ok, err := p.interactive(w, r)
	if !ok {
		return err
	}
	if f.value("person") != u.ID { // another tab signed somebody else in, who may use the app perhaps
		return p.onward(w, r, v, v.Session)
	}
	if err := p.OAuth.Deny(r.Context(), v.ID); err != nil {
		return expired(err)
	}
	return p.onward(w, r, v, v.Session)
}
