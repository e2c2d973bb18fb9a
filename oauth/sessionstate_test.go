package oauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// watched lets apps watch the session.
func (h *harness) watched(t testing.TB) {
	t.Helper()
	h.Site = h.Site.Watching()
	h.metadata = must(h.buildMetadata())
}

// in asks as a browser with a session and a browser state; the answer has the state that it has afterwards.
func (b *browser) in(h *harness, state, path string) (*httptest.ResponseRecorder, string) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	b.cookie(h, r)
	r.Header.Set("Cookie", strings.Join(slices.DeleteFunc(strings.Split(r.Header.Get("Cookie"), "; "), func(c string) bool {
		return c == "" || strings.HasPrefix(c, h.Site.StateCookie()+"=")
	}), "; "))
	if state != "" {
		r.AddCookie(&http.Cookie{Name: h.Site.StateCookie(), Value: state})
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.Name == h.Site.StateCookie() {
			state = c.Value
		}
	}
	return w, state
}

func answerIn(w *httptest.ResponseRecorder) url.Values {
	u := must(url.Parse(w.Header().Get("Location")))
	q := u.Query()
	maps.Copy(q, must(url.ParseQuery(u.EscapedFragment())))
	return q
}

func TestSessionState(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.watched(t)
		h.legacy(t)
		b, c := h.person(t), h.client(t, answering("code", "id_token", "code id_token"))
		b.consent(t, c)
		w, state := b.in(h, "", "/authorize?"+c.params().Encode())
		if len(w.Result().Cookies()) != 1 || state == "" {
			t.Fatalf("cookies %v", w.Result().Cookies())
		}
		if got := w.Result().Cookies()[0]; got.HttpOnly || !got.Secure || got.SameSite != http.SameSiteNoneMode || got.Path != "/" || strings.Contains(b.token, got.Value) || !strings.HasPrefix(got.Name, "__Host-") {
			t.Errorf("cookie %v", got)
		}
		seen := map[string]bool{}
		for name, edits := range map[string][]string{
			"code": {}, "none": {"response_type", "none"}, "hybrid": {"response_type", "code id_token"}, "silent": {"prompt", "none"},
			"error": {"scope", "openid admin"}, "silent error": {"prompt", "none", "max_age", "0"}, "hybrid error": {"response_type", "id_token", "nonce", ""},
		} {
			w, after := b.in(h, state, "/authorize?"+c.params(edits...).Encode())
			got := answerIn(w).Get("session_state")
			_, salt, _ := strings.Cut(got, ".")
			if got != sessionStateOf(c.ID, "https://app.example.test", state, salt) || after != state || len(salt) < 26 || seen[got] {
				t.Errorf("%s: session_state is %q, the browser's state %q", name, got, after)
			}
			seen[got] = true
		}
		// Nobody is signed in: the app learns a state to watch all the same.
		w, state = (*browser)(nil).in(h, "", "/authorize?"+c.params("prompt", "none").Encode())
		_, salt, _ := strings.Cut(answerIn(w).Get("session_state"), ".")
		if q := answerIn(w); q.Get("error") != "login_required" || q.Get("session_state") != sessionStateOf(c.ID, "https://app.example.test", state, salt) {
			t.Errorf("nobody signed in: %v", q)
		}
		if answer := h.signedAnswer(t, c, b.authorize(t, h, c.params("response_mode", "jwt"))); answer["session_state"] == nil {
			t.Errorf("signed: %v", answer)
		}
		program := h.client(t, func(c *Client) { c.RedirectURIs = []string{"com.example.app:/callback"} })
		if w, _ := b.in(h, state, "/authorize?"+program.params("redirect_uri", "com.example.app:/callback", "scope", "openid admin").Encode()); answerIn(w).Get("error") == "" || answerIn(w).Has("session_state") {
			t.Errorf("a program: %v", answerIn(w))
		}
	})
}

func TestSessionStateOnlyWhenOffered(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	b, c := h.person(t), h.client(t, nil)
	b.consent(t, c)
	for _, edits := range [][]string{{}, {"prompt", "none"}, {"scope", "openid admin"}} {
		w, state := b.in(h, "", "/authorize?"+c.params(edits...).Encode())
		if answerIn(w).Has("session_state") || state != "" || len(w.Result().Cookies()) != 0 {
			t.Errorf("%v: got %v and %v", edits, answerIn(w), w.Result().Cookies())
		}
	}
	h.watched(t)
	var m metadata
	if err := json.Unmarshal(h.metadata.body, &m); err != nil || m.CheckSession != testIssuer+CheckSessionPath {
		t.Errorf("check_session_iframe is %q, %v", m.CheckSession, err)
	}
}

// Whoever registers an app could watch people come and go who have never allowed it anything.
func TestStrangerWatchesPeopleByErrors(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.watched(t)
		h.opened(t, RegistrationOpen)
		a := h.manage(t, "POST", registrationPath, "", aboutMe())
		c := registered{Client{ID: a.str("client_id"), AuthMethod: AuthNone}, ""}
		b := h.person(t)
		for _, who := range []*browser{nil, b} {
			w, _ := who.in(h, "", "/authorize?"+c.params("prompt", "none").Encode())
			if q := answerIn(w); q.Get("error") == "" || q.Has("session_state") || len(w.Result().Cookies()) != 0 {
				t.Errorf("got %v and %v", q, w.Result().Cookies())
			}
		}
		if q := b.allows(t, c.params()); q.Get("session_state") == "" { // the person knows it
			t.Errorf("allowed: %v", q)
		}
	})
}

// The browser's state changes when somebody signs in or out, and follows from nothing else.
func TestBrowserStateChangesWithTheSession(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.watched(t)
	seen := map[string]bool{}
	for name, act := range map[string]func(w http.ResponseWriter){
		"in": func(w http.ResponseWriter) { h.Site.SetSessionToken(w, "token", h.Now()) }, "in again": func(w http.ResponseWriter) { h.Site.SetSessionToken(w, "token", h.Now()) },
		"out": h.Site.ClearSessionToken, "out again": h.Site.ClearSessionToken,
	} {
		w := httptest.NewRecorder()
		act(w)
		for _, c := range w.Result().Cookies() {
			if c.Name == h.Site.StateCookie() {
				if seen[c.Value] || len(c.Value) < 26 || c.MaxAge < 0 {
					t.Errorf("%s: %v", name, c)
				}
				seen[c.Value] = true
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d states, want 4", len(seen))
	}
}

func TestOriginsAsBrowsersNameThem(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://app.example/cb": "https://app.example", "https://APP.example:443/cb": "https://app.example", "https://app.example:8443/cb": "https://app.example:8443",
		"http://127.0.0.1:80/": "http://127.0.0.1", "http://[::1]:8081/cb": "http://[::1]:8081", "http://[::1]/": "http://[::1]", "https://app.example:/x": "https://app.example",
		"com.example.app:/cb": "", "com.example.app://host/cb": "", "": "", "%": "",
	} {
		if got := browserOrigin(raw); got != want {
			t.Errorf("%s: got %q, want %q", raw, got, want)
		}
	}
}
