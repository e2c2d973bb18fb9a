package e2e

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
	"golang.org/x/oauth2"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

const (
	demoPerson  = "demo@example.test"
	newPassword = "quarz.lampion-58-otter"
)

// demoServer starts what `make run` starts, and returns where the demo app is and the demo person's one-time password.
func demoServer(t *testing.T, setup rig.Setup) (s *rig.Server, demo, oneTime string) {
	t.Helper()
	port := freePort(t)
	setup.Args = append(setup.Args, "--seed", "--demo")
	setup.Env = append(
		setup.Env, "GATEHOUSE_DEMO_LISTEN=127.0.0.1:"+strconv.Itoa(port), "GATEHOUSE_DEMO_FILE="+setup.Dir+"/demo.env",
	)
	s = start(t, setup)
	printed := regexp.MustCompile(regexp.QuoteMeta(demoPerson) + `\s+(\S+)\n`)
	for range 600 { // it answers before it has made the accounts and printed them
		if m := printed.FindStringSubmatch(s.Log()); m != nil {
			return s, "http://127.0.0.1:" + strconv.Itoa(port) + "/", m[1]
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no one-time password was printed:\n%s", s.Log())
	return nil, "", ""
}

// The main job, as a newcomer meets it: from the demo app's button through a first sign-in, two-step sign-in and consent,
// and back.
func TestDemoInChromium(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, demo, oneTime := demoServer(t, setup(t))
			w := newWindow(t)

			w.open(demo)
			w.shot("01-demo")
			w.click("sign-in")
			w.see("login-submit")
			w.shot("02-sign-in")
			w.fill("email", demoPerson)
			w.fill("password", oneTime)
			w.click("login-submit")

			w.see("reset-submit") // the one-time password must be replaced
			w.shot("03-new-password")
			w.fill("password", newPassword)
			w.click("reset-submit")

			w.see("consent-allow")
			w.shot("04-consent")
			w.click("consent-allow")
			if got := w.see("signed-in"); !strings.Contains(got, "Demo Example") {
				t.Errorf("the demo greets %q, want Demo Example", got)
			}
			w.shot("05-demo-signed-in")
			w.view("demo", 1280, 800)
			if got := w.see("id-token"); !strings.Contains(got, s.Issuer) {
				t.Errorf("the ID token's claims do not name the issuer %s: %s", s.Issuer, got)
			}

			secret, codes := enrol(w, s, newPassword)

			w.open(demo)
			w.click("refresh")
			if got := w.see("note"); !strings.Contains(got, "Refreshed") {
				t.Errorf("after refresh the demo says %q", got)
			}
			w.open(s.Issuer + "/logout")
			w.see("logout-confirm")
			w.shot("09-log-out")
			w.click("logout-confirm")
			w.see("logout-done")
			w.shot("10-signed-out")
			for range 100 { // the server tells the demo behind the scenes
				if w.open(demo); w.has("sign-in") {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}

			// Again, now with a second step and without a question that was answered before.
			w.open(demo)
			w.click("sign-in")
			w.fill("email", demoPerson)
			w.fill("password", newPassword)
			w.click("login-submit")
			w.see("code-submit")
			w.shot("11-code")
			w.fill("code", code(t, secret, 1)) // the code of this moment was used to turn it on
			w.click("code-submit")
			w.see("signed-in")
			if got := w.see("id-token"); !strings.Contains(got, "otp") {
				t.Errorf("the ID token does not say that a second factor was used: %s", got)
			}

			// And with a recovery code, in another browser.
			other := newWindow(t)
			other.open(demo)
			other.click("sign-in")
			other.fill("email", demoPerson)
			other.fill("password", newPassword)
			other.click("login-submit")
			other.click("recovery-link")
			other.shot("12-recovery")
			other.fill("code", codes[0])
			other.click("code-submit")
			other.see("signed-in")

			// Signing out in the demo signs out of the server, without a question, and leads back.
			other.click("log-out")
			other.see("sign-in")
			if got := other.location().String(); got != demo {
				t.Errorf("after signing out the browser is at %s, want %s", got, demo)
			}
			other.open(s.Issuer + "/account")
			other.see("login-submit")
		})
	}
}

// enrol turns two-step sign-in on in the account pages, and returns the secret and the recovery codes.
func enrol(w *window, s *rig.Server, password string) (secret string, codes []string) {
	w.t.Helper()
	w.open(s.Issuer + "/account")
	w.shot("06-account")
	w.open(s.Issuer + "/account/two-step")
	w.click("setup-link")
	if w.has("confirm-submit") {
		w.fill("password", password)
		w.click("confirm-submit")
	}
	secret = strings.ReplaceAll(w.see("totp-secret"), " ", "")
	w.shot("07-two-step")
	w.fill("code", code(w.t, secret, 0))
	w.click("setup-submit")
	codes = strings.Fields(w.see("recovery-codes"))
	if len(codes) != 10 {
		w.t.Fatalf("got %d recovery codes, want 10: %q", len(codes), codes)
	}
	w.shot("08-recovery-codes")
	return secret, codes
}

// code is the one-time code, steps of 30 seconds from now. The server takes the next step's too, and each only once.
func code(t *testing.T, secret string, steps int) string {
	t.Helper()
	c, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mailed finds the newest mail in the local inbox with a link to path, and returns the link.
func mailed(t *testing.T, s *rig.Server, path string) string {
	t.Helper()
	b := rig.NewBrowser(s.Issuer)
	for range 600 { // mails go out behind the answer
		inbox, err := b.Open("/inbox")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range inbox.Links() {
			if !strings.HasPrefix(link, "/inbox/") {
				continue
			}
			mail, err := b.Open(link)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range mail.Links() {
				if strings.HasPrefix(target, s.Issuer+path+"?") {
					return target
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no mail with a link to %s came", path)
	return ""
}

func TestRegistrationInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	a := newApp(t, s)
	w := newWindow(t)

	verifier := oauth2.GenerateVerifier()
	w.open(a.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))
	w.click("register-link")
	w.shot("1-register")
	w.fill("name", "Grace Hopper")
	w.fill("email", "grace@example.test")
	w.fill("password", newPassword)
	w.click("register-submit")
	w.see("verify-resend")
	w.shot("2-verify")
	w.open(mailed(t, s, "/verify/link"))
	w.shot("3-link")
	w.fill("password", newPassword)
	w.click("verify-submit")
	w.shot("4-verified")

	// Back at the app, which sends her anew.
	w.open(a.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))
	signInIfAsked(w, "grace@example.test", newPassword)
	w.see("consent-allow")
	w.shot("5-consent")
}

func signInIfAsked(w *window, email, password string) {
	w.t.Helper()
	if w.has("login-submit") {
		w.fill("email", email)
		w.fill("password", password)
		w.click("login-submit")
	}
}

func TestPasswordResetInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	newUser(t, s, "ada@example.test")
	w := newWindow(t)
	w.open(s.Issuer + "/login")
	w.fill("email", "ada@example.test")
	w.fill("password", "not her password at all")
	if got := w.click("login-submit"); got < 400 || got > 499 {
		t.Errorf("a wrong password got status %d", got)
	}
	w.forgive("Failed to load resource")
	w.see("summary")
	w.shot("1-wrong")

	w.open(s.Issuer + "/forgot")
	w.shot("2-forgot")
	w.fill("email", "ada@example.test")
	w.click("forgot-submit")
	w.shot("3-sent")
	w.open(mailed(t, s, "/reset"))
	w.shot("4-reset")
	w.fill("password", newPassword)
	w.click("reset-submit")

	w.open(s.Issuer + "/account")
	signInIfAsked(w, "ada@example.test", newPassword)
	w.see("sign-out")
	if path := w.location().Path; path != "/account" {
		t.Errorf("arrived at %s, want /account", path)
	}
}

// The meter follows what is typed, wherever a new password is chosen, under a policy that runs no other script.
func TestPasswordStrengthInChromium(t *testing.T) {
	t.Parallel()
	s, demo, oneTime := demoServer(t, embedded(t))
	w := newWindow(t)
	meter := func(name string) {
		t.Helper()
		if w.measure(`document.getElementById("strength").hidden ? 1 : 0`) != 1 {
			t.Errorf("%s: the meter shows before anything is typed", name)
		}
		for _, step := range []struct {
			typed, says string
			value       int
		}{{"password1234", "Far too easy", 1}, {newPassword, "Very good", 5}} {
			w.measure(`document.getElementById("password").select() ?? 0`) // what is typed replaces it
			w.fill("password", step.typed)
			if got := w.measure(`document.getElementById("password").value.length`); got != len(step.typed) {
				t.Fatalf("%s: %d characters in the field, want %d", name, got, len(step.typed))
			}
			w.read("strength-text", step.says)
			if got := w.measure(`document.getElementById("strength").value`); got != step.value {
				t.Errorf("%s: the meter is at %d when it says %q, want %d", name, got, step.says, step.value)
			}
			w.shot(name + "-" + strings.ReplaceAll(step.says, " ", "-"))
		}
	}
	w.open(s.Issuer + "/register")
	meter("register")
	w.open(demo)
	w.click("sign-in")
	w.fill("email", demoPerson)
	w.fill("password", oneTime)
	w.click("login-submit")
	w.see("reset-submit")
	meter("one-time")
	w.click("reset-submit")
	w.see("consent-allow")
	w.open(s.Issuer + "/account/password")
	meter("account")
	w.open(s.Issuer + "/forgot")
	w.fill("email", demoPerson)
	w.click("forgot-submit")
	w.open(mailed(t, s, "/reset"))
	meter("reset")
}

// Every page of the flow must do its work in a browser that runs no scripts.
func TestSignInWithoutJavaScriptInChromium(t *testing.T) {
	t.Parallel()
	s, demo, oneTime := demoServer(t, embedded(t))
	w := newWindow(t, noScripts)
	w.open(demo)
	w.click("sign-in")
	w.fill("email", demoPerson)
	w.fill("password", oneTime)
	w.click("login-submit")
	w.fill("password", newPassword)
	w.click("reset-submit")
	w.click("consent-allow")
	w.see("signed-in")
	w.open(s.Issuer + "/account/profile")
	w.see("sign-out")
}

func TestErrorPageInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	w := newWindow(t)
	if got := w.open(s.Issuer + "/authorize?client_id=nobody&redirect_uri=https%3A%2F%2Fevil.example&response_type=code"); got != http.StatusBadRequest {
		t.Errorf("an unknown client got status %d, want 400", got)
	}
	w.see("error-page")
	w.shot("error")
	w.forgive("Failed to load resource")
	if u := w.location(); u.Path != "/authorize" {
		t.Errorf("the browser was sent to %s", u)
	}
}

// callback is an app's redirect target on host, which remembers how it was called.
type callback struct {
	url  string
	next string          // where it sends the browser on to; empty: it shows #back
	sent chan url.Values // what came, "method", "query" and "referrer" added
}

func newCallback(t *testing.T, host, page string) *callback {
	t.Helper()
	c := &callback{sent: make(chan url.Values, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, page)
	})
	mux.HandleFunc("GET /favicon.ico", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		r.Form.Set("method", r.Method)
		r.Form.Set("query", r.URL.RawQuery)
		r.Form.Set("referrer", r.Referer())
		c.sent <- r.Form
		if c.next != "" {
			http.Redirect(w, r, c.next, http.StatusSeeOther)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, `<!doctype html><title>app</title><p id="back">back at the app</p>`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	c.url = "http://" + host + ":" + port + "/callback"
	return c
}

func (c *callback) origin() string { return strings.TrimSuffix(c.url, "/callback") }

// authorizeURL asks for a code to be sent to redirect.
func authorizeURL(s *rig.Server, client rig.Client, more url.Values) string {
	values := url.Values{
		"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {client.RedirectURI}, "scope": {"openid email"},
		"state": {`"><script>alert(1)</script>&amp;`}, "nonce": {"n"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
	}
	for name, v := range more {
		values[name] = v
	}
	return s.Issuer + "/authorize?" + values.Encode()
}

// response_mode=form_post: the page must post itself under the strict policy, and have a button where scripts are off
// (OAuth 2.0 Form Post Response Mode).
func TestFormPostInChromium(t *testing.T) {
	t.Parallel()
	for name, setUp := range map[string][]chromedp.Action[chromedp.Void]{"with scripts": nil, "without scripts": {noScripts}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, embedded(t))
			newUser(t, s, "ada@example.test")
			app := newCallback(t, "127.0.0.1", "")
			client, err := s.NewClient(t.Context(), "Form post app", app.url)
			if err != nil {
				t.Fatal(err)
			}
			w := newWindow(t, setUp...)
			w.open(authorizeURL(s, client, url.Values{"response_mode": {"form_post"}}))
			w.fill("email", "ada@example.test")
			w.fill("password", password)
			w.click("login-submit")
			w.click("consent-allow")
			if setUp != nil {
				ask(w, "see the button", chromedp.Text(chromedp.CSS("form button"), chromedp.NodeVisible))
				w.shot("form-post")
				w.do("press the button", chromedp.Click(chromedp.CSS("form button"), chromedp.NodeVisible))
			}
			w.see("back")
			got := <-app.sent
			want := `"><script>alert(1)</script>&amp;`
			if got.Get("method") != http.MethodPost || got.Get("query") != "" || got.Get("code") == "" || got.Get("state") != want || got.Get("iss") != s.Issuer {
				t.Errorf("the app was called with %v, want a POST with code, iss and the state %q, and no query", got, want)
			}
		})
	}
}

// Chromium holds every redirect after a form was posted to the form-action of the form's page, and so also where the app
// sends the person on to, which no page of ours can know. So the way to the app must not be part of any form's.
func TestAppRedirectsOnInChromium(t *testing.T) {
	t.Parallel()
	for name, setUp := range map[string][]chromedp.Action[chromedp.Void]{"with scripts": nil, "without scripts": {noScripts}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, embedded(t))
			newUser(t, s, "ada@example.test")
			landing, app := newCallback(t, "localhost", ""), newCallback(t, "127.0.0.1", "")
			app.next = landing.url
			client, err := s.NewClient(t.Context(), "App on two sites", app.url)
			if err != nil {
				t.Fatal(err)
			}
			arrived := func(w *window, parameter string) {
				t.Helper()
				w.see("back")
				if got := <-app.sent; got.Get(parameter) == "" || got.Get("method") != http.MethodGet || got.Get("referrer") != "" {
					t.Errorf("the app was called with %v, want a GET with %s and no referrer", got, parameter)
				}
				if got := w.location(); got.Host != strings.TrimPrefix(landing.origin(), "http://") {
					t.Errorf("arrived at %s, want %s", got.Host, landing.origin())
				}
			}

			w := newWindow(t, setUp...)
			w.open(authorizeURL(s, client, nil))
			w.fill("email", "ada@example.test")
			w.fill("password", password)
			w.click("login-submit")
			w.click("consent-deny")
			arrived(w, "error")
			w.open(authorizeURL(s, client, nil))
			w.click("consent-allow")
			arrived(w, "code")
			w.open(authorizeURL(s, client, url.Values{"prompt": {"select_account"}}))
			w.click("select-this")
			arrived(w, "code")
			w.open(authorizeURL(s, client, url.Values{"prompt": {"login"}})) // nothing is left to ask for after the password
			w.fill("password", password)
			w.click("login-submit")
			arrived(w, "code")
		})
	}
}

// The page of the form post for a browser that shows no scripts, read by hand: the values must stand in it escaped.
func TestFormPostStateIsNotMarkup(t *testing.T) {
	each(t, func(t *testing.T, s *rig.Server) {
		newUser(t, s, "ada@example.test")
		client, err := s.NewClient(t.Context(), "Form post app", redirectURI)
		if err != nil {
			t.Fatal(err)
		}
		b := rig.NewBrowser(s.Issuer)
		if _, err := b.SignIn(authorizeURL(s, client, nil), "ada@example.test", password); err != nil {
			t.Fatal(err)
		}
		page, err := b.Open(authorizeURL(s, client, url.Values{"response_mode": {"form_post"}}))
		if err != nil {
			t.Fatal(err)
		}
		if page.Status != http.StatusOK || strings.Contains(page.Body, "<script>alert") || !strings.Contains(html.UnescapeString(page.Body), "<script>alert(1)") {
			t.Errorf("%s does not hold the state escaped:\n%s", page, page.Body)
		}
	})
}

// An app on another site may send people by POST (OpenID Connect Core §3.1.2.1). Their session cookie does not travel with
// such a request; they must not be asked to sign in again all the same.
func TestCrossSitePostToAuthorizeInChromium(t *testing.T) {
	t.Parallel()
	s := start(t, embedded(t))
	newUser(t, s, "ada@example.test")
	var form strings.Builder
	app := newCallback(t, "127.0.0.1", `<!doctype html><title>app</title><p><a id="go" href="/form">go</a></p>`)
	client, err := s.NewClient(t.Context(), "Posting app", app.url)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(authorizeURL(s, client, nil))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&form, `<!doctype html><title>app</title><form method="post" action="%s/authorize">`, s.Issuer)
	for name, values := range target.Query() {
		fmt.Fprintf(&form, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(values[0]))
	}
	form.WriteString(`<button id="post">Sign in</button></form>`)
	poster := newCallback(t, "127.0.0.1", form.String())

	w := newWindow(t)
	w.open(target.String())
	w.fill("email", "ada@example.test")
	w.fill("password", password)
	w.click("login-submit")
	w.click("consent-allow")
	w.see("back")
	<-app.sent

	w.open(poster.origin() + "/")
	w.click("post")
	w.see("back")
	if got := <-app.sent; got.Get("code") == "" || got.Get("state") != target.Query().Get("state") {
		t.Errorf("the app was called with %v, want a code", got)
	}
}
