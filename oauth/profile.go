package oauth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

// Security profiles: how strictly the server deals with a client.
const (
	ProfileOAuth21    = "oauth2.1"              // the default
	ProfileOIDCBasic  = "oidc-basic"            // for apps whose library has no PKCE
	ProfileFAPI2      = "fapi2-security"        // for clients that move money or health data
	ProfileFAPI2Signs = "fapi2-message-signing" // … and must be able to prove later who asked for what
	ProfileMCP        = "mcp"                   // for AI agents and the programs that run them
)

// rules is what a profile demands. Zero values demand nothing.
type rules struct {
	name        string
	standard    string        // where the rules come from
	methods     []string      // how the client may prove who it is
	algs        []string      // of its assertions and of ID tokens, if they are signed by its or our RSA keys
	issuerAlone bool          // assertions name the issuer as their audience, as one string, and nobody beside
	noPKCE      bool          // a confidential client may send a nonce in place of a code challenge
	redirect    bool          // requests name their redirect URI
	pushed      bool          // requests are pushed
	signed      bool          // requests are signed
	resource    bool          // requests for more than the person's own claims name the API they are for (RFC 8707)
	bound       bool          // tokens are tied to a key or a certificate
	idTokenAlgs []string      // of ID tokens
	answers     []string      // response types the client may ask for
	grants      []string      // grant types the client may have
	tokenLife   time.Duration // of access tokens, at most
}

// asymmetric proofs never travel and cannot be read out of our database.
var asymmetric = []string{AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS}

// profiles is the one table of what each profile demands. Registration (validateProfile), every endpoint (Client.rules),
// `gatehouse conformance` and docs/profiles.md read it.
var profiles = []rules{
	{name: ProfileOAuth21, standard: "OAuth 2.1, RFC 9700", answers: []string{"code", "none"}},
	{name: ProfileOIDCBasic, standard: "OpenID Connect Core §3.1, RFC 9700 §2.1.1", noPKCE: true},
	{
		name: ProfileFAPI2, standard: "FAPI 2.0 Security Profile", methods: asymmetric, algs: assertionAlgsFAPI, issuerAlone: true,
		redirect: true, pushed: true, bound: true, answers: []string{"code"}, idTokenAlgs: []string{string(keys.ES256), string(keys.EdDSA)},
	},
	{
		name: ProfileFAPI2Signs, standard: "FAPI 2.0 Message Signing", methods: asymmetric, algs: assertionAlgsFAPI, issuerAlone: true,
		redirect: true, pushed: true, signed: true, bound: true, answers: []string{"code"}, idTokenAlgs: []string{string(keys.ES256), string(keys.EdDSA)},
	},
	{
		name: ProfileMCP, standard: "Model Context Protocol 2026-07-28, Authorization",
		redirect: true, resource: true, answers: []string{"code"}, grants: []string{GrantAuthorizationCode, GrantRefreshToken}, tokenLife: 15 * time.Minute,
	},
}

// rulesOf finds a profile, or nil.
func rulesOf(profile string) *rules {
	for i := range profiles {
		if profiles[i].name == profile {
			return &profiles[i]
		}
	}
	return nil
}

// profile is the one in force: without a name it follows from whether the client was excused from PKCE.
func (c Client) profile() string {
	switch {
	case c.Profile != "":
		return c.Profile
	case !c.RequirePKCE:
		return ProfileOIDCBasic
	}
	return ProfileOAuth21
}

// rules are those of the profile in force.
func (c Client) rules() *rules {
	if r := rulesOf(c.profile()); r != nil {
		return r
	}
	return &rules{name: c.Profile, methods: []string{}, answers: []string{}} // unknown: refused by Validate; nothing may pass
}

// miss is a rule that a client does not keep: the setting that breaks it, what is demanded, and the words of the cure.
type miss struct{ setting, demand, fix string }

// misses lists every rule of a profile that the client's registration breaks.
func (r *rules) misses(c Client) []miss {
	var all []miss
	check := func(broken bool, setting, demand, fix string) {
		if broken {
			all = append(all, miss{setting, demand, fix})
		}
	}
	lacks := func(list []string, value string) bool { return list != nil && !slices.Contains(list, value) }
	check(lacks(r.methods, c.AuthMethod), "token_endpoint_auth_method", "needs "+oneOf(r.methods), "--auth-method "+first(r.methods))
	check(!r.noPKCE && !c.RequirePKCE, "require_pkce", "excuses nobody from PKCE", "--require-pkce")
	check(r.bound && !c.DPoPBound && !c.CertificateBound, "dpop_bound_access_tokens", "ties tokens to a key (DPoP) or a certificate", "--dpop")
	check(lacks(r.idTokenAlgs, c.IDTokenAlg), "id_token_signed_response_alg", "needs "+oneOf(r.idTokenAlgs), "--id-token-alg "+first(r.idTokenAlgs))
	check(c.AnswerAlg != "" && lacks(r.idTokenAlgs, c.AnswerAlg), "authorization_signed_response_alg", "needs "+oneOf(r.idTokenAlgs), "--answer-alg "+first(r.idTokenAlgs))
	check(c.AuthMethod == AuthPrivateKeyJWT && c.AuthAlg != "" && lacks(r.algs, c.AuthAlg),
		"token_endpoint_auth_signing_alg", "needs "+oneOf(r.algs), "--auth-alg "+first(r.algs))
	for _, t := range c.ResponseTypes {
		check(lacks(r.answers, t), "response_types", "does not know "+t, "--response-type "+strings.Join(r.answers, " --response-type "))
	}
	for _, g := range c.GrantTypes {
		check(lacks(r.grants, g), "grant_types", "does not know "+g, "--grant-type "+strings.Join(r.grants, " --grant-type "))
	}
	check(r.tokenLife > 0 && c.AccessTokenTTL > r.tokenLife, "access_token_ttl", "lets access tokens live for "+r.tokenLife.String()+" at most", "--access-token-ttl "+r.tokenLife.String())
	return all
}

func oneOf(list []string) string { return strings.Join(list, ", ") }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (c Client) validateProfile() error {
	if rulesOf(c.profile()) == nil {
		return fmt.Errorf("security_profile %q: use %s", c.Profile, oneOf(Profiles()))
	}
	for _, m := range c.rules().misses(c) {
		return fmt.Errorf("%s: the profile %s %s", m.setting, c.profile(), m.demand)
	}
	return nil
}

// withProfile fills what a profile implies.
func (c Client) withProfile() Client {
	r := rulesOf(c.Profile)
	if r == nil {
		return c
	}
	if r.noPKCE && !c.Public() {
		c.RequirePKCE = false
	}
	c.DPoPBound = c.DPoPBound || r.bound && !c.CertificateBound
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = first(r.idTokenAlgs)
	}
	if c.AuthMethod == "" {
		c.AuthMethod = first(r.methods)
	}
	return c
}

// pushes reports whether the client's authorization requests must be pushed (RFC 9126 §6).
func (c Client) pushes() bool { return c.RequirePAR || c.rules().pushed }

// Profiles names the profiles a client may have.
func Profiles() []string {
	names := make([]string, 0, len(profiles))
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// ProfileTable is the table of rules as Markdown, for the documentation.
func ProfileTable() string {
	rows := []struct {
		rule string
		cell func(r *rules) string
	}{
		{"comes from", func(r *rules) string { return r.standard }},
		{"client authentication", func(r *rules) string { return orAny(r.methods) }},
		{"algorithms of client assertions", func(r *rules) string { return orAny(r.algs) }},
		{"audience of client assertions", func(r *rules) string {
			return choose(r.issuerAlone, "the issuer alone, as a string", "the issuer or the endpoint")
		}},
		{"PKCE with S256", func(r *rules) string { return choose(r.noPKCE, "excused by a nonce, if confidential", "always") }},
		{"`redirect_uri` in the request", func(r *rules) string { return choose(r.redirect, "always", "if several are registered") }},
		{"pushed requests (RFC 9126)", func(r *rules) string { return choose(r.pushed, "always", "if the client likes") }},
		{"signed requests (RFC 9101)", func(r *rules) string { return choose(r.signed, "always", "") }},
		{"signed answers (JARM)", func(*rules) string { return "if the client asks" }},
		{"signed introspection answers (RFC 9701)", func(*rules) string { return "if the API asks" }},
		{"`resource` in the request (RFC 8707)", func(r *rules) string { return choose(r.resource, "for scopes of APIs", "if the client likes") }},
		{"tokens tied to a key or certificate", func(r *rules) string { return choose(r.bound, "always", "if the client likes") }},
		{"algorithms of ID tokens", func(r *rules) string { return orAny(r.idTokenAlgs) }},
		{"response types", func(r *rules) string { return choose(r.answers == nil, "any that the server offers", oneOf(r.answers)) }},
		{"grant types", func(r *rules) string { return orAny(r.grants) }},
		{"access tokens live", func(r *rules) string {
			return choose(r.tokenLife > 0, "at most "+strings.TrimSuffix(r.tokenLife.String(), "0s"), "as the server's")
		}},
	}
	var b strings.Builder
	b.WriteString("| rule |")
	for _, p := range profiles {
		b.WriteString(" `" + p.name + "` |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(profiles)) + "\n")
	for _, row := range rows {
		b.WriteString("| " + row.rule + " |")
		for i := range profiles {
			b.WriteString(" " + row.cell(&profiles[i]) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func orAny(list []string) string {
	if list == nil {
		return "any"
	}
	return oneOf(list)
}

func choose(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}
