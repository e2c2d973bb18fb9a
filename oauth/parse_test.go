package oauth

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
)

// deadCache is a cache whose server is gone.
type deadCache struct{ *cache.Memory }

func (deadCache) err() error { return fmt.Errorf("%w: connection refused", cache.ErrUnavailable) }

func (d deadCache) Put(context.Context, string, []byte, time.Duration) error { return d.err() }
func (d deadCache) Get(context.Context, string) ([]byte, bool, error)        { return nil, false, d.err() }
func (d deadCache) GetMany(context.Context, ...string) ([][]byte, error)     { return nil, d.err() }
func (d deadCache) Delete(context.Context, string) error                     { return d.err() }
func (d deadCache) Add(context.Context, string, time.Duration) (bool, error) { return false, d.err() }

func (d deadCache) Claim(context.Context, string) ([]byte, bool, bool, error) {
	return nil, false, false, d.err()
}

// malleate changes an ES256 signature (r, s) into the equally valid (r, n-s).
func malleate(t *testing.T, token string) string {
	t.Helper()
	i := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || len(sig) != 64 {
		t.Fatalf("signature: %d bytes, %v", len(sig), err)
	}
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	return token[:i+1] + base64.RawURLEncoding.EncodeToString(sig)
}

func TestClientValidation(t *testing.T) {
	t.Parallel()
	good := func() Client {
		c := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true}
		return c.WithDefaults()
	}
	if err := good().Validate(); err != nil {
		t.Fatalf("good client: %v", err)
	}
	for name, edit := range map[string]func(c *Client){
		"id with a slash":           func(c *Client) { c.ID = "a/b" },
		"no name":                   func(c *Client) { c.Name = " " },
		"name with control":         func(c *Client) { c.Name = "a\u202eb" },
		"unknown method":            func(c *Client) { c.AuthMethod = "magic" },
		"unknown grant":             func(c *Client) { c.GrantTypes = []string{"password"} },
		"no redirect":               func(c *Client) { c.RedirectURIs = nil },
		"implicit":                  func(c *Client) { c.ResponseTypes = []string{"token"} },
		"public without PKCE":       func(c *Client) { c.AuthMethod = AuthNone; c.RequirePKCE = false },
		"public client credentials": func(c *Client) { c.AuthMethod = AuthNone; c.GrantTypes = append(c.GrantTypes, GrantClientCredentials) },
		"scope in other case":       func(c *Client) { c.Scopes = []string{"OpenID"} },
		"scope twice":               func(c *Client) { c.Scopes = []string{"a", "A"} },
		"scope with quote":          func(c *Client) { c.Scopes = []string{`a"`} },
		"script as logo":            func(c *Client) { c.LogoURI = "javascript:alert(1)" },
		"http policy":               func(c *Client) { c.PolicyURI = "http://example.test/" },
		"alg none":                  func(c *Client) { c.IDTokenAlg = "none" },
		"alg HS256":                 func(c *Client) { c.IDTokenAlg = "HS256" },
		"audience relative":         func(c *Client) { c.Audiences = []string{"/api"} },
		"endless token":             func(c *Client) { c.AccessTokenTTL = 48 * time.Hour },
	} {
		c := good()
		edit(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, uri := range []string{
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "https://a.example/#f", "http://a.example/", "https://u@a.example/", "https://a.example/*",
		"/relative", "https:///nohost", "https://a.example/a b", `https://a.example\b`, "https://a.example/../x", "vbscript:x", "myapp:/cb", "",
	} {
		if validateRedirectURI(uri) == nil {
			t.Errorf("redirect URI %q: accepted", uri)
		}
	}
}

func FuzzMatchRedirect(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:80/cb", "http://[::1]:1/cb", "http://127.0.0.1@evil/cb", "http://127.0.0.1:1/cb#", "https://a.example/cb"} {
		f.Add(seed)
	}
	registered := []string{"https://a.example/cb", "http://127.0.0.1/cb", "http://[::1]:7/cb"}
	f.Fuzz(func(t *testing.T, requested string) {
		if !matchRedirect(registered, requested) {
			return
		}
		u, err := url.Parse(requested)
		if err != nil || u.User != nil || u.Fragment != "" || u.Path != "/cb" || u.RawQuery != "" {
			t.Fatalf("%q matches (%v)", requested, err)
		}
		if host := u.Hostname(); host != "a.example" && host != "127.0.0.1" && host != "::1" {
			t.Fatalf("%q leads to %s", requested, host)
		}
	})
}

func FuzzValidateRedirectURI(f *testing.F) {
	for _, seed := range []string{"https://a.example/cb", "com.example:/cb", "javascript:alert(1)", "http://[::1]/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if validateRedirectURI(raw) != nil {
			return
		}
		switch u, err := url.Parse(raw); {
		case err != nil:
			t.Fatal(err)
		case u.Scheme == "https" || u.Scheme == "http" || strings.Contains(u.Scheme, "."):
		default:
			t.Fatalf("scheme %q of %q", u.Scheme, raw)
		}
	})
}

func FuzzParseRefreshToken(f *testing.F) {
	key := make([]byte, 32)
	f.Add(refreshToken{generation: 7}.encode(key))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if parsed, ok := parseRefreshToken(key, token); ok && parsed.encode(key) != token {
			t.Fatalf("%q has two spellings", token)
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	f.Add(`{"userinfo":{"name":{"essential":true}},"id_token":{"acr":{"values":["x"]}}}`)
	f.Add(`{"id_token":null}`)
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := parseClaims(raw)
		if err != nil || c == nil {
			return
		}
		c.impliedScopes()
		c.wanted("acr")
		c.wanted("sub")
	})
}

func FuzzLegalDescription(f *testing.F) {
	f.Add("a\"b\\c\n\u00e9")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range legalDescription(s) {
			if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
				t.Fatalf("illegal %q", r)
			}
		}
	})
}

func FuzzForm(f *testing.F) {
	f.Add("client_id=a&scope=openid+email", "")
	f.Add("client_id=a&client_id=b", "resource=a&resource=b")
	f.Fuzz(func(t *testing.T, body, query string) {
		post := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		get := httptest.NewRequest(http.MethodGet, "/authorize", nil)
		post.URL.RawQuery, get.URL.RawQuery = query, query
		for _, read := range []func() (url.Values, error){func() (url.Values, error) { return bodyForm(post) }, func() (url.Values, error) { return queryForm(get) }} {
			form, err := read()
			if err != nil {
				continue
			}
			for name, values := range form {
				if len(values) != 1 && !slices.Contains(listParameters, name) || len(values) == 1 && values[0] == "" || !validText(name+strings.Join(values, "")) {
					t.Errorf("%q: parameter %q: %q", body+" "+query, name, values)
				}
			}
		}
	})
}
