package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type tokenCommands struct {
	Create tokenCreate `cmd:"" help:"Make an initial access token, with which apps may register themselves; it is printed this once."`
	List   tokenList   `cmd:"" help:"List initial access tokens."`
	Delete tokenDelete `cmd:"" help:"End an initial access token; what was registered with it stays."`
}

type tokenCreate struct {
	Note    string        `help:"Whom or what it is for." placeholder:"TEXT"`
	Uses    int           `help:"Number of apps that may be registered with it. [${default}]" default:"1" placeholder:"N"`
	Life    time.Duration `help:"How long it works. [${default}]" default:"7d" placeholder:"TIME"`
	Scope   []string      `help:"Scopes that apps registered with it may ask for, in place of those of strangers; repeat or separate by commas." placeholder:"SCOPE"`
	Host    []string      `help:"Host to which the redirect URIs of such apps must lead; repeat. [any]" placeholder:"HOST" sep:"none"`
	Signed  bool          `name:"software-statement" help:"Such apps need a software statement of a trusted issuer (see gatehouse issuer)."`
	Storage storage       `embed:""`
}

type newToken struct {
	oauth.InitialToken
	Token string `json:"initial_access_token"`
}

// Run implements the command.
func (c *tokenCreate) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		made, token, err := clients.CreateToken(t.ctx, c.Note, c.Uses, c.Life, oauth.RegistrationPolicy{Scopes: c.Scope, Hosts: c.Host, Statement: c.Signed})
		if err != nil {
			return err
		}
		return t.print(newToken{made, token}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "id\t%s\ninitial_access_token\t%s\nexpires\t%s\n\nKeep the token now: it is shown this once.\n", made.ID, token, when(made.ExpiresAt))
		})
	})
}

type tokenList struct {
	Limit   int     `help:"Number of tokens. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *tokenList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		list, err := clients.Tokens(t.ctx, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tUSES LEFT\tEXPIRES\tNOTE")
			for _, k := range list {
				_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", k.ID, k.UsesLeft, when(k.ExpiresAt), k.Note)
			}
		})
	})
}

type tokenDelete struct {
	ID      string  `arg:"" name:"id" help:"Id of the token."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *tokenDelete) Run(t *terminal) error {
	return withClients(t, &c.Storage, func(clients *oauth.Clients) error {
		if err := clients.DeleteToken(t.ctx, c.ID); errors.Is(err, db.ErrNotFound) {
			return fmt.Errorf("there is no token %q: `gatehouse client token list` shows them all", c.ID)
		} else if err != nil {
			return err
		}
		return t.print(map[string]string{"deleted": c.ID}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", c.ID) })
	})
}
