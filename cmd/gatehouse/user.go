package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type userCommands struct {
	Create           userCreate           `cmd:"" help:"Create an account, with a one-time password (which is printed) unless one is given."`
	List             userList             `cmd:"" help:"List accounts."`
	Disable          userDisable          `cmd:"" help:"Close an account: its sessions and tokens end at once."`
	Enable           userEnable           `cmd:"" help:"Open a disabled account again."`
	ResetPassword    userResetPassword    `cmd:"" help:"Give an account a new one-time password, which is printed; its sessions end."`
	TwoStepOff       userTwoStepOff       `cmd:"" help:"Take an account's authenticator app, passkeys and recovery codes away, for somebody who lost them all."`
	Invite           userInvite           `cmd:"" help:"Invite somebody by mail to make an account, also where registration is not open."`
	Invitations      userInvitations      `cmd:"" help:"List invitations that were not accepted."`
	ResendInvitation userResendInvitation `cmd:"" help:"Send another mail, with another link and a new life; the older link dies."`
	RevokeInvitation userRevokeInvitation `cmd:"" help:"Withdraw an invitation; its link dies."`
	Import           userImport           `cmd:"" help:"Take people over from a file or from another system's export, with their passwords."`
	Export           userExport           `cmd:"" help:"Write everything held about a person into a zip file."`
	Delete           userDelete           `cmd:"" help:"Close an account and erase it when the grace period is over; the person is told. user enable calls it off."`
	Erase            userErase            `cmd:"" help:"Erase accounts at once and for good."`
}

// openPeople is the part of serve's wiring that looks after people.
func openPeople(ctx context.Context, d *data) (*identity.Directory, error) {
	c, err := peopleConfig(ctx, d)
	if err != nil {
		return nil, err
	}
	return identity.New(ctx, c)
}

func peopleConfig(ctx context.Context, d *data) (identity.Config, error) {
	key, err := d.seal.Secret(ctx, d.db, "refresh-token")
	if err != nil {
		return identity.Config{}, err
	}
	grants := oauth.OpenGrants(oauth.GrantsConfig{
		DB: d.db, Audit: d.audit, Key: key, Revocations: oauth.OpenRevocations(d.db, nil),
	})
	clients, err := oauth.OpenClients(ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
	if err != nil {
		return identity.Config{}, err
	}
	outbox := oauth.OpenOutbox(oauth.OutboxConfig{DB: d.db, Audit: d.audit, Log: d.log, Seal: d.seal, Clients: clients, Grants: grants}) // serve delivers
	d.audit.Tell(outbox.Heard)
	return identity.Config{
		DB: d.db, Cache: d.cache, Seal: d.seal, Audit: d.audit, Log: d.log, Revoke: outbox.EndUser, RevokeDevices: outbox.EndDevices,
	}, nil
}

// withData runs f on the opened data of a command.
func withData(t *terminal, s *storage, f func(d *data) error) error {
	if err := s.check(); err != nil {
		return err
	}
	// Run in another directory than the server, or without its settings, a command would quietly make a database of its own.
	if path := s.sqlitePath(); path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return badSetting("database-url", "there is no database at %s: run this where the server runs, with its settings; or begin with `gatehouse migrate`", path)
		}
	}
	d, err := openData(t.ctx, s, logging{LogLevel: "warn"}.logger(t.stderr))
	if err != nil {
		return err
	}
	defer d.close()
	d.audit = d.audit.By("cli")
	return f(d)
}

func withPeople(t *terminal, s *storage, f func(people *identity.Directory) error) error {
	return withData(t, s, func(d *data) error {
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		return f(people)
	})
}

// userRecord is a person as the commands print one.
type userRecord struct {
	ID                 string    `json:"id"`
	Email              string    `json:"email"`
	EmailVerified      bool      `json:"email_verified"`
	Name               string    `json:"name,omitempty"`
	Role               string    `json:"role"`
	Status             string    `json:"status"`
	TwoStep            bool      `json:"two_step"`
	MustChangePassword bool      `json:"must_change_password"`
	CreatedAt          time.Time `json:"created_at"`
	Password           string    `json:"password,omitempty"` // one-time, shown once
}

func recordOf(u identity.User) userRecord {
	return userRecord{
		ID: u.ID, Email: u.Email, EmailVerified: u.EmailVerified, Name: u.Profile.Name, Role: u.Role, Status: u.Status,
		TwoStep: u.TwoStep(), MustChangePassword: u.MustChangePassword, CreatedAt: u.CreatedAt,
	}
}

// findUser takes an email address or an id.
func findUser(ctx context.Context, people *identity.Directory, who string) (u identity.User, err error) {
	if strings.Contains(who, "@") {
		u, err = people.UserByEmail(ctx, who)
	} else {
		u, err = people.User(ctx, who)
	}
	if errors.Is(err, identity.ErrNotFound) {
		err = fmt.Errorf("there is no account %q: `gatehouse user list` shows them all", who)
	}
	return u, err
}

type userCreate struct {
	Email    string `required:"" placeholder:"ADDRESS" help:"Email address."`
	Password string `placeholder:"PASSWORD" help:"A lasting password instead of a one-time one; - reads it from standard input, so that it does not show in process lists."`
	Name     string `placeholder:"NAME" help:"Full name."`
	Admin    bool   `help:"Make an administrator."`
	Verified bool   `help:"The address is known to be the person's."`

	Storage storage `embed:""`
}

// Run implements the command.
func (c *userCreate) Run(t *terminal) error {
	if c.Password == "-" {
		line, err := bufio.NewReader(io.LimitReader(t.stdin, 1024)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the password: %w", err)
		}
		if c.Password = strings.TrimRight(line, "\r\n"); c.Password == "" {
			return badSetting("password", "standard input holds no password: write one line")
		}
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		n := identity.NewUser{
			Email: c.Email, Password: c.Password, EmailVerified: c.Verified,
			Role: identity.RoleUser, Profile: identity.Profile{Name: c.Name},
		}
		if n.Password == "" {
			n.Password, n.MustChangePassword = oneTimePassword(), true
		}
		if c.Admin {
			n.Role = identity.RoleAdmin
		}
		u, err := people.Create(t.ctx, n)
		var fields identity.FieldErrors
		switch {
		case errors.Is(err, identity.ErrEmailTaken):
			return fmt.Errorf("there is an account %q already: `gatehouse user reset-password %s` gives it a new password", c.Email, c.Email)
		case errors.As(err, &fields) && fields["email"] != "":
			return badSetting("email", "%q is not an email address: give one such as ada@example.com", c.Email)
		case errors.As(err, &fields) && fields["password"] != "":
			return badSetting("password", "is too short, too long or too well known: use %d to %d characters", identity.MinPassword, identity.MaxPassword)
		case errors.As(err, &fields):
			return badSetting("name", "%v", err)
		case err != nil:
			return err
		}
		record := recordOf(u)
		if n.MustChangePassword {
			record.Password = n.Password
		}
		return t.print(record, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "created\t%s\nid\t%s\nrole\t%s\n", u.Email, u.ID, u.Role)
			if record.Password != "" {
				_, _ = fmt.Fprintf(w, "one-time password\t%s\n\n%s\n", record.Password, oneTimeNote)
			}
		})
	})
}

const oneTimeNote = "It is shown this once, and changed at the next sign-in."

type userList struct {
	After string `help:"Begin behind this id." placeholder:"ID"`
	Limit int    `help:"Number of accounts. [${default}]" default:"100" placeholder:"N"`

	Storage storage `embed:""`
}

// Run implements the command.
func (c *userList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		users, err := people.Users(t.ctx, c.After, c.Limit)
		if err != nil {
			return err
		}
		records := make([]userRecord, 0, len(users))
		for _, u := range users {
			records = append(records, recordOf(u))
		}
		return t.print(records, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tEMAIL\tROLE\tSTATUS\tVERIFIED\tTWO-STEP\tCREATED")
			for _, r := range records {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Email, r.Role, r.Status, yes(r.EmailVerified), yes(r.TwoStep), when(r.CreatedAt))
			}
			if len(records) == c.Limit {
				more(w, records[c.Limit-1].ID)
			}
		})
	})
}

func checkLimit(n int) error {
	if n < 1 || n > 1000 {
		return badSetting("limit", "%d is out of range: choose 1 to 1000, and go on with --after", n)
	}
	return nil
}

// more ends a page of a list behind which there may be others.
func more(w io.Writer, last string) {
	_, _ = fmt.Fprintf(w, "\nThere may be more: --after %s\n", last)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type userDisable struct {
	Who     string  `arg:"" name:"account" help:"Email address or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *userDisable) Run(t *terminal) error {
	return setStatus(t, &c.Storage, c.Who, identity.StatusDisabled)
}

type userEnable struct {
	Who     string  `arg:"" name:"account" help:"Email address or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *userEnable) Run(t *terminal) error {
	return setStatus(t, &c.Storage, c.Who, identity.StatusActive)
}

func setStatus(t *terminal, s *storage, who, status string) error {
	return withPeople(t, s, func(people *identity.Directory) error {
		u, err := findUser(t.ctx, people, who)
		if err != nil {
			return err
		}
		if err := people.SetStatus(t.ctx, u.ID, status); err != nil {
			return err
		}
		u.Status = status
		return t.print(recordOf(u), func(w io.Writer) { _, _ = fmt.Fprintf(w, "%s is %s\n", u.Email, status) })
	})
}

type userResetPassword struct {
	Who     string  `arg:"" name:"account" help:"Email address or id."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *userResetPassword) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		u, err := findUser(t.ctx, people, c.Who)
		if err != nil {
			return err
		}
		password := oneTimePassword()
		if err := people.SetOneTimePassword(t.ctx, u.ID, password); err != nil {
			return err
		}
		record := recordOf(u)
		record.MustChangePassword, record.Password = true, password
		return t.print(record, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "account\t%s\none-time password\t%s\n\n%s\n", u.Email, password, oneTimeNote)
		})
	})
}

type userTwoStepOff struct {
	Who     string  `arg:"" name:"account" help:"Email address or id."`
	Storage storage `embed:""`
}

// Run implements the command. Sessions go on: whoever fears that the phone is in wrong hands resets the password as well.
func (c *userTwoStepOff) Run(t *terminal) error {
	return withData(t, &c.Storage, func(d *data) error {
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		u, err := findUser(t.ctx, people, c.Who)
		if err != nil {
			return err
		}
		err = people.RemoveSecondFactors(t.ctx, u.ID)
		if errors.Is(err, identity.ErrNotFound) {
			return fmt.Errorf("two-step sign-in of %s is off already", u.Email)
		}
		if err != nil {
			return err
		}
		u.HasTOTP, u.HasPasskey = false, false
		return t.print(recordOf(u), func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "two-step sign-in of %s is off: the password alone opens the account now\n", u.Email)
		})
	})
}
