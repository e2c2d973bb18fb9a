package web_test

import (
	"net/netip"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

// One customer commands a whole IPv6 /64 and can write an IPv4 address in two ways; each must count as one stranger.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:0:1::1":      "2001:db8:0:1::/64",
		"2001:db8:0:1:2:3:4:5": "2001:db8:0:1::/64",
		"fe80::1%eth0":         "fe80::/64",
	} {
		if got := web.Network(web.WithAddress(t.Context(), netip.MustParseAddr(address))); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	if got := web.Network(t.Context()); got != "" {
		t.Errorf("no address: got %q, want none", got)
	}
}

func TestWiderNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48", "": "",
	} {
		ctx := t.Context()
		if address != "" {
			ctx = web.WithAddress(ctx, netip.MustParseAddr(address))
		}
		if got := web.WiderNetwork(ctx); got != want {
			t.Errorf("wider network of %q: %q, want %q", address, got, want)
		}
	}
}
