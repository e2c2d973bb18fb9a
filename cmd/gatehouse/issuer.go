package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/oauth"
)

type issuerCommands struct {
	Create   issuerCreate   `cmd:"" help:"Trust an issuer. By itself that gives no app anything: see permit."`
	List     issuerList     `cmd:"" help:"List trusted issuers."`
	Show     issuerShow     `cmd:"" help:"Show an issuer with its permits."`
	Update   issuerUpdate   `cmd:"" help:"Change what is given and leave the rest."`
	Permit   issuerPermit   `cmd:"" help:"Let an app have tokens for assertions of an issuer."`
	Withdraw issuerWithdraw `cmd:"" help:"End a permit."`
	Delete   issuerDelete   `cmd:"" help:"Trust an issuer no more, and end its permits."`
}

func withIssuers(t *terminal, s *storage, f func(d *data, issuers oauth.Issuers) error) error {
	return withData(t, s, func(d *data) error {
		return f(d, oauth.Issuers{DB: d.db, Audit: d.audit, Now: time.Now})
	})
}

func noIssuer(err error, name string) error {
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("there is no issuer %q: `gatehouse issuer list` shows them all", name)
	}
	return err
}

// issuerFields is what create and update may set; what is not given stays as it is.
type issuerFields struct {
	For      []string       `help:"What its statements count for: tokens (assertions at the token endpoint) or software-statements (apps that register themselves); repeat. [tokens]" placeholder:"PURPOSE"`
	JWKS     *string        `name:"jwks" help:"File with its public keys (JSON Web Key Set)." placeholder:"FILE"`
	JWKSURI  *string        `name:"jwks-uri" help:"Where it publishes its public keys." placeholder:"URL"`
	Alg      []string       `help:"Algorithm it signs with: RS256, PS256, ES256 or EdDSA; repeat. [all of them]" placeholder:"ALG"`
	Subject  *string        `help:"Whom sub names: service (a machine, whose token is the app's own), linked (whoever signs in here by that account of a provider), or person (whoever has that id here). [service]" placeholder:"KIND"`
	Provider *string        `help:"With linked: id of the provider (see gatehouse provider)." placeholder:"ID"`
	MaxLife  *time.Duration `help:"The longest that its assertions may live; more than 5m for machines only. [5m]" placeholder:"TIME"`
	Reusable *bool          `negatable:"" help:"The same assertion may come again while it lives, as those do that a platform writes into a file; for machines only."`
	Disabled *bool          `negatable:"" help:"Nothing it says counts."`
}

func (f *issuerFields) apply(i *oauth.Issuer) error {
	setList(&i.For, f.For)
	setList(&i.Algs, f.Alg)
	if f.JWKS != nil {
		keys := credentialFields{JWKS: f.JWKS}
		if err := keys.read(); err != nil {
			return err
		}
		i.JWKS, i.JWKSURI = keys.keys, ""
	}
	if f.JWKSURI != nil {
		i.JWKSURI = *f.JWKSURI
		if f.JWKS == nil {
			i.JWKS = nil
		}
	}
	set(&i.Subject, f.Subject)
	set(&i.Provider, f.Provider)
	set(&i.MaxLife, f.MaxLife)
	set(&i.Reusable, f.Reusable)
	set(&i.Disabled, f.Disabled)
	return nil
}

// issuerProblem names the flag of what Validate finds.
func issuerProblem(err error) error {
	for prefix, flag := range map[string]string{"for": "for", "jwks_uri": "jwks-uri", "jwks": "jwks", "algs": "alg", "subject": "subject", "provider": "provider", "max_life": "max-life"} {
		if rest, ok := strings.CutPrefix(err.Error(), prefix); ok && strings.IndexAny(rest, ": ,") == 0 {
			return badSetting(flag, "%s", strings.TrimLeft(rest, ": "))
		}
	}
	return err
}

// checkProvider wants the provider of an issuer of people to be there.
func checkProvider(t *terminal, d *data, i oauth.Issuer) error {
	if i.Provider == "" {
		return nil
	}
	providers, err := upstream.OpenProviders(t.ctx, d.db, d.seal, d.audit, nil)
	if err != nil {
		return err
	}
	if _, err := providers.Get(i.Provider); err != nil {
		return badSetting("provider", "there is no provider %q: `gatehouse provider list` shows them all", i.Provider)
	}
	return nil
}

// issuerWithPermits is what show prints.
type issuerWithPermits struct {
	oauth.Issuer
	Permits []oauth.Permit `json:"permits"`
}

const permitsShown = 1000

func printIssuer(t *terminal, issuers oauth.Issuers, name string) error {
	i, err := issuers.Get(t.ctx, name)
	if err != nil {
		return noIssuer(err, name)
	}
	permits, err := issuers.Permits(t.ctx, name, permitsShown)
	if err != nil {
		return err
	}
	return t.print(issuerWithPermits{i, permits}, func(w io.Writer) {
		row := func(name, value string) {
			if value != "" {
				_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
			}
		}
		row("issuer", i.Issuer)
		row("for", strings.Join(i.For, " "))
		row("jwks", string(i.JWKS))
		row("jwks_uri", i.JWKSURI)
		row("algs", strings.Join(i.Algs, " "))
		row("subject", i.Subject)
		row("provider", i.Provider)
		if i.MaxLife > 0 {
			row("max_life", i.MaxLife.String())
		}
		row("reusable", yes(i.Reusable))
		row("disabled", yes(i.Disabled))
		row("created", when(i.CreatedAt))
		for _, p := range permits {
			row("permit", describePermit(p))
		}
	})
}

func describePermit(p oauth.Permit) string {
	words := []string{p.ID, "client " + p.ClientID}
	for _, name := range p.ClaimNames() {
		words = append(words, "if "+name+"="+p.Claims[name])
	}
	if len(p.Scopes) > 0 {
		words = append(words, "scope "+strings.Join(p.Scopes, " "))
	}
	if len(p.APIs) > 0 {
		words = append(words, "api "+strings.Join(p.APIs, " "))
	}
	return strings.Join(words, "\t")
}

type issuerCreate struct {
	Issuer  string       `arg:"" name:"issuer" help:"Address that its tokens name in iss, letter by letter."`
	Fields  issuerFields `embed:""`
	Storage storage      `embed:""`
}

// Run implements the command.
func (c *issuerCreate) Run(t *terminal) error {
	i := oauth.Issuer{Issuer: c.Issuer}
	if err := c.Fields.apply(&i); err != nil {
		return err
	}
	i = i.WithDefaults()
	if err := i.Validate(); err != nil {
		return issuerProblem(err)
	}
	return withIssuers(t, &c.Storage, func(d *data, issuers oauth.Issuers) error {
		if err := checkProvider(t, d, i); err != nil {
			return err
		}
		if err := issuers.Create(t.ctx, i); errors.Is(err, db.ErrConflict) {
			return fmt.Errorf("there is an issuer %q already", c.Issuer)
		} else if err != nil {
			return err
		}
		return printIssuer(t, issuers, c.Issuer)
	})
}

type issuerList struct {
	Limit   int     `help:"Number of issuers. [${default}]" default:"100" placeholder:"N"`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *issuerList) Run(t *terminal) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	return withIssuers(t, &c.Storage, func(_ *data, issuers oauth.Issuers) error {
		list, err := issuers.List(t.ctx, c.Limit)
		if err != nil {
			return err
		}
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ISSUER\tFOR\tSUBJECT\tDISABLED\tCREATED")
			for _, i := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Issuer, strings.Join(i.For, " "), i.Subject, yes(i.Disabled), when(i.CreatedAt))
			}
		})
	})
}

type issuerShow struct {
	Issuer  string  `arg:"" name:"issuer" help:"Address of the issuer."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *issuerShow) Run(t *terminal) error {
	return withIssuers(t, &c.Storage, func(_ *data, issuers oauth.Issuers) error { return printIssuer(t, issuers, c.Issuer) })
}

type issuerUpdate struct {
	Issuer  string       `arg:"" name:"issuer" help:"Address of the issuer."`
	Fields  issuerFields `embed:""`
	Storage storage      `embed:""`
}

// Run implements the command.
func (c *issuerUpdate) Run(t *terminal) error {
	return withIssuers(t, &c.Storage, func(d *data, issuers oauth.Issuers) error {
		i, err := issuers.Get(t.ctx, c.Issuer)
		if err != nil {
			return noIssuer(err, c.Issuer)
		}
		if err := c.Fields.apply(&i); err != nil {
			return err
		}
		i = i.WithDefaults()
		if err := i.Validate(); err != nil {
			return issuerProblem(err)
		}
		if err := checkProvider(t, d, i); err != nil {
			return err
		}
		if err := issuers.Update(t.ctx, i); err != nil {
			return err
		}
		return printIssuer(t, issuers, c.Issuer)
	})
}

type issuerPermit struct {
	Issuer  string   `arg:"" name:"issuer" help:"Address of the issuer."`
	Client  string   `arg:"" name:"client" help:"Id of the app."`
	Claim   []string `placeholder:"NAME=VALUE" sep:"none" help:"What the assertion must say; repeat. The value of sub may end in :* or /* for all that begin so. Machines need one for sub."`
	Scope   []string `placeholder:"SCOPE" help:"Scopes it gives at most; repeat or separate by commas. [those of the app]"`
	API     []string `name:"api" placeholder:"URI" sep:"none" help:"APIs it gives tokens for at most; repeat. [those of the app]"`
	Storage storage  `embed:""`
}

// Run implements the command.
func (c *issuerPermit) Run(t *terminal) error {
	p := oauth.Permit{Claims: map[string]string{}, Scopes: c.Scope, APIs: c.API}
	for _, claim := range c.Claim {
		name, value, _ := strings.Cut(claim, "=")
		p.Claims[name] = value
	}
	return withIssuers(t, &c.Storage, func(d *data, issuers oauth.Issuers) error {
		i, err := issuers.Get(t.ctx, c.Issuer)
		if err != nil {
			return noIssuer(err, c.Issuer)
		}
		clients, err := oauth.OpenClients(t.ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
		if err != nil {
			return err
		}
		client, err := clients.Get(t.ctx, c.Client)
		if err != nil {
			return noClient(err, c.Client)
		}
		if p, err = issuers.Permit(t.ctx, i, client, p); err != nil {
			return err
		}
		return t.print(p, func(w io.Writer) { _, _ = fmt.Fprintf(w, "permit\t%s\n", describePermit(p)) })
	})
}

type issuerWithdraw struct {
	ID      string  `arg:"" name:"permit" help:"Id of the permit, as gatehouse issuer show lists it."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *issuerWithdraw) Run(t *terminal) error {
	return withIssuers(t, &c.Storage, func(_ *data, issuers oauth.Issuers) error {
		if err := missing(issuers.Withdraw(t.ctx, c.ID), "there is no permit %q", c.ID); err != nil {
			return err
		}
		return t.print(map[string]string{"withdrawn": c.ID}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "withdrawn", c.ID) })
	})
}

type issuerDelete struct {
	Issuer  string  `arg:"" name:"issuer" help:"Address of the issuer."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *issuerDelete) Run(t *terminal) error {
	return withIssuers(t, &c.Storage, func(_ *data, issuers oauth.Issuers) error {
		if err := issuers.Delete(t.ctx, c.Issuer); err != nil {
			return noIssuer(err, c.Issuer)
		}
		return t.print(map[string]string{"deleted": c.Issuer}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", c.Issuer) })
	})
}
