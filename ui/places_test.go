package ui

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/geo"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	table, err := geo.Read(strings.NewReader("192.0.2.0/24,France,<b>Lyon</b>\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Places = table })
	b, u := w.member(t, alice)
	for _, path := range []string{"/account/sessions", "/account/activity"} {
		p := b.get(path).says("Place <b>Lyon</b>, France")
		forbidden(t, p.body, "<b>Lyon")
	}
	if err := w.pages.mailPasswordChanged(t.Context(), u, identity.Device{Address: home}); err != nil {
		t.Fatal(err)
	}
	if m := w.mailTo(t, alice); !strings.Contains(m.Text, "192.0.2.7 (<b>Lyon</b>, France)") {
		t.Errorf("notice:\n%s", m.Text)
	}

	w = newWorld(t) // without a table
	b, _ = w.member(t, alice)
	forbidden(t, b.get("/account/sessions").text(), "Place")
	if got := w.pages.place(w.pages.locales[0], near); got != "this network" {
		t.Errorf("an address at home is in %q", got)
	}
}

var (
	home = netip.MustParseAddr("192.0.2.7") // of every browser in these tests
	near = netip.MustParseAddr("192.168.1.7")
)
