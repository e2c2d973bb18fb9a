package upstream_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
)

const secret = "the secret of our client there"

func sealer(t *testing.T) *seal.Sealer {
	t.Helper()
	key := make([]byte, seal.KeySize)
	_, _ = rand.Read(key)
	s, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, d *db.DB, s *seal.Sealer) *upstream.Providers {
	t.Helper()
	p, err := upstream.OpenProviders(t.Context(), d, s, audit.New(d, slog.New(slog.DiscardHandler), nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func acme(change ...func(p *upstream.Provider)) upstream.Provider {
	p := upstream.Provider{ID: "acme", Name: "Acme", Issuer: "https://login.acme.example", ClientID: "gatehouse", Domains: []string{"Acme.Example"}}
	for _, f := range change {
		f(&p)
	}
	return p
}

func TestProviders(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		ctx, s := t.Context(), sealer(t)
		here, there := open(t, d, s), open(t, d, s)
		created, err := here.Create(ctx, acme(), secret)
		if err != nil {
			t.Fatal(err)
		}
		var row []byte
		if err := d.QueryRow(ctx, `SELECT secret FROM providers`).Scan(&row); err != nil || bytes.Contains(row, []byte(secret)) {
			t.Errorf("the secret lies in the table as %q, %v", row, err)
		}
		if _, err := there.Get("acme"); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("before the change is noticed: %v", err)
		}
		if err := there.Poll(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := there.Get("acme")
		if diff := cmp.Diff(created, got); diff != "" || err != nil {
			t.Errorf("another process has (-created +got) %s, %v", diff, err)
		}
		for address, want := range map[string]bool{"ada@acme.example": true, "ada@ACME.example": true, "ada@sub.acme.example": false, "ada@acme.example.evil": false, "acme.example": false, "": false} {
			if p, ok := there.ForAddress(address); ok != want || ok && p.ID != "acme" {
				t.Errorf("%q is sent to %q, %t; want %t", address, p.ID, ok, want)
			}
		}
		if _, err := here.Create(ctx, upstream.Provider{ID: "other", Name: "Other", Issuer: "https://other.example", ClientID: "x", Domains: []string{"acme.example"}}, secret); !errors.Is(err, upstream.ErrDomainTaken) {
			t.Errorf("a domain of two providers: %v, want %v", err, upstream.ErrDomainTaken)
		}
		if _, err := here.Get("other"); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("after a refused creation: %v", err)
		}
		got.Disabled = true
		if _, err := here.Update(ctx, got, ""); err != nil {
			t.Fatal(err)
		}
		if _, ok := here.ForAddress("ada@acme.example"); ok || len(here.Buttons()) != 0 || here.Routes() {
			t.Error("a disabled provider is still offered")
		}
		if err := here.Delete(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		if err := here.Delete(ctx, "acme"); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		if _, err := here.Create(ctx, acme(), ""); err == nil || !strings.Contains(err.Error(), "secret") {
			t.Errorf("created without a secret: %v", err)
		}
	})
}

// A row that was moved or changed by somebody who can write SQL must not make our secret go to their server.
func TestSecretOfAnotherProviderDoesNotOpen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		s := sealer(t)
		if _, err := open(t, d, s).Create(t.Context(), acme(), secret); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Exec(t.Context(), `INSERT INTO providers (id, metadata, secret, disabled, created_at, updated_at) SELECT 'evil', metadata, secret, FALSE, created_at, updated_at FROM providers`); err != nil {
			t.Fatal(err)
		}
		if _, err := upstream.OpenProviders(t.Context(), d, s, audit.New(d, slog.New(slog.DiscardHandler), nil), nil); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opened with %v, want %v", err, seal.ErrOpen)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(p *upstream.Provider)
		want   string // "": valid
	}{
		"good":                     {func(*upstream.Provider) {}, ""},
		"id with a slash":          {func(p *upstream.Provider) { p.ID = "a/b" }, "id "},
		"id that climbs":           {func(p *upstream.Provider) { p.ID = ".." }, "id "},
		"kind":                     {func(p *upstream.Provider) { p.Kind = "saml" }, "kind "},
		"no name":                  {func(p *upstream.Provider) { p.Name = "" }, "name"},
		"name that turns":          {func(p *upstream.Provider) { p.Name = "Ac\u202eme" }, "name"},
		"issuer with user":         {func(p *upstream.Provider) { p.Issuer = "https://good@evil.example" }, "issuer"},
		"issuer of a script":       {func(p *upstream.Provider) { p.Issuer = "javascript:alert(1)" }, "issuer"},
		"issuer with query":        {func(p *upstream.Provider) { p.Issuer = "https://acme.example?x=1" }, "issuer"},
		"no client":                {func(p *upstream.Provider) { p.ClientID = "" }, "client_id"},
		"auth method":              {func(p *upstream.Provider) { p.AuthMethod = "magic" }, "token_endpoint_auth_method"},
		"no openid":                {func(p *upstream.Provider) { p.Scopes = []string{"email"} }, "scopes"},
		"scope with space":         {func(p *upstream.Provider) { p.Scopes = []string{"openid", "a b"} }, "scopes"},
		"tenant elsewhere":         {func(p *upstream.Provider) { p.Tenants = []string{"9188040d-6c67-4c5b-b112-36a304b66dad"} }, "tenants"},
		"domain":                   {func(p *upstream.Provider) { p.Domains = []string{"@acme.example"} }, "domains"},
		"whole world":              {func(p *upstream.Provider) { p.Domains = []string{"*"} }, "domains"},
		"require nothing":          {func(p *upstream.Provider) { p.Domains, p.Require = nil, true }, "require"},
		"sign-up":                  {func(p *upstream.Provider) { p.SignUp = "perhaps" }, "sign_up"},
		"linking by hearsay":       {func(p *upstream.Provider) { p.LinkByEmail = true }, "link_by_email"},
		"linking whole world":      {func(p *upstream.Provider) { p.LinkByEmail, p.TrustEmail, p.Domains = true, true, nil }, "link_by_email"},
		"linking its own":          {func(p *upstream.Provider) { p.LinkByEmail, p.TrustEmail = true, true }, ""},
		"claim for no field":       {func(p *upstream.Provider) { p.Claims = map[string]string{"role": "admin"} }, "claims"},
		"claim for verified":       {func(p *upstream.Provider) { p.Claims = map[string]string{"phone_number_verified": "x"} }, "claims"},
		"refresh of the address":   {func(p *upstream.Provider) { p.Refresh = []string{"email"} }, "refresh"},
		"preset without an issuer": {func(p *upstream.Provider) { p.Kind, p.Issuer = upstream.Google, "" }, ""},
	} {
		err := acme(test.change).WithDefaults().Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestDomainOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"ada@example.com": "example.com", "Ada@Bücher.Example": "xn--bcher-kva.example", `"a@b"@example.com`: "example.com", "ada@": "", "ada": "", "ada@localhost": "",
		"ada@exa mple.com": "", "ada@example.com.": "", "ada@" + strings.Repeat("x", 2000) + ".example": "",
	} {
		if got := upstream.DomainOf(address); got != want {
			t.Errorf("%.50q has the domain %q, want %q", address, got, want)
		}
	}
}
