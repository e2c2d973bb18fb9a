package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

func embedded(t *testing.T) *harness {
	t.Helper()
	return newHarness(t, dbtest.OpenSQLite(t), cache.NewMemory(nil))
}

// TestUncheckedRedirectIsNeverFollowed holds every way to make the server send a code, or an error, where the app did not
// register.
func TestUncheckedRedirectIsNeverFollowed(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, func(c *Client) {
		c.RedirectURIs = []string{testRedirect, testRedirect + "?tenant=1", "http://127.0.0.1/cb"}
	})
	b := h.person(t)
	b.consent(t, c)
	for name, uri := range map[string]string{
		"unregistered":            "https://evil.example/callback",
		"path appended":           testRedirect + "/extra",
		"path traversal":          testRedirect + "/../evil",
		"traversal with ;":        testRedirect + "/..;/evil",
		"query added":             testRedirect + "?x=1",
		"query changed":           testRedirect + "?tenant=2",
		"fragment added":          testRedirect + "#x",
		"prefix match":            "https://app.example.test.evil.example/callback",
		"userinfo confusion":      "https://app.example.test@evil.example/callback",
		"backslash":               `https://app.example.test\@evil.example/callback`,
		"upper-case host":         "https://APP.example.test/callback",
		"explicit port":           "https://app.example.test:443/callback",
		"other scheme":            "http://app.example.test/callback",
		"encoded":                 "https://app.example.test/%63allback",
		"script":                  "javascript:alert(1)",
		"missing with openid":     "",
		"loopback over https":     "https://127.0.0.1:5000/cb",
		"loopback with user name": "http://evil@127.0.0.1:5000/cb",
		"loopback other path":     "http://127.0.0.1:5000/cb/x",
		"loopback by name":        "http://localhost:5000/cb",
		"loopback odd port":       "http://127.0.0.1:5000x/cb",
		"loopback prefix":         "http://127.0.0.1.evil.example:5000/cb",
	} {
		for _, prompt := range []string{"", "none"} {
			w := b.get(h, "/authorize?"+c.params("redirect_uri", uri, "prompt", prompt).Encode())
			if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
				t.Errorf("%s: got %d to %q, want a page with 400", name, w.Code, w.Header().Get("Location"))
			}
		}
	}
	w := b.get(h, "/authorize?"+c.params("client_id", "nobody").Encode())
	if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" || h.page.Code != "invalid_client" {
		t.Errorf("unknown client: got %d %q %+v", w.Code, w.Header().Get("Location"), h.page)
	}
}

func TestRegisteredRedirectsWork(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, func(c *Client) {
		c.RedirectURIs = []string{testRedirect + "?tenant=1", "http://127.0.0.1/cb", "http://[::1]:9/cb", "com.example.app:/cb"}
	})
	b := h.person(t)
	b.consent(t, c)
	for uri, want := range map[string]string{
		testRedirect + "?tenant=1":  testRedirect + "?tenant=1&code=",
		"http://127.0.0.1:51004/cb": "http://127.0.0.1:51004/cb?code=",
		"http://[::1]:51004/cb":     "http://[::1]:51004/cb?code=",
		"com.example.app:/cb":       "com.example.app:/cb?code=",
	} {
		w := b.get(h, "/authorize?"+c.params("redirect_uri", uri).Encode())
		if got := w.Header().Get("Location"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %d %q (%+v), want %s…", uri, w.Code, got, h.page, want)
		}
	}
}

func TestErrorsReachTheAppWithStateAndIssuer(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	b := h.person(t)
	state := strings.Repeat("aZ09-._~", 16)
	for name, tc := range map[string]struct {
		edits []string
		code  string
	}{
		"response_type missing":     {[]string{"response_type", ""}, "invalid_request"},
		"response_type unknown":     {[]string{"response_type", "token"}, "unsupported_response_type"},
		"response_type repeated":    {[]string{"response_type", "code code"}, "unsupported_response_type"},
		"scope unknown":             {[]string{"scope", "openid admin"}, "invalid_scope"},
		"scope in other case":       {[]string{"scope", "OpenID"}, "invalid_scope"},
		"PKCE missing":              {[]string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
		"PKCE plain":                {[]string{"code_challenge_method", "plain"}, "invalid_request"},
		"PKCE method missing":       {[]string{"code_challenge_method", ""}, "invalid_request"},
		"PKCE challenge malformed":  {[]string{"code_challenge", "abc"}, "invalid_request"},
		"prompt unknown":            {[]string{"prompt", "sing"}, "invalid_request"},
		"prompt none and login":     {[]string{"prompt", "none login"}, "invalid_request"},
		"max_age garbage":           {[]string{"max_age", "soon"}, "invalid_request"},
		"max_age negative":          {[]string{"max_age", "-1"}, "invalid_request"},
		"claims malformed":          {[]string{"claims", "{"}, "invalid_request"},
		"claims not an object":      {[]string{"claims", "[]"}, "invalid_request"},
		"request object":            {[]string{"request", "x.y.z"}, "invalid_request_object"},
		"request object by address": {[]string{"request_uri", "https://evil.example/x"}, "request_uri_not_supported"},
		"registration":              {[]string{"registration", "{}"}, "registration_not_supported"},
		"response_mode unknown":     {[]string{"response_mode", "smoke"}, "invalid_request"},
		"hint without signature":    {[]string{"id_token_hint", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."}, "invalid_request"},
		"hint is rubbish":           {[]string{"id_token_hint", "rubbish"}, "invalid_request"},
		"consent missing, none":     {[]string{"prompt", "none"}, "consent_required"},
		"essential acr unknown":     {[]string{"claims", `{"id_token":{"acr":{"essential":true,"values":["urn:other:gold"]}}}`}, "unmet_authentication_requirements"},
	} {
		q := b.authorize(t, h, c.params(append(tc.edits, "state", state)...))
		if q.Get("error") != tc.code || q.Get("state") != state || q.Get("iss") != testIssuer || q.Has("code") {
			t.Errorf("%s: got %v, want %s with state and iss", name, q, tc.code)
		}
		for parameter := range q {
			switch parameter {
			case "error", "error_description", "state", "iss":
			default:
				t.Errorf("%s: unexpected parameter %s", name, parameter)
			}
		}
		if strings.ContainsFunc(q.Get("error_description"), func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
			t.Errorf("%s: illegal character in %q", name, q.Get("error_description"))
		}
	}
	var nobody *browser
	if q := nobody.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "login_required" {
		t.Errorf("prompt=none without session: %v", q)
	}
}

func TestParameterPollution(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	b := h.person(t)
	b.consent(t, c)
	for _, raw := range []string{
		c.params().Encode() + "&redirect_uri=https%3A%2F%2Fevil.example%2F", c.params().Encode() + "&client_id=" + c.ID, c.params().Encode() + "&state=2",
		c.params("nonce", "\xff").Encode(), c.params().Encode() + "&x=%zz", c.params("state", strings.Repeat("s", 40<<10)).Encode(),
	} {
		if w := b.get(h, "/authorize?"+raw); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("%.80s…: got %d %q, want a page with 400", raw, w.Code, w.Header().Get("Location"))
		}
	}
	for _, uri := range []string{testRedirect + "?code=1", testRedirect + "?state=x", testRedirect + "?iss=x"} {
		if err := validateRedirectURI(uri); err == nil {
			t.Errorf("%s: registered, want refusal", uri)
		}
	}
}

func TestUnknownAndOddParametersAreNoError(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	b := h.person(t)
	b.consent(t, c)
	for _, edits := range [][]string{
		{"extra", "foobar"},
		{"display", "popup"},
		{"ui_locales", "se"},
		{"claims_locales", "se"},
		{"login_hint", "someone@example.test"},
		{"acr_values", "1 2"},
		{"state", ""},
		{"nonce", ""},
		{"state", "1"},
		{"nonce", strings.Repeat("n", 384)},
		{"state", strings.Repeat("s", 1000)},
		{"scope", "offline_access email openid email"},
		{"max_age", "10000"},
		{"claims", `{"userinfo":{"unknown":null},"other":{}}`},
		{"scope", ""},
		{"scope", "read"},
	} {
		q := b.authorize(t, h, c.params(edits...))
		if q.Get("code") == "" {
			t.Errorf("%v: got %v, want a code", edits, q)
		}
		if edits[0] == "state" && q.Get("state") != edits[1] {
			t.Errorf("state %q came back as %q", edits[1], q.Get("state"))
		}
		if edits[0] == "state" && edits[1] == "" && q.Has("state") {
			t.Error("a state that was not sent came back")
		}
	}
}

func TestResponseModes(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	b := h.person(t)
	b.consent(t, c)
	for _, prompt := range []string{"", "select_account none"} { // a code, and an error
		w := b.get(h, "/authorize?"+c.params("response_mode", "fragment", "prompt", prompt).Encode())
		u := must(url.Parse(w.Header().Get("Location")))
		if q := must(url.ParseQuery(u.Fragment)); u.RawQuery != "" || q.Get("iss") != testIssuer || q.Has("code") == q.Has("error") {
			t.Errorf("fragment: %s", u)
		}
		hostile := `"><script>alert(1)</script>`
		w = b.get(h, "/authorize?"+c.params("response_mode", "form_post", "prompt", prompt, "state", hostile).Encode())
		body := w.Body.String()
		if w.Code != http.StatusOK || w.Header().Get("Location") != "" || !strings.Contains(body, `action="`+testRedirect+`"`) || strings.Contains(body, hostile) {
			t.Errorf("form_post: %d %s", w.Code, body)
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'sha256-") || strings.Contains(policy, "unsafe") {
			t.Errorf("form_post policy %q", policy)
		}
	}
}

func TestPostEqualsGet(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	b := h.person(t)
	b.consent(t, c)
	r := httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader(c.params().Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://app.example.test")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r) // browsers leave the session cookie out of this one
	resume := w.Header().Get("Location")
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(resume, "/authorize/resume?i=") {
		t.Fatalf("got %d %q", w.Code, resume)
	}
	w = b.get(h, resume)
	if !strings.HasPrefix(w.Header().Get("Location"), testRedirect+"?code=") {
		t.Errorf("got %d %q", w.Code, w.Header().Get("Location"))
	}
	w = b.get(h, resume)
	if w.Code != http.StatusBadRequest || h.page.Key != "error.oauth.interaction_over" || h.page.ClientName != c.Name {
		t.Errorf("an answered interaction was answered again: %d %+v", w.Code, h.page)
	}
}

// step asks and wants to be sent to a page; it returns the interaction's id.
func (b *browser) step(t *testing.T, h *harness, path, page string) string {
	t.Helper()
	w := b.get(h, path)
	u := must(url.Parse(w.Header().Get("Location")))
	if w.Code != http.StatusSeeOther || u.Path != page {
		t.Fatalf("got %d %s, want the page %s", w.Code, u, page)
	}
	return u.Query().Get("i")
}

func TestPeopleAreAskedForWhatIsMissing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		var nobody *browser
		id := nobody.step(t, h, "/authorize?"+c.params("login_hint", "a@b.c").Encode(), "/login")
		in, err := h.Interaction(t.Context(), id, "")
		if err != nil || in.LoginHint != "a@b.c" || in.Client.Name != c.Name || in.AppScheme != "" || len(in.NewScopes) != 3 {
			t.Errorf("interaction %+v, %v", in, err)
		}
		id = b.step(t, h, h.ResumePath(id), "/consent")
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		if w := b.get(h, h.ResumePath(id)); !strings.HasPrefix(w.Header().Get("Location"), testRedirect+"?code=") {
			t.Errorf("after consent: %d %s", w.Code, w.Header().Get("Location"))
		}
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("code") == "" {
			t.Errorf("consent was not remembered: %v", q)
		}
		id = b.step(t, h, "/authorize?"+c.params("scope", "openid email profile").Encode(), "/consent")
		if in, _ := h.Interaction(t.Context(), id, b.user.ID); len(in.NewScopes) != 1 || in.NewScopes[0] != "profile" {
			t.Errorf("new scopes %v, want profile", in.NewScopes)
		}
		if err := h.Deny(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if loc := b.get(h, h.ResumePath(id)).Header().Get("Location"); !strings.Contains(loc, "error=access_denied") || !strings.Contains(loc, "state=s") {
			t.Errorf("denied: %s", loc)
		}
		if w := b.get(h, h.ResumePath(id)); w.Code != http.StatusBadRequest {
			t.Errorf("the app was told no, and then: %d %s", w.Code, w.Header().Get("Location"))
		}
	})
}

func TestConsentOfOnePersonDoesNotServeAnother(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, first, second := h.client(t, nil), h.person(t), h.person(t)
		id := first.step(t, h, "/authorize?"+c.params("prompt", "consent").Encode(), "/consent")
		if err := h.Approve(t.Context(), id, first.session); err != nil {
			t.Fatal(err)
		}
		second.step(t, h, h.ResumePath(id), "/consent")
	})
}

func TestFreshLogin(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, nil), h.person(t)
		b.consent(t, c)
		h.advanceClock(1200 * time.Millisecond)
		for _, edits := range [][]string{{"prompt", "login"}, {"max_age", "0"}, {"max_age", "1"}} {
			if q := b.authorize(t, h, c.params("max_age", "10000")); q.Get("code") == "" {
				t.Errorf("max_age=10000 asks for a login: %v", q)
			}
			id := b.step(t, h, "/authorize?"+c.params(edits...).Encode(), "/login")
			if in, _ := h.Interaction(t.Context(), id, b.user.ID); in.Reason != "reauth" {
				t.Errorf("%v: reason %q, want reauth", edits, in.Reason)
			}
			b.step(t, h, h.ResumePath(id), "/login") // coming back without having signed in changes nothing
			b.signIn(t)
			w := b.get(h, h.ResumePath(id))
			code := must(url.Parse(w.Header().Get("Location"))).Query().Get("code")
			if code == "" {
				t.Fatalf("%v: after the login: %d %s", edits, w.Code, w.Header().Get("Location"))
			}
			_, token := claimsOf(t, h.exchangeCode(t, c, code).str("id_token"))
			if int64(token["auth_time"].(float64)) != b.session.AuthTime.Unix() {
				t.Errorf("%v: auth_time %v, want %d", edits, token["auth_time"], b.session.AuthTime.Unix())
			}
			h.advanceClock(1200 * time.Millisecond)
		}
	})
}

// The request comes while the sign-in is young enough and is answered by somebody else when it is not any more.
func TestMaxAgeOutwaitedInAnOpenTab(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		w := b.get(h, "/authorize?"+c.params("max_age", "300").Encode())
		id := must(url.Parse(w.Header().Get("Location"))).Query().Get("i")
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		h.advanceClock(10 * time.Minute)
		if to := b.get(h, h.ResumePath(id)).Header().Get("Location"); !strings.HasPrefix(to, "/login?") {
			t.Errorf("ten minutes after the sign-in the request leads to %s, want /login", to)
		}
		h.advanceClock(time.Second)
		b.signIn(t)
		if to := b.get(h, h.ResumePath(id)).Header().Get("Location"); !strings.HasPrefix(to, testRedirect) {
			t.Errorf("signed in again, the request leads to %s, want the app", to)
		}
	})
}

func TestSelectAccount(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c, b := h.client(t, nil), h.person(t)
	b.consent(t, c)
	h.advanceClock(time.Second)
	id := b.step(t, h, "/authorize?"+c.params("prompt", "select_account").Encode(), "/select")
	if err := h.SelectAccount(t.Context(), id, b.session); err != nil {
		t.Fatal(err)
	}
	if w := b.get(h, h.ResumePath(id)); !strings.HasPrefix(w.Header().Get("Location"), testRedirect+"?code=") {
		t.Errorf("got %d %s", w.Code, w.Header().Get("Location"))
	}
}

func TestHintNamesThePerson(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c, b, other := h.client(t, nil), h.person(t), h.person(t)
	b.consent(t, c)
	other.consent(t, c)
	hint := b.tokens(t, c).str("id_token")
	h.advanceClock(2 * time.Hour) // an expired hint is still a hint
	if q := b.authorize(t, h, c.params("prompt", "none", "id_token_hint", hint)); q.Get("code") == "" {
		t.Errorf("own expired hint: %v", q)
	}
	if q := other.authorize(t, h, c.params("prompt", "none", "id_token_hint", hint)); q.Get("error") != "login_required" {
		t.Errorf("hint of another person: %v", q)
	}
	if q := b.authorize(t, h, c.params("prompt", "none", "id_token_hint", b.tokens(t, c).str("access_token"))); q.Get("error") != "invalid_request" {
		t.Errorf("an access token passed as a hint: %v", q)
	}
	if _, err := h.Keys.Rotate(t.Context(), "ES256"); err != nil {
		t.Fatal(err)
	}
	h.advanceClock(90 * time.Minute) // the hint's key is retired now
	if err := h.Keys.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if q := b.authorize(t, h, c.params("prompt", "none", "id_token_hint", hint)); q.Get("code") == "" {
		t.Errorf("hint signed by a retired key: %v", q)
	}
}

func TestClaimsParameter(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c, b := h.client(t, nil), h.person(t)
	a := b.tokens(t, c, "scope", "openid", "claims", `{"userinfo":{"name":{"essential":true}},"id_token":{"email":null,"acr":{"values":["1"]}}}`)
	_, id := claimsOf(t, a.str("id_token"))
	if id["email"] != b.user.Email || id["name"] != nil || id["iss"] != testIssuer {
		t.Errorf("id token %v: want email, no name", id)
	}
	if info := h.userinfoAnswer(t, a.str("access_token")); info.body["name"] != "Ada Example" || info.body["email"] != nil {
		t.Errorf("userinfo %v: want name, no email", info.body)
	}
	fresh := h.person(t)
	fresh.step(t, h, "/authorize?"+c.params("scope", "openid", "claims", `{"userinfo":{"email":null}}`).Encode(), "/consent")
	if q := b.authorize(t, h, c.params("claims", `{"id_token":{"sub":{"value":"somebody else"}}}`, "prompt", "none")); q.Get("error") != "login_required" {
		t.Errorf("another subject was demanded: %v", q)
	}
	narrow := h.client(t, func(c *Client) { c.Scopes = []string{"openid"} })
	if q := b.authorize(t, h, narrow.params("scope", "openid", "claims", `{"userinfo":{"email":null}}`)); q.Get("error") != "invalid_scope" {
		t.Errorf("a claim beyond the client's scopes: %v", q)
	}
}

func TestAccountsInNeedOfAttentionStopHere(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	c := h.client(t, nil)
	for page, edit := range map[string]func(u *identity.NewUser){
		"/password/new": func(u *identity.NewUser) { u.MustChangePassword, u.EmailVerified = true, true },
		"/verify":       func(u *identity.NewUser) {},
	} {
		u := identity.NewUser{Email: strings.TrimPrefix(strings.ReplaceAll(page, "/", "-"), "-") + "@example.test", Password: testPassword, Role: "user"}
		edit(&u)
		user, err := h.people.Create(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		b := &browser{h: h, user: user}
		b.signIn(t)
		b.consent(t, c)
		b.step(t, h, "/authorize?"+c.params().Encode(), page)
		if q := b.authorize(t, h, c.params("prompt", "none")); q.Get("error") != "interaction_required" {
			t.Errorf("%s: prompt=none: %v", page, q)
		}
	}
}

func TestFirstPartySkipsConsentButNativeImpersonatorsDoNot(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	b := h.person(t)
	own := h.client(t, func(c *Client) { c.FirstParty = true })
	if q := b.authorize(t, h, own.params()); q.Get("code") == "" {
		t.Errorf("first party: %v", q)
	}
	native := h.client(t, func(c *Client) { public(c); c.FirstParty = true; c.RedirectURIs = []string{"http://127.0.0.1/cb"} })
	b.consent(t, native)
	b.step(t, h, "/authorize?"+native.params("redirect_uri", "http://127.0.0.1:4711/cb").Encode(), "/consent")
}

func TestPublicClientFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c, b := h.client(t, public), h.person(t)
		a := b.tokens(t, c)
		r := h.refreshToken(t, c, a.str("refresh_token"))
		if r.status != http.StatusOK || r.str("refresh_token") == a.str("refresh_token") {
			t.Errorf("refresh: %d %v", r.status, r.body)
		}
		wantError(t, h.post(t, "/introspect", c, url.Values{"token": {a.str("access_token")}}), 401, "invalid_client")
	})
}
