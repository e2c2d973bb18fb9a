package ui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// mailRequestsPerHour bounds how often one network may have mails sent.
const mailRequestsPerHour = 30

type verifyPage struct {
	ID, Handle string
	Email      string
	SignedIn   bool
	Sent       bool
}

type verifyLinkPage struct {
	ID, Token, Email string
	Person           string // whose session this is; empty: nobody's, or somebody else's
	Since            string // when the account was made
	Password         bool   // it has one
	Errors           identity.FieldErrors
}

// verifyPage says that a mail is on its way, and offers another one.
func (p *Pages) verifyPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if v.SignedIn && v.Session.EmailVerified {
		return p.onward(w, r, v, v.Session)
	}
	content := verifyPage{ID: v.ID, Handle: v.Query.value("p"), SignedIn: v.SignedIn, Sent: v.Query.value("n") == "sent"}
	u, err := p.verifying(r.Context(), v)
	if err != nil {
		return err
	}
	if u.Email == "" { // nobody to say anything about
		return p.redirect(w, r, withInteraction("/login", v.ID))
	}
	content.Email = u.Email
	l := p.locale(r.Context())
	title := l.text("verify.title")
	if v.SignedIn {
		title = l.text("verify.confirm")
	}
	return p.show(w, r, v, view{Name: "verify", Title: title, Content: content})
}

// verifying finds whose address is to be proven: the signed-in person's, or the one that was just registered, which comes
// without an ID.
func (p *Pages) verifying(ctx context.Context, v visit) (identity.User, error) {
	if v.SignedIn {
		return p.People.User(ctx, v.Session.UserID)
	}
	email, err := p.recall(ctx, v.Query.value("p"))
	return identity.User{Email: email}, err
}

// verifyResend sends the link again. For an address without an account, or with a proven one, it only looks like it.
func (p *Pages) verifyResend(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	if _, err := readForm(r); err != nil {
		return err
	}
	if err := p.limit(ctx, "mail", mailRequestsPerHour, time.Hour); err != nil {
		return err
	}
	u, err := p.verifying(ctx, v)
	if err != nil {
		return err
	}
	if email := u.Email; email != "" {
		if u.ID == "" {
			if u, err = p.People.UserByEmail(ctx, email); err != nil && !errors.Is(err, identity.ErrNotFound) {
				return err
			}
		}
		// An address without anything to confirm has its limit and its place behind the answer too (account enumeration).
		if err := p.mailOnce(ctx, email, func(ctx context.Context) error {
			if u.Status != identity.StatusActive || u.EmailVerified {
				return nil
			}
			return p.sendVerification(ctx, u, v.ID)
		}); err != nil {
			return err
		}
	}
	p.markBrowser(w, v)
	return p.redirect(w, r, withInteraction("/verify?n=sent&p="+handleOnly(v.Query.value("p")), v.ID))
}

// handleOnly drops what remember cannot have made, before it goes into a URL.
func handleOnly(handle string) string {
	for _, c := range handle {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return ""
		}
	}
	return handle
}

// verifyLinkPage is where the link of the mail leads. It changes nothing: mail scanners open links, people press buttons.
func (p *Pages) verifyLinkPage(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	u, err := p.People.CheckLink(r.Context(), q.value("t"), identity.Verify)
	if err != nil {
		return p.deadLink(err, "verify_link.dead", "/login")
	}
	return p.showVerifyLink(w, r, q, u, nil)
}

func (p *Pages) showVerifyLink(w http.ResponseWriter, r *http.Request, q form, u identity.User, problems identity.FieldErrors) error {
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	// What the account is called stays out: whoever made it could write to a stranger by it (phishing by content injection).
	page := verifyLinkPage{
		ID: q.value("i"), Token: q.value("t"), Email: u.Email, Password: u.HasPassword, Errors: problems,
		Since: p.locale(r.Context()).moment(u.CreatedAt, u.Preferences.Zone),
	}
	if signedIn && s.UserID == u.ID {
		page.Person = u.ID
	}
	return p.render(w, r, view{Name: "verify_link", Status: statusOf(problems), Content: page})
}

// verifyLink proves the address for whoever is in the account, by a session or by its password. The button alone does not do: it may
// be a stranger's whose address somebody else has signed up with, and who would confirm the other's account (account
// pre-hijacking).
func (p *Pages) verifyLink(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	f, err := readForm(r)
	if err != nil {
		return err
	}
	u, err := p.People.CheckLink(ctx, q.value("t"), identity.Verify)
	if err != nil {
		return p.deadLink(err, "verify_link.dead", "/login")
	}
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	inside := signedIn && s.UserID == u.ID
	if inside {
		err = shownTo(r, u.ID)
	} else if problems, failed := p.passwordOf(r, u, f.value("password")); failed != nil || len(problems) > 0 {
		if failed == nil {
			failed = p.showVerifyLink(w, r, q, u, problems)
		}
		return failed
	}
	if err != nil {
		return err
	}
	if u, err = p.People.VerifyEmail(ctx, q.value("t"), u.ID); err != nil {
		return p.deadLink(err, "verify_link.dead", "/login")
	}
	id := p.resumable(r, q.value("i"))
	if !inside && (signedIn || id == "" && q.value("i") != "") { // another person's browser, or another device than the one they began on
		return p.render(w, r, view{Name: "verify_done", Content: struct{ Email string }{u.Email}})
	}
	v, err := p.visitTo(r, id, q)
	if err != nil {
		return err
	}
	if inside {
		return p.onward(w, r, v, s)
	}
	return p.afterFirst(w, r, v, u, []string{identity.AMRPassword})
}

// passwordOf checks the password of an account that the browser is not signed in to, under all limits of signing in.
func (p *Pages) passwordOf(r *http.Request, u identity.User, password string) (identity.FieldErrors, error) {
	if password == "" {
		return identity.FieldErrors{"password": identity.KeyRequired}, nil
	}
	err := p.People.CheckUserPassword(r.Context(), u.ID, password, deviceOf(r).Address)
	if !errors.Is(err, identity.ErrCredentials) {
		return nil, err
	}
	_, err = p.failed(r, u.Email)
	return identity.FieldErrors{"password": "verify_link.wrong"}, err
}

// refuseLink is "this wasn't me" of somebody who gets such a mail without having asked for it.
func (p *Pages) refuseLink(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	if err := p.People.RefuseEmail(r.Context(), f.value("t")); err != nil {
		return p.deadLink(err, "verify_link.dead", "/login")
	}
	return p.render(w, r, view{Name: "verify_refused"})
}

// deadLink explains a link that is used, replaced or too old.
func (p *Pages) deadLink(err error, key, next string) error {
	if errors.Is(err, identity.ErrLink) {
		return &pageError{status: http.StatusBadRequest, key: key, next: next}
	}
	return err
}
