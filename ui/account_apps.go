package ui

import (
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type appsPage struct {
	Done   string
	Person string
	Apps   []appRow
}

type appRow struct {
	ID       string
	Name     string
	Site     string // where the app lives; empty if it names no address that a page may link to
	May      []string
	Since    string
	LastUsed string // empty: not known
}

func (p *Pages) appsPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	apps, err := p.OAuth.Apps(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page, l, now := appsPage{Done: done(r), Person: u.ID}, p.locale(r.Context()), p.Now()
	for _, app := range apps {
		row := appRow{
			ID: app.Client.ID, Name: app.Client.Name, Site: webURL(app.Client.ClientURI),
			Since: l.when(app.Since, now, u.Preferences.Zone),
		}
		if !app.LastUsed.IsZero() {
			row.LastUsed = l.when(app.LastUsed, now, u.Preferences.Zone)
		}
		if row.Name == "" {
			row.Name = app.Client.ID
		}
		var other []string // scopes of the operator's own, which go by their names
		for _, scope := range app.Scopes {
			if words, ok := l.texts["scope."+scope]; ok {
				row.May = append(row.May, words)
			} else {
				other = append(other, scope)
			}
		}
		row.May = append(row.May, other...)
		for _, api := range app.Resources {
			row.May = append(row.May, l.text("consent.api", api))
		}
		page.Apps = append(page.Apps, row)
	}
	return p.render(w, r, view{Name: "account_apps", Content: page, Wide: true, Nav: "apps"})
}

// withdraw ends what one app may do for the person who asks, and nobody else's.
func (p *Pages) withdraw(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	client := f.value("client")
	if client == "" {
		return errMalformed
	}
	if err := p.OAuth.Withdraw(r.Context(), s.UserID, client); err != nil {
		return err
	}
	return p.redirect(w, r, "/account/apps?done=withdrawn")
}
