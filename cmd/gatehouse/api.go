package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// resourceFields is what create and update may say of an API as a resource; what is not given stays nil.
type resourceFields struct {
	Scope    []string       `placeholder:"NAME[=TEXT]" sep:"none" help:"A scope it knows, and what it means to a person; repeat. Its access tokens have no others."`
	TokenTTL *time.Duration `name:"token-ttl" placeholder:"TIME" help:"Life of its access tokens; 0s for the app's or the server's."`
	Open     *bool          `negatable:"" help:"Apps that registered themselves may ask for it."`
	DPoP     *bool          `name:"dpop" negatable:"" help:"Its access tokens are tied to a key of the app (DPoP)."`
	Format   *string        `placeholder:"FORMAT" help:"jwt: it reads its access tokens by itself; opaque: they are sealed, and it asks what they mean (RFC 7662)."`
	MTLS     *bool          `name:"certificate-bound" negatable:"" help:"Its access tokens are tied to the app's TLS certificate."`
	Client   *string        `placeholder:"ID" help:"The app as which it introspects access tokens."`
}

func (f *resourceFields) apply(r *identity.Resource) {
	if len(f.Scope) > 0 {
		r.Scopes = nil
	}
	for _, s := range f.Scope {
		name, description, _ := strings.Cut(s, "=")
		if name != "" { // --scope '' empties the list
			r.Scopes = append(r.Scopes, identity.APIScope{Name: name, Description: description})
		}
	}
	set(&r.TokenTTL, f.TokenTTL)
	set(&r.Open, f.Open)
	set(&r.DPoP, f.DPoP)
	set(&r.Format, f.Format)
	set(&r.Certificate, f.MTLS)
	set(&r.ClientID, f.Client)
}

func writeResource(w io.Writer, r identity.Resource) {
	if r.TokenTTL > 0 {
		_, _ = fmt.Fprintf(w, "token_ttl\t%s\n", r.TokenTTL)
	}
	if r.Open {
		_, _ = fmt.Fprintf(w, "open\t%s\n", yes(true))
	}
	if r.DPoP {
		_, _ = fmt.Fprintf(w, "dpop\t%s\n", yes(true))
	}
	_, _ = fmt.Fprintf(w, "format\t%s\n", r.Format)
	if r.Certificate {
		_, _ = fmt.Fprintf(w, "certificate_bound\t%s\n", yes(true))
	}
	if r.ClientID != "" {
		_, _ = fmt.Fprintf(w, "client\t%s\n", r.ClientID)
	}
	for _, s := range r.Scopes {
		_, _ = fmt.Fprintf(w, "scope\t%s\t%s\n", s.Name, s.Description)
	}
}

type apiUpdate struct {
	Identifier string         `arg:"" name:"identifier" help:"Identifier of the API."`
	Name       *string        `placeholder:"NAME" help:"Another name."`
	Resource   resourceFields `embed:""`
	Storage    storage        `embed:""`
}

// Run implements the command.
func (c *apiUpdate) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		a, err := findAPI(t.ctx, people, c.Identifier)
		if err != nil {
			return err
		}
		set(&a.Name, c.Name)
		c.Resource.apply(&a.Resource)
		if err := people.UpdateAPI(t.ctx, "", a); err != nil {
			return inWords(err, "an API")
		}
		return printAPI(t, people, a.Identifier)
	})
}

type apiMetadata struct {
	Identifier string  `arg:"" name:"identifier" help:"Identifier of the API."`
	Issuer     string  `required:"" env:"GATEHOUSE_ISSUER" placeholder:"URL" help:"Public address of the server."`
	Storage    storage `embed:""`
}

// Run implements the command.
func (c *apiMetadata) Run(t *terminal) error {
	issuer, err := parseIssuer(c.Issuer)
	if err != nil {
		return err
	}
	return withData(t, &c.Storage, func(d *data) error {
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		a, err := findAPI(t.ctx, people, c.Identifier)
		if err != nil {
			return err
		}
		types, err := oauth.DetailsTypes{DB: d.db, Audit: d.audit, Now: time.Now}.List(t.ctx)
		if err != nil {
			return err
		}
		m := oauth.NewResourceMetadata(issuer.String(), a, types)
		return t.print(m, func(w io.Writer) {
			b, _ := json.MarshalIndent(m, "", "  ") // strings and lists of them
			_, _ = fmt.Fprintln(w, string(b))
		})
	})
}
