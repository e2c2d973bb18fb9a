package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
)

type accountPasswordPage struct {
	Person   string
	Email    string
	TwoStep  bool // a code is wanted
	Passkey  bool // … or a passkey
	Password bool // there is one
	Fresh    bool // there is none, and a passkey has just said who it is
	Errors   identity.FieldErrors
	Strength *strength
}

func (p *Pages) passwordPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.showPassword(w, r, s, u, "", nil)
}

func (p *Pages) showPassword(w http.ResponseWriter, r *http.Request, s identity.Session, u identity.User, typed string, problems identity.FieldErrors) error {
	asksCode := p.asksCode(r.Context(), s)
	v := view{Name: "account_password", Wide: true, Nav: "password", Content: accountPasswordPage{
		Person: u.ID, Email: u.Email, TwoStep: asksCode, Passkey: asksCode && s.HasPasskey && p.People.PasskeysPossible(),
		Password: u.HasPassword, Fresh: !u.HasPassword && s.HasPasskey && !asksCode, Errors: problems, Strength: measure(typed, personal(u)...),
	}}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// changePassword asks for the old password (and the code) in the same form, however fresh the session is: an open
// browser must not be enough to lock its owner out. All other sessions end, for one of them may be the reason. Where there is no old
// one, a passkey shown just now stands in for it: it goes on to be asked for beside the password.
func (p *Pages) changePassword(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	// The new password comes first, so that a refusal uses up neither a code nor a try.
	next := f.value("password")
	var problems identity.FieldErrors
	err = p.People.ValidatePassword(next, personal(u)...)
	switch {
	case errors.As(err, &problems):
		return p.showPassword(w, r, s, u, next, problems)
	case err != nil:
		return err
	}
	var amr []string
	if u.HasPassword || !s.HasPasskey || p.asksCode(r.Context(), s) {
		amr, problems, err = p.prove(r, s, "current", f.value("current"), f.trimmed("code"))
		switch {
		case err != nil:
			return err
		case len(problems) > 0:
			return p.showPassword(w, r, s, u, "", problems)
		}
	}
	err = p.People.SetPassword(r.Context(), s, next)
	switch {
	case errors.As(err, &problems):
		return p.showPassword(w, r, s, u, next, problems)
	case errors.Is(err, identity.ErrNotFound): // ended in this very moment, perhaps by a reset
		return p.redirect(w, r, "/login?n=timeout")
	case err != nil:
		return err
	}
	if _, err := p.People.EndSessions(r.Context(), u.ID, s.ID); err != nil {
		return err
	}
	if amr != nil {
		if err := p.stepUp(w, r, s, amr); err != nil {
			return err
		}
	}
	p.sent(r, p.mailPasswordChanged(r.Context(), u, deviceOf(r)))
	return p.redirect(w, r, "/account?done=password")
}

// personal lists what a password must not be made of.
func personal(u identity.User) []string {
	return []string{u.Email, u.Profile.Name, u.Profile.GivenName, u.Profile.FamilyName, u.Profile.Nickname, u.Profile.PreferredUsername}
}
