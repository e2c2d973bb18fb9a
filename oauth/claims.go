package oauth

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-id/gatehouse/identity"
)

// claims is the claims parameter of an authorization request (OpenID Connect Core §5.5).
type claims struct {
	Userinfo map[string]*claimRequest `json:"userinfo,omitempty"`
	IDToken  map[string]*claimRequest `json:"id_token,omitempty"`
}

// claimRequest says how one claim is wanted; nil means "by default".
type claimRequest struct {
	Essential bool  `json:"essential,omitempty"`
	Value     any   `json:"value,omitempty"`
	Values    []any `json:"values,omitempty"`
}

const (
	maxClaimsLength = 4096 // bytes of the parameter
	maxClaims       = 40
)

var errClaims = errors.New("the claims parameter is not valid")

// parseClaims reads the parameter. Members and claims that are not known are left out, as the specification asks; what
// is not JSON of the right shape is an error.
func parseClaims(raw string) (*claims, error) {
	if raw == "" {
		return nil, nil //nolint:nilnil // absent is a value here
	}
	if len(raw) > maxClaimsLength || raw[0] != '{' {
		return nil, errClaims
	}
	c := &claims{}
	if err := json.Unmarshal([]byte(raw), c); err != nil || len(c.Userinfo)+len(c.IDToken) > maxClaims {
		return nil, errClaims
	}
	for name := range c.Userinfo {
		if _, ok := claimScope[name]; !ok {
			delete(c.Userinfo, name)
		}
	}
	for name := range c.IDToken {
		if _, ok := claimScope[name]; !ok && name != "acr" && name != "sub" && name != "auth_time" {
			delete(c.IDToken, name)
		}
	}
	if len(c.Userinfo)+len(c.IDToken) == 0 {
		return nil, nil //nolint:nilnil // nothing of it is known
	}
	return c, nil
}

// drop takes out the single claims of some scopes.
func (c *claims) drop(scope func(scope string) bool) {
	if c == nil {
		return
	}
	for _, asked := range []map[string]*claimRequest{c.Userinfo, c.IDToken} {
		maps.DeleteFunc(asked, func(name string, _ *claimRequest) bool { return scope(claimScope[name]) })
	}
}

func (c *claims) userinfoNames() []string { return names(c.Userinfo) }
func (c *claims) idTokenNames() []string  { return names(c.IDToken) }

func names(m map[string]*claimRequest) []string {
	var list []string
	for name := range m {
		if _, ok := claimScope[name]; ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// impliedScopes are the scopes whose claims were asked for one by one: the person is asked for them on the consent page
// as if the scope had been named.
func (c *claims) impliedScopes() []string {
	var scopes []string
	if c == nil {
		return nil
	}
	for _, name := range append(c.userinfoNames(), c.idTokenNames()...) {
		if s := claimScope[name]; !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	slices.Sort(scopes)
	return scopes
}

// wanted returns the strings one of which the ID token's claim must have, and whether it must.
func (c *claims) wanted(name string) (values []string, essential bool) {
	if c == nil || c.IDToken[name] == nil {
		return nil, false
	}
	r := c.IDToken[name]
	for _, v := range append(r.Values, r.Value) {
		if s, ok := v.(string); ok && s != "" {
			values = append(values, s)
		}
	}
	return values, r.Essential
}

// claimScope tells which scope covers a standard claim (OpenID Connect Core §5.4).
var claimScope = map[string]string{
	"name": scopeProfile, "given_name": scopeProfile, "family_name": scopeProfile, "middle_name": scopeProfile, "nickname": scopeProfile,
	"preferred_username": scopeProfile, "profile": scopeProfile, "picture": scopeProfile, "website": scopeProfile, "gender": scopeProfile,
	"birthdate": scopeProfile, "zoneinfo": scopeProfile, "locale": scopeProfile, "updated_at": scopeProfile,
	scopeGroups: scopeGroups, scopeRoles: scopeRoles, scopePermissions: scopePermissions,
	"email": scopeEmail, "email_verified": scopeEmail, "address": scopeAddress, "phone_number": scopePhone, "phone_number_verified": scopePhone,
}

// selectClaims gives the claims about a person that the scopes and the single names cover. What is not known is left
// out: an empty string is no value (OpenID Connect Core §5.3.2).
func selectClaims(u identity.User, scopes, single []string) map[string]any {
	p := u.Profile
	out := map[string]any{"sub": u.ID}
	add := func(name string, value any, known bool) {
		if known && (slices.Contains(scopes, claimScope[name]) || slices.Contains(single, name)) {
			out[name] = value
		}
	}
	text := func(name, value string) { add(name, value, value != "") }
	text("name", fullName(p))
	text("given_name", p.GivenName)
	text("family_name", p.FamilyName)
	text("middle_name", p.MiddleName)
	text("nickname", p.Nickname)
	text("preferred_username", p.PreferredUsername)
	text("profile", p.ProfileURL)
	text("picture", p.Picture)
	text("website", p.Website)
	text("gender", p.Gender)
	text("birthdate", p.Birthdate)
	text("zoneinfo", p.Zoneinfo)
	text("locale", p.Locale)
	updated := u.UpdatedAt
	if p.UpdatedAt.After(updated) {
		updated = p.UpdatedAt
	}
	add("updated_at", updated.Unix(), !updated.IsZero())
	text("email", u.Email)
	add("email_verified", u.EmailVerified, u.Email != "")
	text("phone_number", p.PhoneNumber)
	add("phone_number_verified", p.PhoneNumberVerified, p.PhoneNumber != "")
	address := addressClaim(p.Address)
	add("address", address, len(address) > 0)
	return out
}

func fullName(p identity.Profile) string {
	if p.Name != "" {
		return p.Name
	}
	return strings.TrimSpace(p.GivenName + " " + p.FamilyName)
}

// addressClaim is the JSON object of OpenID Connect Core §5.1.1.
func addressClaim(a identity.Address) map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{
		"formatted": a.Formatted, "street_address": a.StreetAddress, "locality": a.Locality,
		"region": a.Region, "postal_code": a.PostalCode, "country": a.Country,
	} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}
