package ui

import "net/http"

type logoutPage struct{ Email string }

func (p *Pages) logoutPage(w http.ResponseWriter, r *http.Request) error {
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	if !signedIn {
		return p.redirect(w, r, "/signed-out")
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.render(w, r, view{Name: "logout", Content: logoutPage{Email: u.Email}})
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) error {
	if _, err := readForm(r); err != nil {
		return err
	}
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	if signedIn {
		if err := p.leave(w, r, s); err != nil {
			return err
		}
	}
	return p.redirect(w, r, "/signed-out")
}

func (p *Pages) signedOutPage(w http.ResponseWriter, r *http.Request) error {
	return p.render(w, r, view{Name: "signed_out"})
}
