package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(t testing.TB, list ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	const proxy = "10.0.0.1:4711"
	tests := map[string]struct {
		peer      string
		xff       []string
		forwarded []string
		want      string
	}{
		"no header":                                 {peer: proxy, want: "10.0.0.1"},
		"one hop":                                   {peer: proxy, xff: []string{"203.0.113.9"}, want: "203.0.113.9"},
		"hop with port":                             {peer: proxy, xff: []string{"203.0.113.9:99"}, want: "203.0.113.9"},
		"IPv6 with port":                            {peer: proxy, xff: []string{"[2001:db8::1]:99"}, want: "2001:db8::1"},
		"mapped IPv4 is the IPv4 address":           {peer: proxy, xff: []string{"::ffff:203.0.113.9"}, want: "203.0.113.9"},
		"mapped peer is a trusted peer":             {peer: "[::ffff:10.0.0.1]:1", xff: []string{"203.0.113.9"}, want: "203.0.113.9"},
		"two trusted proxies":                       {peer: proxy, xff: []string{"203.0.113.9, 10.0.0.7"}, want: "203.0.113.9"},
		"several lines are one list":                {peer: proxy, xff: []string{"203.0.113.9", "10.0.0.7"}, want: "203.0.113.9"},
		"only proxies: the farthest":                {peer: proxy, xff: []string{"10.0.0.8, 10.0.0.7"}, want: "10.0.0.8"},
		"Forwarded":                                 {peer: proxy, forwarded: []string{"for=203.0.113.9;proto=https;by=10.0.0.1"}, want: "203.0.113.9"},
		"Forwarded, quoted IPv6, any case":          {peer: proxy, forwarded: []string{`Proto=https ; FOR="[2001:db8::1]:4711"`}, want: "2001:db8::1"},
		"Forwarded, two hops":                       {peer: proxy, forwarded: []string{"for=203.0.113.9, for=10.0.0.7"}, want: "203.0.113.9"},
		"spoofed X-Forwarded-For, untrusted peer":   {peer: "198.51.100.5:1", xff: []string{"203.0.113.9"}, want: "198.51.100.5"},
		"spoofed Forwarded, untrusted peer":         {peer: "198.51.100.5:1", forwarded: []string{"for=203.0.113.9"}, want: "198.51.100.5"},
		"spoofed left part":                         {peer: proxy, xff: []string{"192.0.2.1, 203.0.113.9"}, want: "203.0.113.9"},
		"spoofed trusted address on the left":       {peer: proxy, xff: []string{"10.0.0.9, 203.0.113.9"}, want: "203.0.113.9"},
		"garbage left of the client's hop":          {peer: proxy, xff: []string{"<script>, 203.0.113.9"}, want: "203.0.113.9"},
		"other header smuggled past the proxy":      {peer: proxy, xff: []string{"203.0.113.9"}, forwarded: []string{"for=192.0.2.1"}, want: "10.0.0.1"},
		"malformed hop":                             {peer: proxy, xff: []string{"203.0.113.9, nonsense"}, want: "10.0.0.1"},
		"malformed hop behind a proxy":              {peer: proxy, xff: []string{"nonsense, 10.0.0.7"}, want: "10.0.0.1"},
		"empty":                                     {peer: proxy, xff: []string{""}, want: "10.0.0.1"},
		"trailing comma":                            {peer: proxy, xff: []string{"203.0.113.9,"}, want: "10.0.0.1"},
		"zone":                                      {peer: proxy, xff: []string{"fe80::1%eth0"}, want: "10.0.0.1"},
		"IPv4 in brackets":                          {peer: proxy, xff: []string{"[203.0.113.9]"}, want: "10.0.0.1"},
		"octal octets":                              {peer: proxy, xff: []string{"0203.0.113.9"}, want: "10.0.0.1"},
		"too many hops":                             {peer: proxy, xff: []string{strings.Repeat("10.0.0.7,", 40) + "10.0.0.7"}, want: "10.0.0.1"},
		"too long":                                  {peer: proxy, xff: []string{strings.Repeat(" ", 5000) + "203.0.113.9"}, want: "10.0.0.1"},
		"Forwarded unknown":                         {peer: proxy, forwarded: []string{"for=unknown"}, want: "10.0.0.1"},
		"Forwarded obfuscated":                      {peer: proxy, forwarded: []string{"for=_hidden"}, want: "10.0.0.1"},
		"Forwarded without for":                     {peer: proxy, forwarded: []string{"proto=https"}, want: "10.0.0.1"},
		"Forwarded with two for":                    {peer: proxy, forwarded: []string{"for=203.0.113.9;for=192.0.2.1"}, want: "10.0.0.1"},
		"Forwarded, unquoted IPv6":                  {peer: proxy, forwarded: []string{"for=[2001:db8::1]"}, want: "10.0.0.1"},
		"Forwarded, unterminated quote":             {peer: proxy, forwarded: []string{`for=192.0.2.1;x="`, "for=203.0.113.9"}, want: "10.0.0.1"},
		"Forwarded, quote swallows the proxy's hop": {peer: proxy, forwarded: []string{`for=192.0.2.1;x=", for="[2001:db8::1]"`}, want: "10.0.0.1"},
		"Forwarded, escape swallows the quote":      {peer: proxy, forwarded: []string{`for=192.0.2.1;x="\", for=203.0.113.9`}, want: "10.0.0.1"},
		"Forwarded, no value":                       {peer: proxy, forwarded: []string{"for="}, want: "10.0.0.1"},
		"Forwarded, garbage":                        {peer: proxy, forwarded: []string{"203.0.113.9"}, want: "10.0.0.1"},
		"Forwarded, empty element":                  {peer: proxy, forwarded: []string{"for=203.0.113.9,"}, want: "10.0.0.1"},
		"unix socket":                               {peer: "@", xff: []string{"203.0.113.9"}, want: "invalid IP"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
			if test.xff != nil {
				r.Header["X-Forwarded-For"] = test.xff
			}
			if test.forwarded != nil {
				r.Header["Forwarded"] = test.forwarded
			}
			if got := client(r, prefixes(t, "10.0.0.0/8")).String(); got != test.want {
				t.Errorf("client = %s, want %s", got, test.want)
			}
		})
	}
}

func TestNobodyIsTrustedByDefault(t *testing.T) {
	t.Parallel()
	r := &http.Request{RemoteAddr: "127.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"203.0.113.9"}}}
	if got := client(r, nil).String(); got != "127.0.0.1" {
		t.Errorf("client = %s, want the peer", got)
	}
}

// FuzzForwarded holds that no header moves the address of an untrusted peer, and that a hop written by the nearest proxy
// on a line of its own is never overruled by what the client sent before it.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "for=192.0.2.1", `for="[2001:db8::1]:80";proto=https, for=_x`, `for="\"`, "192.0.2.1, 10.0.0.3", "for=unknown;;", `x="`} {
		f.Add(s)
	}
	trusted := prefixes(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, s string) {
		for _, name := range []string{"Forwarded", "X-Forwarded-For"} {
			own := map[string]string{"Forwarded": "for=203.0.113.9", "X-Forwarded-For": "203.0.113.9"}[name]
			r := &http.Request{RemoteAddr: "198.51.100.5:1", Header: http.Header{name: {s}}}
			if got := client(r, trusted).String(); got != "198.51.100.5" {
				t.Fatalf("untrusted peer became %s by %s: %q", got, name, s)
			}
			r.RemoteAddr = "10.0.0.1:1"
			for _, lines := range [][]string{{s, own}, {s + ", " + own}} {
				r.Header[name] = lines
				if got := client(r, trusted).String(); got != "203.0.113.9" && got != "10.0.0.1" {
					t.Fatalf("%s %q: client = %s, want the proxy's word or the proxy", name, lines, got)
				}
			}
		}
	})
}
