package oauth

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

var legacyTypes = []string{"id_token", "id_token token", "code id_token", "code token", "code id_token token"}

// legacy lets apps have tokens with the redirect.
func (h *harness) legacy(t testing.TB) {
	t.Helper()
	h.LegacyResponseTypes = true
	h.metadata = must(h.buildMetadata())
}

// answering makes a client of the given response types.
func answering(types ...string) func(c *Client) {
	return func(c *Client) {
		c.Profile, c.ResponseTypes, c.GrantTypes = ProfileOIDCBasic, types, nil
		if anyResponseType(types, holdsCode) {
			c.GrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}
		}
	}
}

// fronted asks for an answer and reads it in the fragment, where there must be one.
func (b *browser) fronted(t testing.TB, c registered, edits ...string) url.Values {
	t.Helper()
	w := b.get(b.h, "/authorize?"+c.params(edits...).Encode())
	u := must(url.Parse(w.Header().Get("Location")))
	if w.Code != http.StatusSeeOther || u.RawQuery != "" || u.Fragment == "" || !strings.HasPrefix(u.String(), testRedirect) {
		t.Fatalf("got %d to %s, want an answer in the fragment; %s", w.Code, u, w.Body)
	}
	return must(url.ParseQuery(u.EscapedFragment()))
}

// verified are the claims of a token that this server has signed.
func (h *harness) verified(t testing.TB, token string) map[string]any {
	t.Helper()
	v, err := h.Keys.Verify(token)
	if err != nil {
		t.Fatalf("%q: %v", token, err)
	}
	var claims map[string]any
	if err := json.Unmarshal(v.Claims, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestLegacyResponseTypes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b := h.person(t)
		for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
			for _, name := range legacyTypes {
				want, _ := responseTypeOf(name)
				c := h.client(t, func(c *Client) { answering(name)(c); c.IDTokenAlg = alg })
				b.consent(t, c)
				words := strings.Fields(name)
				slices.Reverse(words) // their order says nothing
				q := b.fronted(t, c, "response_type", strings.Join(words, " "))
				if q.Has("code") != want.code || q.Has("id_token") != want.idToken || q.Has("access_token") != want.token || q.Has("refresh_token") ||
					q.Get("state") != "s" || q.Get("iss") != testIssuer {
					t.Fatalf("%s: got %v", name, q)
				}
				if want.token {
					if q.Get("token_type") != "Bearer" || q.Get("expires_in") != "300" {
						t.Errorf("%s: got %v", name, q)
					}
					if got := h.userinfoAnswer(t, q.Get("access_token")); got.status != http.StatusOK || got.str("email") != b.user.Email {
						t.Errorf("%s: userinfo answers %d %v", name, got.status, got.body)
					}
				}
				if want.idToken {
					claims := h.verified(t, q.Get("id_token"))
					for hash, of := range map[string]string{"at_hash": "access_token", "c_hash": "code"} {
						if wanted := map[bool]any{true: leftHalf(keys.Alg(alg), q.Get(of))}[q.Has(of)]; claims[hash] != wanted {
							t.Errorf("%s, %s: %s is %v, want %v", name, alg, hash, claims[hash], wanted)
						}
					}
					if claims["nonce"] != c.params().Get("nonce") || claims["sub"] != b.user.ID || claims["iss"] != testIssuer || claims["aud"] != c.ID {
						t.Errorf("%s: ID token %v", name, claims)
					}
					if told := claims["email"] == b.user.Email; told != (name == "id_token") {
						t.Errorf("%s: the ID token tells the scopes' claims: %v", name, told)
					}
				}
				if want.code {
					a := h.exchangeCode(t, c, q.Get("code"))
					if a.status != http.StatusOK || a.str("refresh_token") == "" {
						t.Fatalf("%s: exchange: %d %v", name, a.status, a.body)
					}
					claims := h.verified(t, a.str("id_token"))
					if claims["sub"] != b.user.ID || claims["iss"] != testIssuer || claims["nonce"] != c.params().Get("nonce") || claims["c_hash"] != nil {
						t.Errorf("%s: the second ID token says %v", name, claims)
					}
				}
			}
		}
	})
}

func TestResponseTypeNone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		if w := (*browser)(nil).get(h, "/authorize?"+c.params("response_type", "none").Encode()); !strings.Contains(w.Header().Get("Location"), "/login?i=") {
			t.Errorf("nobody signed in: %s", w.Header().Get("Location"))
		}
		b := h.person(t)
		b.asks(t, c.params("response_type", "none"))
		b.consent(t, c)
		want := url.Values{"state": {"s"}, "iss": {testIssuer}}
		for _, edits := range [][]string{{}, {"code_challenge", "", "code_challenge_method", "", "nonce", ""}, {"prompt", "none", "scope", "openid"}} {
			if q := b.authorize(t, h, c.params(append(edits, "response_type", "none")...)); !maps.EqualFunc(q, want, slices.Equal) {
				t.Errorf("%v: got %v, want %v", edits, q, want)
			}
		}
		if q := b.answered(t, h, c.params("response_type", "none", "response_mode", "form_post"), "form_post"); !maps.EqualFunc(q, want, slices.Equal) {
			t.Errorf("form_post: got %v", q)
		}
		if answer := h.signedAnswer(t, c, b.authorize(t, h, c.params("response_type", "none", "response_mode", "jwt"))); answer["state"] != "s" || answer["code"] != nil {
			t.Errorf("jwt: got %v", answer)
		}
		fapi := h.client(t, func(c *Client) { c.Profile = ProfileMCP; c.GrantTypes = nil })
		if q := b.authorize(t, h, fapi.params("response_type", "none")); q.Get("error") != "unauthorized_client" {
			t.Errorf("under the profile mcp: %v", q)
		}
	})
}

// A setting that is off, or a client that is not registered for it, keeps tokens off the front channel.
func TestTokensFromTheFrontChannelWithoutLeave(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		all, plain := h.client(t, answering(legacyTypes...)), h.client(t, answering("code", "id_token"))
		b.consent(t, all)
		b.consent(t, plain)
		refused := func(c registered, name, code string) {
			t.Helper()
			q := b.fronted(t, c, "response_type", name)
			if q.Get("error") != code || q.Get("iss") != testIssuer || q.Get("state") != "s" || q.Has("code") || q.Has("id_token") || q.Has("access_token") {
				t.Errorf("%s: got %v, want %s", name, q, code)
			}
		}
		for _, name := range legacyTypes { // the setting is off
			refused(all, name, "unsupported_response_type")
		}
		h.legacy(t)
		for _, name := range legacyTypes {
			if name != "id_token" {
				refused(plain, name, "unauthorized_client")
			}
		}
		for _, name := range []string{"token", "code code", "id_token id_token", "none code", "token none", "code  id_token", "code token secret", "ID_TOKEN"} {
			if q := b.authorize(t, h, all.params("response_type", name)); q.Get("error") != "unsupported_response_type" {
				t.Errorf("%q: got %v", name, q)
			}
		}
		// A row that another hand has written goes by its profile.
		row := all.Client
		row.Profile = ProfileOAuth21
		if row.mayAnswer(responseTypes[4]) || !row.mayAnswer(responseTypes[1]) || (Client{Credentials: Credentials{Profile: "x"}, ResponseTypes: []string{"code"}}).mayAnswer(responseTypes[0]) {
			t.Error("the profile does not count")
		}
	})
}

func TestFrontChannelTypesOnlyUnderOIDCBasic(t *testing.T) {
	t.Parallel()
	for _, profile := range Profiles() {
		c := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true, ResponseTypes: []string{"token id_token code", "code"}}
		c.Profile = profile
		if rulesOf(profile).methods != nil {
			byKeys(keySetOf("", "ES256"))(&c)
		}
		if rulesOf(profile).bound {
			c.DPoPBound = true
		}
		if err := c.WithDefaults().Validate(); (err == nil) != (profile == ProfileOIDCBasic) {
			t.Errorf("%s: %v", profile, err)
		}
	}
	for name, edit := range map[string]func(c *Client){
		"token alone":     func(c *Client) { c.ResponseTypes = []string{"token"} },
		"stands twice":    func(c *Client) { c.ResponseTypes = []string{"id_token", "id_token"} },
		"tied to a key":   func(c *Client) { c.DPoPBound, c.ResponseTypes = true, []string{"id_token token"} },
		"agent":           func(c *Client) { c.Agent, c.ResponseTypes = true, []string{"id_token token"} },
		"no redirect URI": func(c *Client) { c.RedirectURIs = nil },
		"refresh tokens":  func(c *Client) { c.GrantTypes = []string{GrantImplicit, GrantRefreshToken} },
		"implicit without type": func(c *Client) {
			c.GrantTypes, c.ResponseTypes = []string{GrantAuthorizationCode, GrantImplicit}, []string{"code"}
		},
		"code without type":       func(c *Client) { c.GrantTypes = []string{GrantAuthorizationCode, GrantImplicit} },
		"type without code grant": func(c *Client) { c.GrantTypes, c.ResponseTypes = []string{GrantImplicit}, []string{"code id_token"} },
	} {
		c := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true, ResponseTypes: []string{"id_token"}, Credentials: Credentials{Profile: ProfileOIDCBasic}}
		edit(&c)
		if err := c.WithDefaults().Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	public := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true, AuthMethod: AuthNone, ResponseTypes: []string{"token id_token"}, Credentials: Credentials{Profile: ProfileOIDCBasic}}.WithDefaults()
	if err := public.Validate(); err != nil || !slices.Equal(public.GrantTypes, []string{GrantImplicit}) || public.ResponseTypes[0] != "id_token token" {
		t.Errorf("an app without a secret: %+v, %v", public, err)
	}
}

// Queries stand in logs, in histories and in the Referer of what the app's page loads.
func TestTokensInTheQuery(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b, c := h.person(t), h.client(t, answering(legacyTypes...))
		b.consent(t, c)
		for _, name := range legacyTypes {
			if q := b.fronted(t, c, "response_type", name, "response_mode", "query"); q.Get("error") != "invalid_request" || q.Has("id_token") || q.Has("access_token") || q.Has("code") {
				t.Errorf("%s by query: got %v", name, q)
			}
			if answer := h.signedAnswer(t, c, b.fronted(t, c, "response_type", name, "response_mode", "query.jwt")); answer["error"] != "invalid_request" {
				t.Errorf("%s by query.jwt: got %v", name, answer)
			}
			for _, mode := range []string{"fragment", "form_post"} {
				w := b.get(h, "/authorize?"+c.params("response_type", name, "response_mode", mode).Encode())
				if got := w.Header().Get("Referrer-Policy"); got != "no-referrer" {
					t.Errorf("%s by %s: Referrer-Policy is %q", name, mode, got)
				}
				if at := must(url.Parse(w.Header().Get("Location"))); at.RawQuery != "" || mode == "form_post" && at.String() != "" {
					t.Errorf("%s by %s leads to %s", name, mode, at)
				}
			}
			for _, mode := range []string{"jwt", "fragment.jwt", "form_post.jwt"} {
				carrier := strings.Replace(mode, "jwt", "fragment", 1)
				if mode != "jwt" {
					carrier = mode
				}
				answer := h.signedAnswer(t, c, b.answered(t, h, c.params("response_type", name, "response_mode", mode), carrier))
				want, _ := responseTypeOf(name)
				if (answer["id_token"] != nil) != want.idToken || (answer["access_token"] != nil) != want.token || (answer["code"] != nil) != want.code {
					t.Errorf("%s by %s: got %v", name, mode, answer)
				}
			}
		}
	})
}

// Without a nonce an ID token of another sign-in could be slipped in.
func TestIDTokenReplayWithoutNonce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b, c := h.person(t), h.client(t, answering(legacyTypes...))
		b.consent(t, c)
		for _, name := range legacyTypes {
			q := b.fronted(t, c, "response_type", name, "nonce", "")
			if name == "code token" { // no ID token that could be another's
				if q.Get("code") == "" {
					t.Errorf("%s: got %v", name, q)
				}
				continue
			}
			if q.Get("error") != "invalid_request" || q.Has("id_token") || q.Has("code") {
				t.Errorf("%s: got %v", name, q)
			}
		}
	})
}

// A code from another answer does not fit the ID token beside it, and its app can tell; so with access tokens.
func TestCodeSubstitutionIsSeenByCHash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b, c := h.person(t), h.client(t, answering("code id_token token"))
		b.consent(t, c)
		mine, others := b.fronted(t, c, "response_type", "code id_token token"), b.fronted(t, c, "response_type", "code id_token token")
		claims := h.verified(t, mine.Get("id_token"))
		if claims["c_hash"] != leftHalf(keys.ES256, mine.Get("code")) || claims["c_hash"] == leftHalf(keys.ES256, others.Get("code")) {
			t.Errorf("c_hash is %v", claims["c_hash"])
		}
		if claims["at_hash"] != leftHalf(keys.ES256, mine.Get("access_token")) || claims["at_hash"] == leftHalf(keys.ES256, others.Get("access_token")) {
			t.Errorf("at_hash is %v", claims["at_hash"])
		}
		// An ID token is no access token, and the other way round.
		wantError(t, h.userinfoAnswer(t, mine.Get("id_token")), http.StatusUnauthorized, "invalid_token")
		if q := b.fronted(t, c, "response_type", "code id_token token", "id_token_hint", mine.Get("access_token")); q.Get("error") != "invalid_request" {
			t.Errorf("an access token as hint: %v", q)
		}
	})
}

// A replayed code of a hybrid flow ends all that came with it, the front channel's token too.
func TestReplayedHybridCodeEndsTheFrontToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b, c := h.person(t), h.client(t, answering("code id_token token"))
		b.consent(t, c)
		q := b.fronted(t, c, "response_type", "code id_token token")
		a := h.exchangeCode(t, c, q.Get("code"))
		if a.status != http.StatusOK {
			t.Fatalf("exchange: %d %v", a.status, a.body)
		}
		wantError(t, h.exchangeCode(t, c, q.Get("code")), http.StatusBadRequest, "invalid_grant")
		for _, token := range []string{q.Get("access_token"), a.str("access_token")} {
			wantError(t, h.userinfoAnswer(t, token), http.StatusUnauthorized, "invalid_token")
		}
		wantError(t, h.refreshToken(t, c, a.str("refresh_token")), http.StatusBadRequest, "invalid_grant")
	})
}

// PKCE guards the code of a hybrid flow as it does any.
func TestPKCEDowngradeByHybridFlow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b := h.person(t)
		open, secret := h.client(t, func(c *Client) { answering("code id_token", "code token")(c); c.AuthMethod = AuthNone }), h.client(t, answering("code id_token", "code token"))
		b.consent(t, open)
		b.consent(t, secret)
		without := []string{"response_type", "code id_token", "code_challenge", "", "code_challenge_method", ""}
		if q := b.fronted(t, open, without...); q.Get("error") != "invalid_request" || q.Has("code") {
			t.Errorf("an app without a secret: %v", q)
		}
		if q := b.fronted(t, secret, append(without, "response_type", "code token", "nonce", "")...); q.Get("error") != "invalid_request" {
			t.Errorf("neither nonce nor challenge: %v", q)
		}
		q := b.fronted(t, open, "response_type", "code id_token")
		form := exchangeForm(q.Get("code"))
		form.Set("code_verifier", strings.Repeat("x", 43))
		wantError(t, h.post(t, "/token", open, form), http.StatusBadRequest, "invalid_grant")
	})
}

// What a token with the redirect could open is bounded: no refresh token, no API by name, no details, no longer than five minutes, not after the
// session has ended.
func TestFrontChannelTokenOpensLittle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.legacy(t)
		b, c := h.person(t), h.client(t, func(c *Client) { answering(legacyTypes...)(c); c.AccessTokenTTL = time.Hour })
		b.consent(t, c)
		for _, extra := range [][]string{{"resource", testIssuer}, {"authorization_details", `[{"type":"x"}]`}, {"dpop_jkt", challengeOf("x")}} {
			for _, name := range []string{"id_token token", "code token", "code id_token token", "id_token", "none"} {
				q := b.answered(t, h, c.params(append(extra, "response_type", name)...), map[bool]string{true: "query", false: "fragment"}[name == "none"])
				if q.Get("error") != "invalid_request" {
					t.Errorf("%s with %s: got %v", name, extra[0], q)
				}
			}
		}
		if q := b.fronted(t, c, "response_type", "id_token token", "scope", "email"); q.Get("error") != "invalid_request" {
			t.Errorf("without openid: got %v", q)
		}
		q := b.fronted(t, c, "response_type", "id_token token")
		claims := h.verified(t, q.Get("access_token"))
		if life := claims["exp"].(float64) - claims["iat"].(float64); life > frontTokenLife.Seconds() || strings.Contains(claims["scope"].(string), scopeOfflineAccess) {
			t.Errorf("it lives for %v seconds with %v", life, claims["scope"])
		}
		wantError(t, h.post(t, "/token", c, url.Values{"grant_type": {GrantImplicit}}), http.StatusBadRequest, "unsupported_grant_type")
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		wantError(t, h.userinfoAnswer(t, q.Get("access_token")), http.StatusUnauthorized, "invalid_token")
		b.signIn(t)
		q = b.fronted(t, c, "response_type", "id_token token")
		h.advanceClock(frontTokenLife + time.Second)
		wantError(t, h.userinfoAnswer(t, q.Get("access_token")), http.StatusUnauthorized, "invalid_token")
	})
}

func TestLegacyTypesInRegistration(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.opened(t, RegistrationOpen)
		front := aboutMe("response_types", []string{"token id_token", "code id_token"}, "grant_types", []string{"implicit", "authorization_code", "refresh_token"}, "token_endpoint_auth_method", AuthBasic)
		wantError(t, h.manage(t, "POST", registrationPath, "", front), http.StatusBadRequest, "invalid_client_metadata")
		plain := h.manage(t, "POST", registrationPath, "", aboutMe())
		h.legacy(t)
		for _, types := range [][]string{{"token"}, {"id_token", "secret"}} {
			wantError(t, h.manage(t, "POST", registrationPath, "", aboutMe("response_types", types)), http.StatusBadRequest, "invalid_client_metadata")
		}
		a := h.manage(t, "POST", registrationPath, "", front)
		if a.status != http.StatusCreated || !slices.Equal(a.body["response_types"].([]any), []any{"id_token token", "code id_token"}) || !slices.Contains(a.body["grant_types"].([]any), any(GrantImplicit)) {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		c := registered{Client{ID: a.str("client_id"), AuthMethod: AuthBasic}, a.str("client_secret")}
		b := h.person(t)
		id, in := b.asks(t, c.params("response_type", "code id_token"))
		if in.Stranger == nil || in.Agent {
			t.Errorf("the consent page knows %+v, want an app that nobody knows", in)
		}
		if err := h.Approve(t.Context(), id, b.session); err != nil {
			t.Fatal(err)
		}
		q := must(url.ParseQuery(must(url.Parse(b.get(h, h.ResumePath(id)).Header().Get("Location"))).EscapedFragment()))
		if a := h.exchangeCode(t, c, q.Get("code")); q.Get("id_token") == "" || a.status != http.StatusOK {
			t.Errorf("got %v, %d %v", q, a.status, a.body)
		}
		only := h.manage(t, "POST", registrationPath, "", aboutMe("response_types", []string{"id_token"}, "grant_types", []string{"implicit"}))
		if only.status != http.StatusCreated || !slices.Equal(only.body["grant_types"].([]any), []any{GrantImplicit}) {
			t.Errorf("id_token alone: %d %v", only.status, only.body)
		}
		// One that exists may say so anew, and back.
		for _, about := range []map[string]any{front, aboutMe("token_endpoint_auth_method", AuthBasic)} {
			about["client_id"] = plain.str("client_id")
			if got := h.manage(t, "PUT", plain.str("registration_client_uri"), plain.str("registration_access_token"), about); got.status != http.StatusOK {
				t.Errorf("changed: %d %v", got.status, got.body)
			}
		}
	})
}

func TestMetadataNamesLegacyTypesWhenServed(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	read := func() (m metadata) {
		if err := json.Unmarshal(h.metadata.body, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := read(); !slices.Equal(m.ResponseTypesSupported, []string{"code", "none"}) || slices.Contains(m.GrantTypesSupported, GrantImplicit) || m.CheckSession != "" {
		t.Errorf("off: %v %v %s", m.ResponseTypesSupported, m.GrantTypesSupported, m.CheckSession)
	}
	h.legacy(t)
	if m := read(); !slices.Equal(m.ResponseTypesSupported, append([]string{"code", "none"}, legacyTypes...)) || !slices.Contains(m.GrantTypesSupported, GrantImplicit) {
		t.Errorf("on: %v %v", m.ResponseTypesSupported, m.GrantTypesSupported)
	}
}

func TestConformanceCallsLegacyTypesWhatTheyAre(t *testing.T) {
	t.Parallel()
	c := Client{ID: "old", Name: "Old", RedirectURIs: []string{testRedirect}, RequirePKCE: true, ResponseTypes: []string{"id_token token"}, Credentials: Credentials{Profile: ProfileOIDCBasic}}.WithDefaults()
	verdict := func(r Running, client, rule string) string {
		t.Helper()
		for _, f := range Assess(r).Findings {
			if f.ClientID == client && f.Rule == rule {
				return f.Verdict
			}
		}
		t.Fatalf("no rule %q", rule)
		return ""
	}
	const server, app = "No access token comes with the redirect.", "Tokens come from the token endpoint alone."
	if got := verdict(Running{}, "", server); got != Met {
		t.Errorf("off: %s", got)
	}
	if got := verdict(Running{LegacyTypes: true}, "", server); got != Advice {
		t.Errorf("on, unused: %s", got)
	}
	on := Running{LegacyTypes: true, Clients: []Client{c}}
	if got := verdict(on, "", server); got != Missed {
		t.Errorf("on and used: %s", got)
	}
	if got := verdict(on, "old", app); got != Advice {
		t.Errorf("the app: %s", got)
	}
}

// Both ID tokens of a hybrid flow are alike: encrypted where one is, and naming the person as the app may know them.
func TestHybridIDTokensAreEncryptedAndPairwise(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.legacy(t)
	b, c := h.person(t), h.client(t, func(c *Client) {
		answering("code id_token")(c)
		c.JWKS, c.IDTokenKeyAlg, c.IDTokenEnc, c.SubjectType = boxSet("P-256"), "ECDH-ES", "A256GCM", SubjectPairwise
	})
	b.consent(t, c)
	q := b.fronted(t, c, "response_type", "code id_token")
	_, front := h.signedBox(t, q.Get("id_token"), "ECDH-ES", "A256GCM", "P-256")
	_, back := h.signedBox(t, h.exchangeCode(t, c, q.Get("code")).str("id_token"), "ECDH-ES", "A256GCM", "P-256")
	if front["sub"] == b.user.ID || front["sub"] != back["sub"] || front["iss"] != back["iss"] || front["sid"] != back["sid"] || front["c_hash"] != leftHalf(keys.ES256, q.Get("code")) {
		t.Errorf("got %v and %v", front, back)
	}
}

func FuzzResponseType(f *testing.F) {
	for _, seed := range append(legacyTypes, "code", "none", "token", "", " ", "code  token", "token id_token code", "code\ttoken") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := responseTypeOf(value)
		words, named := strings.Split(value, " "), strings.Split(got.name, " ")
		slices.Sort(words)
		slices.Sort(named)
		if ok && (!slices.Equal(words, named) || got.token && !got.code && !got.idToken) || !ok && got.front() {
			t.Errorf("%q is %+v, %v", value, got, ok)
		}
	})
}
