package ui

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/web"
	"github.com/gatehouse-id/gatehouse/oauth"
)

func TestErrorPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const cause = "dial tcp 10.0.0.1:5432"
	for name, tt := range map[string]struct {
		err        error
		status     int
		retryAfter string
	}{
		"hash pool full":   {fmt.Errorf("sign in: %w", identity.ErrBusy), http.StatusServiceUnavailable, "5"},
		"database away":    {fmt.Errorf("%w: "+cause, db.ErrUnavailable), http.StatusServiceUnavailable, "5"},
		"cache away":       {fmt.Errorf("%w: "+cause, cache.ErrUnavailable), http.StatusServiceUnavailable, "5"},
		"limit":            {&identity.LimitError{RetryAfter: 90*time.Second + time.Millisecond}, http.StatusTooManyRequests, "91"},
		"too large":        {fmt.Errorf("form: %w", &http.MaxBytesError{Limit: 1}), http.StatusBadRequest, ""},
		"unknown page":     {errUnknownPage, http.StatusNotFound, ""},
		"row not found":    {fmt.Errorf("read: %w", db.ErrNotFound), http.StatusNotFound, ""},
		"malformed":        {errMalformed, http.StatusBadRequest, ""},
		"panic":            {web.ErrPanic, http.StatusInternalServerError, ""},
		"anything else":    {errors.New(cause), http.StatusInternalServerError, ""},
		"interaction over": {errExpired, http.StatusBadRequest, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(web.WithRequestID(t.Context(), "0191-reference"), http.MethodGet, "/x", nil)
			rec := httptest.NewRecorder()
			w.pages.Error(rec, r, tt.err)
			if rec.Code != tt.status || rec.Header().Get("Retry-After") != tt.retryAfter {
				t.Errorf("status %d, Retry-After %q; want %d, %q", rec.Code, rec.Header().Get("Retry-After"), tt.status, tt.retryAfter)
			}
			body := rec.Body.String()
			forbidden(t, body, cause, "10.0.0.1")
			for _, want := range []string{`id="error-page"`, "0191-reference"} {
				if !strings.Contains(body, want) {
					t.Errorf("no %s in:\n%s", want, body)
				}
			}
		})
	}
}

// TestStorageAway takes the database away: nobody is told anything but to come back.
func TestStorageAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	b, stranger := w.browser(t), w.browser(t)
	b.signIn(alice)
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []page{
		b.get("/login"), b.get("/account"), b.get("/logout"), b.post("/logout", nil), b.get("/verify/link?t=" + strings.Repeat("x", 43)),
		stranger.post("/login", url.Values{"email": {alice}, "password": {password}}),
		stranger.post("/register", url.Values{"email": {"new@example.com"}, "password": {password}}),
		stranger.post("/forgot", url.Values{"email": {alice}}),
	} {
		if p.want(http.StatusServiceUnavailable, "error-page").header.Get("Retry-After") == "" {
			t.Errorf("page %s: 503 without Retry-After", p.url)
		}
		forbidden(t, p.body, "sql", "database")
	}
	if b.cookie("gatehouse-session") == "" {
		t.Error("a database that is away for a moment signs people out")
	}
}

func TestUnknownPage(t *testing.T) {
	t.Parallel()
	b := newWorld(t).browser(t)
	for _, path := range []string{"/nowhere", "/login/", "/assets/nothing.css", "/assets/..%2fui.go", "/account/nothing"} {
		b.get(path).want(http.StatusNotFound, "error-page")
	}
}

func TestErrorPageOfApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.app(t)
	b := w.browser(t)
	for name, extra := range map[string]url.Values{
		"unknown client":   {"client_id": {"nobody"}},
		"unknown redirect": {"redirect_uri": {"https://evil.example/"}},
	} {
		p := b.get(authorize(c, extra))
		if p.away != "" {
			t.Fatalf("%s: redirected to %s", name, p.away)
		}
		p.want(http.StatusBadRequest, "error-page")
	}
	rec := httptest.NewRecorder()
	w.pages.OAuthError(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/authorize", nil), oauth.ErrorPage{
		Status: http.StatusBadRequest, Code: "invalid_request", Key: "no.such.key", ClientName: "Demo <app>", ClientURI: "https://app.example.org/start",
	})
	for _, want := range []string{"Start again at Demo &lt;app&gt;", `href="https://app.example.org/start"`} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("no %s in:\n%s", want, rec.Body)
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t)
	for name := range w.pages.assets.names {
		p := b.get("/assets/" + w.pages.assets.names[name]).want(http.StatusOK)
		if got := p.header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control %q, want it kept for good", name, got)
		}
	}
	css := w.pages.assets.files[w.pages.assets.names["gatehouse.css"]]
	forbidden(t, string(css.content), "http:", "https:", "@import", "url(")
	if css.mediaType != "text/css; charset=utf-8" {
		t.Errorf("style sheet as %q", css.mediaType)
	}
}

func FuzzForm(f *testing.F) {
	f.Add("email=a%40b.c&password=x", "i=abc")
	f.Add("email=a&email=b", "i=a&i=b")
	f.Add("email=%ff", "%zz")
	f.Add("a=%00;b", "a;b")
	f.Fuzz(func(t *testing.T, body, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/login", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.URL.RawQuery = query
		for _, read := range []func(*http.Request) (form, error){readQuery, readForm} {
			got, err := read(r)
			if err != nil {
				continue
			}
			for name, values := range got.values {
				if len(values) != 1 || strings.ContainsRune(values[0], 0) || strings.ToValidUTF8(name+values[0], "") != name+values[0] {
					t.Errorf("accepted %q = %q", name, values)
				}
			}
		}
	})
}
