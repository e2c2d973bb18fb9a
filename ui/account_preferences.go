package ui

import (
	"errors"
	"net/http"
	"slices"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// preferencesRoutes are how a person wants to see these pages. They tell apps nothing.
func (p *Pages) preferencesRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /account/preferences", Handler: p.member(p.preferencesPage)},
		{Pattern: "POST /account/preferences", Handler: p.member(p.savePreferences)},
	}
}

type preferencesPage struct {
	Done      string
	Person    string
	Languages []languageChoice
	Zones     []string
	Themes    []string // the text of each is "account_preferences.theme.NAME"
	Chosen    preferencesForm
	Errors    identity.FieldErrors
}

// languageChoice is a language under its own name, which those who cannot read the page's can read.
type languageChoice struct{ Tag, Name, Dir string }

// preferencesForm is the form; "auto" and empty fields leave the choice to the browser.
type preferencesForm struct{ Language, Zone, Theme string }

const themeAuto = "auto"

var themes = []string{themeAuto, identity.ThemeLight, identity.ThemeDark}

func readPreferences(r *http.Request) (preferencesForm, error) {
	f, err := readForm(r)
	if err != nil {
		return preferencesForm{}, err
	}
	p := preferencesForm{Language: f.value("language"), Zone: f.value("zone"), Theme: f.value("theme")}
	if !slices.Contains(themes, p.Theme) {
		return preferencesForm{}, errMalformed // the page offers no other
	}
	return p, nil
}

func (p *Pages) preferencesPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	chosen := preferencesForm{Zone: s.Preferences.Zone, Theme: s.Preferences.Theme}
	if l, ok := p.named(s.Preferences.Language); ok {
		chosen.Language = l.Lang
	}
	if chosen.Theme == "" {
		chosen.Theme = themeAuto
	}
	return p.showPreferences(w, r, s, chosen, nil)
}

func (p *Pages) showPreferences(w http.ResponseWriter, r *http.Request, s identity.Session, chosen preferencesForm, problems identity.FieldErrors) error {
	page := preferencesPage{Done: done(r), Person: s.UserID, Zones: identity.Zones(), Themes: themes, Chosen: chosen, Errors: problems}
	for _, l := range p.locales {
		page.Languages = append(page.Languages, languageChoice{l.Lang, l.text("language.own_name"), l.Dir})
	}
	return p.render(w, r, view{Name: "account_preferences", Status: statusOf(problems), Content: page, Wide: true, Nav: "preferences"})
}

func (p *Pages) savePreferences(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	chosen, err := readPreferences(r)
	if err != nil {
		return err
	}
	next := identity.Preferences{Language: chosen.Language, Zone: chosen.Zone, Theme: chosen.Theme}
	if next.Theme == themeAuto {
		next.Theme = ""
	}
	err = p.People.SetPreferences(r.Context(), s.UserID, next)
	var problems identity.FieldErrors
	switch {
	case errors.As(err, &problems):
		return p.showPreferences(w, r, s, chosen, problems)
	case err != nil:
		return err
	}
	return p.redirect(w, r, "/account/preferences?done=saved")
}
