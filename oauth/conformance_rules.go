package oauth

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// serverRule is what a standard says of a server's settings.
type serverRule struct {
	standard, reference, rule string
	should                    bool
	claimed                   func(r Running) bool            // nil: always
	broken                    func(r Running) (reason string) // "": kept
	fix                       string
}

// clientRule is what a standard says of a client beside what its profile holds. Unless it is a must, a miss is advice.
type clientRule struct {
	standard, reference, rule string
	broken                    func(c Client) (reason string)
	fix                       string
	must                      bool
}

// Bounds that standards leave to judgement.
const (
	replayMost  = 5 * time.Minute // a refresh token that comes again is a thief's, later than this
	grantMost   = 366 * 24 * time.Hour
	widestProxy = 8 // bits
)

// currentPractice are the rules of RFC 9700 that a setting can break and no other list has.
var currentPractice = []serverRule{
	{
		standard: standardBCP, reference: "RFC 9700 §2.2.2, §4.14.2", rule: "A refresh token that comes again is noticed.",
		broken: func(r Running) string { return longer(r.ReplayWindow, replayMost) }, fix: "GATEHOUSE_REPLAY_WINDOW=30s",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §4.14.2", rule: "Refresh tokens end some day.", should: true,
		broken: func(r Running) string { return longer(r.GrantTTL, grantMost) }, fix: "GATEHOUSE_GRANT_TTL=180d",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.3, §4.10", rule: "Access tokens are short-lived, as nothing takes a signed one back at an API.", should: true,
		broken: func(r Running) string { return longer(r.AccessTokenTTL, 30*time.Minute) }, fix: "GATEHOUSE_ACCESS_TOKEN_TTL=10m",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §4.13", rule: "Only named machines may say where a request, or its certificate, comes from.",
		broken: func(r Running) string {
			for _, p := range r.TrustedProxies {
				if p.Bits() < widestProxy {
					return p.String() + " are very many"
				}
			}
			return ""
		}, fix: "GATEHOUSE_TRUSTED_PROXIES with the addresses of your proxies alone",
	},
	{
		standard: standardBCP, reference: "RFC 9700 §2.6, RFC 7523 §3", rule: "An assertion of another issuer counts once.", should: true,
		broken: func(r Running) string {
			for _, i := range r.Issuers {
				if i.Reusable && !i.Disabled {
					return "those of " + i.Issuer + " may come again while they live"
				}
			}
			return ""
		}, fix: "gatehouse issuer update ISSUER --no-reusable, unless a platform writes its tokens into a file",
	},
	{
		standard: standardBCP, reference: "RFC 9207 §2, RFC 8414 §3", rule: "The metadata say that answers name the issuer (mix-up).",
		broken: func(r Running) string { return unless(r.described().ResponseIssuer, "they do not") }, fix: "another release",
	},
}

// forMCP are the rules of MCP's authorization.
var forMCP = []serverRule{
	{
		standard: standardMCP, reference: "MCP Authorization, Server Metadata Discovery; RFC 8414, OpenID Connect Discovery",
		rule: "The metadata name the endpoints, and PKCE by S256, without which MCP clients go no further.",
		broken: func(r Running) string {
			m := r.described()
			return unless(m.Issuer == strings.TrimSuffix(r.Issuer, "/") && m.AuthorizationEndpoint != "" && m.TokenEndpoint != "" && slices.Contains(m.CodeChallengeMethods, "S256"), "they lack something")
		}, fix: "another release",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Client ID Metadata Documents", rule: "Clients may describe themselves by a document.", should: true,
		broken: func(r Running) string {
			return unless(r.described().ClientDocuments, "an https address is no client_id here")
		}, fix: "GATEHOUSE_CLIENT_DOCUMENTS=true",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Dynamic Client Registration; RFC 7591", rule: "Clients that know no documents may register themselves.", should: true,
		broken: func(r Running) string {
			return unless(r.described().RegistrationEndpoint != "", "registration is off: older clients must be registered one by one")
		}, fix: "GATEHOUSE_CLIENT_REGISTRATION=open, or token",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Resource Parameter; RFC 8707", rule: "The MCP servers are registered, by their https addresses, and open to clients that introduce themselves.",
		should: true,
		broken: func(r Running) string {
			if r.described().ClientDocuments || r.described().RegistrationEndpoint != "" {
				return unless(slices.ContainsFunc(r.APIs, func(a identity.API) bool { return a.Open && webURL(a.Identifier) }),
					"clients may introduce themselves, and there is nothing for them: no open API has an https address")
			}
			return ""
		}, fix: "gatehouse api create --identifier https://… --scope NAME=TEXT --open",
	},
	{
		standard: standardMCP, reference: "RFC 9728 §3.1", rule: "Each open API has an address at which its metadata can be found, and scopes to ask for.", should: true,
		broken: func(r Running) string {
			for _, a := range r.APIs {
				u, err := url.Parse(a.Identifier)
				switch {
				case !a.Open:
				case err != nil || !webURL(a.Identifier) || u.RawQuery != "" || u.Fragment != "":
					return a.Identifier + " is no https address without query"
				case len(a.Scopes) == 0:
					return a.Identifier + " has no scopes"
				}
			}
			return ""
		}, fix: "gatehouse api update IDENTIFIER --scope NAME=TEXT, or an API by the address of the server; gatehouse api metadata IDENTIFIER shows what it publishes",
	},
	{
		standard: standardMCP, reference: "MCP Authorization, Token Theft", rule: "Access tokens for open APIs are short-lived.", should: true,
		broken: func(r Running) string {
			for _, a := range r.APIs {
				if a.Open && a.TokenTTL > 15*time.Minute {
					return "those of " + a.Identifier + " live for " + a.TokenTTL.String()
				}
			}
			return ""
		}, fix: "gatehouse api update IDENTIFIER --token-ttl 10m",
	},
	{
		standard: standardMCP, reference: "draft-ietf-oauth-client-id-metadata-document §6.5", rule: "No stranger makes the server ask its own network.", should: true,
		broken: func(r Running) string {
			return unless(!r.Documents || len(r.OutboundNetworks) == 0, "addresses that strangers name may be in GATEHOUSE_OUTBOUND_NETWORKS")
		}, fix: "GATEHOUSE_OUTBOUND_NETWORKS empty, or as narrow as can be",
	},
}

// describedClients are the rules of RFC 9700 on clients that a setting can break and no other list has.
var describedClients = []clientRule{
	{
		standardBCP, "RFC 9700 §4.15", "A token of the client itself cannot be taken for a person's.",
		func(c Client) string {
			own := slices.Contains(c.GrantTypes, GrantClientCredentials) || slices.Contains(c.GrantTypes, GrantJWTBearer)
			return unless(!own || uuid.Validate(c.ID) != nil, "its id, which is the sub of its tokens, looks like that of a person")
		}, "register it anew under another id", true,
	},
	{
		standardBCP, "RFC 9700 §2.3", "An access token is for one API.",
		func(c Client) string {
			return unless(len(c.Audiences) < 2, "a token that is asked for without a resource is good at "+strings.Join(c.Audiences, " and "))
		}, "--audience of one API, or let the app name the resource in each request (RFC 8707)", false,
	},
	{
		standardBCP, "RFC 9700 §4.1.3, RFC 8252 §8.4", "Redirects of private-use schemes are those of apps without an https address.",
		func(c Client) string {
			for _, raw := range c.RedirectURIs {
				if u, err := url.Parse(raw); err == nil && u.Scheme != "https" && u.Scheme != "http" {
					return raw + " can be claimed by any app on the device"
				}
			}
			return ""
		}, "--redirect-uri https://…, an address that the app has claimed (App Links, Universal Links)", false,
	},
}

// described is what the server's metadata say under these settings.
func (r Running) described() (m metadata) {
	issuer, err := url.Parse(r.Issuer)
	if err != nil {
		return m
	}
	s := &Server{Config: Config{Site: web.NewSite(issuer), SelfRegistered: SelfRegistered{Documents: r.Documents, Registration: r.Registration}}}
	if d, err := s.buildMetadata(); err == nil {
		_ = json.Unmarshal(d.body, &m) // it was made two lines before
	}
	return m
}

// Reach is what a server lets in, or asks.
type Reach struct {
	Documents        bool   // an https address may be a client_id
	Registration     string // who may register clients
	ReplayWindow     time.Duration
	GrantTTL         time.Duration
	TrustedProxies   []netip.Prefix
	OutboundNetworks []netip.Prefix
	APIs             []identity.API
	Issuers          []Issuer
}

// signedMessages tells, for a client that must be able to prove what was said, what is demanded of it, what is an option, and what it has chosen. FAPI
// 2.0 Message Signing lets an ecosystem choose among its parts: the profile here demands signed requests; answers and introspection
// are signed when they are asked for.
func signedMessages(c Client) []Finding {
	f := func(reference, rule string) Finding {
		return Finding{Standard: standardFAPI, Reference: "FAPI 2.0 Message Signing " + reference, Rule: rule, ClientID: c.ID}
	}
	requests := "by any algorithm of the profile; --request-object-alg pins one"
	if c.RequestObjectAlg != "" {
		requests = "by " + c.RequestObjectAlg
	}
	answers := "by " + c.IDTokenAlg + ", the algorithm of its ID tokens; --answer-alg names another"
	if c.AnswerAlg != "" {
		answers = "by " + c.AnswerAlg
	}
	return []Finding{
		f("§5.3", "Requests are signed: demanded, "+requests+"."),
		f("§5.4", "Answers are signed (JARM): an option; with response_mode jwt, "+answers+"."),
		f("§5.5", "Introspection answers are signed: an option; for APIs that ask for token-introspection+jwt, by "+c.IDTokenAlg+"."),
	}
}
