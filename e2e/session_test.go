package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// watching starts a server with the settings that are off otherwise.
func watching(t *testing.T) *rig.Server {
	t.Helper()
	setup := embedded(t)
	setup.Env = append([]string{"GATEHOUSE_SESSION_MANAGEMENT=true", "GATEHOUSE_LEGACY_RESPONSE_TYPES=true"}, settings...)
	return start(t, setup)
}

// otherSitesCookies sets whether frames of other sites have their cookies: what people choose, or vendors for them.
func otherSitesCookies(t *testing.T, blocked bool) []chromedp.ExecAllocatorOption {
	t.Helper()
	profile, mode := t.TempDir(), 0
	if blocked {
		mode = 1
	}
	err := os.MkdirAll(filepath.Join(profile, "Default"), 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(profile, "Default", "Preferences"), fmt.Appendf(nil, `{"profile":{"cookie_controls_mode":%d,"block_third_party_cookies":%t}}`, mode, blocked), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []chromedp.ExecAllocatorOption{chromedp.UserDataDir(profile)}
}

// asked is what the frame of check_session_iframe says to a message of the app's page.
func asked(w *window, frame string, message string) string {
	w.t.Helper()
	return ask(w, "ask the frame", chromedp.Evaluate[string](fmt.Sprintf(`new Promise((resolve) => {
		addEventListener("message", (e) => resolve(e.origin + " " + e.data), {once: true});
		document.getElementById("op").contentWindow.postMessage(%s, %q);
	})`, message, frame), chromedp.EvalAwaitPromise))
}

// OpenID Connect Session Management 1.0. The server is on localhost; Chromium takes cookies with "Secure" there without TLS. An app on 127.0.0.1 is
// on another site; one on another port of localhost is on the same.
func TestSessionManagementInChromium(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		host    string
		blocked bool
		same    string // what the frame says of a session that is as it was
	}{
		"another site":                  {"127.0.0.1", false, "unchanged"},
		"same site, others blocked":     {"localhost", true, "unchanged"},
		"another site, which is no use": {"127.0.0.1", true, "changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watching(t)
			newUser(t, s, "ada@example.test")
			app := newCallback(t, tc.host, `<!doctype html><title>app</title><p id="app">app</p><iframe id="op" src="`+s.Issuer+`/check-session"></iframe>`)
			client, err := s.NewClient(t.Context(), "Watcher", app.url)
			if err != nil {
				t.Fatal(err)
			}
			w := newWindowWith(t, otherSitesCookies(t, tc.blocked))
			answered := func() url.Values {
				t.Helper()
				w.see("back")
				return <-app.sent
			}
			says := func(want, message string) {
				t.Helper()
				w.open(app.origin() + "/")
				if got := asked(w, s.Issuer, message); got != s.Issuer+" "+want {
					t.Errorf("%s: the frame says %q, want %q", message, got, want)
				}
			}
			quoted := func(text string) string { return fmt.Sprintf("%q", text) }

			w.open(authorizeURL(s, client, nil))
			w.fill("email", "ada@example.test")
			w.fill("password", password)
			w.click("login-submit")
			w.click("consent-allow")
			first := answered().Get("session_state")
			says(tc.same, quoted(client.ID+" "+first))
			says("changed", quoted("other "+first))
			says("changed", quoted(client.ID+" "+strings.Repeat("A", 43)+first[strings.Index(first, "."):]))
			for _, malformed := range []string{
				quoted(""), quoted(client.ID), quoted(client.ID + " " + first + " x"), quoted(client.ID + " x.y"), quoted(" " + first), `({})`, `null`, `[1]`,
				quoted(strings.Repeat("x", 5000) + " " + first),
			} {
				says("error", malformed)
			}
			w.open(authorizeURL(s, client, url.Values{"prompt": {"none"}}))
			says(tc.same, quoted(client.ID+" "+answered().Get("session_state")))

			w.open(s.Issuer + "/logout")
			w.click("logout-confirm")
			says("changed", quoted(client.ID+" "+first))
			w.open(authorizeURL(s, client, url.Values{"prompt": {"none"}}))
			out := answered()
			if out.Get("error") != "login_required" {
				t.Errorf("signed out: %v", out)
			}
			says(tc.same, quoted(client.ID+" "+out.Get("session_state")))
		})
	}
}

// Tokens reach the app in the fragment, past every page on the way, and no other server hears of them.
func TestHybridFlowInChromium(t *testing.T) {
	t.Parallel()
	s := watching(t)
	newUser(t, s, "ada@example.test")
	app := newCallback(t, "127.0.0.1", "")
	client, err := s.NewClient(t.Context(), "Old app", app.url, "--profile", "oidc-basic", "--response-type", "code id_token token")
	if err != nil {
		t.Fatal(err)
	}
	w := newWindow(t)
	w.open(authorizeURL(s, client, url.Values{"response_type": {"code id_token token"}}))
	w.fill("email", "ada@example.test")
	w.fill("password", password)
	w.click("login-submit")
	w.click("consent-allow")
	w.see("back")
	got := <-app.sent
	if got.Get("method") != http.MethodGet || got.Get("query") != "" || got.Get("referrer") != "" {
		t.Errorf("the app's server was told %v, want nothing", got)
	}
	params, err := url.ParseQuery(w.location().EscapedFragment())
	if err != nil || params.Get("code") == "" || params.Get("id_token") == "" || params.Get("access_token") == "" || params.Get("iss") != s.Issuer {
		t.Errorf("the fragment holds %v, %v", params, err)
	}
}
