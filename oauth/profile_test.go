package oauth

import (
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
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
	notes := identity.API{Identifier: "https://notes.example.com/mcp", Resource: identity.Resource{Open: true, Scopes: []identity.APIScope{{Name: "read"}}}}
	good := func() Running {
		r := Running{
			Issuer: "https://id.example.com", CodeTTL: time.Minute, AccessTokenTTL: 10 * time.Minute, PushedTTL: 90 * time.Second,
			KeyRotation: 90 * 24 * time.Hour, RequireDPoPNonce: true, At: now,
			Reach: Reach{
				Documents: true, Registration: RegistrationOpen, ReplayWindow: 30 * time.Second, GrantTTL: 180 * 24 * time.Hour,
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, APIs: []identity.API{notes},
			},
		}
		for _, alg := range []keys.Alg{keys.RS256, keys.ES256, keys.EdDSA} {
			r.Keys = append(r.Keys, keys.Key{Alg: alg, State: keys.Active, ActiveAt: now.Add(-24 * time.Hour)})
		}
		return r
	}
	fapi := Client{ID: "bank", Name: "Bank", RedirectURIs: []string{testRedirect}, RequirePKCE: true, Credentials: Credentials{Profile: ProfileFAPI2}}
	byKeys(keySetOf("", "ES256"))(&fapi)
	fapi = fapi.WithDefaults()
	service := Client{ID: "0199f6f0-0000-7000-8000-000000000000", Name: "Service", GrantTypes: []string{GrantClientCredentials}, RequirePKCE: true}.WithDefaults()
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
		"refresh tokens that may come again":   {func(r *Running) { r.ReplayWindow = time.Hour }, "A refresh token that comes again is noticed."},
		"half the world is our proxy":          {func(r *Running) { r.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1")} }, "Only named machines may say where a request, or its certificate, comes from."},
		"service under the id of a person":     {func(r *Running) { r.Clients = []Client{service} }, "A token of the client itself cannot be taken for a person's."},
		"MCP client, and no way in for others": {func(r *Running) { r.Documents, r.Registration = false, RegistrationOff }, ""},
		"test profile":                         {func(r *Running) { r.Certification = true }, "No protection is switched off for tests."},
		"disabled client":                      {func(r *Running) { c := fapi; c.DPoPBound, c.Disabled = false, true; r.Clients = []Client{c} }, ""},
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
	for name, try := range map[string]struct {
		edit   func(r *Running)
		advice string
	}{
		"no documents":          {func(r *Running) { r.Documents = false }, "Clients may describe themselves by a document."},
		"no registration":       {func(r *Running) { r.Registration = RegistrationOff }, "Clients that know no documents may register themselves."},
		"nothing for strangers": {func(r *Running) { r.APIs = nil }, "The MCP servers are registered, by their https addresses, and open to clients that introduce themselves."},
		"API that is a name": {func(r *Running) {
			r.APIs = append(r.APIs, identity.API{Identifier: "urn:notes", Resource: notes.Resource})
		}, "Each open API has an address at which its metadata can be found, and scopes to ask for."},
		"API without scopes":         {func(r *Running) { r.APIs[0].Scopes = nil }, "Each open API has an address at which its metadata can be found, and scopes to ask for."},
		"API with long-lived tokens": {func(r *Running) { r.APIs[0].TokenTTL = time.Hour }, "Access tokens for open APIs are short-lived."},
		"our own network":            {func(r *Running) { r.OutboundNetworks = r.TrustedProxies }, "No stranger makes the server ask its own network."},
		"reusable assertions":        {func(r *Running) { r.Issuers = []Issuer{{Issuer: machines, Reusable: true}} }, "An assertion of another issuer counts once."},
		"grants without end":         {func(r *Running) { r.GrantTTL = 10 * 366 * 24 * time.Hour }, "Refresh tokens end some day."},
		"tokens of an hour":          {func(r *Running) { r.AccessTokenTTL = time.Hour }, "Access tokens are short-lived, as nothing takes a signed one back at an API."},
	} {
		r := good()
		try.edit(&r)
		if a := Assess(r); a.Missed != 0 || !slices.ContainsFunc(a.Findings, func(f Finding) bool {
			return f.Rule == try.advice && f.Verdict == Advice && f.Reason != "" && f.Fix != ""
		}) {
			t.Errorf("%s: want the advice %q, got %+v", name, try.advice, a)
		}
	}
	// What message signing demands, and what the client chose.
	signs := fapi
	signs.Profile, signs.AnswerAlg = ProfileFAPI2Signs, "ES256"
	r := good()
	r.Clients = []Client{signs}
	var said []string
	for _, f := range Assess(r).Findings {
		if strings.HasPrefix(f.Reference, "FAPI 2.0 Message Signing §") {
			said = append(said, f.Verdict+" "+f.Rule)
		}
	}
	if len(said) != 3 || !strings.Contains(said[0], "demanded") || !strings.Contains(said[1], "an option") || !strings.Contains(said[1], "by ES256.") || !strings.Contains(said[2], "an option") {
		t.Errorf("message signing: %q", said)
	}
	// A plain client learns what it would take to keep the others.
	r = good()
	r.Clients = []Client{plain}
	if !slices.ContainsFunc(Assess(r).Findings, func(f Finding) bool {
		return f.ClientID == "plain" && f.Verdict == Advice && f.Reference == "profile fapi2-security" && f.Fix == "gatehouse client update plain --auth-method private_key_jwt"
	}) {
		t.Errorf("no advice on FAPI: %+v", Assess(r).Findings)
	}
}
