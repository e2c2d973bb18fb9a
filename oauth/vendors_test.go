package oauth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
)

// vendor is what a client that people use says of itself. The facts are from what its makers publish; the words are ours.
type vendor struct {
	About    string         `json:"about"`
	Way      string         `json:"way"` // document | registration
	Uses     []string       `json:"uses"`
	Metadata map[string]any `json:"metadata"`
}

// None of the clients that people use is refused for what it says beside, and each gets as far as a tool call and a refresh.
func TestClientsThatPeopleUse(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/vendors/*.json")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	each(t, func(t *testing.T, h *harness) {
		p, keys := h.publish(t), publish(t, keySetOf("", "RS256"))
		h.SelfRegistered.Documents, h.SelfRegistered.PerHour = true, 1000
		h.opened(t, RegistrationOpen)
		h.api(t, openAPI, func(r *identity.Resource) { r.Open = true }, "notes:read")
		b := h.person(t)
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
				var v vendor
				if err := json.Unmarshal(must(os.ReadFile(file)), &v); err != nil {
					t.Fatal(err)
				}
				c := registered{Client: Client{AuthMethod: AuthNone}}
				if method, ok := v.Metadata["token_endpoint_auth_method"].(string); ok {
					c.AuthMethod = method
				}
				switch v.Way {
				case "document":
					path := "/" + filepath.Base(file)
					if v.Metadata["jwks_uri"] != nil {
						v.Metadata["jwks_uri"] = keys.URL
					}
					c.ID = p.URL + path
					v.Metadata["client_id"] = c.ID
					p.says(0, nil, func(string) string { return string(must(json.Marshal(v.Metadata))) })
				default:
					a := h.manage(t, "POST", registrationPath, "", v.Metadata)
					if a.status != http.StatusCreated {
						t.Fatalf("%s: registration: %d %v", v.About, a.status, a.body)
					}
					c.ID, c.secret, c.AuthMethod = a.str("client_id"), a.str("client_secret"), a.str("token_endpoint_auth_method")
				}
				for _, redirect := range v.Uses {
					q := b.allows(t, c.params("redirect_uri", redirect, "scope", "openid offline_access notes:read", "resource", openAPI, "nonce", ""))
					form := exchangeForm(q.Get("code"))
					form.Set("redirect_uri", redirect)
					form.Set("resource", openAPI)
					got := h.asVendor(t, c, form)
					if got.status != http.StatusOK || got.str("refresh_token") == "" {
						t.Fatalf("%s: %s: %d %v", v.About, redirect, got.status, got.body)
					}
					if _, claims := claimsOf(t, got.str("access_token")); claims["aud"] != openAPI || claims["scope"] != "notes:read" {
						t.Errorf("%s: %v", redirect, claims)
					}
					if next := h.asVendor(t, c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.str("refresh_token")}}); next.status != http.StatusOK {
						t.Errorf("%s: refresh: %v", redirect, next.body)
					}
				}
			})
		}
	})
}

// asVendor asks for tokens by whatever method the client has.
func (h *harness) asVendor(t testing.TB, c registered, form url.Values) answer {
	t.Helper()
	switch c.AuthMethod {
	case AuthPost:
		form.Set("client_id", c.ID)
		form.Set("client_secret", c.secret)
		return h.post(t, "/token", registered{}, form)
	case AuthPrivateKeyJWT:
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", sign(t, "RS256", testKeys()["RS256"], nil, h.assertionFor(c, nil)))
		return h.post(t, "/token", registered{}, form)
	}
	return h.post(t, "/token", c, form)
}

// What is dropped is dropped, and what would be dangerous is refused all the same.
func TestHarmlessExtrasAreDropped(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	h.opened(t, RegistrationOpen)
	a := h.manage(t, "POST", registrationPath, "", aboutMe("redirect_uris", []string{testRedirect, "someapp://cb"}, "logo_uri", "http://app.example.test/logo.png", "client_uri", "http://app.example.test/"))
	if uris, _ := a.body["redirect_uris"].([]any); a.status != http.StatusCreated || !slices.Equal(uris, []any{testRedirect}) || a.body["logo_uri"] != nil || a.body["client_uri"] != nil {
		t.Errorf("got %d %v", a.status, a.body)
	}
	for _, bad := range []string{"someapp://cb", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "http://evil.example.test/cb", "cursor", "https://app.example.test/#x"} {
		wantError(t, h.manage(t, "POST", registrationPath, "", aboutMe("redirect_uris", []string{bad})), 400, "invalid_redirect_uri")
	}
	for _, beside := range []string{"http://evil.example.test/cb", "https://app.example.test/#x", "https://*.example.test/cb"} {
		wantError(t, h.manage(t, "POST", registrationPath, "", aboutMe("redirect_uris", []string{testRedirect, beside})), 400, "invalid_redirect_uri")
	}
}
