package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

type forgotPage struct {
	ID     string
	Email  string
	Sent   bool
	Errors identity.FieldErrors
}

func readForgot(r *http.Request) (email string, err error) {
	f, err := readForm(r)
	return f.trimmed("email"), err
}

func (p *Pages) forgotPage(w http.ResponseWriter, r *http.Request) error {
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	content := forgotPage{ID: v.ID, Email: v.Interaction.LoginHint, Sent: v.Query.value("n") == "sent"}
	return p.show(w, r, v, view{Name: "forgot", Content: content})
}

// forgot mails a link to set a new password. Its answer is the same for every address, and as quick (account enumeration).
func (p *Pages) forgot(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := p.visit(r)
	if err != nil {
		return err
	}
	email, err := readForgot(r)
	if err != nil {
		return err
	}
	if email == "" {
		return p.show(w, r, v, view{Name: "forgot", Status: http.StatusUnprocessableEntity, Content: forgotPage{
			ID: v.ID, Errors: identity.FieldErrors{"email": identity.KeyRequired},
		}})
	}
	if err := p.limit(ctx, "mail", mailRequestsPerHour, time.Hour); err != nil {
		return err
	}
	u, err := p.People.UserByEmail(ctx, email)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	// Nobody's mailbox has its limit and its place behind the answer too.
	if err := p.mailOnce(ctx, email, func(ctx context.Context) error {
		if u.Status != identity.StatusActive && u.Status != identity.StatusClosing {
			return nil
		}
		return p.sendReset(ctx, u, v.ID)
	}); err != nil {
		return err
	}
	p.markBrowser(w, v)
	return p.redirect(w, r, withInteraction("/forgot?n=sent", v.ID))
}

func (p *Pages) sendReset(ctx context.Context, u identity.User, interaction string) error {
	token, err := p.People.NewLink(ctx, u.ID, identity.Reset, u.Email)
	if err != nil {
		return err
	}
	return p.mailReset(ctx, u, p.Site.URL(withInteraction("/reset?t="+url.QueryEscape(token), interaction)))
}
