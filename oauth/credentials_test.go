package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// Keys of test clients; RSA keys take long to make.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	return map[string]crypto.Signer{
		"ES256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "EdDSA": ed, "Ed25519": ed, "RS256": rsaKey, "PS256": rsaKey,
		"other": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
	}
})

// sign makes a compact JWS the way a client would, or an attacker.
func sign(t testing.TB, alg string, key any, header, claims map[string]any) string {
	t.Helper()
	head := map[string]any{"alg": alg}
	maps.Copy(head, header)
	text := func(v any) string { return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v))) }
	input := text(head) + "." + text(claims)
	sum := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch key := key.(type) {
	case nil:
	case []byte:
		h := hmac.New(sha256.New, key)
		h.Write([]byte(input))
		signature = h.Sum(nil)
	case *rsa.PrivateKey:
		if alg == "PS256" {
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, key, sum[:])
		if err = failed; err == nil {
			signature = make([]byte, 64)
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(input))
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// keySetOf publishes keys; each pair is a kid ("" for none) and the name of a test key.
func keySetOf(pairs ...string) json.RawMessage {
	var set jose.JSONWebKeySet
	for i := 0; i < len(pairs); i += 2 {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: testKeys()[pairs[i+1]].Public(), KeyID: pairs[i], Use: "sig"})
	}
	return must(json.Marshal(set))
}

func byKeys(set json.RawMessage) func(c *Client) {
	return func(c *Client) { c.AuthMethod, c.JWKS = AuthPrivateKeyJWT, set }
}

// assertionFor is a good assertion of a client; edits replace or (nil) remove claims.
func (h *harness) assertionFor(c registered, edits map[string]any) map[string]any {
	claims := map[string]any{
		"iss": c.ID, "sub": c.ID, "aud": testIssuer, "jti": rand.Text(), "iat": h.Now().Unix(), "exp": h.Now().Add(time.Minute).Unix(),
	}
	for name, v := range edits {
		if v == nil {
			delete(claims, name)
		} else {
			claims[name] = v
		}
	}
	return claims
}

// asserted asks for a token by client credentials with an assertion.
func (h *harness) asserted(t testing.TB, token string, extra ...string) answer {
	t.Helper()
	form := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}, "client_assertion_type": {assertionType}, "client_assertion": {token}}
	for i := 0; i < len(extra); i += 2 {
		form.Set(extra[i], extra[i+1])
	}
	return h.post(t, "/token", registered{}, form)
}

func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for _, alg := range assertionAlgs {
			c := h.client(t, byKeys(keySetOf("a", "other", "", alg)))
			if c.secret != "" {
				t.Errorf("%s: a client with keys was given a secret", alg)
			}
			for name, header := range map[string]map[string]any{"no kid": {}, "kid that the set does not name": {"kid": "mine"}, "typ": {"typ": "JWT"}} {
				if a := h.asserted(t, sign(t, alg, testKeys()[alg], header, h.assertionFor(c, nil))); a.status != http.StatusOK {
					t.Errorf("%s, %s: got %d %v", alg, name, a.status, a.body)
				}
			}
		}
		c := h.client(t, byKeys(keySetOf("k", "ES256")))
		good := func(edits map[string]any) string {
			return sign(t, "ES256", testKeys()["ES256"], map[string]any{"kid": "k"}, h.assertionFor(c, edits))
		}
		now := h.Now()
		for name, edits := range map[string]map[string]any{
			"token endpoint": {"aud": testIssuer + "/token"}, "PAR endpoint": {"aud": testIssuer + "/par"}, "list of both": {"aud": []string{testIssuer, testIssuer + "/token"}},
			"nbf 8 s ahead": {"nbf": now.Add(8 * time.Second).Unix()}, "fraction": {"exp": float64(now.Unix()) + 30.5}, "no iat": {"iat": nil},
		} {
			if a := h.asserted(t, good(edits)); a.status != http.StatusOK {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
		if a := h.asserted(t, good(nil), "client_id", c.ID); a.status != http.StatusOK {
			t.Errorf("with client_id: got %d %v", a.status, a.body)
		}
		// The same at the other endpoints.
		token := h.asserted(t, good(nil)).str("access_token")
		form := func() url.Values {
			return url.Values{"token": {token}, "client_assertion_type": {assertionType}, "client_assertion": {good(nil)}}
		}
		if a := h.post(t, "/introspect", registered{}, form()); a.status != http.StatusOK || a.body["active"] != true {
			t.Errorf("introspect: got %d %v", a.status, a.body)
		}
		if a := h.post(t, "/revoke", registered{}, form()); a.status != http.StatusOK {
			t.Errorf("revoke: got %d %v", a.status, a.body)
		}
	})
}

func TestForgedClientAssertionsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, byKeys(keySetOf("k", "ES256", "r", "RS256")))
		other := h.client(t, byKeys(keySetOf("k", "other")))
		now := h.Now()
		es, rs := testKeys()["ES256"], testKeys()["RS256"]
		public := must(x509.MarshalPKIXPublicKey(rs.Public()))
		attacker := testKeys()["other"]
		embedded := map[string]any{"jwk": jose.JSONWebKey{Key: attacker.Public()}, "jku": "https://evil.example/keys", "x5u": "https://evil.example/cert", "kid": "k"}
		for name, token := range map[string]string{
			"alg none":                          sign(t, "none", nil, nil, h.assertionFor(c, nil)),
			"alg None":                          sign(t, "None", nil, nil, h.assertionFor(c, nil)),
			"HMAC with the public key (DER)":    sign(t, "HS256", public, map[string]any{"kid": "r"}, h.assertionFor(c, nil)),
			"HMAC with the public key (PEM)":    sign(t, "HS256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), nil, h.assertionFor(c, nil)),
			"embedded jwk, jku, x5u":            sign(t, "ES256", attacker, embedded, h.assertionFor(c, nil)),
			"key of another client":             sign(t, "ES256", attacker, map[string]any{"kid": "k"}, h.assertionFor(c, nil)),
			"key of another algorithm":          sign(t, "ES256", es, map[string]any{"kid": "r"}, h.assertionFor(c, nil)),
			"unsigned extension":                sign(t, "ES256", es, map[string]any{"crit": []string{"b64"}, "b64": false}, h.assertionFor(c, nil)),
			"access token as assertion":         sign(t, "ES256", es, map[string]any{"typ": "at+jwt"}, h.assertionFor(c, nil)),
			"proof as assertion":                sign(t, "ES256", es, map[string]any{"typ": "dpop+jwt"}, h.assertionFor(c, nil)),
			"another issuer":                    sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"iss": other.ID})),
			"no issuer":                         sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"iss": nil})),
			"no subject":                        sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"sub": nil})),
			"another subject":                   sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"sub": other.ID})),
			"no audience":                       sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"aud": nil})),
			"another audience":                  sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"aud": "https://evil.example"})),
			"another audience beside this":      sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"aud": []string{testIssuer, "https://evil.example"}})),
			"audience that begins with this":    sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"aud": testIssuer + ".evil.example"})),
			"no expiry":                         sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"exp": nil})),
			"expired":                           sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"exp": now.Add(-5 * time.Minute).Unix()})),
			"expires in ten years":              sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"exp": now.AddDate(10, 0, 0).Unix()})),
			"expires at the end of all numbers": sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"exp": 1e300})),
			"nbf 65 s ahead":                    sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"nbf": now.Add(65 * time.Second).Unix()})),
			"iat 65 s ahead":                    sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"iat": now.Add(65 * time.Second).Unix()})),
			"no jti":                            sign(t, "ES256", es, nil, h.assertionFor(c, map[string]any{"jti": nil})),
			"not a JWT":                         "x.y",
		} {
			if a := h.asserted(t, token); a.status != http.StatusUnauthorized || a.str("error") != "invalid_client" {
				t.Errorf("%s: got %d %v, want 401 invalid_client", name, a.status, a.body)
			}
		}
		good := func() string { return sign(t, "ES256", es, nil, h.assertionFor(c, nil)) }
		wantError(t, h.asserted(t, good(), "client_id", other.ID), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.asserted(t, good(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), http.StatusUnauthorized, "invalid_client")
		broken := good()
		wantError(t, h.asserted(t, broken[:len(broken)-6]+"AAAAAA"), http.StatusUnauthorized, "invalid_client")
	})
}

func TestClientAssertionWorksOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, byKeys(keySetOf("", "ES256")))
		claims := h.assertionFor(c, map[string]any{"jti": "fixed"})
		token := sign(t, "ES256", testKeys()["ES256"], nil, claims)

		// Nobody else can use the id up.
		thief := h.client(t, byKeys(keySetOf("", "other")))
		claims["sub"], claims["iss"] = thief.ID, thief.ID
		if a := h.asserted(t, sign(t, "ES256", testKeys()["other"], nil, claims)); a.status != http.StatusOK {
			t.Fatalf("another client with the same jti: %d %v", a.status, a.body)
		}
		claims["sub"], claims["iss"] = c.ID, c.ID
		wantError(t, h.asserted(t, sign(t, "ES256", testKeys()["other"], nil, claims)), http.StatusUnauthorized, "invalid_client")

		var won atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if h.asserted(t, token).status == http.StatusOK {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("one assertion, ten requests: %d got a token, want 1", won.Load())
		}
		claims["exp"] = h.Now().Add(2 * time.Minute).Unix() // signed anew with the same jti
		wantError(t, h.asserted(t, sign(t, "ES256", testKeys()["ES256"], nil, claims)), http.StatusUnauthorized, "invalid_client")
	})
}

func TestAssertionIsNotAcceptedWhenItsUseCannotBeRemembered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, byKeys(keySetOf("", "ES256")))
		h.Cache = deadCache{}
		a := h.asserted(t, sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(c, nil)))
		wantError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
	})
}

func TestClientSecretJWT(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) { c.AuthMethod = AuthSecretJWT })
		try := func(secret string) answer {
			return h.asserted(t, sign(t, "HS256", []byte(secret), nil, h.assertionFor(c, nil)))
		}
		if a := try(c.secret); a.status != http.StatusOK {
			t.Fatalf("got %d %v", a.status, a.body)
		}
		wantError(t, try(c.secret+"x"), http.StatusUnauthorized, "invalid_client")
		wantError(t, try(""), http.StatusUnauthorized, "invalid_client")
		second := must(h.Clients.RotateSecret(t.Context(), c.ID))
		for _, secret := range []string{c.secret, second} {
			if a := try(secret); a.status != http.StatusOK {
				t.Errorf("after a rotation: got %d %v", a.status, a.body)
			}
		}
		var stored string
		if err := h.DB.QueryRow(t.Context(), `SELECT secrets FROM clients WHERE id = $1`, c.ID).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stored, second) || strings.Contains(stored, base64.StdEncoding.EncodeToString([]byte(second))) {
			t.Error("the database holds the secret in the clear")
		}

		// The readable copy goes with the method that needs it; the secret stays.
		changed := c.Client
		changed.AuthMethod = AuthBasic
		if err := h.Clients.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		r := must(h.Clients.registration(t.Context(), c.ID))
		for _, s := range r.secrets {
			if len(s.sealed()) != 0 {
				t.Error("a client that authenticates by Basic has a readable secret")
			}
		}
		basic := registered{changed, second}
		if a := h.post(t, "/token", basic, url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}); a.status != http.StatusOK {
			t.Errorf("Basic with the secret: got %d %v", a.status, a.body)
		}
		wantError(t, try(second), http.StatusUnauthorized, "invalid_client")
		changed.AuthMethod = AuthSecretJWT
		if err := h.Clients.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		wantError(t, try(second), http.StatusUnauthorized, "invalid_client") // there is no copy any more
	})
}

// A secret that another row's client gets by writing in the database does not open.
func TestSealedSecretOfAnotherClientIsUseless(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		secretJWT := func(c *Client) { c.AuthMethod = AuthSecretJWT }
		a, b := h.client(t, secretJWT), h.client(t, secretJWT)
		if _, err := h.DB.Exec(t.Context(), `UPDATE clients SET secrets = (SELECT secrets FROM clients WHERE id = $1) WHERE id = $2`, a.ID, b.ID); err != nil {
			t.Fatal(err)
		}
		got := h.asserted(t, sign(t, "HS256", []byte(a.secret), nil, h.assertionFor(b, nil)))
		wantError(t, got, http.StatusInternalServerError, "server_error")
	})
}

func TestExactlyOneClientAuthenticationMethod(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		jwt := h.client(t, byKeys(keySetOf("", "ES256")))
		basic := h.client(t, nil)
		token := func(c registered) string { return sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(c, nil)) }
		form := func(pairs ...string) url.Values {
			v := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}
			for i := 0; i < len(pairs); i += 2 {
				v.Set(pairs[i], pairs[i+1])
			}
			return v
		}
		wantError(t, h.asserted(t, token(jwt), "client_secret", basic.secret), http.StatusBadRequest, "invalid_request")
		wantError(t, h.post(t, "/token", basic, form("client_assertion_type", assertionType, "client_assertion", token(jwt))), http.StatusBadRequest, "invalid_request")
		wantError(t, h.post(t, "/token", basic, form("client_secret", basic.secret)), http.StatusBadRequest, "invalid_request")
		// Only the registered one counts.
		wantError(t, h.asserted(t, token(basic)), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.post(t, "/token", registered{}, form("client_id", jwt.ID)), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.post(t, "/token", registered{}, form("client_id", jwt.ID, "client_secret", "")), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.post(t, "/token", registered{jwt.Client, "guess"}, form()), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.post(t, "/token", registered{}, form("client_id", basic.ID, "client_secret", basic.secret)), http.StatusUnauthorized, "invalid_client")
		wantError(t, h.post(t, "/token", registered{}, form("client_assertion_type", assertionType)), http.StatusUnauthorized, "invalid_client")
	})
}

func TestAlgorithmOfAssertionsIsPinned(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) { byKeys(keySetOf("", "RS256"))(c); c.AuthAlg = "PS256" })
		wantError(t, h.asserted(t, sign(t, "RS256", testKeys()["RS256"], nil, h.assertionFor(c, nil))), http.StatusUnauthorized, "invalid_client")
		if a := h.asserted(t, sign(t, "PS256", testKeys()["RS256"], nil, h.assertionFor(c, nil))); a.status != http.StatusOK {
			t.Errorf("PS256: got %d %v", a.status, a.body)
		}
	})
}

func TestFAPIClientNamesTheIssuerAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, func(c *Client) {
			byKeys(keySetOf("", "RS256"))(c)
			c.Profile, c.CertificateBound, c.DPoPBound = ProfileFAPI2, false, true
		})
		// What proves the client comes first: the token itself would need a DPoP proof.
		for name, try := range map[string]struct {
			alg string
			aud any
		}{
			"token endpoint": {"PS256", testIssuer + "/token"}, "PAR endpoint": {"PS256", testIssuer + "/par"}, "list": {"PS256", []string{testIssuer}},
			"RS256": {"RS256", testIssuer},
		} {
			token := sign(t, try.alg, testKeys()["RS256"], nil, h.assertionFor(c, map[string]any{"aud": try.aud}))
			if a := h.asserted(t, token); a.status != http.StatusUnauthorized {
				t.Errorf("%s: got %d %v, want 401", name, a.status, a.body)
			}
		}
		token := sign(t, "PS256", testKeys()["RS256"], nil, h.assertionFor(c, nil))
		if a := h.asserted(t, token); a.str("error") == "invalid_client" {
			t.Errorf("issuer: got %d %v", a.status, a.body)
		}
	})
}

func TestClientCredentialsValidation(t *testing.T) {
	t.Parallel()
	base := func(edit func(c *Client)) error {
		c := Client{ID: "app", Name: "App", RedirectURIs: []string{testRedirect}, RequirePKCE: true}
		edit(&c)
		return c.WithDefaults().Validate()
	}
	private := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: testKeys()["ES256"]}}}))
	symmetric := json.RawMessage(`{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`)
	weak := json.RawMessage(`{"keys":[{"kty":"RSA","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0xc1}, make([]byte, 63)...)) + `"}]}`)
	for name, edit := range map[string]func(c *Client){
		"no keys":              func(c *Client) { c.AuthMethod = AuthPrivateKeyJWT },
		"keys and their URL":   func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.JWKSURI = "https://app.example/keys" },
		"private key":          byKeys(private),
		"symmetric key":        byKeys(symmetric),
		"weak RSA key":         byKeys(weak),
		"empty set":            byKeys(json.RawMessage(`{"keys":[]}`)),
		"not a set":            byKeys(json.RawMessage(`[]`)),
		"http jwks_uri":        func(c *Client) { c.AuthMethod, c.JWKSURI = AuthPrivateKeyJWT, "http://app.example/keys" },
		"file as jwks_uri":     func(c *Client) { c.AuthMethod, c.JWKSURI = AuthPrivateKeyJWT, "file:///etc/passwd" },
		"HS256 with keys":      func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.AuthAlg = "HS256" },
		"none with keys":       func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.AuthAlg = "none" },
		"RS256 with a secret":  func(c *Client) { c.AuthMethod, c.AuthAlg = AuthSecretJWT, "RS256" },
		"TLS without a name":   func(c *Client) { c.AuthMethod = AuthTLS },
		"TLS with two names":   func(c *Client) { c.AuthMethod, c.TLSDNS, c.TLSIP = AuthTLS, "a.example", "192.0.2.1" },
		"TLS with a wildcard":  func(c *Client) { c.AuthMethod, c.TLSDNS = AuthTLS, "*.example" },
		"TLS with a bad DN":    func(c *Client) { c.AuthMethod, c.TLSSubjectDN = AuthTLS, "whoever" },
		"name without TLS":     func(c *Client) { c.TLSDNS = "a.example" },
		"unknown profile":      func(c *Client) { c.Profile = "strict" },
		"FAPI with a secret":   func(c *Client) { c.Profile = ProfileFAPI2 },
		"FAPI without PKCE":    func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.Profile, c.RequirePKCE = ProfileFAPI2, false },
		"FAPI RS256 ID tokens": func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.Profile, c.IDTokenAlg = ProfileFAPI2, "RS256" },
		"FAPI RS256 assertion": func(c *Client) { byKeys(keySetOf("", "RS256"))(c); c.Profile, c.AuthAlg = ProfileFAPI2, "RS256" },
	} {
		if base(edit) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := base(func(c *Client) { byKeys(keySetOf("", "ES256"))(c); c.Profile = ProfileFAPI2 }); err != nil {
		t.Errorf("FAPI client: %v", err)
	}
}

// published is a client's server for its jwks_uri.
type published struct {
	*httptest.Server
	mu     sync.Mutex
	body   string
	status int
	asked  atomic.Int32
	hold   chan struct{} // if not nil, answers wait for it
}

func publish(t *testing.T, set json.RawMessage) *published {
	p := &published{body: string(set), status: http.StatusOK}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		status, body, hold := p.status, p.body, p.hold
		p.mu.Unlock()
		if hold != nil {
			<-hold
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *published) set(status int, body json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body = status, string(body)
}

// fetching lets a harness reach loopback, where the tests' servers are.
func (h *harness) fetching() *harness {
	h.Outbound = outbound.New(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	return h
}

func TestKeysAtJWKSURI(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.fetching()
		p := publish(t, keySetOf("one", "ES256"))
		c := h.client(t, func(c *Client) { c.AuthMethod, c.JWKSURI = AuthPrivateKeyJWT, p.URL })
		try := func(kid, key string) int {
			return h.asserted(t, sign(t, "ES256", testKeys()[key], map[string]any{"kid": kid}, h.assertionFor(c, nil))).status
		}
		want := func(what string, status, wantStatus, asked int) {
			t.Helper()
			if status != wantStatus || int(p.asked.Load()) != asked {
				t.Errorf("%s: got %d after %d fetches, want %d after %d", what, status, p.asked.Load(), wantStatus, asked)
			}
		}
		want("first", try("one", "ES256"), 200, 1)
		want("again", try("one", "ES256"), 200, 1)
		// A stranger names keys that do not exist: the client's server hears little of it.
		for range 5 {
			want("unknown kid", try("none", "other"), 401, 1)
		}
		h.advanceClock(keySetRefetch)
		p.set(http.StatusOK, keySetOf("two", "other"))
		want("new key", try("two", "other"), 200, 2)
		want("old key", try("one", "ES256"), 401, 2)
		// The server is down: what it said last counts for a while.
		h.advanceClock(keySetLife)
		p.set(http.StatusInternalServerError, nil)
		want("down", try("two", "other"), 200, 3)
		want("down, again", try("two", "other"), 200, 3)
		h.advanceClock(keySetStale)
		want("down for long", try("two", "other"), 401, 4)
		want("negative cache", try("two", "other"), 401, 4)
		h.advanceClock(keySetRetry)
		p.set(http.StatusOK, keySetOf("two", "other"))
		want("up again", try("two", "other"), 200, 5)
		// A key that was removed is refused once the set is old.
		p.set(http.StatusOK, keySetOf("one", "ES256"))
		h.advanceClock(keySetLife)
		want("removed key", try("two", "other"), 401, 6)
	})
}

func TestFetchesOfOneKeySetAreShared(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	var asked atomic.Int32
	sets := newKeySets(func(context.Context, string) ([]byte, error) {
		asked.Add(1)
		<-hold
		return keySetOf("", "ES256"), nil
	}, time.Now)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := sets.get(gone, "https://app.example/keys", false); !errors.Is(err, context.Canceled) {
		t.Errorf("who went away: got %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if keys, err := sets.get(t.Context(), "https://app.example/keys", false); err != nil || len(keys) != 1 {
				t.Errorf("got %d keys, %v", len(keys), err)
			}
		})
	}
	close(hold)
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("%d fetches, want 1", asked.Load())
	}
}

func TestStrangersCannotFillTheMemoryWithKeySets(t *testing.T) {
	t.Parallel()
	sets := newKeySets(func(context.Context, string) ([]byte, error) { return keySetOf("", "ES256"), nil }, time.Now)
	for i := range keySetsMost + 50 {
		if _, err := sets.get(t.Context(), "https://app.example/"+string(rune('a'+i%26))+rand.Text(), false); err != nil {
			t.Fatal(err)
		}
	}
	if len(sets.byURL) > keySetsMost {
		t.Errorf("%d sets are kept, want at most %d", len(sets.byURL), keySetsMost)
	}
}

// jwks_uri must not make the server ask its own network (SSRF), follow redirects, or swallow what never ends.
func TestJWKSURIReachesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		p := publish(t, keySetOf("", "ES256"))
		redirecting := httptest.NewServer(http.RedirectHandler(p.URL, http.StatusFound))
		t.Cleanup(redirecting.Close)
		huge := publish(t, json.RawMessage(strings.Repeat(" ", maxKeySet+1)+string(keySetOf("", "ES256"))))
		try := func(uri string) answer {
			c := h.client(t, func(c *Client) { c.AuthMethod, c.JWKSURI = AuthPrivateKeyJWT, uri })
			return h.asserted(t, sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(c, nil)))
		}
		h.Outbound = outbound.New(outbound.Config{})
		for _, uri := range []string{p.URL, "https://169.254.169.254/keys", "https://[::ffff:127.0.0.1]/keys"} {
			wantError(t, try(uri), http.StatusUnauthorized, "invalid_client")
		}
		if n := p.asked.Load(); n != 0 {
			t.Errorf("a private address was asked %d times", n)
		}
		h.fetching()
		h.advanceClock(keySetLife)
		wantError(t, try(redirecting.URL), http.StatusUnauthorized, "invalid_client")
		wantError(t, try(huge.URL), http.StatusUnauthorized, "invalid_client")
		if a := try(p.URL + "/?fresh"); a.status != http.StatusOK {
			t.Errorf("allowed address: got %d %v", a.status, a.body)
		}
	})
}

// RFC 9864 gave EdDSA on Ed25519 a second name, which widespread clients send: a key, and a client, that is registered under one is good
// for both, and for nothing else.
func TestEd25519HasTwoNames(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		ed := testKeys()["EdDSA"]
		for _, name := range []string{algEdDSA, algEd25519} {
			set := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ed.Public(), Algorithm: name}}}))
			c := h.client(t, func(c *Client) { byKeys(set)(c); c.AuthAlg = name })
			for _, alg := range []string{algEdDSA, algEd25519} {
				if a := h.asserted(t, sign(t, alg, ed, nil, h.assertionFor(c, nil))); a.status != http.StatusOK {
					t.Errorf("registered as %s, signed as %s: got %d %v", name, alg, a.status, a.body)
				}
				good := sign(t, alg, ed, nil, h.assertionFor(c, nil))
				forged := good[:strings.LastIndexByte(good, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
				for what, token := range map[string]string{
					"forged": forged, "unsigned": sign(t, alg, nil, nil, h.assertionFor(c, nil)), "of another key": sign(t, alg, testKeys()["other"], nil, h.assertionFor(c, nil)),
					"of an HMAC with the public key": sign(t, alg, []byte(ed.Public().(ed25519.PublicKey)), nil, h.assertionFor(c, nil)),
				} {
					if a := h.asserted(t, token); a.status != http.StatusUnauthorized || a.str("error") != "invalid_client" {
						t.Errorf("%s, %s: got %d %v, want invalid_client", alg, what, a.status, a.body)
					}
				}
			}
		}
	})
}

func FuzzParseAssertion(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIiwic3ViIjoiYSIsImF1ZCI6WyJ4Il0sImV4cCI6MS41LCJqdGkiOiJqIn0.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	keys := must(parseKeySet(keySetOf("", "ES256", "k", "RS256", "", "EdDSA")))
	s := &Server{Config: Config{Now: time.Now}}
	f.Fuzz(func(t *testing.T, token string) {
		a, err := parseAssertion(token)
		if err != nil {
			return
		}
		if strings.Count(token, ".") != 2 {
			t.Fatalf("%q is taken for a compact JWS", token)
		}
		_, _ = s.checkTimes(a)
		if verifyByKeys(keys, a.token, a.header) {
			t.Fatalf("%q verifies", token)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(keySetOf("a", "ES256", "b", "RS256", "", "EdDSA")))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeySet(b)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.fits("HS256") || k.fits("none") || !(k.fits("RS256") || k.fits("PS256") || k.fits("ES256") || k.fits("EdDSA") && k.fits("Ed25519") || k.alg != "") {
				t.Fatalf("key %T with alg %q", k.key, k.alg)
			}
		}
	})
}
