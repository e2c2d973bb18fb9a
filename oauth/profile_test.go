package oauth

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

func TestDocsShowTheProfilesAsTheyAre(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), ProfileTable()) {
		t.Errorf("docs/profiles.md lacks the table of rules as it is:\n%s", ProfileTable())
	}
}

func TestEachProfileRefusesWhatBreaksItsRules(t *testing.T) {
	t.Parallel()
	asKeyHolder := byKeys(keySetOf("", "ES256"))
	for _, p := range profiles {
		keep := func(c *Client) { c.Profile = p.name }
		if p.methods != nil {
			keep = func(c *Client) { asKeyHolder(c); c.Profile = p.name }
		}
		try := func(edit func(c *Client)) error {
			c := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true}
			keep(&c)
			c = c.WithDefaults()
			edit(&c)
			return c.Validate()
		}
		if err := try(func(*Client) {}); err != nil {
			t.Errorf("%s: a client with its defaults: %v", p.name, err)
		}
		for name, attack := range map[string]struct {
			forbidden bool
			edit      func(c *Client)
		}{
			"secret":                  {p.methods != nil, func(c *Client) { c.AuthMethod, c.JWKS = AuthBasic, nil }},
			"no PKCE":                 {!p.noPKCE, func(c *Client) { c.RequirePKCE = false }},
			"bearer tokens":           {p.bound, func(c *Client) { c.DPoPBound = false }},
			"RS256 ID tokens":         {p.idTokenAlgs != nil, func(c *Client) { c.IDTokenAlg = "RS256" }},
			"RS256 assertions":        {p.algs != nil, func(c *Client) { byKeys(keySetOf("", "RS256"))(c); c.AuthAlg = "RS256" }},
			"tokens without a person": {p.grants != nil, func(c *Client) { asKeyHolder(c); c.GrantTypes = append(c.GrantTypes, GrantClientCredentials) }},
			"long-lived tokens":       {p.tokenLife > 0, func(c *Client) { c.AccessTokenTTL = time.Hour }},
		} {
			if err := try(attack.edit); (err != nil) != attack.forbidden {
				t.Errorf("%s, %s: got %v, want refused: %v", p.name, name, err, attack.forbidden)
			}
		}
	}
}

func TestNonceInPlaceOfPKCEOnlyUnderOIDCBasic(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, profile := range []string{"", ProfileOAuth21, ProfileOIDCBasic, ProfileMCP} {
			c := h.client(t, func(c *Client) {
				c.Profile, c.GrantTypes = profile, []string{GrantAuthorizationCode}
			})
			b.consent(t, c)
			q := b.authorize(t, h, c.params("code_challenge", "", "code_challenge_method", ""))
			if excused := q.Get("code") != ""; excused != (profile == ProfileOIDCBasic) {
				t.Errorf("%q: got %v", profile, q)
			}
		}
		basic := h.client(t, func(c *Client) { c.Profile = ProfileOIDCBasic })
		b.consent(t, basic)
		if q := b.authorize(t, h, basic.params("code_challenge", "", "code_challenge_method", "", "nonce", "")); q.Get("error") != "invalid_request" {
			t.Errorf("neither PKCE nor nonce: got %v", q)
		}
	})
}

func TestUnsignedRequestOfAClientThatSigns(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) {
			byKeys(keySetOf("k", "PS256"))(c)
			c.Profile = ProfileFAPI2Signs
		})
		b.consent(t, c)
		if q := b.authorize(t, h, c.params()); q.Get("error") != "invalid_request" {
			t.Errorf("neither pushed nor signed: got %v", q)
		}
		form := c.params()
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", sign(t, "PS256", testKeys()["PS256"], map[string]any{"kid": "k"}, h.assertionFor(c, nil)))
		wantError(t, h.post(t, "/par", registered{}, form), http.StatusBadRequest, "invalid_request")
	})
}

func TestAgentThatNamesNoAPIGetsNoTokenForAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, agentClient)
		b.consent(t, c)
		if q := b.authorize(t, h, c.params("scope", "openid read")); q.Get("error") != "invalid_target" {
			t.Errorf("got %v", q)
		}
		if q := b.authorize(t, h, c.params()); q.Get("code") == "" {
			t.Errorf("for the person's own claims: got %v", q)
		}
	})
}

func TestTokensOfAgentsAreShortLived(t *testing.T) {
	t.Parallel()
	c := registration{Client: Client{Credentials: Credentials{Profile: ProfileMCP}}}
	if got := c.GetEffectiveLifespan("", "access_token", time.Hour); got != 15*time.Minute {
		t.Errorf("got %s, want 15m", got)
	}
	if got := c.GetEffectiveLifespan("", "access_token", 5*time.Minute); got != 5*time.Minute {
		t.Errorf("got %s, want 5m", got)
	}
}

func TestAssess(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	good := func() Running {
		r := Running{
			Issuer: "https://id.example.com", CodeTTL: time.Minute, AccessTokenTTL: 10 * time.Minute, PushedTTL: 90 * time.Second,
			KeyRotation: 90 * 24 * time.Hour, RequireDPoPNonce: true, At: now,
		}
		for _, alg := range []keys.Alg{keys.RS256, keys.ES256, keys.EdDSA} {
			r.Keys = append(r.Keys, keys.Key{Alg: alg, State: keys.Active, ActiveAt: now.Add(-24 * time.Hour)})
		}
		return r
	}
	fapi := Client{ID: "bank", Name: "Bank", RedirectURIs: []string{testRedirect}, RequirePKCE: true, Credentials: Credentials{Profile: ProfileFAPI2}}
	byKeys(keySetOf("", "ES256"))(&fapi)
	fapi = fapi.WithDefaults()
	plain := Client{ID: "plain", Name: "Plain", RedirectURIs: []string{testRedirect}, RequirePKCE: true}.WithDefaults()

	if a := Assess(good()); a.Missed != 0 || a.Advice != 0 || a.Met == 0 || a.Issuer != "https://id.example.com" {
		t.Errorf("a good server: got %+v", a)
	}
	for name, try := range map[string]struct {
		edit   func(r *Running)
		missed string // the rule; "" for none
	}{
		"FAPI client":                   {func(r *Running) { r.Clients = []Client{fapi} }, ""},
		"plain client":                  {func(r *Running) { r.Clients = []Client{plain} }, ""},
		"http":                          {func(r *Running) { r.Issuer = "http://127.0.0.1:8080" }, "The issuer is an https address."},
		"long codes":                    {func(r *Running) { r.CodeTTL = 2 * time.Minute }, ""},
		"long codes with a FAPI client": {func(r *Running) { r.CodeTTL, r.Clients = 2*time.Minute, []Client{fapi} }, "Authorization codes live for 60 seconds at most."},
		"long pushed requests, FAPI":    {func(r *Running) { r.PushedTTL, r.Clients = 10*time.Minute, []Client{fapi} }, "Pushed requests live for less than 600 seconds."},
		"no key":                        {func(r *Running) { r.Keys = r.Keys[:2] }, "A key of each algorithm signs, and none is used for longer than its time."},
		"forgotten key":                 {func(r *Running) { r.At = now.Add(120 * 24 * time.Hour) }, "A key of each algorithm signs, and none is used for longer than its time."},
		"row changed behind our back":   {func(r *Running) { c := fapi; c.DPoPBound = false; r.Clients = []Client{c} }, "The profile fapi2-security ties tokens to a key (DPoP) or a certificate."},
		"registration of an older server": {func(r *Running) {
			c := plain
			c.RedirectURIs = []string{"http://app.example/"}
			r.Clients = []Client{c}
		}, "The registration is one that this release would accept."},
		"test profile":    {func(r *Running) { r.Certification = true }, "No protection is switched off for tests."},
		"disabled client": {func(r *Running) { c := fapi; c.DPoPBound, c.Disabled = false, true; r.Clients = []Client{c} }, ""},
	} {
		r := good()
		try.edit(&r)
		a := Assess(r)
		var missed []string
		for _, f := range a.Findings {
			if f.Verdict == Missed {
				missed = append(missed, f.Rule)
				if f.Reason == "" || f.Fix == "" || f.Reference == "" {
					t.Errorf("%s: without reason or fix: %+v", name, f)
				}
			}
		}
		want := []string{}
		if try.missed != "" {
			want = append(want, try.missed)
		}
		if !slices.Equal(missed, want) || a.Missed != len(want) {
			t.Errorf("%s: missed %q, want %q", name, missed, want)
		}
	}
	// A plain client learns what it would take to keep the others.
	r := good()
	r.Clients = []Client{plain}
	if !slices.ContainsFunc(Assess(r).Findings, func(f Finding) bool {
		return f.ClientID == "plain" && f.Verdict == Advice && f.Reference == "profile fapi2-security" && f.Fix == "gatehouse client update plain --auth-method private_key_jwt"
	}) {
		t.Errorf("no advice on FAPI: %+v", Assess(r).Findings)
	}
}
