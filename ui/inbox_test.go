package ui

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/mail"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// local gives the pages of a site on this machine and a way to ask them from an address under a Host.
func local(t *testing.T, issuer string) (*world, func(path, host, from string) *httptest.ResponseRecorder) {
	t.Helper()
	site, err := url.Parse(issuer)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Site = web.NewSite(site) })
	mux := http.NewServeMux()
	web.Mount(mux, w.pages.Site, w.pages.Routes(), w.pages.Error)
	return w, func(path, host, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(web.WithAddress(t.Context(), netip.MustParseAddr(from)), http.MethodGet, path, nil)
		r.Host = host
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		return rec
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()
	w, get := local(t, "http://localhost:8080")
	if rec := get("/inbox", "127.0.0.1:8080", "127.0.0.1"); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "No mail so far") {
		t.Errorf("empty inbox: %d", rec.Code)
	}
	m := mail.Message{
		To: alice, Subject: "Hi <b>there</b>",
		Text: "Open\n\nhttp://localhost:8080/verify/link?t=abc&i=def\n\nor <script>alert(1)</script> javascript:alert(2)\n",
	}
	if err := w.inbox.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	rec := get("/inbox", "localhost:8080", "::1")
	if body := rec.Body.String(); !strings.Contains(body, alice) || !strings.Contains(body, `href="/inbox/1"`) {
		t.Errorf("list: %s", body)
	}
	body := get("/inbox/1", "localhost:8080", "127.0.0.1").Body.String()
	if !strings.Contains(body, `<a href="http://localhost:8080/verify/link?t=abc&amp;i=def">`) {
		t.Errorf("the link cannot be followed:\n%s", body)
	}
	forbidden(t, body, "<script", "<b>there", `href="javascript`)
	for _, path := range []string{"/inbox/2", "/inbox/0", "/inbox/-1", "/inbox/x", "/inbox/99999999999999999999"} {
		if rec := get(path, "localhost:8080", "127.0.0.1"); rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, rec.Code)
		}
	}
}

// The inbox holds reset links: whoever can read it can take every account.
func TestAttackInboxFromElsewhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, issuer, host, from string }{
		{"from the network", "http://localhost:8080", "localhost:8080", "192.0.2.7"},
		{"from the network over IPv6", "http://localhost:8080", "localhost:8080", "2001:db8::7"},
		{"mapped address", "http://localhost:8080", "localhost:8080", "::ffff:192.0.2.7"},
		{"DNS rebinding", "http://localhost:8080", "evil.example:8080", "127.0.0.1"},
		{"DNS rebinding under a name like it", "http://localhost:8080", "localhost.evil.example:8080", "127.0.0.1"},
		{"no host", "http://localhost:8080", "", "127.0.0.1"},
		{"public site behind a proxy on the same machine", "https://id.example.com", "id.example.com", "127.0.0.1"},
		{"public site that calls itself localhost", "https://localhost.example.com", "localhost.example.com", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, get := local(t, tt.issuer)
			if err := w.inbox.Send(t.Context(), mail.Message{To: alice, Subject: "s", Text: "secret-link"}); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/inbox", "/inbox/1"} {
				if rec := get(path, tt.host, tt.from); rec.Code != http.StatusNotFound || strings.Contains(rec.Body.String(), alice) {
					t.Errorf("%s: %d, want 404", path, rec.Code)
				}
			}
		})
	}
}

func TestNoInboxBesideAMailServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Inbox = nil })
	for _, route := range w.pages.Routes() {
		if strings.Contains(route.Pattern, "/inbox") {
			t.Errorf("%s is there", route.Pattern)
		}
	}
}

func FuzzSpans(f *testing.F) {
	f.Add("see https://id.example/verify/link?t=abc\nand http://x <https://y>")
	f.Add("javascript:alert(1) https://")
	f.Add("\xff https://\xff\"")
	f.Fuzz(func(t *testing.T, text string) {
		var all strings.Builder
		for _, s := range spans(text) {
			if s.Link != "" && !strings.HasPrefix(s.Link, "http://") && !strings.HasPrefix(s.Link, "https://") {
				t.Errorf("link %q", s.Link)
			}
			all.WriteString(s.Text + s.Link)
		}
		if all.String() != text {
			t.Errorf("spans of %q make %q", text, all.String())
		}
	})
}
