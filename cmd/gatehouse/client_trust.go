package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func (s strangers) meaning(suite bool) oauth.SelfRegistered {
	return oauth.SelfRegistered{Documents: s.Documents, Registration: s.Registration, Scopes: append([]string{}, s.Scopes...), PerHour: s.PerHour, Suite: suite}
}

type trustCommands struct {
	List    trustList    `cmd:"" help:"List the hosts whose apps were used here, and what you have said about hosts."`
	Approve trustApprove `cmd:"" help:"Let apps that a host describes be like those you have registered: consent is remembered, tokens live as long."`
	Block   trustBlock   `cmd:"" help:"Turn away the apps of a host, and of all hosts below it."`
	Forget  trustForget  `cmd:"" help:"Make a host unknown again: its apps get narrow scopes and short tokens, and people are asked each time."`
}

type trustList struct {
	Storage storage `embed:""`
}

// Run implements the command.
func (c *trustList) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		hosts, err := clients.Hosts(t.ctx)
		if err != nil {
			return err
		}
		return t.print(hosts, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "HOST\tTRUST\tAPPS\tSCOPES")
			for _, h := range hosts {
				trust := h.Trust
				if trust == "" {
					trust = "unknown"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", h.Host, trust, h.Clients, strings.Join(h.Scopes, " "))
			}
		})
	})
}

type trustApprove struct {
	Host    string   `arg:"" help:"Host, as the consent page shows it."`
	Scope   []string `help:"Scopes that its apps may ask for beside those of all apps; repeat or separate by commas." placeholder:"SCOPE"`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *trustApprove) Run(t *terminal) error {
	return judge(t, &c.Storage, c.Host, oauth.TrustApproved, func(clients *oauth.Clients) error {
		return clients.Approve(t.ctx, c.Host, append([]string{}, c.Scope...))
	})
}

type trustBlock struct {
	Host    string  `arg:"" help:"Host, as the consent page shows it."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *trustBlock) Run(t *terminal) error {
	return judge(t, &c.Storage, c.Host, oauth.TrustBlocked, func(clients *oauth.Clients) error { return clients.Block(t.ctx, c.Host) })
}

type trustForget struct {
	Host    string  `arg:"" help:"Host, as gatehouse client trust list shows it."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *trustForget) Run(t *terminal) error {
	return judge(t, &c.Storage, c.Host, "unknown", func(clients *oauth.Clients) error {
		err := clients.Forget(t.ctx, c.Host)
		if errors.Is(err, db.ErrNotFound) {
			return fmt.Errorf("nothing was said about the host %q: `gatehouse client trust list` shows them all", c.Host)
		}
		return err
	})
}

func judge(t *terminal, s *storage, host, trust string, f func(clients *oauth.Clients) error) error {
	return withClients(t, s, func(clients *oauth.Clients) error {
		if err := f(clients); err != nil {
			return err
		}
		return t.print(map[string]string{"host": host, "trust": trust}, func(w io.Writer) { _, _ = fmt.Fprintln(w, host, "is", trust) })
	})
}
