package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/consent"
	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/oauth"
	"github.com/gatehouse-id/gatehouse/ui"
)

type userExport struct {
	Who    string `arg:"" name:"account" help:"Email address or id."`
	Output string `required:"" short:"o" placeholder:"PATH" help:"The zip file to write; it must not exist yet."`

	Storage storage `embed:""`
}

// exportRecord is what export did.
type exportRecord struct {
	ID    string `json:"id"`
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

// Run implements the command.
func (c *userExport) Run(t *terminal) error {
	return withData(t, &c.Storage, func(d *data) error {
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		u, err := findUser(t.ctx, people, c.Who)
		if err != nil {
			return err
		}
		clients, err := oauth.OpenClients(t.ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
		if err != nil {
			return err
		}
		archive := ui.Archive{
			People: people, Consents: consent.New(d.db, d.audit, nil), Clients: clients, Audit: d.audit,
			Outbox: oauth.OpenOutbox(oauth.OutboxConfig{DB: d.db}), Requests: oauth.OpenRequests(d.db, nil),
			Grants: oauth.OpenGrants(oauth.GrantsConfig{DB: d.db, Audit: d.audit, Revocations: oauth.OpenRevocations(d.db, nil)}),
		}
		f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // everything about a person
		if err != nil {
			return badSetting("output", "%v: name a new file", err)
		}
		d.audit.Record(t.ctx, audit.Event{Action: "export.fetch", Actor: "cli", UserID: u.ID})
		w := bufio.NewWriter(f)
		err = archive.Write(t.ctx, u.ID, w, nil)
		if err = errors.Join(err, w.Flush()); err == nil {
			err = f.Sync()
		}
		size, failed := f.Seek(0, io.SeekCurrent)
		if err = errors.Join(err, failed, f.Close()); err != nil {
			return errors.Join(err, os.Remove(c.Output))
		}
		return t.print(exportRecord{u.ID, c.Output, size}, func(w io.Writer) { _, _ = fmt.Fprintf(w, "wrote\t%s\nbytes\t%d\n", c.Output, size) })
	})
}

type userDelete struct {
	Who   string        `arg:"" name:"account" help:"Email address or id."`
	Grace time.Duration `env:"GATEHOUSE_ERASURE_GRACE" default:"7d" placeholder:"TIME" help:"Time in which the person can still keep the account by signing in. [${default}]"`
	Force bool          `help:"Even if it is the only administrator."`

	Storage storage `embed:""`
}

// closingRecord is a person whose erasure was asked for.
type closingRecord struct {
	userRecord
	ErasureDueAt time.Time `json:"erasure_due_at"`
}

// Run implements the command.
func (c *userDelete) Run(t *terminal) error {
	if err := checkErasureGrace("grace", c.Grace); err != nil {
		return err
	}
	return withData(t, &c.Storage, func(d *data) error {
		config, err := peopleConfig(t.ctx, d)
		if err != nil {
			return err
		}
		config.ErasureGrace = c.Grace
		people, err := identity.New(t.ctx, config)
		if err != nil {
			return err
		}
		u, err := findUser(t.ctx, people, c.Who)
		if err != nil {
			return err
		}
		due, err := people.AskErasure(t.ctx, u.ID, "", c.Force)
		if err != nil {
			return lastAdmin(err, u.Email)
		}
		after, err := people.User(t.ctx, u.ID)
		if err != nil {
			return err
		}
		return t.print(closingRecord{recordOf(after), due}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "%s is %s and will be erased at %s; the server tells the person by mail\n", u.Email, after.Status, when(due))
		})
	})
}

type userErase struct {
	Who   []string `arg:"" name:"account" help:"Email addresses or ids. An id that is gone already is no error, so that a list can be erased again after a backup was restored."`
	Now   bool     `help:"Needed, because nothing brings the account back. user delete leaves time to think."`
	Force bool     `help:"Even if it is the only administrator."`

	Storage storage `embed:""`
}

// erasedRecord is what erase did about one account.
type erasedRecord struct {
	ID     string `json:"id"`
	Status string `json:"status"` // erased | gone
}

// Run implements the command.
func (c *userErase) Run(t *terminal) error {
	if !c.Now {
		return badSetting("now", "is missing: give it to erase for good, or use `gatehouse user delete`, which leaves time to think")
	}
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		records := make([]erasedRecord, 0, len(c.Who))
		for _, who := range c.Who {
			id, err := uuid.Parse(who)
			if err != nil {
				u, err := findUser(t.ctx, people, who)
				if err != nil {
					return err
				}
				id = uuid.MustParse(u.ID)
			}
			done := erasedRecord{id.String(), "erased"}
			if _, err := people.Erase(t.ctx, done.ID, c.Force); errors.Is(err, identity.ErrNotFound) {
				done.Status = "gone"
			} else if err != nil {
				return lastAdmin(err, who)
			}
			records = append(records, done)
		}
		return t.print(records, func(w io.Writer) {
			for _, r := range records {
				_, _ = fmt.Fprintf(w, "%s is %s\n", r.ID, r.Status)
			}
		})
	})
}

// lastAdmin gives identity.ErrLastAdmin words.
func lastAdmin(err error, who string) error {
	if errors.Is(err, identity.ErrLastAdmin) {
		return fmt.Errorf("%s is the only administrator: create another one with `gatehouse user create --admin`, or give --force", who)
	}
	return err
}

// checkErasureGrace is the rule for how long a closed account can be kept by its person.
func checkErasureGrace(flag string, d time.Duration) error {
	const least, most = time.Hour, 30 * 24 * time.Hour // GDPR, article 12 (3): within a month
	if d < least || d > most {
		return badSetting(flag, "%s is out of range: choose %s to %s", span(d), span(least), span(most))
	}
	return nil
}
