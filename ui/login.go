package ui

import (
	"errors"
	"net/http"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// Why an interaction has a signed-in person sign in once more.
const (
	reasonMFA     = "mfa"     // a second factor is demanded
	reasonPasskey = "phr"     // a passkey is demanded
	reasonAccount = "account" // the app expects another person
)

// notices are what the page before may have the login page say; the query names one of them and brings no text.
var notices = map[string]notice{
	"timeout":  {Key: "login.notice.timeout"},
	"tries":    {Key: "login.notice.tries"},
	"one_time": {Key: "login.notice.one_time"},
	"reset":    {Key: "login.notice.reset", Good: true},
	"verified": {Key: "login.notice.verified", Good: true},
}

type notice struct {
	Key  string
	Good bool
}

type loginPage struct {
	ID        string
	App       *app
	Email     string
	Again     bool // the signed-in person is asked to prove it once more
	Other     bool // the app expects somebody else than the signed-in person
	Passkeys  bool // this server has them
	Register  bool
	MailCode  bool // offer a code by mail
	Challenge string
	Notice    notice
	Errors    identity.FieldErrors

	Elsewhere elsewhere
}

type loginForm struct {
	Email, Password, Challenge string
	Company                    bool // by the provider of the address's domain
}

func readLogin(r *http.Request) (loginForm, error) {
	f, err := readForm(r)
	return loginForm{Email: f.trimmed("email"), Password: f.value("password"), Challenge: f.value("challenge"), Company: f.value("by") == "company"}, err
}

func (f loginForm) validate() identity.FieldErrors {
	errs := identity.FieldErrors{}
	if f.Email == "" {
		errs["email"] = identity.KeyRequired
	}
	if f.Password == "" {
		errs["password"] = identity.KeyRequired
	}
	return errs
}

func (p *Pages) loginPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if v.SignedIn && v.Interaction.Reason == "" {
		return p.onward(w, r, v, v.Session)
	}
	content, err := p.loginContent(r, v)
	if err != nil {
		return err
	}
	if content.Email == "" {
		content.Email = v.Interaction.LoginHint
		if known, err := p.recall(r.Context(), v.Query.value("p")); err != nil {
			return err
		} else if known != "" {
			content.Email = known
		}
	}
	n := v.Query.value("n")
	if to, ok, err := p.hinted(r, v, n); err != nil || ok {
		if err != nil {
			return err
		}
		trip, wish := p.signInTrip(v, to.ID, "")
		return p.setOut(w, r, trip, wish)
	}
	if content.Notice = notices[n]; content.Notice.Key == "" {
		content.Notice = tripNotices[n]
	}
	if guarded, err := p.guarded(r.Context(), content.Email); err != nil {
		return err
	} else if guarded {
		content.Challenge = p.puzzle(r, signInForm)
	}
	return p.show(w, r, v, view{Name: "login", Content: content, Challenge: content.Challenge != ""})
}

func (p *Pages) loginContent(r *http.Request, v visit) (loginPage, error) {
	content := loginPage{
		ID: v.ID, App: v.app(), Register: p.Registration, MailCode: p.MailCodes, Elsewhere: p.elsewhere(v, false), Passkeys: p.People.PasskeysPossible(),
	}
	if !v.SignedIn || v.Interaction.Reason == "" {
		return content, nil
	}
	if v.Interaction.Reason == reasonAccount {
		content.Other = true
		return content, nil
	}
	u, err := p.People.User(r.Context(), v.Session.UserID)
	if err != nil {
		return content, err
	}
	content.Again, content.Email = true, u.Email
	return content, nil
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	f, err := readLogin(r)
	if err != nil {
		return err
	}
	// Before anything is done with the password: where a domain's people sign in elsewhere, it is none of ours.
	if to, required, ok := p.routed(f.Email); ok && (required || f.Company || f.Password == "") {
		trip, wish := p.signInTrip(v, to.ID, f.Email)
		return p.setOut(w, r, trip, wish)
	}
	errs := f.validate()
	if f.Company && f.Email != "" {
		errs = identity.FieldErrors{"email": "upstream.no_company"}
	}
	puzzle := f.Challenge
	if len(errs) == 0 {
		var problem string
		if problem, puzzle, err = p.guard(r, f.Email, f.Challenge); err != nil {
			return err
		} else if problem != "" {
			errs[""] = problem
		}
	}
	var u identity.User
	if len(errs) == 0 {
		u, err = p.People.CheckPassword(r.Context(), f.Email, f.Password, web.Address(r.Context()))
		if errors.Is(err, identity.ErrCredentials) {
			errs[""] = "login.wrong"
			if puzzle, err = p.failed(r, f.Email); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		content, err := p.loginContent(r, v)
		if err != nil {
			return err
		}
		content.Errors = errs
		if !content.Again {
			content.Email = f.Email
		}
		content.Challenge = puzzle
		return p.show(w, r, v, view{Name: "login", Status: http.StatusUnprocessableEntity, Content: content, Challenge: puzzle != ""})
	}
	return p.afterFirst(w, r, v, u, []string{identity.AMRPassword})
}

// afterFirst goes on when the first factor is proven, whichever it was: with the second one if the person has it.
func (p *Pages) afterFirst(w http.ResponseWriter, r *http.Request, v visit, u identity.User, amr []string) error {
	if !u.TwoStep() {
		return p.enter(w, r, v, u, amr)
	}
	// One factor alone opens nothing: no session exists until the second one is proven too, so there is none to be had
	// by skipping its page.
	ticket, expires, err := p.People.BeginLogin(r.Context(), identity.Login{
		UserID: u.ID, AMR: amr, StartedAt: p.Now(), Interaction: v.ID, Via: v.via,
	})
	if err != nil {
		return err
	}
	p.Site.SetLoginTicket(w, v.ID, ticket, expires)
	return p.redirect(w, r, withInteraction(p.nextStep(u), v.ID))
}
