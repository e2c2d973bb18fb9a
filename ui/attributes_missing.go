package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type missingAttributesPage struct {
	ID     string // of the interaction to go on with
	App    *app
	Person string
	Fields []attributeField
	Errors identity.FieldErrors
}

// missingAttributesPage asks for what the people who run the server have to know of everybody, on the way in.
func (p *Pages) missingAttributesPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.askMissing(w, r, s, nil, nil)
}

// askMissing shows the form, or leads on when nothing is missing. typed is what came back with problems.
func (p *Pages) askMissing(w http.ResponseWriter, r *http.Request, s identity.Session, typed map[string]string, problems identity.FieldErrors) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	list, err := p.People.MissingAttributes(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return p.onward(w, r, v, s)
	}
	page := missingAttributesPage{ID: v.ID, App: v.app(), Person: s.UserID, Errors: problems}
	for _, a := range list {
		page.Fields = append(page.Fields, attributeField{a, typed[a.Name], true})
	}
	return p.show(w, r, v, view{Name: "attributes_missing", Status: statusOf(problems), Content: page})
}

// giveMissing takes what is missing and nothing else: what is there is changed in the account.
func (p *Pages) giveMissing(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	list, err := p.People.MissingAttributes(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	typed := map[string]string{}
	for _, a := range list {
		typed[a.Name] = f.value("attribute." + a.Name)
	}
	if len(typed) > 0 {
		err = p.People.SetAttributes(r.Context(), s.UserID, s.UserID, true, typed)
	}
	var problems identity.FieldErrors
	if errors.As(err, &problems) {
		return p.askMissing(w, r, s, typed, problems)
	}
	if err != nil {
		return err
	}
	return p.askMissing(w, r, s, nil, nil)
}
