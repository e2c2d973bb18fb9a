package upstream

import (
	"encoding/json"
	"slices"
	"testing"
)

// Whatever a provider says, only text of bounded length comes of it, an address is never vouched for without its claim, and
// no authentication method is made up.
func FuzzIdentity(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"email":"ada@example.com","email_verified":true,"amr":["mfa",1,"x"],"auth_time":1700000000}`, `{"email":["a"],"email_verified":"true","hd":"example.com"}`,
		`{"email":"a@gmail.com","email_verified":1}`, `{"xms_edov":"1","email":"@","tid":null}`, `{"amr":"mfa","auth_time":-1}`, `{"auth_time":1e300,"name":"\u0000\ud800"}`,
	} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(2))
	}
	kinds := []string{OIDC, Google, Microsoft, GitHub}
	f.Fuzz(func(t *testing.T, raw string, kind uint8) {
		claims := map[string]any{}
		if json.Unmarshal([]byte(raw), &claims) != nil {
			return
		}
		p := Provider{Kind: kinds[int(kind)%len(kinds)]}
		who := p.identity(claims)
		for name, value := range who.Fields {
			if len(value) > maxClaim || value == "" || !slices.Contains(fields, name) || name == "email" {
				t.Errorf("field %q holds %.40q", name, value)
			}
		}
		if who.Verified && (who.Email == "" || claims["email_verified"] == nil && claims["xms_edov"] == nil) {
			t.Errorf("%q is taken for verified", who.Email)
		}
		for _, method := range who.AMR {
			if !slices.Contains(knownMethods, method) {
				t.Errorf("method %q", method)
			}
		}
	})
}

// A domain that an address has is one that a provider can have.
func FuzzDomainOf(f *testing.F) {
	for _, seed := range []string{"ada@example.com", "ada@Bücher.example", "@", "a@b@c.d", "a@x.", "a@\x00.b", "a@ex%61mple.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		d := DomainOf(address)
		if d == "" {
			return
		}
		if normal, ok := NormalDomain(d); !ok || normal != d {
			t.Errorf("%q has the domain %q, which is %q, %t", address, d, normal, ok)
		}
	})
}
