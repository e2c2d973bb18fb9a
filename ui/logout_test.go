package ui

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/oauth"
)

const afterLogout = "https://app.example.org/bye"

// idToken takes the browser through an app's request and gives the ID token that the app gets.
func (w *world) idToken(t testing.TB, b *browser, c oauth.Client) string {
	t.Helper()
	p := b.get(authorize(c, nil))
	away, err := url.Parse(p.away)
	if err != nil || away.Query().Get("code") == "" {
		t.Fatalf("no code: %q, page says %s", p.away, p.text())
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {away.Query().Get("code")}, "redirect_uri": {c.RedirectURIs[0]}, "client_id": {c.ID},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
	}
	r := httptest.NewRequest(http.MethodPost, w.site.URL("/token"), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	var answer struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || answer.IDToken == "" {
		t.Fatalf("no ID token: %d %s", rec.Code, rec.Body)
	}
	return answer.IDToken
}

// leaver is an app with an address for afterwards, and a person signed in to it.
func (w *world) leaver(t testing.TB) (*browser, oauth.Client, string) {
	t.Helper()
	w.person(t, alice)
	c := w.app(t, func(c *oauth.Client) {
		c.FirstParty = true
		c.PostLogoutRedirectURIs = []string{afterLogout, "https://app.example.org/bye?from=sso"}
	})
	b := w.browser(t)
	b.signIn(alice)
	return b, c, w.idToken(t, b, c)
}

func logoutURL(parameters ...string) string {
	q := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	return "/logout?" + q.Encode()
}

// signedOut fails unless prompt=none tells the app that nobody is signed in.
func (b *browser) signedOut(c oauth.Client) {
	b.t.Helper()
	if p := b.get(authorize(c, url.Values{"prompt": {"none"}})); !strings.Contains(p.away, "error=login_required") {
		b.t.Errorf("after the logout prompt=none leads to %q, want login_required", p.away)
	}
}

// stays fails unless the page asks, and, once the person says yes, ends here and nowhere else.
func (b *browser) stays(p page, c oauth.Client) {
	b.t.Helper()
	p.want(http.StatusOK, "logout-page", "logout-confirm")
	if p = b.press(p, "logout-confirm", nil); p.away != "" {
		b.t.Errorf("led to %s, want nowhere", p.away)
	}
	p.want(http.StatusOK, "logout-done")
	b.signedOut(c)
}

const longState = "-._~aZ09"

// The cases of the certification profile for RP-Initiated Logout.
func TestLogoutByApp(t *testing.T) {
	t.Parallel()
	state := strings.Repeat(longState, 16) // 128 characters
	for name, try := range map[string]func(t *testing.T, w *world, b *browser, c oauth.Client, hint string){
		"rp-initiated-logout": func(t *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", afterLogout, "state", state))
			if want := afterLogout + "?state=" + url.QueryEscape(state); p.away != want {
				t.Errorf("led to %q, want %q", p.away, want)
			}
			b.signedOut(c)
		},
		"no-state": func(t *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			if p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", afterLogout)); p.away != afterLogout {
				t.Errorf("led to %q, want %q", p.away, afterLogout)
			}
			b.signedOut(c)
		},
		"bad-post-logout-redirect-uri": func(_ *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			// The hint is genuine, so nobody is asked; nor does anybody leave this site.
			b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", afterLogout+"/x", "state", state)).want(http.StatusOK, "logout-done")
			b.signedOut(c)
		},
		"query-added-post-logout-redirect-uri": func(t *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", afterLogout+"?foo=bar", "state", state)).want(http.StatusOK, "logout-done")
			if p.away != "" {
				t.Errorf("led to %s", p.away)
			}
			b.signedOut(c)
		},
		"modified-id-token-hint": func(_ *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(hint, ".")[1] + "."
			b.stays(b.get(logoutURL("id_token_hint", none, "post_logout_redirect_uri", afterLogout, "state", state)), c)
		},
		"bad-id-token-hint": func(_ *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + strings.Split(hint, ".")[1]
			mac := hmac.New(sha256.New, []byte("the client's secret"))
			mac.Write([]byte(input))
			forged := input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
			b.stays(b.get(logoutURL("id_token_hint", forged, "post_logout_redirect_uri", afterLogout, "state", state)), c)
		},
		"no-id-token-hint": func(_ *testing.T, _ *world, b *browser, c oauth.Client, _ string) {
			b.stays(b.get(logoutURL("post_logout_redirect_uri", afterLogout, "state", state)), c)
		},
		"no-params": func(_ *testing.T, _ *world, b *browser, c oauth.Client, _ string) {
			b.stays(b.get("/logout"), c)
		},
		"only-state": func(_ *testing.T, _ *world, b *browser, c oauth.Client, _ string) {
			b.stays(b.get(logoutURL("state", state)), c)
		},
		"no-post-logout-redirect-uri": func(t *testing.T, _ *world, b *browser, c oauth.Client, hint string) {
			if p := b.get(logoutURL("id_token_hint", hint, "state", state)).want(http.StatusOK, "logout-done"); p.away != "" {
				t.Errorf("led to %s", p.away)
			}
			b.signedOut(c)
		},
		"discovery-endpoint-verification": func(t *testing.T, w *world, _ *browser, _ oauth.Client, _ string) {
			rec := httptest.NewRecorder()
			w.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil))
			if want := `"end_session_endpoint":"` + w.site.URL("/logout") + `"`; !strings.Contains(rec.Body.String(), want) {
				t.Errorf("metadata lack %s", want)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b, c, hint := w.leaver(t)
			try(t, w, b, c, hint)
		})
	}
}

// RP-Initiated Logout 1.0 §2: the endpoint takes GET and POST. A post from another site carries no cookie of ours, and must come
// to the same.
func TestLogoutByPostOfApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	p := b.roundTrip(http.MethodPost, "/logout", url.Values{
		"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.org/bye?from=sso"}, "state": {"a b&c"}, "other": {"x"},
	}, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://app.example.org"}})
	if p.status != http.StatusSeeOther || !strings.HasPrefix(p.header.Get("Location"), "/logout?") || strings.Contains(p.header.Get("Location"), "other=") {
		t.Fatalf("post of the app: %d %s", p.status, p.header.Get("Location"))
	}
	p = b.follow(p)
	if want := "https://app.example.org/bye?from=sso&state=a+b%26c"; p.away != want {
		t.Errorf("led to %q, want %q", p.away, want)
	}
	b.signedOut(c)
}

// Another site makes the browser ask to sign out: the person is asked, whatever the request looks like.
func TestLogoutCSRF(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, _, _ := w.leaver(t)
	s, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]http.Header{
		"other site": {"Sec-Fetch-Site": {"cross-site"}}, "sibling": {"Sec-Fetch-Site": {"same-site"}}, "old browser": {"Origin": {"https://evil.example"}},
		"sandboxed frame": {"Origin": {"null"}},
	} {
		p := b.roundTrip(http.MethodPost, "/logout", url.Values{"person": {s.UserID}}, header)
		b.follow(p).want(http.StatusOK, "logout-confirm")
		if _, err := w.people.Session(t.Context(), b.cookie("gatehouse-session")); err != nil {
			t.Fatalf("%s signed the person out: %v", name, err)
		}
	}
	// A form that was shown to somebody else who was signed in here.
	b.roundTrip(http.MethodPost, "/logout", url.Values{"person": {"somebody-else"}}, http.Header{"Sec-Fetch-Site": {"same-origin"}}).want(http.StatusConflict, "error-page")
}

// A genuine ID token, but of another session, another person or another app, does not spare the question.
func TestLogoutWithForeignHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	other := w.browser(t)
	other.signIn(alice)
	elsewhere := w.idToken(t, other, c)
	w.person(t, "bob@example.com")
	bob := w.browser(t)
	bob.signIn("bob@example.com")
	bobs := w.idToken(t, bob, c)
	for name, foreign := range map[string]string{"another session": elsewhere, "another person": bobs} {
		p := b.get(logoutURL("id_token_hint", foreign, "post_logout_redirect_uri", afterLogout)).want(http.StatusOK, "logout-confirm").says(c.Name)
		if p.away != "" {
			t.Errorf("%s: led to %s", name, p.away)
		}
	}
	// The client_id must be the one the token was issued to (§2).
	evil := w.app(t, func(c *oauth.Client) { c.PostLogoutRedirectURIs = []string{"https://evil.example/"} })
	b.get(logoutURL("id_token_hint", hint, "client_id", evil.ID, "post_logout_redirect_uri", "https://evil.example/")).want(http.StatusOK, "logout-confirm", "logout-refused")
	// And an address of another app's is none of this app's.
	q := b.get(logoutURL("client_id", c.ID, "post_logout_redirect_uri", "https://evil.example/"))
	b.stays(q.want(http.StatusOK, "logout-refused"), c)
}

// Without a hint the app may say who it is; the person is asked and then taken back.
func TestLogoutByClientID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	p := b.get(logoutURL("client_id", c.ID, "post_logout_redirect_uri", afterLogout, "state", "x", "ui_locales", "xx de")).want(http.StatusOK, "logout-confirm").says("Abmelden", c.Name)
	p = b.press(p, "logout-confirm", nil).want(http.StatusOK, "logout-done", "logout-next")
	if want := afterLogout + "?state=x"; p.away != want {
		t.Errorf("led to %q, want %q", p.away, want)
	}
	b.signedOut(c)
	// Nobody is signed in any more; the app gets the person back all the same.
	if p := b.get(logoutURL("id_token_hint", hint, "client_id", c.ID, "post_logout_redirect_uri", afterLogout)); p.away != afterLogout {
		t.Errorf("signed out already: led to %q, want %q", p.away, afterLogout)
	}
}

func TestLogoutHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	b.get(logoutURL("id_token_hint", hint, "logout_hint", "bob@example.com")).want(http.StatusOK, "logout-confirm")
	b.get(logoutURL("id_token_hint", hint, "logout_hint", "Alice@example.com")).want(http.StatusOK, "logout-done")
	b.signedOut(c)
}

// An ID token serves as a hint long after it expired.
func TestLogoutWithExpiredHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	w.clock.forward(3 * time.Hour)
	if p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", afterLogout)); p.away != afterLogout {
		t.Errorf("led to %q, want %q", p.away, afterLogout)
	}
	b.signedOut(c)
}

func TestLogoutOpenRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, hint := w.leaver(t)
	for _, target := range []string{
		"https://evil.example/", "//evil.example/bye", `/\evil.example`, `https:\\evil.example\bye`, `https://app.example.org\@evil.example/bye`,
		"https://app.example.org@evil.example/bye", "https://app.example.org.evil.example/bye", "HTTPS://app.example.org/bye", "https://app.example.org:443/bye",
		"https://app.example.org/bye#x", "https://app.example.org/bye/", "https://app.example.org/x/../bye", "https://app.example.org/%62ye", " " + afterLogout,
		afterLogout + "\t", afterLogout + "?state=x", "javascript:alert(1)", "data:text/html,x", callback, "https://app.example.org/bye%0d%0aLocation: https://evil.example",
	} {
		for _, request := range []string{
			logoutURL("post_logout_redirect_uri", target), logoutURL("client_id", c.ID, "post_logout_redirect_uri", target),
		} {
			p := b.get(request).want(http.StatusOK, "logout-confirm")
			if _, form := p.form("logout-confirm"); form.Has("post_logout_redirect_uri") {
				t.Errorf("%q is carried on", target)
			}
			// Nor does it help to bring it along with the answer.
			r, err := w.server.ReadLogout(t.Context(), url.Values{"client_id": {c.ID}, "id_token_hint": {hint}, "post_logout_redirect_uri": {target}})
			if err != nil || r.Next != "" {
				t.Errorf("%q: next is %q, %v", target, r.Next, err)
			}
		}
	}
	if p := b.get("/logout?client_id=" + c.ID + "&client_id=x&post_logout_redirect_uri=" + url.QueryEscape(afterLogout)); p.status != http.StatusBadRequest {
		t.Errorf("a parameter twice: status %d, want 400", p.status)
	}
}

// Each app of the session that has a page for it gets it loaded in a frame, and no other page may be framed.
func TestFrontChannelLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person(t, alice)
	edit := func(origin string) func(c *oauth.Client) {
		return func(c *oauth.Client) {
			c.FirstParty = true
			c.RedirectURIs = []string{origin + "/callback"}
			c.PostLogoutRedirectURIs = []string{origin + "/bye"}
			c.FrontchannelLogoutURI = origin + "/out?x=y"
		}
	}
	one, two := w.app(t, edit("https://one.example.org")), w.app(t, edit("https://two.example.org:8443"))
	w.app(t, edit("https://unused.example.org"))
	b := w.browser(t)
	b.signIn(alice)
	hint := w.idToken(t, b, one)
	w.idToken(t, b, two)
	s, err := w.people.Session(t.Context(), b.cookie("gatehouse-session"))
	if err != nil {
		t.Fatal(err)
	}
	p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", "https://one.example.org/bye", "state", "x")).want(http.StatusOK, "logout-done", "logout-next")
	frames := map[string]bool{}
	for n := range p.doc.Descendants() {
		if n.Data == "iframe" {
			frames[attr(n, "src")] = true
		}
	}
	query := "/out?x=y&iss=" + url.QueryEscape(w.site.Issuer()) + "&sid=" + s.ID
	if len(frames) != 2 || !frames["https://one.example.org"+query] || !frames["https://two.example.org:8443"+query] {
		t.Errorf("frames %v", frames)
	}
	csp := p.header.Get("Content-Security-Policy")
	if _, after, ok := strings.Cut(csp, "; frame-src "); !ok || !strings.HasPrefix(after, "https://one.example.org https://two.example.org:8443;") && !strings.HasPrefix(after, "https://two.example.org:8443 https://one.example.org;") {
		t.Errorf("policy %q", csp)
	}
	if p.away != "https://one.example.org/bye?state=x" {
		t.Errorf("moves on to %q", p.away)
	}
	b.signedOut(one)

	// Asked for without an app, the page stays.
	b.signIn(alice)
	w.idToken(t, b, two)
	p = b.press(b.get("/logout"), "logout-confirm", nil).want(http.StatusOK, "logout-done")
	if p.away != "" || p.id("logout-next") != nil || !strings.Contains(p.body, "<iframe") {
		t.Errorf("got %s", p.body)
	}
	// And where no app has such a page, nothing may be framed.
	if csp := b.get("/logout").want(http.StatusOK, "logout-done").header.Get("Content-Security-Policy"); strings.Contains(csp, "frame-src") {
		t.Errorf("policy %q", csp)
	}
}
