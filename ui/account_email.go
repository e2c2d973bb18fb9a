package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// changeMails links to a new address may be asked for in changeWindow, so that an account is no tool for filling
// strangers' mailboxes.
const (
	changeMails  = 5
	changeWindow = time.Hour
)

type emailPage struct {
	Done     string
	Email    string
	Verified bool
	Person   string
	New      string // what was typed
	Errors   identity.FieldErrors
}

func (p *Pages) emailPage(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	u, err := p.People.User(r.Context(), s.UserID)
	if err != nil {
		return err
	}
	return p.showEmail(w, r, u, "", nil)
}

func (p *Pages) showEmail(w http.ResponseWriter, r *http.Request, u identity.User, typed string, problems identity.FieldErrors) error {
	v := view{Name: "account_email", Wide: true, Nav: "email", Content: emailPage{
		Done: done(r), Email: u.Email, Verified: u.EmailVerified, Person: u.ID, New: typed, Errors: problems,
	}}
	v.Status = statusOf(problems)
	return p.render(w, r, v)
}

// askNewEmail sends a link to the new address; nothing changes before it is followed. An address that has an account
// gets a mail too, and the page says the same in the same time: it tells nobody who has an account here.
func (p *Pages) askNewEmail(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, u, err := p.posted(r, s)
	if err != nil {
		return err
	}
	// The link goes to the address as it will be kept: of two spellings, one must not get the mail and the other be proven.
	typed := f.trimmed("email")
	email, ok := identity.NormalEmail(typed)
	switch {
	case typed == "":
		return p.showEmail(w, r, u, typed, identity.FieldErrors{"email": identity.KeyRequired})
	case !ok:
		return p.showEmail(w, r, u, typed, identity.FieldErrors{"email": identity.KeyEmailInvalid})
	case strings.EqualFold(email, u.Email):
		return p.showEmail(w, r, u, typed, identity.FieldErrors{"email": "account_email.same"})
	}
	wait, err := p.Cache.Allow(r.Context(), "ui:change:"+u.ID, changeMails, changeWindow)
	if err != nil {
		return err
	}
	if wait > 0 {
		return &identity.LimitError{RetryAfter: wait}
	}
	if err := p.mailOnce(r.Context(), email, func(ctx context.Context) error {
		other, err := p.People.UserByEmail(ctx, email)
		switch {
		case err == nil:
			return p.mailAccountExists(ctx, other)
		case !errors.Is(err, identity.ErrNotFound):
			return err
		}
		token, err := p.People.NewLink(ctx, u.ID, identity.ChangeEmail, email)
		if err != nil {
			return err
		}
		return p.mailNewAddress(ctx, u, email, p.Site.URL("/account/email/link?t="+url.QueryEscape(token)))
	}); err != nil {
		return err
	}
	// The address in force learns it now, when the change can still be stopped: whoever is in the account with its password, and waits
	// in another mailbox, has not got it yet. One that nobody has proven may be a stranger's.
	if u.EmailVerified {
		p.sent(r, p.mailAddressAsked(r.Context(), u, deviceOf(r)))
	}
	return p.redirect(w, r, "/account/email?done=email_sent")
}

type emailLinkPage struct {
	Token   string
	Person  string
	Old     string
	Problem string // locale key: why the link cannot be used; empty: it can
	SignIn  bool   // signing in helps
}

// emailLinkPage asks for the button: mail scanners open every link, so opening it must not change anything.
//
// The link works only in a session of the account it belongs to. Otherwise a thief could ask for a stranger's address
// and let the stranger, who sees a mail of a service they know, tie it to the thief's account.
func (p *Pages) emailLinkPage(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	s, ok, err := p.session(r)
	if err != nil {
		return err
	}
	return p.showEmailLink(w, r, s, ok, query.value("t"))
}

func (p *Pages) showEmailLink(w http.ResponseWriter, r *http.Request, s identity.Session, signedIn bool, token string) error {
	page := emailLinkPage{Token: token}
	u, err := p.People.CheckLink(r.Context(), token, identity.ChangeEmail)
	switch {
	case errors.Is(err, identity.ErrLink):
		page.Problem = "account_email_link.over"
	case err != nil:
		return err
	case !signedIn:
		page.Problem, page.SignIn = "account_email_link.sign_in", true
	case u.ID != s.UserID:
		page.Problem = "account_email_link.other"
	default:
		page.Old, page.Person = u.Email, u.ID
	}
	v := view{Name: "account_email_link", Content: page}
	if page.Problem != "" {
		v.Status = http.StatusUnprocessableEntity
	}
	return p.render(w, r, v)
}

func (p *Pages) changeEmail(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	token := f.value("t")
	u, err := p.People.CheckLink(r.Context(), token, identity.ChangeEmail)
	if errors.Is(err, identity.ErrLink) || err == nil && u.ID != s.UserID {
		return p.showEmailLink(w, r, s, true, token)
	}
	if err != nil {
		return err
	}
	u, old, err := p.People.ChangeEmail(r.Context(), token)
	switch {
	case errors.Is(err, identity.ErrLink), errors.Is(err, identity.ErrEmailTaken):
		return p.showEmailLink(w, r, s, true, "")
	case err != nil:
		return err
	}
	p.sent(r, p.mailAddressChanged(r.Context(), old, u, deviceOf(r)))
	return p.redirect(w, r, "/account?done=email")
}
