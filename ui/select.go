package ui

import (
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type selectPage struct {
	ID          string
	App         *app
	Name, Email string
	Person      string // user id the page is shown to
}

// Answers of the account page.
const (
	chooseThis  = "this"
	chooseOther = "other"
)

func readChoice(r *http.Request) (choice, person string, err error) {
	f, err := readForm(r)
	if err != nil {
		return "", "", err
	}
	switch choice = f.value("choice"); choice {
	case chooseThis, chooseOther:
		return choice, f.value("person"), nil
	}
	return "", "", errMalformed
}

func (p *Pages) selectPage(w http.ResponseWriter, r *http.Request) error {
	v, u, ok, err := p.interactive(w, r)
	if !ok {
		return err
	}
	return p.show(w, r, v, view{Name: "select", Content: selectPage{ID: v.ID, App: v.app(), Name: u.Profile.Name, Email: u.Email, Person: u.ID}})
}

// selectAccount goes on as the signed-in person, or signs them out here to make room for another.
func (p *Pages) selectAccount(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	choice, person, err := readChoice(r)
	if err != nil {
		return err
	}
	switch {
	case v.SignedIn && choice == chooseOther:
		if err := p.leave(w, r, v.Session); err != nil {
			return err
		}
	case v.SignedIn && person != v.Session.UserID: // another tab signed somebody else in: "this account" meant another
		return p.selectPage(w, r)
	case v.SignedIn:
		if v.ID != "" {
			if err := p.OAuth.SelectAccount(r.Context(), v.ID, v.Session); err != nil {
				return expired(err)
			}
		}
		return p.onward(w, r, v, v.Session)
	}
	return p.redirect(w, r, withInteraction("/login", v.ID))
}

// interactive gives what a page needs that asks a signed-in person about an app's request; ok = false after it has sent
// anybody else where they belong.
func (p *Pages) interactive(w http.ResponseWriter, r *http.Request) (v visit, u identity.User, ok bool, err error) {
	if v, err = p.visit(r); err != nil {
		return v, u, false, err
	}
	if v.ID == "" {
		return v, u, false, p.redirect(w, r, "/account")
	}
	if !v.SignedIn {
		return v, u, false, p.redirect(w, r, withInteraction("/login", v.ID))
	}
	u, err = p.People.User(r.Context(), v.Session.UserID)
	return v, u, err == nil, err
}
