package oauth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-id/gatehouse/keys"
)

// Running is what a server runs with, as far as standards have an opinion on it.
type Running struct {
	Issuer           string
	Loopback         bool // the issuer is on this machine
	PlainHTTP        bool // the server itself speaks HTTP, to other machines than this
	CodeTTL          time.Duration
	AccessTokenTTL   time.Duration
	PushedTTL        time.Duration
	KeyRotation      time.Duration
	RequireDPoPNonce bool
	LegacyTypes      bool // tokens may come with the redirect
	Certification    bool // the test profile, which takes protection away
	Keys             []keys.Key
	Clients          []Client
	Reach
	At time.Time
}

// Verdicts on a rule.
const (
	Met    = "met"
	Missed = "missed"
	Advice = "advice" // missed, but the standard says SHOULD, or nothing claims to keep it
)

// Finding is one rule of a standard, held against the server or one client.
type Finding struct {
	Standard  string `json:"standard"`
	Reference string `json:"reference"`
	Rule      string `json:"rule"`
	ClientID  string `json:"client_id,omitempty"` // "": the server
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason,omitempty"`
	Fix       string `json:"fix,omitempty"`
}

// Assessment is what Assess found out.
type Assessment struct {
	Issuer   string    `json:"iss"`
	At       int64     `json:"iat"`
	Met      int       `json:"met"`
	Missed   int       `json:"missed"`
	Advice   int       `json:"advice"`
	Findings []Finding `json:"findings"`
}

// The standards, as findings name them.
const (
	standardOAuth = "OAuth 2.1"
	standardBCP   = "RFC 9700"
	standardFAPI  = "FAPI 2.0"
	standardMCP   = "MCP"
)

// serverRules are what standards say of a server's settings. What no setting can change (PKCE by S256 alone, no access token without its ID token or code, exact redirect
// URIs, rotation, iss in answers) is the subject of tests, not of this list.
var serverRules = []serverRule{
	{
		standard: standardOAuth, reference: "draft-ietf-oauth-v2-1 §1.5", rule: "The issuer is an https address.",
		broken: func(r Running) string {
			return unless(strings.HasPrefix(r.Issuer, "https://"), r.Issuer+" is not https"+choose(r.Loopback, ", which is good for trying out only", ""))
		},
		fix: "GATEHOUSE_ISSUER=https://…, behind a proxy or with GATEHOUSE_TLS_CERT",
	},
	{
		standard: standardOAuth, reference: "draft-ietf-oauth-v2-1 §4.1.2", rule: "Authorization codes live for ten minutes at most.",
		broken: func(r Running) string { return longer(r.CodeTTL, 10*time.Minute) }, fix: "GATEHOUSE_CODE_TTL=60s",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.6", rule: "Traffic is encrypted to where it is read, also behind a proxy.", should: true,
		broken: func(r Running) string {
			return unless(!r.PlainHTTP, "the server listens to other machines and speaks plain HTTP")
		},
		fix: "GATEHOUSE_TLS_CERT and GATEHOUSE_TLS_KEY, or a network between proxy and server that nobody else reads",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.2.1", rule: "DPoP proofs cannot be made in advance.", should: true,
		broken: func(r Running) string { return unless(r.RequireDPoPNonce, "proofs need no nonce of the server") },
		fix:    "GATEHOUSE_REQUIRE_DPOP_NONCE=true, once all apps that use DPoP know nonces",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.1.2", rule: "No access token comes with the redirect.",
		claimed: anyClient(func(c Client) bool { return !c.Disabled && anyResponseType(c.ResponseTypes, holdsToken) }),
		broken: func(r Running) string {
			return unless(!r.LegacyTypes, "apps may be registered for tokens in the browser's address")
		},
		fix: "GATEHOUSE_LEGACY_RESPONSE_TYPES=false, once no app needs it",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.5", rule: "Signing keys change within a year.", should: true,
		broken: func(r Running) string { return longer(r.KeyRotation, 366*24*time.Hour) }, fix: "GATEHOUSE_KEY_ROTATION=90d",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §4", rule: "No protection is switched off for tests.",
		broken: func(r Running) string {
			return unless(!r.Certification, "the test profile is on: nothing limits guessing")
		}, fix: "GATEHOUSE_CERTIFICATION=off",
	},
	{
		standard: standardOAuth, reference: "RFC 9068 §2.1, RFC 8414 §2", rule: "A key of each algorithm signs, and none is used for longer than its time.",
		broken: brokenKeys, fix: "run the server, which makes and changes keys by itself; or gatehouse keys rotate",
	},
	{
		standard: standardFAPI, reference: "FAPI 2.0 §5.3.2.2", rule: "Authorization codes live for 60 seconds at most.", claimed: anyClient(isFAPI),
		broken: func(r Running) string { return longer(r.CodeTTL, time.Minute) }, fix: "GATEHOUSE_CODE_TTL=60s",
	},
	{
		standard: standardFAPI, reference: "FAPI 2.0 §5.3.2.2", rule: "Pushed requests live for less than 600 seconds.", claimed: anyClient(isFAPI),
		broken: func(r Running) string { return longer(r.PushedTTL, 600*time.Second-1) }, fix: "GATEHOUSE_PAR_TTL=90s",
	},
	{
		standard: standardFAPI, reference: "FAPI 2.0 §5.2.1", rule: "The issuer is an https address, on loopback too.", claimed: anyClient(isFAPI),
		broken: func(r Running) string {
			return unless(strings.HasPrefix(r.Issuer, "https://"), r.Issuer+" is not https")
		},
		fix: "GATEHOUSE_ISSUER=https://…",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Communication Security", rule: "The issuer is an https address, on loopback too.", claimed: anyClient(isMCP),
		broken: func(r Running) string {
			return unless(strings.HasPrefix(r.Issuer, "https://"), r.Issuer+" is not https")
		},
		fix: "GATEHOUSE_ISSUER=https://…",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Token Theft", rule: "Access tokens are short-lived.", should: true, claimed: anyClient(isMCP),
		broken: func(r Running) string { return longer(r.AccessTokenTTL, 15*time.Minute) }, fix: "GATEHOUSE_ACCESS_TOKEN_TTL=10m",
	},
}

// clientRules are what standards say of clients beside what a profile holds.
var clientRules = []clientRule{
	{
		standardBCP, "RFC 9700 §2.1.1", "PKCE is used.",
		func(c Client) string {
			return unless(!c.rules().noPKCE, "a nonce stands in for PKCE: only as good as the app's own check of it")
		}, "--profile oauth2.1 --require-pkce, once the app sends a code challenge", false,
	},
	{
		standardBCP, "RFC 9700 §2.1.2", "Tokens come from the token endpoint alone.",
		func(c Client) string {
			return unless(!anyResponseType(c.ResponseTypes, responseType.front), "it is registered for "+strings.Join(c.ResponseTypes, ", "))
		}, "--grant-type authorization_code --grant-type refresh_token, once the app uses codes", false,
	},
	{
		standardBCP, "RFC 9700 §2.5", "The client proves itself by a key of its own, not by a secret that travels.",
		func(c Client) string {
			return unless(c.Public() || slices.Contains(asymmetric, c.AuthMethod), "it authenticates by "+c.AuthMethod)
		}, "--auth-method private_key_jwt --jwks FILE", false,
	},
	{
		standardBCP, "RFC 9700 §2.2.1", "A stolen access token is of no use.",
		func(c Client) string {
			return unless(c.DPoPBound || c.CertificateBound, "its tokens are bearer tokens")
		},
		"--dpop, once the app sends DPoP proofs", false,
	},
	{
		standardBCP, "RFC 8252 §7.3", "Redirects on loopback name an address, not localhost.",
		func(c Client) string {
			for _, u := range c.RedirectURIs {
				if strings.HasPrefix(u, "http://localhost") {
					return u + " can be answered by whoever decides what localhost is"
				}
			}
			return ""
		}, "--redirect-uri http://127.0.0.1/…", false,
	},
}

func unless(ok bool, reason string) string { return choose(ok, "", reason) }

func longer(have, most time.Duration) string {
	return unless(have <= most, "it is "+have.String())
}

func anyClient(is func(c Client) bool) func(r Running) bool {
	return func(r Running) bool { return slices.ContainsFunc(r.Clients, is) }
}

func isFAPI(c Client) bool { return c.profile() == ProfileFAPI2 || c.profile() == ProfileFAPI2Signs }

func isMCP(c Client) bool { return c.profile() == ProfileMCP }

// brokenKeys looks for an algorithm without a key, and for a key that should have been followed by another: nobody keeps the keys.
func brokenKeys(r Running) string {
	for _, alg := range []keys.Alg{keys.RS256, keys.ES256, keys.EdDSA} {
		i := slices.IndexFunc(r.Keys, func(k keys.Key) bool { return k.Alg == alg && k.State == keys.Active })
		if i < 0 {
			return "no " + string(alg) + " key signs"
		}
		if over := r.At.Sub(r.Keys[i].ActiveAt) - r.KeyRotation; r.KeyRotation > 0 && over > 8*24*time.Hour {
			return fmt.Sprintf("the %s key has signed for %d days longer than it should", alg, int(over.Hours()/24))
		}
	}
	return ""
}

// Assess holds a running configuration against OAuth 2.1, RFC 9700, FAPI 2.0 and MCP: the server's settings and keys, and every client against
// its own profile and, as advice, against the others.
func Assess(r Running) Assessment {
	a := Assessment{Issuer: r.Issuer, At: r.At.Unix(), Findings: []Finding{}}
	add := func(f Finding, reason string, advice bool, fix string) {
		switch {
		case reason == "":
			f.Verdict = Met
			a.Met++
		case advice:
			f.Verdict, f.Reason, f.Fix = Advice, reason, fix
			a.Advice++
		default:
			f.Verdict, f.Reason, f.Fix = Missed, reason, fix
			a.Missed++
		}
		a.Findings = append(a.Findings, f)
	}
	for _, rule := range slices.Concat(serverRules, currentPractice, forMCP) {
		claimed := rule.claimed == nil || rule.claimed(r)
		add(Finding{Standard: rule.standard, Reference: rule.reference, Rule: rule.rule}, rule.broken(r), rule.should || !claimed, rule.fix)
	}
	for _, c := range r.Clients {
		if c.Disabled {
			continue
		}
		update := "gatehouse client update " + c.ID + " "
		if err := c.Validate(); err != nil && len(c.rules().misses(c)) == 0 { // registered by an older release, or by another hand
			add(Finding{Standard: standardOAuth, Reference: "registration", Rule: "The registration is one that this release would accept.", ClientID: c.ID}, err.Error(), false, update+"…")
		}
		for _, rule := range slices.Concat(clientRules, describedClients) {
			add(Finding{Standard: rule.standard, Reference: rule.reference, Rule: rule.rule, ClientID: c.ID}, rule.broken(c), !rule.must, update+rule.fix)
		}
		if c.rules().signed {
			for _, f := range signedMessages(c) {
				add(f, "", false, "")
			}
		}
		for i := range profiles {
			p := &profiles[i]
			own := p.name == c.profile()
			if !own && (p.name == ProfileOAuth21 || p.name == ProfileOIDCBasic) {
				continue // the others say more
			}
			f := Finding{Standard: p.standard, Reference: "profile " + p.name, Rule: "The client keeps the profile " + p.name + ".", ClientID: c.ID}
			misses := p.misses(c)
			if len(misses) == 0 {
				switch {
				case own:
					add(f, "", false, "")
				default:
					add(f, "it keeps its rules, but nothing holds it to them", true, update+"--profile "+p.name)
				}
				continue
			}
			for _, m := range misses {
				f.Rule = "The profile " + p.name + " " + m.demand + "."
				add(f, "its "+m.setting+" is another", !own, update+m.fix)
			}
		}
	}
	return a
}
