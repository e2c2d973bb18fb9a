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
	ID      string
	App     *app
	Code    bool // there is an authenticator app
	Passkey bool // there is a passkey
	Errors  identity.FieldErrors
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
	v, st, ok, err := p.step(w, r)
	if !ok {
		return err
	}
	if f.page == "code" && !st.user.HasTOTP {
		return p.redirect(w, r, withInteraction(p.nextStep(st.user), v.ID))
	}
	return p.showFactor(w, r, v, st, f, nil)
}

func (p *Pages) showFactor(w http.ResponseWriter, r *http.Request, v visit, st step, f factor, problems identity.FieldErrors) error {
	return p.show(w, r, v, view{Name: f.page, Status: statusOf(problems), Content: codePage{
		ID: v.ID, App: v.app(), Code: st.user.HasTOTP, Passkey: st.user.HasPasskey && p.People.PasskeysPossible(), Errors: problems,
	}})
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
	code, err := readCode(r)
	if err != nil {
		return err
	}
	v, st, ok, err := p.step(w, r)
	if !ok {
		return err
	}
	problems := identity.FieldErrors{}
	var limit *identity.LimitError
	if code == "" {
		problems["code"] = identity.KeyRequired
	} else if err := f.check(r.Context(), st.user.ID, code); errors.As(err, &limit) && st.ticket != "" {
		// Guessing starts over at the password, which has limits of its own.
		if err := p.People.EndLogin(r.Context(), st.ticket); err != nil {
			return err
		}
		p.Site.ClearLoginTicket(w, v.ID)
		return p.redirect(w, r, withInteraction("/login?n=tries", v.ID))
	} else if errors.Is(err, identity.ErrCode) {
		if _, err := p.failed(r, st.user.Email); err != nil {
			return err
		}
		problems["code"] = f.wrong
	} else if err != nil {
		return err
	}
	if len(problems) > 0 {
		return p.showFactor(w, r, v, st, f, problems)
	}
	return p.finishStep(w, r, v, st, f.amr)
}
