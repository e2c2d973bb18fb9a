package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
)

// inviting is what every command has that makes a link.
type inviting struct {
	Expires      time.Duration `env:"GATEHOUSE_INVITE_TTL" default:"7d" placeholder:"TIME" help:"How long the invitation is open: 1h to 90d. [${default}]"`
	Registration string        `env:"GATEHOUSE_REGISTRATION" default:"open" hidden:""`
}

func (i inviting) check() error {
	if i.Expires < time.Hour || i.Expires > identity.MaxInvitationLife {
		return badSetting("expires", "%s is out of range: choose 1h to %s", span(i.Expires), span(identity.MaxInvitationLife))
	}
	if i.Registration == "off" {
		return badSetting("registration", "is off, so that nobody can accept an invitation: set it to invite")
	}
	return nil
}

// invitationRecord is an invitation as the commands print one.
type invitationRecord struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Role      string    `json:"role"`
	Sent      bool      `json:"sent"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func invitationOf(i identity.SignUpInvitation) invitationRecord {
	return invitationRecord{ID: i.ID, Email: i.Email, Role: i.Role, Sent: i.Sent, CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt}
}

type userInvite struct {
	Email    string `arg:"" help:"Email address."`
	Role     string `default:"user" enum:"user,admin" placeholder:"ROLE" help:"user or admin. [${default}]"`
	Language string `placeholder:"TAG" help:"Language of the mail and of the account, such as de."`

	Inviting inviting `embed:""`
	Storage  storage  `embed:""`
}

// Run implements the command.
func (c *userInvite) Run(t *terminal) error {
	if err := c.Inviting.check(); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		inv, err := people.InviteToSignUp(t.ctx, identity.SignUpInvitation{Email: c.Email, Role: c.Role, Language: c.Language}, c.Inviting.Expires, "cli")
		var fields identity.FieldErrors
		switch {
		case errors.Is(err, identity.ErrEmailTaken):
			return fmt.Errorf("there is an account %q already", c.Email)
		case errors.Is(err, identity.ErrInvited):
			return fmt.Errorf("%s is invited already: `gatehouse user resend-invitation %s` sends another mail", c.Email, c.Email)
		case errors.As(err, &fields) && fields["locale"] != "":
			return badSetting("language", "%q is not a language: give a tag such as de or pt-BR", c.Language)
		case errors.As(err, &fields):
			return fmt.Errorf("%q is not an email address: give one such as ada@example.com", c.Email)
		case err != nil:
			return err
		}
		return t.print(invitationOf(inv), func(w io.Writer) { writeInvited(w, inv) })
	})
}

func writeInvited(w io.Writer, inv identity.SignUpInvitation) {
	_, _ = fmt.Fprintf(w, "invited\t%s\nrole\t%s\nuntil\t%s\n\nThe server mails the link within seconds, or when it next runs.\n", inv.Email, inv.Role, when(inv.ExpiresAt))
}

type userInvitations struct {
	After string `help:"Begin behind this id." placeholder:"ID"`
	Limit int    `help:"Number of invitations. [${default}]" default:"100" placeholder:"N"`

	Storage storage `embed:""`
}

// Run implements the command.
func (c *userInvitations) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		list, err := people.SignUpInvitations(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		records := make([]invitationRecord, 0, len(list))
		for _, inv := range list {
			records = append(records, invitationOf(inv))
		}
		return t.print(records, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tEMAIL\tROLE\tSENT\tCREATED\tEXPIRES")
			for _, r := range records {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Email, r.Role, yes(r.Sent), when(r.CreatedAt), when(r.ExpiresAt))
			}
			if len(records) == c.Limit {
				more(w, records[c.Limit-1].ID)
			}
		})
	})
}

type userResendInvitation struct {
	Email    string   `arg:"" help:"Email address."`
	Inviting inviting `embed:""`
	Storage  storage  `embed:""`
}

// Run implements the command.
func (c *userResendInvitation) Run(t *terminal) error {
	if err := c.Inviting.check(); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		inv, err := people.ResendSignUpInvitation(t.ctx, c.Email, c.Inviting.Expires, "cli")
		if err != nil {
			return noInvitation(err, c.Email)
		}
		return t.print(invitationOf(inv), func(w io.Writer) { writeInvited(w, inv) })
	})
}

type userRevokeInvitation struct {
	Email   string  `arg:"" help:"Email address."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *userRevokeInvitation) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		if err := people.RevokeSignUpInvitation(t.ctx, c.Email, "cli"); err != nil {
			return noInvitation(err, c.Email)
		}
		return t.print(map[string]string{"revoked": c.Email}, func(w io.Writer) { _, _ = fmt.Fprintf(w, "the invitation of %s is withdrawn\n", c.Email) })
	})
}

func noInvitation(err error, email string) error {
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf("there is no open invitation for %q: `gatehouse user invitations` shows them all", email)
	}
	return err
}
