package oauth

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-id/gatehouse/keys"
)

// Grant types a client may be registered for.
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

// grantTypes are all that the token endpoint knows.
var grantTypes = []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials, GrantDeviceCode, GrantCIBA, GrantTokenExchange, GrantJWTBearer}

// ofPerson reports whether any of a client's grant types brings it a person.
func ofPerson(types []string) bool {
	return refreshable(types) || slices.Contains(types, GrantImplicit)
}

// refreshable reports whether any of them can bring it a refresh token.
func refreshable(types []string) bool {
	return slices.Contains(types, GrantAuthorizationCode) || slices.Contains(types, GrantDeviceCode) || slices.Contains(types, GrantCIBA)
}

// Client is a registered app. The JSON names are those of RFC 7591 where it has one.
type Client struct {
	ID            string   `json:"client_id"`
	Name          string   `json:"client_name"`
	Owner         string   `json:"owner,omitempty"` // who runs it, in plain words for the consent page
	RedirectURIs  []string `json:"redirect_uris,omitempty"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types,omitempty"`
	Scopes        []string `json:"scopes,omitempty"` // the most it may ask for
	Audiences     []string `json:"audiences,omitempty"`
	AuthMethod    string   `json:"token_endpoint_auth_method"`
	Credentials
	IDTokenAlg       string   `json:"id_token_signed_response_alg,omitempty"`
	FirstParty       bool     `json:"first_party,omitempty"` // the operator's own: no consent page
	RequirePKCE      bool     `json:"require_pkce"`          // false excuses a confidential client that sends a nonce
	ClientURI        string   `json:"client_uri,omitempty"`
	LogoURI          string   `json:"logo_uri,omitempty"`
	PolicyURI        string   `json:"policy_uri,omitempty"`
	TOSURI           string   `json:"tos_uri,omitempty"`
	Contacts         []string `json:"contacts,omitempty"`
	InitiateLoginURI string   `json:"initiate_login_uri,omitempty"` // page of the app that begins a sign-in (OpenID Connect Core §4)
	SignInWishes

	AccessTokenTTL time.Duration `json:"access_token_ttl,omitempty"` // 0: the server's
	Disabled       bool          `json:"disabled,omitempty"`
	Origin         string        `json:"origin,omitempty"` // "": an operator registered it; see OriginDocument
	CreatedAt      time.Time     `json:"created_at"`
	UpdatedAt      time.Time     `json:"updated_at"`

	LogoutAddresses
	AccessRules
	Messages
	Encryption
	Backchannel
	Software

	Policy RegistrationPolicy `json:"registration_policy,omitzero"` // of a client that registered itself with an initial access token

	// DetailsTypes are the types of authorization_details the client may ask for (RFC 9396 §10).
	DetailsTypes []string `json:"authorization_details_types,omitempty"`

	// Impersonates lets an operator's client exchange tokens without a trace of itself in the new ones.
	Impersonates bool `json:"impersonates,omitempty"`

	// ExchangeFrom are the clients whose tokens it may exchange; none: those of any.
	ExchangeFrom []string `json:"exchange_from,omitempty"`

	// OpenAPIs lets a client ask for any API that is open to clients that registered themselves.
	OpenAPIs bool `json:"open_apis,omitempty"`

	Agent bool `json:"agent,omitempty"` // acts for people without them: they are shown it apart, and may bound it

	// What an operator, and nobody else, allows a client: to receive security events about the people who use it, and to end every session
	// of a person.
	SecurityEvents bool `json:"security_events,omitempty"`
	RevokesPeople  bool `json:"global_token_revocation,omitempty"`
}

// WithDefaults fills what may be left out: a code client with Basic authentication, PKCE, and the standard scopes.
func (c Client) WithDefaults() Client {
	c = c.withProfile()
	if c.AuthMethod == "" {
		c.AuthMethod = AuthBasic
	}
	c = c.withResponseTypes()
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = string(keys.RS256) // OpenID Connect Core §2
	}
	if len(c.Scopes) == 0 && ofPerson(c.GrantTypes) {
		c.Scopes = slices.Clone(standardScopes)
	}
	if c.DeliveryMode == "" && slices.Contains(c.GrantTypes, GrantCIBA) {
		c.DeliveryMode = DeliveryPoll
	}
	return c
}

const (
	maxNameLength = 100
	maxURILength  = 2048
	maxListLength = 50
)

// Validate says in one sentence what is wrong and how to mend it.
func (c Client) Validate() error {
	if !validID(c.ID) && (c.Origin != OriginDocument || !validDocumentURL(c.ID)) {
		return fmt.Errorf("client_id %q: use 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -", c.ID)
	}
	if name := strings.TrimSpace(c.Name); name == "" || name != c.Name || utf8.RuneCountInString(name) > maxNameLength || !printable(name) {
		return fmt.Errorf("client_name: give a name of 1 to %d printable characters; people see it on the consent page", maxNameLength)
	}
	if !printable(c.Owner) || utf8.RuneCountInString(c.Owner) > maxNameLength {
		return fmt.Errorf("owner: at most %d printable characters", maxNameLength)
	}
	if err := c.validateCredentials(); err != nil {
		return err
	}
	if err := c.validateGrants(); err != nil {
		return err
	}
	if len(c.DetailsTypes) > maxListLength {
		return fmt.Errorf("authorization_details_types: at most %d", maxListLength)
	}
	if err := c.validateExchange(); err != nil {
		return err
	}
	if err := c.validateBearer(); err != nil {
		return err
	}
	if err := validateScopes(c.Scopes); err != nil {
		return err
	}
	if len(c.RedirectURIs) > maxListLength {
		return fmt.Errorf("redirect_uris: at most %d", maxListLength)
	}
	for _, u := range c.RedirectURIs {
		if err := validateRedirectURI(u); err != nil {
			return err
		}
	}
	switch keys.Alg(c.IDTokenAlg) {
	case keys.RS256, keys.ES256, keys.EdDSA:
	default:
		return fmt.Errorf("id_token_signed_response_alg %q: use RS256, ES256 or EdDSA", c.IDTokenAlg)
	}
	for name, u := range map[string]string{"client_uri": c.ClientURI, "logo_uri": c.LogoURI, "policy_uri": c.PolicyURI, "tos_uri": c.TOSURI} {
		if u != "" && !webURL(u) {
			return fmt.Errorf("%s %q: give an https URL (http only on loopback)", name, u)
		}
	}
	for _, a := range c.Audiences {
		if u, err := url.Parse(a); !validID(a) && (err != nil || !u.IsAbs() || u.Fragment != "" || len(a) > maxURILength) {
			return fmt.Errorf("audiences %q: give the client_id of an API or an absolute URI without fragment (RFC 8707 §2)", a)
		}
	}
	if err := c.LogoutAddresses.validate(c.RedirectURIs); err != nil {
		return err
	}
	if err := c.AccessRules.validate(); err != nil {
		return err
	}
	if err := c.validateMessages(); err != nil {
		return err
	}
	if err := c.validateEncryption(); err != nil {
		return err
	}
	if err := c.Software.validate(); err != nil {
		return err
	}
	if err := c.validateBackchannel(); err != nil {
		return err
	}
	if err := c.SignInWishes.validate(); err != nil {
		return err
	}
	if c.AccessTokenTTL < 0 || c.AccessTokenTTL > MaxAccessTokenTTL {
		return fmt.Errorf("access_token_ttl: between 0 (the server's) and 1h")
	}
	return nil
}

func (c Client) validateGrants() error {
	for _, g := range c.GrantTypes {
		if all := append(slices.Clone(grantTypes), GrantImplicit); !slices.Contains(all, g) {
			return fmt.Errorf("grant_types %q: use one of %s", g, strings.Join(all, ", "))
		}
	}
	if err := c.validateResponseTypes(); err != nil {
		return err
	}
	switch {
	case !refreshable(c.GrantTypes) && slices.Contains(c.GrantTypes, GrantRefreshToken):
		return fmt.Errorf("grant_types: %s is of use only with %s, %s or %s", GrantRefreshToken, GrantAuthorizationCode, GrantDeviceCode, GrantCIBA)
	case c.Public() && slices.Contains(c.GrantTypes, GrantClientCredentials):
		return fmt.Errorf("grant_types: %s needs a client that can prove who it is (RFC 6749 §4.4)", GrantClientCredentials)
	case c.Public() && !c.RequirePKCE:
		return fmt.Errorf("require_pkce: a client without a secret cannot be excused from PKCE (RFC 9700 §2.1.1)")
	case len(c.GrantTypes) == 0:
		return fmt.Errorf("grant_types: give at least one")
	}
	return nil
}

// validateScopes wants RFC 6749 §3.3 tokens, none twice and none that differ from another only by case: fosite compares
// scopes without regard to case in places.
func validateScopes(scopes []string) error {
	seen := map[string]bool{}
	for _, s := range scopes {
		if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == '"' || r == '\\' }) {
			return fmt.Errorf("scope %q: use printable ASCII without space, quote and backslash (RFC 6749 §3.3)", s)
		}
		folded := strings.ToLower(s)
		if seen[folded] || (folded != s && personScope(folded)) {
			return fmt.Errorf("scope %q: stands twice, or differs from another scope only by case", s)
		}
		seen[folded] = true
	}
	if len(scopes) > maxListLength {
		return fmt.Errorf("scope: at most %d", maxListLength)
	}
	return nil
}

// validateRedirectURI allows https; http on loopback (RFC 8252 §7.3); and private-use schemes in reverse-domain form
// (RFC 8252 §7.1). A list that allows leaves no way for javascript: or data:.
func validateRedirectURI(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || !u.IsAbs() || len(raw) > maxURILength || !printable(raw) || strings.ContainsAny(raw, " \\*"):
		return fmt.Errorf("redirect_uri %q: give an absolute URI without wildcards", raw)
	case strings.Contains(raw, "#"):
		return fmt.Errorf("redirect_uri %q: must not have a fragment (RFC 6749 §3.1.2)", raw)
	case u.User != nil:
		return fmt.Errorf("redirect_uri %q: must not hold a user name", raw)
	case slices.ContainsFunc(responseParameters, u.Query().Has):
		return fmt.Errorf("redirect_uri %q: must not hold a parameter that the answer adds (%s)", raw, strings.Join(responseParameters, ", "))
	case hasDotSegment(u.Path):
		return fmt.Errorf("redirect_uri %q: must not have . or .. in its path", raw)
	case u.Scheme == "https" && u.Hostname() != "":
		return nil
	case u.Scheme == "http" && loopbackHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("redirect_uri %q: http is for loopback only, use https", raw)
	case strings.Contains(u.Scheme, "."), slices.Contains(knownSchemes, u.Scheme):
		return nil
	}
	return fmt.Errorf("redirect_uri %q: use https, http on loopback, or a private-use scheme such as com.example.app (RFC 8252 §7.1)", raw)
}

// knownSchemes are those of programs that many people use and whose makers chose no reverse domain (RFC 8252 §7.1 wants one).
var knownSchemes = []string{"cursor"}

// responseParameters may not stand in a registered query: the app could not tell them from the server's.
var responseParameters = []string{"code", "state", "iss", "error", "error_description", "response", "access_token", "id_token", "session_state"}

func hasDotSegment(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool {
		return s == "." || s == ".." || strings.HasPrefix(s, "..;")
	})
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func webURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && len(raw) <= maxURILength && printable(raw) && u.User == nil && u.Hostname() != "" &&
		(u.Scheme == "https" || (u.Scheme == "http" && loopbackHost(u.Hostname())))
}

func validID(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._~-", r))
	})
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// matchRedirect finds whether a requested redirect URI is registered: exact string comparison (RFC 9700 §2.1), except
// that a loopback IP literal may carry any port (RFC 8252 §7.3).
func matchRedirect(registered []string, requested string) bool {
	if slices.Contains(registered, requested) {
		return true
	}
	want, port, ok := loopbackWithoutPort(requested)
	if !ok || port == "" {
		return false
	}
	return slices.ContainsFunc(registered, func(r string) bool {
		have, _, ok := loopbackWithoutPort(r)
		return ok && have == want
	})
}

// matchLocalhost is the rule of matchRedirect for http://localhost: programs write it into the documents they publish, where no port can
// stand. Whose it is nobody knows, and so the person is asked each time, as for all of loopback.
func matchLocalhost(c *registration, requested string) bool {
	const name, literal = "http://localhost", "http://127.0.0.1"
	after, ok := strings.CutPrefix(requested, name)
	if c.Origin != OriginDocument || !c.Public() || !ok || !(strings.HasPrefix(after, ":") || strings.HasPrefix(after, "/")) {
		return false
	}
	var registered []string
	for _, r := range c.RedirectURIs {
		if rest, ok := strings.CutPrefix(r, name); ok && (rest == "" || strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "/")) {
			registered = append(registered, literal+rest)
		}
	}
	return matchRedirect(registered, literal+after)
}

// loopbackWithoutPort cuts the port out of http://127.0.0.1:PORT/… and http://[::1]:PORT/…, as text, so that
// everything else is still compared byte by byte.
func loopbackWithoutPort(raw string) (rest, port string, ok bool) {
	after, ok := strings.CutPrefix(raw, "http://")
	if !ok {
		return "", "", false
	}
	authority, path := after, ""
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		authority, path = after[:i], after[i:]
	}
	var host string
	if h, p, err := net.SplitHostPort(authority); err == nil {
		if p == "" || len(p) > 5 || strings.ContainsFunc(p, func(r rune) bool { return r < '0' || r > '9' }) {
			return "", "", false
		}
		host, port = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
	}
	if host != "127.0.0.1" && host != "::1" {
		return "", "", false
	}
	return host + path, port, true
}
