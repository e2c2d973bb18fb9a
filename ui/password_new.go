package ui

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// oneTimeLife is how long after signing in with a one-time password a new one can be set without it.
const oneTimeLife = 15 * time.Minute

type newPasswordPage struct {
	ID, Person, Email string
	Strength          *strength
	Errors            identity.FieldErrors
}

// replacing gives the session of a person who must set a new password now; ok = false after it has sent everybody else
// on. Whoever finds an old session open has not just proven the one-time password and signs in again.
func (p *Pages) replacing(w http.ResponseWriter, r *http.Request, v visit) (s identity.Session, ok bool, err error) {
	s = v.Session
	switch {
	case !v.SignedIn:
		return s, false, p.redirect(w, r, withInteraction("/login", v.ID))
	case !s.MustChangePassword:
		return s, false, p.onward(w, r, v, s)
	case p.Now().Sub(s.AuthTime) > oneTimeLife:
		if err := p.leave(w, r, s); err != nil {
			return s, false, err
		}
		return s, false, p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	case p.anotherWay(s):
		u, err := p.People.User(r.Context(), s.UserID)
		if err != nil || !u.HasPassword {
			return s, err == nil, err
		}
		if err := p.leave(w, r, s); err != nil {
			return s, false, err
		}
		return s, false, p.redirect(w, r, withInteraction("/login?n=one_time", v.ID))
	}
	return s, true, nil
}

// anotherWay reports whether a session has begun by a passkey or elsewhere, without the password. An operator gives a one-time password to
// somebody who has lost their account; whoever took it may have left such a way in and must not be the one to choose the new password.
func (p *Pages) anotherWay(s identity.Session) bool {
	return slices.Contains(s.AMR, identity.AMRFederated) || s.ACR() == identity.ACRPhishingResistant && !slices.Contains(s.AMR, identity.AMRPassword)
}

func (p *Pages) newPasswordPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	s, ok, err := p.replacing(w, r, v)
	if !ok {
		return err
	}
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.show(w, r, v, view{Name: "password_new", Content: newPasswordPage{ID: v.ID, Person: u.ID, Email: u.Email}})
}

// newPassword replaces a one-time password, which somebody else has seen, and ends what that one may have opened.
func (p *Pages) newPassword(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	password, err := readNewPassword(r)
	if err != nil {
		return err
	}
	s, ok, err := p.replacing(w, r, v)
	if !ok {
		return err
	}
	if err := shownTo(r, s.UserID); err != nil {
		return err
	}
	err = p.People.SetPassword(ctx, s, password)
	var errs identity.FieldErrors
	if errors.As(err, &errs) {
		u, err := p.People.User(ctx, s.UserID)
		if err != nil {
			return err
		}
		return p.show(w, r, v, view{Name: "password_new", Status: http.StatusUnprocessableEntity, Content: newPasswordPage{
			ID: v.ID, Person: u.ID, Email: u.Email, Errors: errs, Strength: measure(password, u.Email, u.Profile.Name),
		}})
	}
	if errors.Is(err, identity.ErrNotFound) { // ended in this very moment
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	if err != nil {
		return err
	}
	if _, err := p.People.EndSessions(ctx, s.UserID, s.ID); err != nil {
		return err
	}
	token, s, err := p.People.StepUp(ctx, s, s.AMR)
	if err != nil {
		return err
	}
	p.Site.SetSessionToken(w, token, s.ExpiresAt)
	return p.onward(w, r, v, s)
}
