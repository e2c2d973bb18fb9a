// Package upstream signs people in elsewhere: it keeps the providers that may be asked and makes the trip to one and back.
// What it brings home says who somebody is there; who that is here is for identity and ui to decide.
package upstream

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Kinds of providers. All but GitHub speak OpenID Connect; Google and Microsoft have rules of their own about whose word an
// e-mail address is.
const (
	OIDC      = "oidc"
	Google    = "google"
	Microsoft = "microsoft"
	GitHub    = "github"
)

// Ways in which this server proves at a provider who it is.
const (
	AuthBasic = "client_secret_basic"
	AuthPost  = "client_secret_post"
	AuthNone  = "none"
)

// Who may get a new account by signing in at a provider.
const (
	SignUpFollow = "follow" // whoever may register here
	SignUpAlways = "always" // everybody it vouches for, also when nobody may register here: for a company's own
	SignUpNever  = "never"
)

// Provider is a server elsewhere at which people of this one may sign in.
type Provider struct {
	ID         string   `json:"id"`
	Kind       string   `json:"kind"`
	Name       string   `json:"name"` // on buttons
	Issuer     string   `json:"issuer"`
	ClientID   string   `json:"client_id"`
	AuthMethod string   `json:"token_endpoint_auth_method"`
	Scopes     []string `json:"scopes"`
	Tenants    []string `json:"tenants,omitempty"` // Microsoft's, by id; none: any that the issuer stands for

	Domains []string `json:"domains,omitempty"` // mail domains whose people are sent there
	Require bool     `json:"require,omitempty"` // … and cannot sign in by password here
	Hidden  bool     `json:"hidden,omitempty"`  // no button

	SignUp      string `json:"sign_up"`
	TrustEmail  bool   `json:"trust_email,omitempty"`   // an address it has verified counts as verified here
	LinkByEmail bool   `json:"link_by_email,omitempty"` // … and leads into the account that has it; within Domains only
	TrustAMR    bool   `json:"trust_amr,omitempty"`     // a second step there spares the one here
	TrustFresh  bool   `json:"trust_fresh,omitempty"`   // a return counts as a fresh proof without an auth_time that shows it
	KeepSession bool   `json:"keep_sessions,omitempty"` // sessions that came by it outlive it

	Claims  map[string]string `json:"claims,omitempty"`  // profile field → claim there, beside or in place of the usual ones; "" for none
	Refresh []string          `json:"refresh,omitempty"` // profile fields that are filled at each sign-in, not only at the first

	Disabled  bool      `json:"disabled,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// usualClaims fill a new profile unless Claims says otherwise.
var usualClaims = map[string]string{
	"email": "email", "name": "name", "given_name": "given_name", "family_name": "family_name", "nickname": "nickname",
	"locale": "locale", "zoneinfo": "zoneinfo",
}

// fields may be filled from claims.
var fields = []string{
	"email", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender",
	"birthdate", "zoneinfo", "locale", "phone_number",
}

// claimFor names the claim that fills a field, "" for none.
func (p Provider) claimFor(field string) string {
	if claim, ok := p.Claims[field]; ok {
		return claim
	}
	return usualClaims[field]
}

// WithDefaults fills what may be left out, by the provider's kind.
func (p Provider) WithDefaults() Provider {
	if p.Kind == "" {
		p.Kind = OIDC
	}
	if p.SignUp == "" {
		p.SignUp = SignUpFollow
	}
	if p.AuthMethod == "" {
		p.AuthMethod = AuthBasic
	}
	preset := map[string]struct{ name, issuer string }{
		Google:    {"Google", "https://accounts.google.com"},
		Microsoft: {"Microsoft", "https://login.microsoftonline.com/common/v2.0"},
		GitHub:    {"GitHub", "https://github.com"},
	}[p.Kind]
	if p.Name == "" {
		p.Name = preset.name
	}
	if p.Issuer == "" {
		p.Issuer = preset.issuer
	}
	if len(p.Scopes) == 0 {
		p.Scopes = []string{"openid", "email", "profile"}
		if p.Kind == GitHub {
			p.Scopes = []string{"read:user", "user:email"}
		}
	}
	for i, d := range p.Domains {
		if normal, ok := NormalDomain(d); ok {
			p.Domains[i] = normal
		}
	}
	return p
}

const (
	maxName = 60
	maxURL  = 1000
	maxList = 100
)

var (
	idPattern     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	tenantPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	claimPattern  = regexp.MustCompile(`^[!-~]{0,200}$`)
	scopePattern  = regexp.MustCompile(`^[!#-\[\]-~]{1,128}$`)
)

// Validate says in one sentence what is wrong and how to mend it.
func (p Provider) Validate() error {
	if !idPattern.MatchString(p.ID) {
		return fmt.Errorf("id %q: use a letter and then at most 31 of a-z 0-9 -; it stands in the redirect URI", p.ID)
	}
	if !slices.Contains([]string{OIDC, Google, Microsoft, GitHub}, p.Kind) {
		return fmt.Errorf("kind %q: use %s, %s, %s or %s", p.Kind, OIDC, Google, Microsoft, GitHub)
	}
	if p.Name == "" || strings.TrimSpace(p.Name) != p.Name || utf8.RuneCountInString(p.Name) > maxName || strings.ContainsFunc(p.Name, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r)
	}) {
		return fmt.Errorf("name: give 1 to %d printable characters; people see it on a button", maxName)
	}
	u, err := url.Parse(p.Issuer)
	if err != nil || len(p.Issuer) > maxURL || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("issuer %q: give the https URL that the provider's tokens name, without query and fragment", p.Issuer)
	}
	if p.ClientID == "" || len(p.ClientID) > maxURL || strings.ContainsFunc(p.ClientID, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return fmt.Errorf("client_id: give the id under which the provider knows this server")
	}
	if !slices.Contains([]string{AuthBasic, AuthPost, AuthNone}, p.AuthMethod) {
		return fmt.Errorf("token_endpoint_auth_method %q: use %s, %s or %s", p.AuthMethod, AuthBasic, AuthPost, AuthNone)
	}
	for _, s := range p.Scopes {
		if !scopePattern.MatchString(s) {
			return fmt.Errorf("scopes %q: use printable ASCII without space, quote and backslash", s)
		}
	}
	if p.Kind != GitHub && !slices.Contains(p.Scopes, "openid") {
		return fmt.Errorf("scopes: OpenID Connect needs openid among them")
	}
	for _, t := range p.Tenants {
		if !tenantPattern.MatchString(t) || p.Kind != Microsoft {
			return fmt.Errorf("tenants %q: give ids such as 00000000-0000-0000-0000-000000000000, and only for Microsoft", t)
		}
	}
	if len(p.Scopes) > maxList || len(p.Domains) > maxList || len(p.Tenants) > maxList || len(p.Claims) > maxList {
		return fmt.Errorf("scopes, domains, tenants and claims: at most %d of each", maxList)
	}
	return p.validatePolicy()
}

func (p Provider) validatePolicy() error {
	for _, d := range p.Domains {
		if normal, ok := NormalDomain(d); !ok || normal != d {
			return fmt.Errorf("domains %q: give a mail domain such as example.com", d)
		}
	}
	switch {
	case p.Require && len(p.Domains) == 0:
		return fmt.Errorf("require: name the domains whose people cannot sign in by password")
	case !slices.Contains([]string{SignUpFollow, SignUpAlways, SignUpNever}, p.SignUp):
		return fmt.Errorf("sign_up %q: use %s, %s or %s", p.SignUp, SignUpFollow, SignUpAlways, SignUpNever)
	case p.LinkByEmail && (!p.TrustEmail || len(p.Domains) == 0):
		return fmt.Errorf("link_by_email: whoever holds an address at the provider gets the account that has it here; so it needs trust_email, and the domains it is trusted for")
	}
	for field, claim := range p.Claims {
		if !slices.Contains(fields, field) || !claimPattern.MatchString(claim) {
			return fmt.Errorf("claims %s=%s: give FIELD=CLAIM, where the field is one of %s", field, claim, strings.Join(fields, ", "))
		}
	}
	for _, field := range p.Refresh {
		if field == "email" || !slices.Contains(fields, field) {
			return fmt.Errorf("refresh %q: give one of %s", field, strings.Join(fields[1:], ", "))
		}
	}
	return nil
}

// Vouches reports whether the provider's word about an address is taken: it must be trusted, and for this domain if it has domains.
func (p Provider) Vouches(email string) bool {
	return p.TrustEmail && (len(p.Domains) == 0 || slices.Contains(p.Domains, DomainOf(email)))
}

// manyTenants reports whether the issuer stands for more than one Microsoft tenant, and gives the issuer with a place for the
// tenant's id, as it stands in Microsoft's metadata.
func (p Provider) manyTenants() (template string, ok bool) {
	if p.Kind != Microsoft {
		return "", false
	}
	for _, name := range []string{"common", "organizations", "consumers"} {
		if before, after, found := strings.Cut(p.Issuer, "/"+name+"/"); found {
			return before + "/{tenantid}/" + after, true
		}
	}
	return "", false
}

// NormalDomain gives a mail domain in lower-case ASCII (IDNA).
func NormalDomain(s string) (string, bool) {
	s, err := idna.Lookup.ToASCII(strings.ToLower(strings.TrimSpace(s)))
	return s, err == nil && s != "" && len(s) <= 253 && strings.Contains(s, ".") && !strings.ContainsAny(s, " @/:") && s[len(s)-1] != '.'
}

// DomainOf gives the mail domain of an address, "" if there is none.
func DomainOf(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 || len(email) > 1000 {
		return ""
	}
	domain, ok := NormalDomain(email[at+1:])
	if !ok {
		return ""
	}
	return domain
}
