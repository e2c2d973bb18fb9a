package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// begin presses the demo's button and returns the request it makes and the cookie it sets.
func begin(t *testing.T, demo string) (url.Values, *http.Cookie) {
	t.Helper()
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Post(demo+"/login", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	target, err := res.Location()
	if err != nil || len(res.Cookies()) != 1 {
		t.Fatalf("status %d, %d cookies, location %v, want a redirect and one cookie", res.StatusCode, len(res.Cookies()), err)
	}
	return target.Query(), res.Cookies()[0]
}

func callback(t *testing.T, demo string, query url.Values, cookie *http.Cookie) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, demo+"/callback?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != nil {
		r.AddCookie(cookie)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// The way through is walked end to end elsewhere, with a browser; here are the ways the demo must not be walked.
func TestDemo(t *testing.T) {
	t.Parallel()
	s := start(t, "--seed", "--demo")
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		q, cookie := begin(t, s.Demo)
		if q.Get("client_id") != "demo" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("nonce") == "" || q.Get("state") == "" {
			t.Errorf("authorization request %v lacks PKCE, nonce or state", q)
		}
		if q.Get("redirect_uri") != s.Demo+"/callback" {
			t.Errorf("redirect_uri %q", q.Get("redirect_uri"))
		}
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/callback" {
			t.Errorf("cookie %v, want HttpOnly, Lax and Path=/callback", cookie)
		}
		if again, _ := begin(t, s.Demo); again.Get("state") == q.Get("state") || again.Get("nonce") == q.Get("nonce") || again.Get("code_challenge") == q.Get("code_challenge") {
			t.Error("two logins share state, nonce or challenge")
		}
	})
	tests := map[string]struct {
		change func(q url.Values, cookie *http.Cookie) *http.Cookie
		want   string
		status int
	}{
		"login CSRF: answer of another browser": {func(_ url.Values, _ *http.Cookie) *http.Cookie { return nil }, "not known here", 400},
		"forged state": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Set("state", q.Get("state")[:8]+"x")
			return c
		}, "not known here", 400},
		"no state": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Del("state")
			return c
		}, "not known here", 400},
		"mix-up: other issuer": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Set("iss", "https://evil.test")
			return c
		}, "wrong server", 400},
		"mix-up: no issuer": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Del("iss")
			return c
		}, "wrong server", 400},
		"forged code": {func(_ url.Values, c *http.Cookie) *http.Cookie { return c }, "code was not accepted", 502},
		"person said no": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Del("code")
			q.Set("error", "access_denied")
			return c
		}, "You said no", 200},
		"script in the error": {func(q url.Values, c *http.Cookie) *http.Cookie {
			q.Set("error", "<script>alert(1)</script>")
			q.Set("error_description", "<script>alert(1)</script>")
			return c
		}, "refused the request", 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, cookie := begin(t, s.Demo)
			answer := url.Values{"state": {request.Get("state")}, "code": {"forged"}, "iss": {s.Issuer}}
			status, body := callback(t, s.Demo, answer, test.change(answer, cookie))
			if status != test.status || !strings.Contains(body, test.want) || !strings.Contains(body, `id="try-again"`) {
				t.Errorf("status %d, want %d and a page that says %q and offers to try again:\n%s", status, test.status, test.want, body)
			}
			if strings.Contains(body, "<script") {
				t.Errorf("script in the page:\n%s", body)
			}
		})
	}
	t.Run("page", func(t *testing.T) {
		t.Parallel()
		res, _ := get(t, s.Demo+"/")
		if csp := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") {
			t.Errorf("Content-Security-Policy %q", csp)
		}
		for path, want := range map[string]string{"/demo.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"} {
			if res, _ := get(t, s.Demo+path); res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != want {
				t.Errorf("GET %s: status %d, type %q, want %q", path, res.StatusCode, res.Header.Get("Content-Type"), want)
			}
		}
	})
	t.Run("cross-site post", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/login", "/refresh", "/logout"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Demo+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s: status %d, want 403", path, res.StatusCode)
			}
		}
	})
}

// The demo may be up before its issuer is.
func TestDemoWithoutIssuer(t *testing.T) {
	t.Parallel()
	d, err := startDemo(t.Context(), "", demoSettings{Listen: "127.0.0.1:0", Issuer: "http://127.0.0.1:1", ClientID: "demo", ClientSecret: "secret"}, logging{LogLevel: "error"}.logger(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	go func() { _ = d.serve() }()
	if res, body := get(t, d.url); res.StatusCode != http.StatusOK || !strings.Contains(body, `id="sign-in"`) {
		t.Errorf("status %d, want the page with the button", res.StatusCode)
	}
	res, err := http.Post(d.url+"/login", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "does not answer") || !strings.Contains(string(body), "try-again") {
		t.Errorf("status %d, want 503 and a page that offers to try again:\n%s", res.StatusCode, body)
	}
}
