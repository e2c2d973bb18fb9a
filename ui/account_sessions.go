package ui

import (
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type sessionsPage struct {
	Done   string
	Person string
	This   sessionRow
	Others []sessionRow
}

type sessionRow struct {
	ID       string
	Device   string
	Address  string
	Place    string // empty: not known
	Since    string
	LastSeen string
	TwoStep  bool // a second step was proven
}

func (p *Pages) sessionsPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	sessions, err := p.People.Sessions(r.Context(), u.ID)
	if err != nil {
		return err
	}
	page, l, now := sessionsPage{Done: done(r), Person: u.ID}, p.locale(r.Context()), p.Now()
	for _, one := range sessions {
		row := sessionRow{
			ID: one.ID, Device: l.device(one.Device.UserAgent), TwoStep: identity.Reaches(one.ACR(), identity.ACRMFA),
			Since: l.when(one.CreatedAt, now, u.Preferences.Zone), LastSeen: l.when(one.LastSeenAt, now, u.Preferences.Zone),
		}
		if one.Device.Address.IsValid() {
			row.Address, row.Place = one.Device.Address.String(), p.place(l, one.Device.Address)
		}
		if one.ID == s.ID {
			page.This = row
		} else {
			page.Others = append(page.Others, row)
		}
	}
	return p.render(w, r, view{Name: "account_sessions", Content: page, Wide: true, Nav: "sessions"})
}

// endSession ends one session of the person who asks. The id of anybody else's is an unknown one: identity looks for it
// among this person's only.
func (p *Pages) endSession(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	id := f.value("session")
	if err := p.People.EndSession(r.Context(), s.UserID, id); err != nil {
		return err
	}
	if id == s.ID {
		p.Site.ClearSessionToken(w)
		return p.redirect(w, r, "/signed-out")
	}
	return p.redirect(w, r, "/account/sessions?done=session_ended")
}

func (p *Pages) endOtherSessions(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if _, err := p.People.EndSessions(r.Context(), s.UserID, s.ID); err != nil {
		return err
	}
	return p.redirect(w, r, "/account/sessions?done=sessions_ended")
}
