package web_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/web"
)

func site(t testing.TB, issuer string) web.Site {
	t.Helper()
	u, err := url.Parse(issuer)
	if err != nil {
		t.Fatal(err)
	}
	return web.NewSite(u)
}

// serve sends one request through Wrap and returns the answer and the log's records.
func serve(t *testing.T, o web.Options, h http.Handler, r *http.Request) (*httptest.ResponseRecorder, []map[string]any) {
	t.Helper()
	var log bytes.Buffer
	o.Log = slog.New(web.LogHandler{Handler: slog.NewJSONHandler(&log, nil)})
	w := httptest.NewRecorder()
	web.Wrap(h, o).ServeHTTP(w, r)
	var records []map[string]any
	for dec := json.NewDecoder(&log); ; {
		var record map[string]any
		if err := dec.Decode(&record); errors.Is(err, io.EOF) {
			return w, records
		} else if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	var id string
	var address netip.Addr
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, address = web.RequestID(r.Context()), web.Address(r.Context())
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short")
	})
	r := httptest.NewRequest("GET", "/verify/link?t=secret", nil)
	w, log := serve(t, web.Options{Secure: true}, h, r)

	if u, err := uuid.Parse(id); err != nil || u.Version() != 7 {
		t.Errorf("request id = %q, want a UUIDv7", id)
	}
	if got := address.String(); got != "192.0.2.1" { // httptest's peer
		t.Errorf("address = %s, want 192.0.2.1", got)
	}
	for name, want := range map[string]string{
		"X-Request-Id":              id,
		"X-Content-Type-Options":    "nosniff",
		"Referrer-Policy":           "same-origin",
		"Strict-Transport-Security": "max-age=63072000",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if len(log) != 1 {
		t.Fatalf("got %d log records, want 1", len(log))
	}
	for name, want := range map[string]any{"msg": "request", "method": "GET", "path": "/verify/link", "status": 418.0, "bytes": 5.0, "request_id": id} {
		if log[0][name] != want {
			t.Errorf("log %s = %v, want %v", name, log[0][name], want)
		}
	}
}

func TestSecretInQueryReachesLog(t *testing.T) {
	t.Parallel()
	_, log := serve(t, web.Options{}, http.NotFoundHandler(), httptest.NewRequest("GET", "/x?code=secret", nil))
	if text, _ := json.Marshal(log); bytes.Contains(text, []byte("secret")) {
		t.Errorf("log %s holds the query", text)
	}
}

func TestHSTSOverPlainHTTP(t *testing.T) {
	t.Parallel()
	w, _ := serve(t, web.Options{}, http.NotFoundHandler(), httptest.NewRequest("GET", "/", nil))
	if got := w.Header().Get("Strict-Transport-Security"); got != "" {
		t.Errorf("Strict-Transport-Security = %q on a loopback http site, want none", got)
	}
}

func TestForgedRequestID(t *testing.T) {
	t.Parallel()
	for _, forged := range []string{"mine", "a\r\nSet-Cookie: x=y", strings.Repeat("x", 5000)} {
		var id string
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["X-Request-Id"] = []string{forged}
		w, log := serve(t, web.Options{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { id = web.RequestID(r.Context()) }), r)
		if id == forged || w.Header().Get("X-Request-Id") != id || log[0]["request_id"] != id {
			t.Errorf("request id %q follows the client's header %q", id, forged)
		}
	}
}

func TestLogInjection(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/a%0a%7b%22level%22:%22ERROR%22%7d"+strings.Repeat("y", 9000), nil)
	_, log := serve(t, web.Options{}, http.NotFoundHandler(), r)
	if len(log) != 1 {
		t.Fatalf("got %d log records, want 1", len(log))
	}
	if path, _ := log[0]["path"].(string); len(path) > 256 {
		t.Errorf("%d bytes of path in the log, want 256 at most", len(path))
	}
}

func TestOversizedBody(t *testing.T) {
	t.Parallel()
	var err error
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, err = io.ReadAll(r.Body) })
	serve(t, web.Options{}, h, httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 64<<10))))
	if err != nil {
		t.Errorf("64 KiB: %v, want no error", err)
	}
	serve(t, web.Options{}, h, httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 64<<10+1))))
	if tooLarge := (*http.MaxBytesError)(nil); !errors.As(err, &tooLarge) {
		t.Errorf("64 KiB and a byte: %v, want MaxBytesError", err)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	onError := func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, web.ErrPanic) {
			t.Errorf("onError got %v, want ErrPanic", err)
		}
		http.Error(w, "sorry", http.StatusInternalServerError)
	}
	mux := http.NewServeMux()
	web.Mount(mux, site(t, "http://localhost"), []web.Route{
		{Pattern: "GET /early", Handler: func(http.ResponseWriter, *http.Request) error { panic("the cause") }},
		{Pattern: "GET /late", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			panic("the cause")
		}},
	}, onError)
	mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("GET /raw", func(http.ResponseWriter, *http.Request) { panic("the cause") })

	tests := []struct {
		path, body string
		cut        bool
	}{
		{"/early", "sorry\n", false},
		{"/raw", "Internal Server Error\n", false},
		{"/late", "half", true},
		{"/abort", "", true},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			var log bytes.Buffer
			h := web.Wrap(mux, web.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			w := httptest.NewRecorder()
			cut := func() (err error) {
				defer func() { err, _ = recover().(error) }()
				h.ServeHTTP(w, httptest.NewRequest("GET", test.path, nil))
				return nil
			}()
			if errors.Is(cut, http.ErrAbortHandler) != test.cut {
				t.Errorf("panic %v left Wrap, want cut = %v", cut, test.cut)
			}
			if !test.cut && w.Code != http.StatusInternalServerError {
				t.Errorf("status %d, want 500", w.Code)
			}
			if got := w.Body.String(); got != test.body {
				t.Errorf("body %q, want %q", got, test.body)
			}
			if n, want := strings.Count(log.String(), "[running]"), map[bool]int{true: 1}[test.path != "/abort"]; n != want {
				t.Errorf("stack is %d times in the log, want %d times:\n%s", n, want, &log)
			}
			if strings.Contains(w.Body.String(), "cause") {
				t.Error("the cause reached the client")
			}
		})
	}
}

func TestMount(t *testing.T) {
	t.Parallel()
	errNo := errors.New("no")
	hit := func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "hit")
		return nil
	}
	mux := http.NewServeMux()
	web.Mount(mux, site(t, "https://example.test/a/b/"), []web.Route{
		{Pattern: "GET /login", Handler: hit},
		{Pattern: "/", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusGone)
			return nil
		}},
		{Pattern: "GET /{$}", Handler: hit},
		{Pattern: "GET /.well-known/oauth-authorization-server", Handler: hit},
		{Pattern: "GET /bad", Handler: func(http.ResponseWriter, *http.Request) error { return errNo }},
	}, func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, errNo) {
			t.Errorf("onError got %v", err)
		}
		w.WriteHeader(http.StatusConflict)
	})
	for target, want := range map[string]int{
		"GET /a/b/login": 200,
		"GET /a/b/":      200,
		"GET /a/b/.well-known/oauth-authorization-server": 200,
		"GET /.well-known/oauth-authorization-server/a/b": 200, // RFC 8414 §3.1
		"GET /.well-known/oauth-authorization-server":     404,
		"GET /login":      404,
		"POST /a/b/login": 405,
		"GET /a/b/bad":    409,
		"GET /a/b/none":   410, // the catch-all
		"HEAD /a/b/login": 200,
		"GET /none":       404,
	} {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", target, w.Code, want)
		}
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	tests := []struct{ issuer, wantIssuer, path, url, origin string }{
		{"https://id.example.test", "https://id.example.test", "/login", "https://id.example.test/login", "https://id.example.test"},
		{"https://id.example.test/", "https://id.example.test", "/login", "https://id.example.test/login", "https://id.example.test"},
		{"http://127.0.0.1:8080/auth", "http://127.0.0.1:8080/auth", "/auth/login", "http://127.0.0.1:8080/auth/login", "http://127.0.0.1:8080"},
	}
	for _, test := range tests {
		s := site(t, test.issuer)
		got := []string{s.Issuer(), s.Path("/login"), s.URL("/login"), s.Origin()}
		want := []string{test.wantIssuer, test.path, test.url, test.origin}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: got %q, want %q", test.issuer, got[i], want[i])
			}
		}
	}
}

// A __Host- cookie is refused by browsers unless it is Secure, has Path=/ and no Domain (RFC 6265bis §4.1.3.2), so a path issuer
// cannot narrow its path.
func TestCookies(t *testing.T) {
	t.Parallel()
	for issuer, prefix := range map[string]string{
		"https://id.example.test":      "__Host-",
		"https://id.example.test/auth": "__Host-",
		"http://127.0.0.1:8080":        "",
		"http://127.0.0.1:8080/auth":   "",
	} {
		s := site(t, issuer)
		w := httptest.NewRecorder()
		expires := time.Now().Add(time.Hour)
		s.SetSessionToken(w, "t1", expires)
		s.SetLoginTicket(w, "abc", "t2", expires)
		s.SetLoginTicket(w, "", "t3", expires)
		cookies := w.Result().Cookies()
		names := []string{"gatehouse-session", "gatehouse-login-abc", "gatehouse-login"}
		if len(cookies) != len(names) {
			t.Fatalf("%s: %d cookies, want %d", issuer, len(cookies), len(names))
		}
		r := httptest.NewRequest("GET", "/", nil)
		for i, c := range cookies {
			if c.Name != prefix+names[i] || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.Secure != s.Secure() || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s: cookie %v, want %s with Path=/, no Domain, HttpOnly, Lax, Secure as the site", issuer, c, prefix+names[i])
			}
			r.AddCookie(c)
		}
		for got, want := range map[string]string{s.SessionToken(r): "t1", s.LoginTicket(r, "abc"): "t2", s.LoginTicket(r, ""): "t3", s.LoginTicket(r, "other"): ""} {
			if got != want {
				t.Errorf("%s: read %q, want %q", issuer, got, want)
			}
		}
		w = httptest.NewRecorder()
		s.ClearSessionToken(w)
		s.ClearLoginTicket(w, "abc")
		for _, c := range w.Result().Cookies() {
			if c.MaxAge >= 0 || c.Value != "" || c.Path != "/" {
				t.Errorf("%s: %v does not delete the cookie", issuer, c)
			}
		}
	}
}

// A sibling domain can set a cookie without the __Host- prefix; over https it must not become a session (fixation).
func TestSessionFixationBySiblingDomain(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "gatehouse-session", Value: "planted"})
	if got := site(t, "https://id.example.test").SessionToken(r); got != "" {
		t.Errorf("session token %q taken from a cookie without the __Host- prefix", got)
	}
}

func TestHeaderInjectionThroughInteraction(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	site(t, "http://localhost").SetLoginTicket(w, "x; Domain=evil.test\r\nX: y", "t", time.Now().Add(time.Hour))
	if got := w.Header()["Set-Cookie"]; len(got) != 0 {
		t.Errorf("Set-Cookie %q from a hostile interaction id, want none", got)
	}
}

func BenchmarkWrap(b *testing.B) {
	body := []byte("{}")
	h := web.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }),
		web.Options{Log: slog.New(web.LogHandler{Handler: slog.NewJSONHandler(io.Discard, nil)})})
	r := httptest.NewRequest("GET", "/userinfo", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
