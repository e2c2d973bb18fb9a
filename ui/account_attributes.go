package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type attributesPage struct {
	Done   string
	Person string
	Fields []attributeField
	Edit   bool // there is something to save
	Errors identity.FieldErrors
}

// attributeField is one attribute that the person may see. Its label is the operator's.
type attributeField struct {
	identity.Attribute
	Value string
	Mine  bool // the person may change it
}

func (p *Pages) attributesPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showAttributes(w, r, s, nil, nil)
}

// showAttributes shows what the person may see of themselves. typed is what came back with problems.
func (p *Pages) showAttributes(w http.ResponseWriter, r *http.Request, s identity.Session, typed map[string]string, problems identity.FieldErrors) error {
	all, err := p.People.Attributes(r.Context())
	if err != nil {
		return err
	}
	held, err := p.People.AttributesOf(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, h := range held {
		values[h.Name] = h.Typed()
	}
	for name, text := range typed {
		values[name] = text
	}
	page := attributesPage{Done: done(r), Person: s.UserID, Errors: problems}
	for _, a := range all {
		if a.View != identity.ForPerson {
			continue
		}
		page.Fields = append(page.Fields, attributeField{a, values[a.Name], a.Edit == identity.ForPerson})
		page.Edit = page.Edit || a.Edit == identity.ForPerson
	}
	v := view{Name: "account_attributes", Content: page, Wide: true, Nav: "profile"}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// saveAttributes takes what the person may change; other fields of the form are not read.
func (p *Pages) saveAttributes(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	all, err := p.People.Attributes(r.Context())
	if err != nil {
		return err
	}
	typed := map[string]string{}
	for _, a := range all {
		if a.Edit == identity.ForPerson && f.values.Has("attribute."+a.Name) {
			typed[a.Name] = f.value("attribute." + a.Name)
		}
	}
	err = p.People.SetAttributes(r.Context(), s.UserID, s.UserID, true, typed)
	var problems identity.FieldErrors
	if errors.As(err, &problems) {
		return p.showAttributes(w, r, s, typed, problems)
	}
	if err != nil {
		return err
	}
	return p.redirect(w, r, "/account/attributes?done=saved")
}
