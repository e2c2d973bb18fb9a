package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/outbound"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
)

type providerCommands struct {
	Create providerCreate `cmd:"" help:"Let people sign in at another service: Google, Microsoft, GitHub, or any OpenID Connect server."`
	List   providerList   `cmd:"" help:"List the services at which people may sign in."`
	Show   providerShow   `cmd:"" help:"Show everything about a service but its secret."`
	Update providerUpdate `cmd:"" help:"Change what is given and leave the rest."`
	Check  providerCheck  `cmd:"" help:"Ask a service for its metadata, as the first sign-in will."`
	Delete providerDelete `cmd:"" help:"Remove a service and every link to it; whoever has no other way in sets a password by mail."`
}

func withProviders(t *terminal, s *storage, f func(d *data, providers *upstream.Providers) error) error {
	return withData(t, s, func(d *data) error {
		providers, err := upstream.OpenProviders(t.ctx, d.db, d.seal, d.audit, nil)
		if err != nil {
			return err
		}
		return f(d, providers)
	})
}

// providerFields is what create and update may set; what is not given stays as it is.
type providerFields struct {
	Name       *string  `help:"Name on the button." placeholder:"NAME"`
	Issuer     *string  `help:"Issuer of the service; GitHub Enterprise: its address." placeholder:"URL"`
	ClientID   *string  `help:"Id that the service gave to this server." placeholder:"ID"`
	SecretFile *string  `help:"File with the secret that the service gave to this server; - reads standard input." placeholder:"PATH"`
	AuthMethod *string  `help:"client_secret_basic, client_secret_post, or none." placeholder:"METHOD"`
	Scope      []string `help:"Scopes to ask for; repeat or separate by commas." placeholder:"SCOPE"`
	Tenant     []string `help:"Microsoft: ids of the tenants let in; repeat. One alone makes the issuer, too." placeholder:"ID"`

	Domain        []string `help:"Mail domain whose people are sent there; repeat. It belongs to one service." placeholder:"DOMAIN"`
	Require       *bool    `negatable:"" help:"People of these domains cannot sign in by password here."`
	Button        *bool    `negatable:"" help:"Show a button to everybody. [true]"`
	SignUp        *string  `help:"Who gets a new account by it: follow (as registration here), always, or never. [follow]" placeholder:"WHO"`
	TrustEmail    *bool    `negatable:"" help:"An address that the service has verified counts as verified here; with domains, for these alone."`
	LinkByEmail   *bool    `negatable:"" help:"Such an address also opens the account that has it here. Only for a service that owns its domains."`
	TrustAMR      *bool    `name:"trust-amr" negatable:"" help:"Two-step sign-in there spares the second step here."`
	TrustFresh    *bool    `negatable:"" help:"A return counts as a fresh proof even if the service does not say when it asked."`
	KeepSessions  *bool    `negatable:"" help:"Sessions that came by it go on when it is disabled or deleted."`
	Claim         []string `help:"Profile field and the claim that fills it, as FIELD=CLAIM; FIELD= for none; repeat." placeholder:"FIELD=CLAIM" sep:"none"`
	RefreshFields []string `name:"refresh" help:"Profile fields filled at each sign-in, not only at the first; repeat." placeholder:"FIELD"`
}

// apply gives the provider its new values and the secret, "" if none is given.
func (f *providerFields) apply(t *terminal, p *upstream.Provider) (secret string, err error) {
	set(&p.Name, f.Name)
	set(&p.Issuer, f.Issuer)
	set(&p.ClientID, f.ClientID)
	set(&p.AuthMethod, f.AuthMethod)
	set(&p.Require, f.Require)
	set(&p.SignUp, f.SignUp)
	set(&p.TrustEmail, f.TrustEmail)
	set(&p.LinkByEmail, f.LinkByEmail)
	set(&p.TrustAMR, f.TrustAMR)
	set(&p.TrustFresh, f.TrustFresh)
	set(&p.KeepSession, f.KeepSessions)
	if f.Button != nil {
		p.Hidden = !*f.Button
	}
	setList(&p.Scopes, f.Scope)
	setEmptied(&p.Domains, f.Domain)
	setEmptied(&p.Refresh, f.RefreshFields)
	if len(f.Tenant) > 0 {
		setEmptied(&p.Tenants, f.Tenant)
		if len(p.Tenants) == 1 && f.Issuer == nil {
			p.Issuer = "https://login.microsoftonline.com/" + p.Tenants[0] + "/v2.0"
		}
	}
	if len(f.Claim) > 0 {
		p.Claims = maps.Clone(p.Claims)
		if p.Claims == nil {
			p.Claims = map[string]string{}
		}
		for _, c := range f.Claim {
			field, claim, ok := strings.Cut(c, "=")
			if !ok {
				return "", badSetting("claim", "%q is not FIELD=CLAIM", c)
			}
			p.Claims[field] = claim
		}
	}
	if f.SecretFile == nil {
		return "", nil
	}
	in := t.stdin
	if *f.SecretFile != "-" {
		file, err := os.Open(*f.SecretFile)
		if err != nil {
			return "", badSetting("secret-file", "%v", err)
		}
		defer file.Close()
		in = file
	}
	raw, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if secret = strings.TrimSpace(string(raw)); err == nil && secret == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", badSetting("secret-file", "%v", err)
	}
	return secret, nil
}

// setEmptied is setList for a list that a single empty value empties.
func setEmptied(field *[]string, value []string) {
	if setList(field, value); len(value) == 1 && value[0] == "" {
		*field = nil
	}
}

// providerFlag names the flag that sets what an error of upstream.Provider.Validate begins with.
var providerFlag = map[string]string{
	"name": "name", "issuer": "issuer", "client_id": "client-id", "token_endpoint_auth_method": "auth-method", "scopes": "scope", "tenants": "tenant",
	"domains": "domain", "require": "require", "sign_up": "sign-up", "link_by_email": "link-by-email", "claims": "claim", "refresh": "refresh", "secret": "secret-file",
}

// providerProblem gives an error of the store in words of the command line.
func providerProblem(err error, id string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, db.ErrNotFound):
		return fmt.Errorf("there is no service %q: `gatehouse provider list` shows them all", id)
	case errors.Is(err, db.ErrConflict):
		return fmt.Errorf("there is a service %q already: choose another id, or `gatehouse provider update`", id)
	case errors.Is(err, upstream.ErrDomainTaken):
		return badSetting("domain", "%v: take it away there first", err)
	}
	text := err.Error()
	if end := strings.IndexAny(text, ": "); end > 0 && providerFlag[text[:end]] != "" {
		return badSetting(providerFlag[text[:end]], "%s", strings.TrimLeft(text[end:], ": "))
	}
	return err
}

func writeProvider(w io.Writer, p upstream.Provider) {
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("id", p.ID)
	row("kind", p.Kind)
	row("name", p.Name)
	row("issuer", p.Issuer)
	row("redirect_uri", "<this server's issuer>/login/"+p.ID+"/callback")
	row("client_id", p.ClientID)
	row("auth_method", p.AuthMethod)
	row("scopes", strings.Join(p.Scopes, " "))
	row("tenants", strings.Join(p.Tenants, " "))
	row("domains", strings.Join(p.Domains, " "))
	row("require", yes(p.Require))
	row("button", yes(!p.Hidden))
	row("sign_up", p.SignUp)
	row("trust_email", yes(p.TrustEmail))
	row("link_by_email", yes(p.LinkByEmail))
	row("trust_amr", yes(p.TrustAMR))
	row("trust_fresh", yes(p.TrustFresh))
	row("keep_sessions", yes(p.KeepSession))
	for _, field := range slices.Sorted(maps.Keys(p.Claims)) {
		row("claim", field+"="+p.Claims[field])
	}
	row("refresh", strings.Join(p.Refresh, " "))
	row("disabled", yes(p.Disabled))
	row("created", when(p.CreatedAt))
}

type providerCreate struct {
	ID      string         `arg:"" name:"id" help:"Short name; it stands in the redirect URI."`
	Kind    string         `enum:"oidc,google,microsoft,github" default:"oidc" help:"oidc, google, microsoft or github. [${default}]" placeholder:"KIND"`
	Fields  providerFields `embed:""`
	Storage storage        `embed:""`
}

// Run implements the command.
func (c *providerCreate) Run(t *terminal) error {
	p := upstream.Provider{ID: c.ID, Kind: c.Kind}
	secret, err := c.Fields.apply(t, &p)
	if err != nil {
		return err
	}
	return withProviders(t, &c.Storage, func(_ *data, providers *upstream.Providers) error {
		p, err := providers.Create(t.ctx, p, secret)
		if err != nil {
			return providerProblem(err, c.ID)
		}
		return t.print(p, func(w io.Writer) { writeProvider(w, p) })
	})
}

type providerList struct {
	Storage storage `embed:""`
}

// Run implements the command.
func (c *providerList) Run(t *terminal) error {
	return withProviders(t, &c.Storage, func(_ *data, providers *upstream.Providers) error {
		list := providers.List()
		return t.print(list, func(w io.Writer) {
			_, _ = fmt.Fprintln(w, "ID\tNAME\tKIND\tISSUER\tDOMAINS\tDISABLED")
			for _, p := range list {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Name, p.Kind, p.Issuer, strings.Join(p.Domains, " "), yes(p.Disabled))
			}
		})
	})
}

type providerShow struct {
	ID      string  `arg:"" name:"id" help:"Id of the service."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *providerShow) Run(t *terminal) error {
	return withProviders(t, &c.Storage, func(_ *data, providers *upstream.Providers) error {
		p, err := providers.Get(c.ID)
		if err != nil {
			return providerProblem(err, c.ID)
		}
		return t.print(p, func(w io.Writer) { writeProvider(w, p) })
	})
}

type providerUpdate struct {
	ID       string         `arg:"" name:"id" help:"Id of the service."`
	Disabled *bool          `negatable:"" help:"Nobody signs in by it any more, and the sessions that came by it end (see --keep-sessions)."`
	Fields   providerFields `embed:""`
	Storage  storage        `embed:""`
}

// Run implements the command.
func (c *providerUpdate) Run(t *terminal) error {
	return withProviders(t, &c.Storage, func(d *data, providers *upstream.Providers) error {
		p, err := providers.Get(c.ID)
		if err != nil {
			return providerProblem(err, c.ID)
		}
		secret, err := c.Fields.apply(t, &p)
		if err != nil {
			return err
		}
		set(&p.Disabled, c.Disabled)
		if p, err = providers.Update(t.ctx, p, secret); err != nil {
			return providerProblem(err, c.ID)
		}
		if err := endSessionsBy(t.ctx, d, p); err != nil {
			return err
		}
		return t.print(p, func(w io.Writer) { writeProvider(w, p) })
	})
}

// endSessionsBy ends what came by a disabled provider.
func endSessionsBy(ctx context.Context, d *data, p upstream.Provider) error {
	if !p.Disabled || p.KeepSession {
		return nil
	}
	people, err := openPeople(ctx, d)
	if err != nil {
		return err
	}
	_, err = people.EndProviderSessions(ctx, p.ID)
	return err
}

// endSessionsOfDisabled does the same again and again, for sign-ins that were under way and commands that were cut off.
func endSessionsOfDisabled(providers *upstream.Providers, people *identity.Directory) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var failed error
		for _, p := range providers.List() {
			if p.Disabled && !p.KeepSession {
				_, err := people.EndProviderSessions(ctx, p.ID)
				failed = errors.Join(failed, err)
			}
		}
		return failed
	}
}

type providerCheck struct {
	ID               string   `arg:"" name:"id" help:"Id of the service."`
	OutboundNetworks []string `env:"GATEHOUSE_OUTBOUND_NETWORKS" placeholder:"CIDR" help:"As for serve."`
	Storage          storage  `embed:""`
}

// Run implements the command.
func (c *providerCheck) Run(t *terminal) error {
	networks, err := parseNetworks("outbound-networks", c.OutboundNetworks, "opens your whole network to what strangers name: name the servers")
	if err != nil {
		return err
	}
	return withProviders(t, &c.Storage, func(_ *data, providers *upstream.Providers) error {
		p, err := providers.Get(c.ID)
		if err != nil {
			return providerProblem(err, c.ID)
		}
		trips, err := upstream.New(upstream.Config{
			Providers: providers, Cache: cache.NewMemory(nil), Client: outbound.New(outbound.Config{Networks: networks}), Callback: func(string) string { return "" },
		})
		if err != nil {
			return err
		}
		if err := trips.Check(t.ctx, p); err != nil {
			return fmt.Errorf("%s does not answer as it should: %w", p.Issuer, err)
		}
		return t.print(map[string]string{"checked": c.ID}, func(w io.Writer) { _, _ = fmt.Fprintln(w, p.Issuer, "answers as it should") })
	})
}

type providerDelete struct {
	ID      string  `arg:"" name:"id" help:"Id of the service."`
	Storage storage `embed:""`
}

// Run implements the command. Disabled comes first, so that no sign-in slips between the sessions' end and the row's.
func (c *providerDelete) Run(t *terminal) error {
	return withProviders(t, &c.Storage, func(d *data, providers *upstream.Providers) error {
		p, err := providers.Get(c.ID)
		if err != nil {
			return providerProblem(err, c.ID)
		}
		p.Disabled = true
		if p, err = providers.Update(t.ctx, p, ""); err != nil {
			return providerProblem(err, c.ID)
		}
		if err := endSessionsBy(t.ctx, d, p); err != nil {
			return err
		}
		if err := providers.Delete(t.ctx, c.ID); err != nil {
			return providerProblem(err, c.ID)
		}
		return t.print(map[string]string{"deleted": c.ID}, func(w io.Writer) { _, _ = fmt.Fprintln(w, "deleted", c.ID) })
	})
}
