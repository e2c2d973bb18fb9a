package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/gatehouse-id/gatehouse/oauth"
)

type deliveryCommands struct {
	List  deliveryList  `cmd:"" help:"List messages to apps, the newest first; they are kept for a week."`
	Retry deliveryRetry `cmd:"" help:"Try again what was given up."`
}

func withOutbox(t *terminal, s *storage, f func(outbox *oauth.Outbox) error) error {
	return withData(t, s, func(d *data) error { return f(oauth.OpenOutbox(oauth.OutboxConfig{DB: d.db})) })
}

type deliveryList struct {
	Client  string  `help:"Those to one app." placeholder:"ID"`
	Status  string  `help:"waiting, held (until the receiver fetches it), delivered or failed." placeholder:"STATUS" enum:",waiting,held,delivered,failed" default:""`
	Before  string  `help:"Begin before this id." placeholder:"ID"`
	Limit   int     `help:"Number of messages. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *deliveryList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withOutbox(t, &c.Storage, func(outbox *oauth.Outbox) error {
		list, err := outbox.List(t.ctx, c.Client, c.Status, c.Before, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tWHAT\tAPP\tSTATUS\tATTEMPTS\tMADE\tNEXT ATTEMPT\tREASON")
			for _, m := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.ID, m.Kind, m.ClientID, m.Status, m.Attempts, when(m.MadeAt), when(m.DueAt), cmp.Or(m.Note, "-"))
			}
			if len(list) == c.Limit {
				_, _ = fmt.Fprintf(w, "\nMore: --before %s\n", list[c.Limit-1].ID)
			}
		})
	})
}

type deliveryRetry struct {
	Client  string  `help:"Those to one app." placeholder:"ID"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *deliveryRetry) Run(t *terminal) error {
	return withOutbox(t, &c.Storage, func(outbox *oauth.Outbox) error {
		n, err := outbox.Retry(t.ctx, c.Client)
		if err != nil {
			return err
		}
		return t.print(map[string]int64{"retried": n}, func(w io.Writer) { _, _ = fmt.Fprintln(w, n, "will be tried again") })
	})
}
