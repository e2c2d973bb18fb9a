package ui

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type consentPage struct {
	ID      string
	App     *app
	Email   string
	Person  string // user id the page is shown to
	More    bool   // the app has some of it already and asks for more
	Scopes  []scopeLine
	Other   []scopeLine // scopes without words of their own
	APIs    []oauth.Resource
	Details []consentDetail
	About   []string // labels of attributes that the app gets
	Device  *consentDevice

	Stranger *oauth.Stranger // the app has registered itself
	Lives    []budgetLife    // the app acts for people without them: for how long may it?
}

// consentDetail is one thing that the app asks for in detail.
type consentDetail struct {
	Words []oauth.WordsPart
	APIs  []string // where it is meant to be used, if not anywhere
	Raw   string
}

// scopeLine is one thing the app asks for.
type scopeLine struct {
	Name  string
	Key   string // locale key of the words, "" if there are none
	Words string // in place of the key: what an API says its scope means
	New   bool
}

type consentForm struct {
	Allow  bool
	Person string
	Budget oauth.Budget
}

func readConsent(r *http.Request) (consentForm, error) {
	f, err := readForm(r)
	if err != nil {
		return consentForm{}, err
	}
	switch f.value("decision") {
	case "allow":
		b, err := readBudget(f)
		return consentForm{Allow: true, Person: f.value("person"), Budget: b}, err
	case "deny":
		return consentForm{Person: f.value("person")}, nil
	}
	return consentForm{}, errMalformed // an answer is never guessed
}

func (p *Pages) consentPage(w http.ResponseWriter, r *http.Request) error {
	v, u, ok, err := p.interactive(w, r)
	if !ok {
		return err
	}
	return p.showConsent(w, r, v, u)
}

func (p *Pages) showConsent(w http.ResponseWriter, r *http.Request, v visit, u identity.User) error {
	in, l := v.Interaction, p.locale(r.Context())
	content := consentPage{ID: v.ID, App: v.app(), Email: u.Email, Person: u.ID, More: len(in.NewScopes) > 0 && len(in.NewScopes) < len(in.Scopes)}
	content.Stranger = in.Stranger
	if in.Agent {
		content.Lives = l.budgetLives()
	}
	content.Device = p.consentDevice(l, in.Device, u.Preferences.Zone)
	content.APIs = in.Resources
	about, err := p.People.AttributesFor(r.Context(), in.Client.ID, in.Scopes)
	if err != nil {
		return err
	}
	for _, a := range about {
		content.About = append(content.About, a.Label)
	}
	for _, d := range in.Details {
		line := consentDetail{Words: d.Words(l.Lang), Raw: indented(d.Raw)}
		for _, identifier := range d.Locations() {
			line.APIs = append(line.APIs, nameOf(in.Resources, identifier))
		}
		content.Details = append(content.Details, line)
	}
	for _, scope := range in.Scopes {
		line := scopeLine{Name: scope, Key: "scope." + scope, New: content.More && slices.Contains(in.NewScopes, scope)}
		if _, ok := l.texts[line.Key]; ok {
			content.Scopes = append(content.Scopes, line)
			continue
		}
		line.Key = ""
		if line.Words = wordsOf(in.Resources, scope); line.Words != "" {
			content.Scopes = append(content.Scopes, line)
			continue
		}
		content.Other = append(content.Other, line)
	}
	return p.show(w, r, v, view{Name: "consent", Title: l.text("consent.title", content.App.Name), Content: content})
}

// indented is a JSON text for people to read.
func indented(raw string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(raw), "", "  ") != nil {
		return raw
	}
	return b.String()
}

// nameOf is what people call an API that is among those asked for, else its identifier.
func nameOf(apis []oauth.Resource, identifier string) string {
	for _, a := range apis {
		if a.Identifier == identifier {
			return a.Name
		}
	}
	return identifier
}

// wordsOf finds what the operator says that a scope of an API means.
func wordsOf(apis []oauth.Resource, scope string) string {
	for _, a := range apis {
		for _, s := range a.Scopes {
			if s.Name == scope && s.Description != "" {
				return s.Description
			}
		}
	}
	return ""
}

func (p *Pages) consent(w http.ResponseWriter, r *http.Request) error {
	f, err := readConsent(r)
	if err != nil {
		return err
	}
	v, u, ok, err := p.interactive(w, r)
	if !ok {
		return err
	}
	if f.Person != u.ID { // another tab signed somebody else in: they have not seen this page yet
		return p.showConsent(w, r, v, u)
	}
	if !f.Allow {
		if err := p.OAuth.Deny(r.Context(), v.ID); err != nil {
			return expired(err)
		}
		return p.onward(w, r, v, v.Session)
	}
	if f.Budget != (oauth.Budget{}) {
		if err := p.OAuth.Bound(r.Context(), v.ID, f.Budget); err != nil {
			return expired(err)
		}
	}
	if err := p.OAuth.Approve(r.Context(), v.ID, v.Session); err != nil {
		return expired(err)
	}
	return p.onward(w, r, v, v.Session)
}
