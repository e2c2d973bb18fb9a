package ui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// mailCodeRoutes are the pages of signing in by a code from a mail; there are none where that is off.
func (p *Pages) mailCodeRoutes() []web.Route {
	if !p.MailCodes {
		return nil
	}
	return []web.Route{
		{Pattern: "GET /login/mail", Handler: p.mailCodePage},
		{Pattern: "POST /login/mail", Handler: p.askMailCode},
		{Pattern: "GET /login/mail/code", Handler: p.mailCodeCheckPage},
		{Pattern: "POST /login/mail/code", Handler: p.checkMailCode},
	}
}

// maxTypedEmail bounds what is kept of a typed address; none that is longer is an address.
const maxTypedEmail = 254

type mailCodePage struct {
	ID        string
	Challenge string
	App       *app
	Email     string
	Errors    identity.FieldErrors
}

type mailCodeCheckPage struct {
	ID     string
	App    *app
	Email  string
	Sent   bool // once more
	Errors identity.FieldErrors
}

func (p *Pages) mailCodePage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if v.SignedIn && v.Interaction.Reason == "" {
		return p.onward(w, r, v, v.Session)
	}
	content := mailCodePage{ID: v.ID, App: v.app(), Email: v.Interaction.LoginHint}
	if guarded, err := p.guarded(r.Context(), content.Email); err != nil {
		return err
	} else if guarded {
		content.Challenge = p.puzzle(r, signInForm)
	}
	return p.show(w, r, v, view{Name: "mail_code", Content: content, Challenge: content.Challenge != ""})
}

// askMailCode mails a code. Its answer is the same for every address, and as quick (account enumeration): whom the mail goes to,
// if to anybody, is found out before, and everything that differs happens behind the answer.
func (p *Pages) askMailCode(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	f, err := readForm(r)
	if err != nil {
		return err
	}
	email := f.trimmed("email")
	problem := ""
	switch {
	case email == "":
		problem = identity.KeyRequired
	case len(email) > maxTypedEmail:
		problem = identity.KeyEmailInvalid
	}
	if problem != "" {
		return p.show(w, r, v, view{Name: "mail_code", Status: http.StatusUnprocessableEntity, Content: mailCodePage{
			ID: v.ID, App: v.app(), Errors: identity.FieldErrors{"email": problem},
		}})
	}
	// Whose people sign in elsewhere get no code here: what a company has closed there must not stay open by its mail.
	if to, required, ok := p.routed(email); ok && required {
		trip, wish := p.signInTrip(v, to.ID, email)
		return p.setOut(w, r, trip, wish)
	}
	if err := p.limit(ctx, "mail", mailRequestsPerHour, time.Hour); err != nil {
		return err
	}
	if err := p.People.EndMailCode(ctx, p.Site.MailTicket(r, v.ID)); err != nil {
		return err
	}
	if problem, puzzle, err := p.guard(r, email, f.value("challenge")); err != nil {
		return err
	} else if problem != "" {
		return p.show(w, r, v, view{Name: "mail_code", Status: http.StatusUnprocessableEntity, Challenge: puzzle != "", Content: mailCodePage{
			ID: v.ID, App: v.app(), Email: email, Challenge: puzzle, Errors: identity.FieldErrors{"": problem},
		}})
	}
	m, err := p.People.BeginMailCode(ctx, email, v.ID)
	if err != nil {
		return err
	}
	dev := deviceOf(r)
	if err := p.mailOnce(ctx, email, func(ctx context.Context) error {
		switch {
		case m.Code != "":
			return p.mailSignInCode(ctx, m.To, m.Code, dev)
		case m.To.Status == identity.StatusActive && !m.To.EmailVerified:
			// Not a link that proves the address alone: somebody else may have made this account, and would stay in it with their
			// password, passkey or account elsewhere (account pre-hijacking). A new password makes it the mailbox's.
			return p.sendReset(ctx, m.To, v.ID)
		}
		return nil
	}); err != nil {
		return err
	}
	p.Site.SetMailTicket(w, v.ID, m.Ticket, m.Expires)
	p.markBrowser(w, v)
	next := "/login/mail/code"
	if f.value("again") != "" {
		next += "?n=sent"
	}
	return p.redirect(w, r, withInteraction(next, v.ID))
}

func (p *Pages) mailCodeCheckPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	return p.showMailCodeCheck(w, r, v, v.Query.value("n") == "sent", nil)
}

func (p *Pages) showMailCodeCheck(w http.ResponseWriter, r *http.Request, v visit, sent bool, problems identity.FieldErrors) error {
	email, err := p.People.MailCodeEmail(r.Context(), p.Site.MailTicket(r, v.ID), v.ID)
	if errors.Is(err, identity.ErrNotFound) {
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	}
	if err != nil {
		return err
	}
	return p.show(w, r, v, view{Name: "mail_code_check", Status: statusOf(problems), Content: mailCodeCheckPage{
		ID: v.ID, App: v.app(), Email: email, Sent: sent, Errors: problems,
	}})
}

// checkMailCode goes on as after a password: a code from a mail is one factor, and the second one follows if the person has it.
func (p *Pages) checkMailCode(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	code, err := readCode(r)
	if err != nil {
		return err
	}
	if code == "" {
		return p.showMailCodeCheck(w, r, v, false, identity.FieldErrors{"code": identity.KeyRequired})
	}
	u, err := p.People.CheckMailCode(r.Context(), p.Site.MailTicket(r, v.ID), v.ID, code)
	var limit *identity.LimitError
	switch {
	case errors.As(err, &limit):
		p.Site.ClearMailTicket(w, v.ID)
		return p.redirect(w, r, withInteraction("/login?n=tries", v.ID))
	case errors.Is(err, identity.ErrNotFound):
		p.Site.ClearMailTicket(w, v.ID)
		return p.redirect(w, r, withInteraction("/login?n=timeout", v.ID))
	case errors.Is(err, identity.ErrCode):
		email, err := p.People.MailCodeEmail(r.Context(), p.Site.MailTicket(r, v.ID), v.ID)
		if err == nil {
			_, err = p.failed(r, email)
		}
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		return p.showMailCodeCheck(w, r, v, false, identity.FieldErrors{"code": "mail_code_check.wrong"})
	case err != nil:
		return err
	}
	p.Site.ClearMailTicket(w, v.ID)
	return p.afterFirst(w, r, v, u, []string{identity.AMRMailCode})
}

// mailSignInCode brings a code, and says who asked for it: whoever is talked into reading a code to somebody shall see that it
// was not they who asked (phishing).
func (p *Pages) mailSignInCode(ctx context.Context, u identity.User, code string, dev identity.Device) error {
	l := p.localeFor(ctx, u)
	return p.post(ctx, u.Email, l, letter{name: "sign_in_code", act: []string{code, p.act(l, u, dev)}, life: p.People.CodeLife()})
}
