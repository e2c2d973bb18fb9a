package ui

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
)

func TestMails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Name = "Example ID" })
	p := w.pages
	u := identity.User{ID: w.person(t, alice).ID, Email: alice, Profile: identity.Profile{Name: "Win money at evil.example", Nickname: "Win money at evil.example", Zoneinfo: "Europe/Berlin"}}
	dev := identity.Device{UserAgent: "Win money at evil.example Chrome/1 Windows", Address: netip.MustParseAddr("192.0.2.7")}
	link := w.site.URL("/verify/link?t=abc")
	for name, send := range map[string]func(ctx context.Context) error{
		"verify":         func(ctx context.Context) error { return p.mailVerify(ctx, u, link) },
		"reset":          func(ctx context.Context) error { return p.mailReset(ctx, u, link) },
		"new_address":    func(ctx context.Context) error { return p.mailNewAddress(ctx, u, alice, link) },
		"account_exists": func(ctx context.Context) error { return p.mailAccountExists(ctx, u) },
		"address":        func(ctx context.Context) error { return p.mailAddressChanged(ctx, alice, u, dev) },
		"password":       func(ctx context.Context) error { return p.mailPasswordChanged(ctx, u, dev) },
		"two_step_on":    func(ctx context.Context) error { return p.mailTwoStepOn(ctx, u, dev) },
		"two_step_off":   func(ctx context.Context) error { return p.mailTwoStepOff(ctx, u, dev) },
		"new_codes":      func(ctx context.Context) error { return p.mailNewCodes(ctx, u, dev) },
	} {
		if err := send(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := w.inbox.Messages()[0]
		if m.To != alice || !strings.Contains(m.Subject, "Example ID") || !strings.Contains(m.Text, "Hello,\n\n") || !strings.Contains(m.Text, "Example ID\n"+w.site.URL("/account")) {
			t.Errorf("%s: %+v", name, m.Message)
		}
		// Our letters carry no words of strangers, and no text without its key.
		forbidden(t, m.Subject+m.Text, "evil.example", "[mail", "%!", "{{", "<no value>", "\n\n\n", "&#", "&amp;")
		switch name {
		case "verify", "reset", "new_address":
			if !strings.Contains(m.Text, "\n"+link+"\n") {
				t.Errorf("%s: the link does not stand on a line of its own:\n%s", name, m.Text)
			}
		case "account_exists":
		default:
			if !strings.Contains(m.Text, "Chrome on Windows") || !strings.Contains(m.Text, "192.0.2.7") {
				t.Errorf("%s does not say with what and from where:\n%s", name, m.Text)
			}
		}
	}
}
