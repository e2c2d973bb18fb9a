package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func thumbprintOf(key string) string {
	jwk := jose.JSONWebKey{Key: testKeys()[key].Public()}
	return base64.RawURLEncoding.EncodeToString(must(jwk.Thumbprint(crypto.SHA256)))
}

// proofBy makes a good proof for a request; edits replace or (nil) remove members of header and claims.
func (h *harness) proofBy(t testing.TB, key, method, path, token string, edits ...map[string]any) string {
	t.Helper()
	alg := key
	if key == "other" {
		alg = "ES256"
	}
	header := map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: testKeys()[key].Public()}}
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": testIssuer + path, "iat": h.Now().Unix()}
	if token != "" {
		claims["ath"] = tokenHash(token)
	}
	for _, edit := range edits {
		for name, v := range edit {
			into := claims
			if slices.Contains([]string{"typ", "jwk", "alg", "crit"}, name) {
				into = header
			}
			if v == nil {
				delete(into, name)
			} else {
				into[name] = v
			}
		}
	}
	return sign(t, alg, testKeys()[key], header, claims)
}

// proved sends a form as a client with proofs.
func (h *harness) proved(t testing.TB, path string, c registered, form url.Values, proofs ...string) answer {
	t.Helper()
	form = maps.Clone(form)
	if c.Public() {
		form.Set("client_id", c.ID)
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	if !c.Public() {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.secret))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header["Dpop"] = proofs
	return h.do(t, r)
}

// userinfoAs asks for userinfo with a scheme and proofs.
func (h *harness) userinfoAs(t testing.TB, scheme, token string, proofs ...string) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", scheme+" "+token)
	r.Header["Dpop"] = proofs
	return h.do(t, r)
}

// boundTokens runs the code flow with a proof.
func (b *browser) boundTokens(t testing.TB, c registered, key string) answer {
	t.Helper()
	a := b.h.proved(t, "/token", c, exchangeForm(b.code(t, c)), b.h.proofBy(t, key, "POST", "/token", ""))
	if a.status != http.StatusOK {
		t.Fatalf("exchange: %d %v", a.status, a.body)
	}
	return a
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

func TestDPoP(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, key := range dpopAlgs {
			for name, c := range map[string]registered{"confidential": h.client(t, nil), "public": h.client(t, public)} {
				a := b.boundTokens(t, c, key)
				token := a.str("access_token")
				_, claims := claimsOf(t, token)
				cnf, _ := claims["cnf"].(map[string]any)
				if a.str("token_type") != "DPoP" || cnf["jkt"] != thumbprintOf(key) {
					t.Errorf("%s, %s: token_type %q, cnf %v", key, name, a.str("token_type"), cnf)
				}
				if got := h.userinfoAs(t, "DPoP", token, h.proofBy(t, key, "GET", "/userinfo", token)); got.status != http.StatusOK || got.str("sub") != b.user.ID {
					t.Errorf("%s, %s: userinfo: got %d %v", key, name, got.status, got.body)
				}
				if got := h.userinfoAs(t, "dpop", token, h.proofBy(t, key, "GET", "/userinfo", token)); got.status != http.StatusOK {
					t.Errorf("%s, %s: scheme in lower case: got %d %v", key, name, got.status, got.body)
				}
				if name == "public" {
					continue
				}
				got := h.post(t, "/introspect", c, url.Values{"token": {token}})
				cnf, _ = got.body["cnf"].(map[string]any)
				if got.str("token_type") != "DPoP" || cnf["jkt"] != thumbprintOf(key) {
					t.Errorf("introspection: got %v", got.body)
				}
				// A confidential client's refresh token is tied to the client: another key is fine.
				refreshed := h.proved(t, "/token", c, refreshForm(a.str("refresh_token")), h.proofBy(t, "other", "POST", "/token", ""))
				if refreshed.status != http.StatusOK || refreshed.str("token_type") != "DPoP" {
					t.Errorf("refresh with another key: got %d %v", refreshed.status, refreshed.body)
				}
			}
		}
		c := h.client(t, nil)
		own := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}
		if a := h.proved(t, "/token", c, own, h.proofBy(t, "ES256", "POST", "/token", "")); a.str("token_type") != "DPoP" {
			t.Errorf("client credentials: got %d %v", a.status, a.body)
		}
		if a := h.proved(t, "/token", c, own); a.str("token_type") != "Bearer" {
			t.Errorf("without a proof: got %d %v", a.status, a.body)
		}
	})
}

func TestBadDPoPProofsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		token := b.boundTokens(t, c, "ES256").str("access_token")
		private := must(json.Marshal(jose.JSONWebKey{Key: testKeys()["ES256"]}))
		proof := func(edits ...map[string]any) []string {
			return []string{h.proofBy(t, "ES256", "GET", "/userinfo", token, edits...)}
		}
		one := func(name string, v any) []string { return proof(map[string]any{name: v}) }
		good := proof()[0]
		claims := map[string]any{"jti": "x", "htm": "GET", "htu": testIssuer + "/userinfo", "iat": h.Now().Unix(), "ath": tokenHash(token)}
		jwk := jose.JSONWebKey{Key: testKeys()["ES256"].Public()}
		for attack, proofs := range map[string][]string{
			"no proof":                {},
			"two proofs":              {good, good},
			"not a JWT":               {"proof"},
			"no typ":                  one("typ", nil),
			"typ JWT":                 one("typ", "JWT"),
			"no jwk":                  one("jwk", nil),
			"private jwk":             one("jwk", json.RawMessage(private)),
			"jwk of another key":      one("jwk", jose.JSONWebKey{Key: testKeys()["other"].Public()}),
			"alg none":                {sign(t, "none", nil, map[string]any{"typ": "dpop+jwt", "jwk": jwk}, claims)},
			"HMAC by the public key":  {sign(t, "HS256", must(x509.MarshalPKIXPublicKey(jwk.Key)), map[string]any{"typ": "dpop+jwt", "jwk": jwk}, claims)},
			"symmetric jwk":           {sign(t, "HS256", []byte("0123456789abcdef0123456789abcdef"), map[string]any{"typ": "dpop+jwt", "jwk": json.RawMessage(`{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`)}, claims)},
			"RS256":                   {h.proofBy(t, "RS256", "GET", "/userinfo", token)},
			"crit":                    one("crit", []string{"x"}),
			"broken signature":        {good[:len(good)-6] + "AAAAAA"},
			"no jti":                  one("jti", nil),
			"no htm":                  one("htm", nil),
			"another method":          one("htm", "PUT"),
			"method in lower case":    one("htm", "get"),
			"no htu":                  one("htu", nil),
			"another path":            one("htu", testIssuer+"/token"),
			"another host":            one("htu", "https://evil.example/userinfo"),
			"http":                    one("htu", strings.Replace(testIssuer, "https", "http", 1)+"/userinfo"),
			"another port":            one("htu", testIssuer+":444/userinfo"),
			"user in the address":     one("htu", strings.Replace(testIssuer, "https://", "https://x@", 1)+"/userinfo"),
			"no iat":                  one("iat", nil),
			"an hour old":             one("iat", h.Now().Add(-time.Hour).Unix()),
			"from the next hour":      one("iat", h.Now().Add(time.Hour).Unix()),
			"no ath":                  one("ath", nil),
			"ath of another token":    one("ath", tokenHash(token+"x")),
			"by another key":          {h.proofBy(t, "other", "GET", "/userinfo", token)},
			"nonce that is not ours":  one("nonce", "AAAAAAAAAAAAAAAAAAAAAA"),
			"proof for the token url": {h.proofBy(t, "ES256", "POST", "/token", "")},
		} {
			got := h.userinfoAs(t, "DPoP", token, proofs...)
			header := got.header.Get("WWW-Authenticate")
			if got.status != http.StatusUnauthorized || !strings.HasPrefix(header, "DPoP ") || !strings.Contains(header, `algs="ES256 EdDSA Ed25519 PS256"`) || !strings.Contains(header, "error=") {
				t.Errorf("%s: got %d, WWW-Authenticate %q", attack, got.status, header)
			}
		}
		for name, proofs := range map[string][]string{
			"query and fragment":   one("htu", testIssuer+"/userinfo?x=1#y"),
			"case of scheme, host": one("htu", "HTTPS://ID.EXAMPLE.TEST/userinfo"),
			"default port":         one("htu", testIssuer+":443/userinfo"),
			"dot segments":         one("htu", testIssuer+"/x/../userinfo"),
			"ten seconds behind":   one("iat", h.Now().Add(-10*time.Second).Unix()),
			"ten seconds ahead":    one("iat", h.Now().Add(10*time.Second).Unix()),
			"unknown members":      proof(map[string]any{"extra": true, "nbf": 1, "exp": 2}),
			"correct after all":    {good},
		} {
			if got := h.userinfoAs(t, "DPoP", token, proofs...); got.status != http.StatusOK {
				t.Errorf("%s: got %d %v", name, got.status, got.body)
			}
		}
		wantError(t, h.userinfoAs(t, "DPoP", token, good), http.StatusUnauthorized, "invalid_dpop_proof") // a second time
		// At the token endpoint the same reader answers 400.
		form := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}
		wantError(t, h.proved(t, "/token", c, form, "proof"), http.StatusBadRequest, "invalid_dpop_proof")
		wantError(t, h.proved(t, "/token", c, form, good, good), http.StatusBadRequest, "invalid_dpop_proof")
		wantError(t, h.proved(t, "/token", c, form, h.proofBy(t, "ES256", "GET", "/token", "")), http.StatusBadRequest, "invalid_dpop_proof")
	})
}

func TestDPoPProofWorksOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, nil)
		proof := h.proofBy(t, "ES256", "POST", "/token", "", map[string]any{"jti": "same"})
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if h.proved(t, "/token", c, url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}, proof).status == http.StatusOK {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("one proof, ten requests: %d got a token, want 1", won.Load())
		}
		// Ids of one key do not stand in another's way.
		if a := h.proved(t, "/token", c, url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}, h.proofBy(t, "other", "POST", "/token", "", map[string]any{"jti": "same"})); a.status != http.StatusOK {
			t.Errorf("the same jti by another key: got %d %v", a.status, a.body)
		}
	})
}

func TestDPoPBoundTokenAsBearerIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, nil)
		token := b.boundTokens(t, c, "ES256").str("access_token")
		wantError(t, h.userinfoAs(t, "Bearer", token), http.StatusUnauthorized, "invalid_token")
		wantError(t, h.userinfoAs(t, "Bearer", token, h.proofBy(t, "ES256", "GET", "/userinfo", token)), http.StatusUnauthorized, "invalid_token")
		r := httptest.NewRequest(http.MethodPost, "/userinfo", strings.NewReader(url.Values{"access_token": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		wantError(t, h.do(t, r), http.StatusUnauthorized, "invalid_token")
		// The other way round: a bearer token does not become better by a proof.
		plain := b.tokens(t, c).str("access_token")
		wantError(t, h.userinfoAs(t, "DPoP", plain, h.proofBy(t, "ES256", "GET", "/userinfo", plain)), http.StatusUnauthorized, "invalid_token")
	})
}

func TestStolenCodeIsUselessWithoutItsKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, public)
		code := func() url.Values { return exchangeForm(b.code(t, c, "dpop_jkt", thumbprintOf("ES256"))) }
		if a := h.proved(t, "/token", c, code(), h.proofBy(t, "ES256", "POST", "/token", "")); a.status != http.StatusOK {
			t.Errorf("right key: got %d %v", a.status, a.body)
		}
		wantError(t, h.proved(t, "/token", c, code(), h.proofBy(t, "other", "POST", "/token", "")), http.StatusBadRequest, "invalid_grant")
		wantError(t, h.proved(t, "/token", c, code()), http.StatusBadRequest, "invalid_grant")
		if q := b.authorize(t, h, c.params("dpop_jkt", "short")); q.Get("error") != "invalid_request" {
			t.Errorf("bad dpop_jkt: got %v", q)
		}
	})
}

func TestStolenRefreshTokenOfAPublicClientIsUselessWithoutItsKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, public)
		try := func(token string, proofs ...string) answer {
			return h.proved(t, "/token", c, refreshForm(token), proofs...)
		}
		proof := func(key string) string { return h.proofBy(t, key, "POST", "/token", "") }
		token := b.boundTokens(t, c, "ES256").str("refresh_token")
		wantError(t, try(token, proof("other")), http.StatusBadRequest, "invalid_grant")
		wantError(t, try(token), http.StatusBadRequest, "invalid_grant")
		// The thief has not even cost the owner the grant.
		h.advanceClock(time.Hour)
		second := try(token, proof("ES256"))
		if second.status != http.StatusOK {
			t.Fatalf("owner: got %d %v", second.status, second.body)
		}
		if again := try(token, proof("ES256")); again.str("refresh_token") != second.str("refresh_token") {
			t.Errorf("a lost answer: got %d %v", again.status, again.body)
		}
		wantError(t, try(second.str("refresh_token")), http.StatusBadRequest, "invalid_grant")

		// A token that was not tied is tied by the first proof.
		loose := b.tokens(t, c).str("refresh_token")
		tied := try(loose, proof("ES256"))
		if tied.status != http.StatusOK || tied.str("token_type") != "DPoP" {
			t.Fatalf("first proof: got %d %v", tied.status, tied.body)
		}
		wantError(t, try(tied.str("refresh_token"), proof("other")), http.StatusBadRequest, "invalid_grant")
		if a := try(tied.str("refresh_token"), proof("ES256")); a.status != http.StatusOK {
			t.Errorf("the key that tied it: got %d %v", a.status, a.body)
		}
		// Revoking needs no proof.
		if a := h.post(t, "/revoke", c, url.Values{"token": {second.str("refresh_token")}}); a.status != http.StatusOK {
			t.Errorf("revoke: got %d %v", a.status, a.body)
		}
		wantError(t, try(second.str("refresh_token"), proof("ES256")), http.StatusBadRequest, "invalid_grant")
	})
}

func TestClientRegisteredForDPoPGetsNoBearerToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) { c.DPoPBound = true })
		code := b.code(t, c)
		wantError(t, h.exchangeCode(t, c, code), http.StatusBadRequest, "invalid_dpop_proof")
		if a := h.proved(t, "/token", c, exchangeForm(code), h.proofBy(t, "ES256", "POST", "/token", "")); a.status != http.StatusOK {
			t.Errorf("the code after the refusal: got %d %v", a.status, a.body)
		}
	})
}

func TestDPoPNonce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.RequireDPoPNonce = true
		b, c := h.person(t), h.client(t, nil)
		code := b.code(t, c)
		proof := func(nonce string, edits ...map[string]any) string {
			return h.proofBy(t, "ES256", "POST", "/token", "", append(edits, map[string]any{"nonce": nonce})...)
		}
		first := h.proved(t, "/token", c, exchangeForm(code), h.proofBy(t, "ES256", "POST", "/token", ""))
		wantError(t, first, http.StatusBadRequest, "use_dpop_nonce")
		nonce := first.header.Get("DPoP-Nonce")
		// A clock that is wrong does no harm now; the code is still there.
		a := h.proved(t, "/token", c, exchangeForm(code), proof(nonce, map[string]any{"iat": h.Now().Add(-time.Hour).Unix()}))
		if a.status != http.StatusOK || a.header.Get("DPoP-Nonce") == "" {
			t.Fatalf("with the nonce: got %d %v", a.status, a.body)
		}
		token := a.str("access_token")
		got := h.userinfoAs(t, "DPoP", token, h.proofBy(t, "ES256", "GET", "/userinfo", token))
		if got.status != http.StatusUnauthorized || got.header.Get("DPoP-Nonce") == "" || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="use_dpop_nonce"`) {
			t.Errorf("userinfo: got %d %v", got.status, got.header)
		}
		if got = h.userinfoAs(t, "DPoP", token, h.proofBy(t, "ES256", "GET", "/userinfo", token, map[string]any{"nonce": nonce})); got.status != http.StatusOK {
			t.Errorf("userinfo with the nonce: got %d %v", got.status, got.body)
		}
		form := url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}}
		wantError(t, h.proved(t, "/token", c, form, proof("x"+nonce[1:])), http.StatusBadRequest, "use_dpop_nonce")
		h.advanceClock((nonceSlots + 1) * nonceSlot) // a proof that was made in advance
		wantError(t, h.proved(t, "/token", c, form, proof(nonce)), http.StatusBadRequest, "use_dpop_nonce")
	})
}

// A page must be able to ask with a proof, and to read the nonce.
func TestDPoPFromABrowser(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		for _, path := range []string{"/token", "/userinfo", "/par"} {
			got := h.do(t, httptest.NewRequest(http.MethodOptions, path, nil))
			if !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "DPoP") {
				t.Errorf("%s: preflight allows %q", path, got.header.Get("Access-Control-Allow-Headers"))
			}
		}
		got := h.do(t, httptest.NewRequest(http.MethodGet, "/userinfo", nil))
		if !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "DPoP-Nonce") || len(got.header.Values("WWW-Authenticate")) != 2 {
			t.Errorf("got %v", got.header)
		}
	})
}

func TestCertificateBoundTokenIsUselessWithoutItsCertificate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.Certificates = Certificates{Direct: true}
		mine, another := issue(t, authority{}, testKeys()["ES256"], nil), issue(t, authority{}, testKeys()["other"], nil)
		ask := func(token string, c *x509.Certificate) answer {
			return h.withCertificate(t, "/userinfo", c, url.Values{"access_token": {token}})
		}
		for name, edit := range map[string]func(c *Client){
			"mutual TLS": func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, keySetOf("", "ES256") }, "public": public,
		} {
			b, c := h.person(t), h.client(t, func(c *Client) { edit(c); c.CertificateBound = true })
			form := exchangeForm(b.code(t, c))
			form.Set("client_id", c.ID)
			a := h.withCertificate(t, "/token", mine, form)
			token := a.str("access_token")
			if a.status != http.StatusOK || a.str("token_type") != "Bearer" {
				t.Fatalf("%s: got %d %v", name, a.status, a.body)
			}
			if _, claims := claimsOf(t, token); claims["cnf"].(map[string]any)["x5t#S256"] != certificateThumbprint(mine) {
				t.Errorf("%s: claims %v", name, claims)
			}
			if got := ask(token, mine); got.status != http.StatusOK {
				t.Errorf("%s: userinfo: got %d %v", name, got.status, got.body)
			}
			wantError(t, ask(token, another), http.StatusUnauthorized, "invalid_token")
			wantError(t, ask(token, nil), http.StatusUnauthorized, "invalid_token")

			form = refreshForm(a.str("refresh_token"))
			form.Set("client_id", c.ID)
			if name == "public" {
				wantError(t, h.withCertificate(t, "/token", another, form), http.StatusBadRequest, "invalid_grant")
				wantError(t, h.withCertificate(t, "/token", nil, form), http.StatusBadRequest, "invalid_request")
			} else {
				got := h.withCertificate(t, "/introspect", mine, url.Values{"token": {token}, "client_id": {c.ID}})
				if cnf, _ := got.body["cnf"].(map[string]any); cnf["x5t#S256"] != certificateThumbprint(mine) {
					t.Errorf("introspection: got %v", got.body)
				}
			}
			if got := h.withCertificate(t, "/token", mine, form); got.status != http.StatusOK {
				t.Errorf("%s: refresh: got %d %v", name, got.status, got.body)
			}
		}
	})
}

func FuzzParseProof(f *testing.F) {
	h := &harness{Server: &Server{Config: Config{Now: time.Now}}}
	for _, key := range dpopAlgs {
		f.Add(h.proofBy(f, key, "GET", "/userinfo", "token"))
	}
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7fX0.eyJqdGkiOiJ4IiwiaWF0IjoxfQ.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parseProof(token)
		if err != nil {
			return
		}
		if !usable(p.jwk) || !verifyJWS(token, p.alg, p.jwk.Key) {
			t.Fatalf("%q is taken for a proof", token)
		}
		_ = h.checkFresh(p)
	})
}

func FuzzNormalURL(f *testing.F) {
	f.Add("https://id.example.test/userinfo")
	f.Add("HTTPS://ID.example.test:443/a/../userinfo?x#y")
	f.Add("https://[::1]:8443/userinfo")
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := normalURL(raw)
		if !ok {
			return
		}
		if again, ok := normalURL(got); !ok || again != got {
			t.Fatalf("%q becomes %q becomes %q, %v", raw, got, again, ok)
		}
	})
}
