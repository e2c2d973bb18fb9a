package main

import (
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// conformanceCommand takes the settings of serve, so that both see the same variables.
type conformanceCommand struct {
	Signed   bool     `help:"Write the report as a JWT, signed by the server's ES256 key, for others to verify with /jwks."`
	All      bool     `help:"Also list the rules that are kept."`
	Settings settings `embed:""`
}

// reportType is the typ of a signed report, so that nobody takes it for another token (RFC 8725 §3.11).
const reportType = "gatehouse-conformance+jwt"

// Run implements the command. It fails if something is missed, so that a pipeline can stand on it.
func (c *conformanceCommand) Run(t *terminal) error {
	s := &c.Settings
	meaning, err := s.check()
	if err != nil {
		return err
	}
	issuer := issuerAt(s.Listen, s.TLSCert != "").String()
	if meaning.issuer != nil {
		issuer = meaning.issuer.String()
	}
	var found oauth.Assessment
	err = withData(t, &s.Storage, func(d *data) error {
		ring, err := openRing(t.ctx, d, s)
		if err != nil {
			return err
		}
		defer ring.Close()
		running := oauth.Running{
			Issuer: issuer, Loopback: meaning.issuer == nil || loopback(meaning.issuer.Hostname()), PlainHTTP: s.TLSCert == "" && !loopbackListen(s.Listen),
			CodeTTL: s.CodeTTL, AccessTokenTTL: s.AccessTokenTTL, PushedTTL: s.PARTTL, KeyRotation: s.KeyRotation,
			RequireDPoPNonce: s.RequireDPoPNonce, LegacyTypes: s.LegacyResponseTypes, Certification: s.Certification.Mode != "off", At: time.Now().UTC(),
		}
		running.Reach = oauth.Reach{
			Documents: s.Strangers.Documents, Registration: s.Strangers.Registration, ReplayWindow: s.ReplayWindow, GrantTTL: s.GrantTTL,
			TrustedProxies: meaning.proxies, OutboundNetworks: meaning.outbound,
		}
		people, err := openPeople(t.ctx, d)
		if err != nil {
			return err
		}
		if running.APIs, err = people.OpenResources(t.ctx); err != nil {
			return err
		}
		if running.Issuers, err = (oauth.Issuers{DB: d.db}).List(t.ctx, issuersShown); err != nil {
			return err
		}
		if running.Keys, err = ring.List(t.ctx); err != nil {
			return err
		}
		if running.Clients, err = everyClient(t, d); err != nil {
			return err
		}
		found = oauth.Assess(running)
		if !c.Signed {
			return nil
		}
		token, err := ring.Sign(t.ctx, keys.ES256, reportType, found)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.stdout, token)
		return err
	})
	if err == nil && !c.Signed {
		err = t.print(found, func(w io.Writer) { writeAssessment(w, found, c.All) })
	}
	if err == nil && found.Missed > 0 {
		err = fmt.Errorf("%d rules are missed", found.Missed)
	}
	return err
}

const issuersShown = 1000

// everyClient reads all clients, page by page.
func everyClient(t *terminal, d *data) ([]oauth.Client, error) {
	clients, err := oauth.OpenClients(t.ctx, oauth.ClientsConfig{DB: d.db, Seal: d.seal, Audit: d.audit})
	if err != nil {
		return nil, err
	}
	const page = 500
	var all []oauth.Client
	for after := ""; ; after = all[len(all)-1].ID {
		list, err := clients.List(t.ctx, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) < page {
			return all, nil
		}
	}
}

func writeAssessment(w io.Writer, a oauth.Assessment, everything bool) {
	_, _ = fmt.Fprintf(w, "%s: %d rules met, %d missed, %d pieces of advice\n", a.Issuer, a.Met, a.Missed, a.Advice)
	for _, verdict := range []string{oauth.Missed, oauth.Advice, oauth.Met} {
		for _, f := range a.Findings {
			if f.Verdict != verdict || verdict == oauth.Met && !everything {
				continue
			}
			who := "server"
			if f.ClientID != "" {
				who = "client " + f.ClientID
			}
			_, _ = fmt.Fprintf(w, "\n%s\t%s\n\t%s (%s)\n", f.Verdict, who, f.Rule, f.Reference)
			if f.Reason != "" {
				_, _ = fmt.Fprintf(w, "\tReason: %s\n\tFix: %s\n", f.Reason, f.Fix)
			}
		}
	}
}
