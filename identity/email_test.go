package identity

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

func TestNormalEmail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"ada@example.com", "ada@example.com"},
		{" Ada+x@Example.COM\t", "Ada+x@example.com"},
		{"ada@bücher.example", "ada@xn--bcher-kva.example"},
		{"a\u0308da@example.com", "äda@example.com"},
		{"ada@localhost", "ada@localhost"},
		{strings.Repeat("a", 64) + "@example.com", strings.Repeat("a", 64) + "@example.com"},
	} {
		if got, ok := NormalEmail(c.in); !ok || got != c.want {
			t.Errorf("NormalEmail(%q) = %q, %v; want %q", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{
		"", "ada", "@example.com", "ada@", "ada@@example.com", "Ada <ada@example.com>", "<ada@example.com>", `"a b"@example.com`, `"ada"@example.com`,
		"ada(x)@example.com", "ada@example.com, bob@example.com", "ada@exa mple.com", "ada @example.com", "ada@-x.example", "ada@x..example", "ada@[192.0.2.1]",
		"ada\r\nBcc: x@example.com", "ada@example.com\r\nBcc: x", "a\x00da@example.com", "ad\u200ba@example.com", "ad\u202ea@example.com", "\xffada@example.com",
		".ada@example.com", "ada.@example.com", "a..b@example.com",
		strings.Repeat("a", 65) + "@example.com", "ada@" + strings.Repeat("a", 64) + ".com", "ada@" + strings.Repeat("abcdefgh.", 40) + "com", strings.Repeat("a", 1<<20),
	} {
		if got, ok := NormalEmail(in); ok {
			t.Errorf("NormalEmail(%.60q) = %q, want it refused", in, got)
		}
	}
}

func TestLookalikeLettersDoNotShareAnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.OpenSQLite(t), Config{})
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"ada@example.com", "ADA@EXAMPLE.COM", true},
		{"ÄDA@example.com", "äda@example.com", true},
		{"mike@example.com", "mıke@example.com", false},                    // dotless i
		{"mike@example.com", "mİke@example.com", false},                    // dotted capital I lowers to i
		{"mike@example.com", "mike@example.com.evil", false},               //
		{"no address", "NO ADDRESS", true},                                 // counted alike too
		{strings.Repeat("x", 2000), strings.Repeat("x", 2000) + "y", true}, // bounded
		{"ada@bücher.example", "ada@xn--bcher-kva.example", true},          //
		{"ada@example.com", "ada@example\u3002com", true},                  // ideographic full stop is a dot to IDNA
	} {
		if got := bytes.Equal(w.emailIndex(c.a), w.emailIndex(c.b)); got != c.same {
			t.Errorf("%.40q and %.40q share an index: %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

func FuzzEmail(f *testing.F) {
	for _, s := range []string{"ada@example.com", "Ada <ada@example.com>", "a\u0308da@bücher.example", "a@b\r\nBcc: c@d", "ı@İ.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := NormalEmail(s)
		if !ok {
			return
		}
		if again, ok := NormalEmail(n); !ok || again != n {
			t.Errorf("%q is normal as %q, which is normal as %q, %v", s, n, again, ok)
		}
		if len(n) > maxEmail || strings.ContainsAny(n, "\r\n\x00 ,<>") {
			t.Errorf("%q passed as %q", s, n)
		}
	})
}
