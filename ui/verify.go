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

type verifyLinkPage struct{ ID, Token, Email string }

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
	return p.render(w, r, view{Name: "verify_link", Content: verifyLinkPage{ID: q.value("i"), Token: q.value("t"), Email: u.Email}})
}

func (p *Pages) verifyLink(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	if _, err := readForm(r); err != nil {
		return err
	}
	u, err := p.People.VerifyEmail(r.Context(), q.value("t"))
	if err != nil {
		return p.deadLink(err, "verify_link.dead", "/login")
	}
	s, signedIn, err := p.session(r)
	if err != nil {
		return err
	}
	v := visit{ID: p.resumable(r, q.value("i"))}
	switch {
	case signedIn && s.UserID == u.ID:
		return p.onward(w, r, v, s)
	case signedIn, v.ID == "" && q.value("i") != "": // another person's browser, or another device than the one they began on
		return p.render(w, r, view{Name: "verify_done", Content: struct{ Email string }{u.Email}})
	}
	handle, err := p.remember(r.Context(), u.Email)
	if err != nil {
		return err
	}
	return p.redirect(w, r, withInteraction("/login?n=verified&p="+handle, v.ID))
}

// deadLink explains a link that is used, replaced or too old.
func (p *Pages) deadLink(err error, key, next string) error {
	if errors.Is(err, identity.ErrLink) {
		return &pageError{status: http.StatusBadRequest, key: key, next: next}
	}
	return err
}
