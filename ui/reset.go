package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type resetPage struct {
	ID, Token, Email string
	Strength         *strength
	Errors           identity.FieldErrors
}

func readNewPassword(r *http.Request) (password string, err error) {
	f, err := readForm(r)
	return f.value("password"), err
}

func (p *Pages) resetPage(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	u, err := p.People.CheckLink(r.Context(), q.value("t"), identity.Reset)
	if err != nil {
		return p.deadLink(err, "reset.dead", "/forgot")
	}
	return p.render(w, r, view{Name: "reset", Content: resetPage{ID: q.value("i"), Token: q.value("t"), Email: u.Email}})
}

// reset sets the new password and sends the person to sign in with it: the link proves the mailbox, not the second factor.
func (p *Pages) reset(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	password, err := readNewPassword(r)
	if err != nil {
		return err
	}
	before, err := p.People.CheckLink(r.Context(), q.value("t"), identity.Reset)
	if err != nil {
		return p.deadLink(err, "reset.dead", "/forgot")
	}
	u, err := p.People.ResetPassword(r.Context(), q.value("t"), password)
	var errs identity.FieldErrors
	if errors.As(err, &errs) {
		return p.render(w, r, view{Name: "reset", Status: http.StatusUnprocessableEntity, Content: resetPage{
			ID: q.value("i"), Token: q.value("t"), Email: before.Email, Errors: errs,
			Strength: measure(password, before.Email, before.Profile.Name),
		}})
	}
	if err != nil {
		return p.deadLink(err, "reset.dead", "/forgot")
	}
	if _, signedIn, err := p.session(r); err == nil && !signedIn { // it ended with all the others
		p.Site.ClearSessionToken(w)
	}
	handle, err := p.remember(r.Context(), u.Email)
	if err != nil {
		return err
	}
	return p.redirect(w, r, withInteraction("/login?n=reset&p="+handle, p.resumable(r, q.value("i"))))
}
