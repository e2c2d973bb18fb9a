package ui

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/gatehouse-id/gatehouse/identity"
)

type codePage struct {
	ID     string
	App    *app
	Errors identity.FieldErrors
}

// factor is one kind of second factor: its page and how it is checked.
type factor struct {
	page  string
	amr   []string
	wrong string // locale key
	check func(ctx context.Context, userID, code string) error
}

func (p *Pages) totpFactor() factor {
	return factor{"code", []string{identity.AMROTP, identity.AMRMFA}, "code.wrong", p.People.CheckTOTP}
}

func (p *Pages) recoveryFactor() factor {
	return factor{"recovery", []string{identity.AMRRecovery, identity.AMRMFA}, "recovery.wrong", p.People.CheckRecoveryCode}
}

func (p *Pages) codePage(w http.ResponseWriter, r *http.Request) error {
	return p.factorPage(w, r, p.totpFactor())
}

func (p *Pages) code(w http.ResponseWriter, r *http.Request) error {
	return p.proveFactor(w, r, p.totpFactor())
}

func (p *Pages) recoveryPage(w http.ResponseWriter, r *http.Request) error {
	return p.factorPage(w, r, p.recoveryFactor())
}

func (p *Pages) recovery(w http.ResponseWriter, r *http.Request) error {
	return p.proveFactor(w, r, p.recoveryFactor())
}

// pendingLogin finds the login in progress whose password this browser has proven for this interaction. A password set
// since then voids it: whoever knew the old one has nothing left to finish. u is the person whose login it is.
func (p *Pages) pendingLogin(r *http.Request, v visit) (ticket string, l identity.Login, u identity.User, ok bool, err error) {
	ticket = p.Site.LoginTicket(r, v.ID)
	if ticket == "" {
		return "", l, u, false, nil
	}
	l, err = p.People.Login(r.Context(), ticket)
	if errors.Is(err, identity.ErrNotFound) {
		return "", l, u, false, nil
	}
	if err != nil || l.Interaction != v.ID {
		return "", l, u, false, err
	}
	u, err = p.People.User(r.Context(), l.UserID)
	if errors.Is(err, identity.ErrNotFound) {
		return "", l, u, false, nil
	}
	return ticket, l, u, err == nil && !u.PasswordChangedAt.After(l.StartedAt), err
}

func (p *Pages) factorPage(w http.ResponseWriter, r *http.Request, f factor) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	_, _, _, ok, err := p.pendingLogin(r, v)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	return p.show(w, r, v, view{Name: f.page, Content: codePage{ID: v.ID, App: v.app()}})
}

// readCode reads a code as people type it: in groups, with spaces.
func readCode(r *http.Request) (string, error) {
	f, err := readForm(r)
	return strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return -1
		}
		return c
	}, f.value("code")), err
}

func (p *Pages) proveFactor(w http.ResponseWriter, r *http.Request, f factor) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	code, err := readCode(r)
	if err != nil {
		return err
	}
	ticket, l, u, ok, err := p.pendingLogin(r, v)
	if err != nil {
		return err
	}
	if !ok {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	errs := identity.FieldErrors{}
	var limit *identity.LimitError
	if code == "" {
		errs["code"] = identity.KeyRequired
	} else if err := f.check(r.Context(), l.UserID, code); errors.As(err, &limit) {
		// Guessing starts over at the password, which has limits of its own.
		if err := p.People.EndLogin(r.Context(), ticket); err != nil {
			return err
		}
		p.Site.ClearLoginTicket(w, v.ID)
		return p.redirect(w, r, withInteraction("/login?n=tries", v.ID))
	} else if errors.Is(err, identity.ErrCode) {
		errs["code"] = f.wrong
	} else if err != nil {
		return err
	}
	if len(errs) > 0 {
		return p.show(w, r, v, view{Name: f.page, Status: http.StatusUnprocessableEntity, Content: codePage{ID: v.ID, App: v.app(), Errors: errs}})
	}
	if err := p.People.EndLogin(r.Context(), ticket); err != nil {
		return err
	}
	v.via = l.Via
	return p.enter(w, r, v, u, append(l.AMR, f.amr...))
}
