package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

type invitationPage struct {
	Token, Name, Email string
	Group              string // whose admin has invited
	Strength           *strength
	Errors             identity.FieldErrors
}

// invitation finds whom the link of a request invites, or says what became of it and what to do.
func (p *Pages) invitation(r *http.Request) (token string, inv identity.SignUpInvitation, err error) {
	q, err := readQuery(r)
	if err != nil {
		return "", inv, err
	}
	if !p.Invitations {
		return "", inv, errUnknownPage
	}
	token = q.value("t")
	inv, err = p.People.CheckSignUpInvitation(r.Context(), token)
	return token, inv, p.deadInvitation(err)
}

func (p *Pages) deadInvitation(err error) error {
	switch {
	case errors.Is(err, identity.ErrInvitationUsed):
		return &pageError{status: http.StatusGone, key: "invitation.used", next: "/login"}
	case errors.Is(err, identity.ErrEmailTaken):
		return &pageError{status: http.StatusConflict, key: "invitation.taken", next: "/login"}
	case errors.Is(err, identity.ErrInvitationExpired):
		return &pageError{status: http.StatusGone, key: "invitation.expired"}
	case errors.Is(err, identity.ErrLink):
		return &pageError{status: http.StatusNotFound, key: "invitation.dead"}
	}
	return err
}

// invitationPage is where the link of the mail leads. It changes nothing: mail scanners open links, people press buttons.
func (p *Pages) invitationPage(w http.ResponseWriter, r *http.Request) error {
	token, inv, err := p.invitation(r)
	if err != nil {
		return err
	}
	return p.render(w, r, view{Name: "invitation", Content: invitationPage{Token: token, Email: inv.Email, Group: inv.Group}})
}

// acceptInvitation makes the account and signs its person in: the link has proven the address, and the password is new.
func (p *Pages) acceptInvitation(w http.ResponseWriter, r *http.Request) error {
	token, inv, err := p.invitation(r)
	if err != nil {
		return err
	}
	f, err := readForm(r)
	if err != nil {
		return err
	}
	name, password := f.trimmed("name"), f.value("password")
	u, err := p.People.AcceptSignUpInvitation(r.Context(), token, name, password)
	var errs identity.FieldErrors
	if errors.As(err, &errs) {
		return p.render(w, r, view{Name: "invitation", Status: http.StatusUnprocessableEntity, Content: invitationPage{
			Token: token, Name: name, Email: inv.Email, Group: inv.Group, Errors: errs, Strength: measure(password, inv.Email, name),
		}})
	}
	if err != nil {
		return p.deadInvitation(err)
	}
	v := visit{}
	if inv.Group != "" {
		v.via.Next = "groups" // there they join, or do not
	}
	return p.enter(w, r, v, u, []string{identity.AMRPassword})
}

// SendInvitations mails the links of invitations that were made or renewed since it was last called. serve calls it every few
// seconds: whoever invites, by command or console, needs neither mail server nor issuer for it.
func (p *Pages) SendInvitations(ctx context.Context) error {
	if !p.Invitations {
		return nil
	}
	return p.People.SendSignUpInvitations(ctx, func(ctx context.Context, inv identity.SignUpInvitation, token string) error {
		l := p.locale(ctx)
		if wanted, ok := p.named(inv.Language); ok {
			l = wanted
		}
		m := letter{name: "invitation", link: p.Site.URL("/invitation?t=" + url.QueryEscape(token)), life: inv.ExpiresAt.Sub(p.Now()).Round(time.Hour)}
		if inv.Group != "" {
			m.name, m.act = "invitation_group", []string{l.text("mail.group_invitation.group", inv.Group)}
		}
		return p.post(ctx, inv.Email, l, m)
	})
}
