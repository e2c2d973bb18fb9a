package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
)

type linkedPage struct {
	Person    string
	Notice    notice
	Linked    []linkedRow
	Providers []upstream.Provider // that can be linked
}

type linkedRow struct {
	Key, Provider, Label string
	Since, Used          string
	Off                  bool // the provider is disabled
}

func (p *Pages) linkedPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	ctx := r.Context()
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	u, err := p.People.User(ctx, s.UserID)
	if err != nil {
		return err
	}
	list, err := p.People.LinkedAccounts(ctx, u.ID)
	if err != nil {
		return err
	}
	page, l, now := linkedPage{Person: u.ID, Notice: tripNotices[q.value("n")]}, p.locale(ctx), p.Now()
	for _, a := range list {
		row := linkedRow{Key: a.Key, Provider: a.Provider, Label: a.Label, Since: l.when(a.CreatedAt, now, u.Profile.Zoneinfo), Used: l.when(a.UsedAt, now, u.Profile.Zoneinfo)}
		n, err := p.Upstream.Providers.Get(a.Provider)
		if err == nil {
			row.Provider, row.Off = n.Name, n.Disabled
		}
		page.Linked = append(page.Linked, row)
	}
	email := u.Email
	for _, n := range p.Upstream.Providers.List() {
		if to, _, ok := p.routed(email); !n.Disabled && (!n.Hidden || ok && to.ID == n.ID) {
			page.Providers = append(page.Providers, n)
		}
	}
	return p.render(w, r, view{Name: "account_linked", Content: page, Wide: true, Nav: "linked"})
}

// addLinked sends the person to a provider, to bring an account there home.
func (p *Pages) addLinked(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	return p.setOut(w, r, upstream.Trip{Provider: f.value("provider"), Purpose: upstream.ForLink, UserID: s.UserID, SessionID: s.ID}, upstream.Wish{SelectAccount: true})
}

// endLinking links what a person brought home, if they are still the one who set out.
func (p *Pages) endLinking(w http.ResponseWriter, r *http.Request, t upstream.Trip, n upstream.Provider, who upstream.Identity) error {
	s, ok, err := p.session(r)
	if err != nil {
		return err
	}
	if !ok || s.UserID != t.UserID || s.ID != t.SessionID {
		return errOtherPerson
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	switch err := p.link(r, u, n, who); {
	case errors.Is(err, identity.ErrLinked), errors.Is(err, db.ErrNotFound):
		return p.astray(w, r, t, identity.ErrLinked)
	case err != nil:
		return err
	}
	return p.redirect(w, r, "/account/linked?n=linked")
}

func (p *Pages) removeLinked(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	switch _, err := p.People.Unlink(r.Context(), s, f.value("key")); {
	case errors.Is(err, identity.ErrLastWayIn):
		return p.redirect(w, r, "/account/linked?n=last")
	case errors.Is(err, identity.ErrNotFound): // a second click
		return p.redirect(w, r, "/account/linked")
	case err != nil:
		return err
	}
	p.sent(r, p.mailUnlinked(r.Context(), u, deviceOf(r)))
	return p.redirect(w, r, "/account/linked?n=unlinked")
}

// confirmers are the providers by which a person can prove anew who they are.
func (p *Pages) confirmers(r *http.Request, userID string) ([]upstream.Provider, error) {
	if p.Upstream == nil {
		return nil, nil
	}
	linked, err := p.People.LinkedAccounts(r.Context(), userID)
	if err != nil {
		return nil, err
	}
	var list []upstream.Provider
	for _, n := range p.Upstream.Providers.List() {
		for _, a := range linked {
			// GitHub never says when somebody has signed in there.
			if a.Provider == n.ID && !n.Disabled && (n.Kind != upstream.GitHub || n.TrustFresh) {
				list = append(list, n)
				break
			}
		}
	}
	return list, nil
}

// confirmElsewhere sends a signed-in person to a provider that is to ask them anew.
func (p *Pages) confirmElsewhere(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	return p.setOut(w, r, upstream.Trip{
		Provider: f.value("provider"), Purpose: upstream.ForConfirm, UserID: s.UserID, SessionID: s.ID, Next: place(f.value("to")), Fresh: true,
	}, upstream.Wish{})
}
