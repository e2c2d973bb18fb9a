package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/keys"
)

// Keys that test clients have messages encrypted to.
var boxKeys = sync.OnceValue(func() map[string]crypto.Signer {
	return map[string]crypto.Signer{
		"RSA": must(rsa.GenerateKey(rand.Reader, 2048)), "P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"P-384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "P-521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
	}
})

// boxFor names the key that fits an algorithm.
func boxFor(alg string) string {
	if strings.HasPrefix(alg, "RSA") {
		return "RSA"
	}
	return "P-256"
}

// boxSet publishes an ES256 key for signatures, an RSA key that must not be taken, and the named keys for encryption.
func boxSet(names ...string) json.RawMessage {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: testKeys()["ES256"].Public(), KeyID: "sig", Use: "sig"}, {Key: testKeys()["RS256"].Public(), KeyID: "sig-rsa", Use: "sig"},
	}}
	for _, name := range names {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: boxKeys()[name].Public(), KeyID: "box-" + name, Use: "enc"})
	}
	return must(json.Marshal(set))
}

// opened reads a JWE as its client would.
func openedBox(t testing.TB, token, alg, enc, key string) (payload, cty string) {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.KeyAlgorithm(alg)}, []jose.ContentEncryption{jose.ContentEncryption(enc)})
	if err != nil {
		t.Fatalf("%s %s: %v: %s", alg, enc, err, token)
	}
	if jwe.Header.KeyID != "box-"+key {
		t.Errorf("%s: encrypted to %q, want box-%s", alg, jwe.Header.KeyID, key)
	}
	plain, err := jwe.Decrypt(boxKeys()[key])
	if err != nil {
		t.Fatalf("%s %s: %v", alg, enc, err)
	}
	cty, _ = jwe.Header.ExtraHeaders[jose.HeaderContentType].(string)
	return string(plain), cty
}

// signedBox reads a signed token of ours out of a JWE.
func (h *harness) signedBox(t testing.TB, token, alg, enc, key string) (typ string, claims map[string]any) {
	t.Helper()
	inner, cty := openedBox(t, token, alg, enc, key)
	if cty != "JWT" {
		t.Errorf("cty %q, want JWT", cty)
	}
	verified, err := h.Keys.Verify(inner)
	if err != nil {
		t.Fatalf("inside: %v", err)
	}
	if err := json.Unmarshal(verified.Claims, &claims); err != nil {
		t.Fatal(err)
	}
	return verified.Typ, claims
}

func all(alg, enc string) Encryption {
	return Encryption{
		IDTokenKeyAlg: alg, IDTokenEnc: enc, UserinfoKeyAlg: alg, UserinfoEnc: enc, AnswerKeyAlg: alg, AnswerEnc: enc, IntrospectionKeyAlg: alg, IntrospectionEnc: enc,
	}
}

// introspectSigned asks for the signed form of an answer.
func (h *harness) introspectSigned(t testing.TB, c registered, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.secret))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/"+typIntrospection)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

func (h *harness) rawUserinfo(t testing.TB, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("userinfo: %d %s", w.Code, w.Body)
	}
	return w
}

// pairsOf is every algorithm for keys, and every one for content, at least once.
func pairsOf() [][2]string {
	var pairs [][2]string
	for i, alg := range keys.KeyAlgs {
		pairs = append(pairs, [2]string{alg, keys.ContentAlgs[i%len(keys.ContentAlgs)]})
	}
	return append(pairs, [2]string{"ECDH-ES", ""})
}

func TestEncryptedMessages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, pair := range pairsOf() {
			alg, enc := pair[0], pair[1]
			c := h.client(t, func(c *Client) {
				c.JWKS, c.Encryption, c.UserinfoAlg, c.IntrospectionAlg = boxSet("P-256", "RSA"), all(alg, enc), "EdDSA", "EdDSA"
			})
			key := boxFor(alg)
			if enc == "" {
				enc = defaultEnc
			}
			b.consent(t, c)
			answer := b.authorize(t, h, c.params("response_mode", "jwt"))
			_, claims := h.signedBox(t, answer.Get("response"), alg, enc, key)
			code, _ := claims["code"].(string)
			if claims["aud"] != c.ID || claims["state"] != "s" {
				t.Errorf("answer: %v", claims)
			}
			tokens := h.exchangeCode(t, c, code)
			if typ, claims := h.signedBox(t, tokens.str("id_token"), alg, enc, key); typ != "JWT" || claims["sub"] != b.user.ID || claims["nonce"] != "n-0S6_WzA2Mj" || claims["at_hash"] == nil {
				t.Errorf("ID token: %s %v", typ, claims)
			}
			refreshed := h.refreshToken(t, c, tokens.str("refresh_token"))
			h.signedBox(t, refreshed.str("id_token"), alg, enc, key)

			w := h.rawUserinfo(t, tokens.str("access_token"))
			if typ, claims := h.signedBox(t, w.Body.String(), alg, enc, key); typ != typUserinfo || claims["email"] != b.user.Email || claims["aud"] != c.ID || w.Header().Get("Content-Type") != "application/jwt" {
				t.Errorf("userinfo: %s %v", typ, claims)
			}
			w = h.introspectSigned(t, c, tokens.str("access_token"))
			typ, claims := h.signedBox(t, w.Body.String(), alg, enc, key)
			about, _ := claims["token_introspection"].(map[string]any)
			if typ != typIntrospection || about["active"] != true || w.Header().Get("Content-Type") != "application/"+typIntrospection {
				t.Errorf("introspection: %s %v", typ, claims)
			}
		}
	})
}

func TestUserinfoEncryptedOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b := h.person(t)
		for _, curve := range []string{"P-256", "P-384", "P-521"} {
			c := h.client(t, func(c *Client) {
				c.JWKS = boxSet(curve)
				c.UserinfoKeyAlg, c.UserinfoEnc = "ECDH-ES+A256KW", "A256GCM"
			})
			w := h.rawUserinfo(t, b.tokens(t, c).str("access_token"))
			plain, cty := openedBox(t, w.Body.String(), "ECDH-ES+A256KW", "A256GCM", curve)
			var claims map[string]any
			if err := json.Unmarshal([]byte(plain), &claims); err != nil || cty != "" || claims["email"] != b.user.Email || claims["aud"] != c.ID || claims["iss"] != testIssuer {
				t.Errorf("%s: got %s (cty %q), %v", curve, plain, cty, err)
			}
			if got := w.Header().Get("Content-Type"); got != "application/jwt" {
				t.Errorf("content type %q", got)
			}
		}
	})
}

func TestLogoutTokenIsEncryptedAsIDTokensAre(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		r := newReceiver(t)
		p := publish(t, nil)
		p.set(http.StatusOK, boxSet("RSA"))
		h.fetching()
		b, c := h.person(t), h.client(t, func(c *Client) {
			r.hears(c)
			c.JWKSURI, c.IDTokenKeyAlg, c.IDTokenEnc = p.URL+"/", "RSA-OAEP-256", "A128GCM"
		})
		_, id := h.signedBox(t, b.tokens(t, c).str("id_token"), "RSA-OAEP-256", "A128GCM", "RSA")
		if err := h.people.EndSession(t.Context(), b.user.ID, b.session.ID); err != nil {
			t.Fatal(err)
		}
		h.deliver(t)
		got := r.got()
		if len(got) != 1 {
			t.Fatalf("told %d times", len(got))
		}
		if typ, claims := h.signedBox(t, got[0], "RSA-OAEP-256", "A128GCM", "RSA"); typ != typLogoutToken || claims["sub"] != id["sub"] || claims["sid"] != id["sid"] {
			t.Errorf("logout token: %s %v", typ, claims)
		}
	})
}

// What must be encrypted is not sent in clear text, whatever the client does with its keys.
func TestNothingIsSentUnencryptedForLackOfAKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.fetching()
		p := publish(t, nil)
		p.set(http.StatusOK, boxSet("P-256"))
		b, c := h.person(t), h.client(t, func(c *Client) {
			c.JWKSURI, c.Encryption = p.URL+"/", all("RSA-OAEP-256", "")
		})
		b.consent(t, c)
		wantError(t, h.exchangeCode(t, c, b.code(t, c)), http.StatusBadRequest, "invalid_request")
		if w := b.get(h, "/authorize?"+c.params("response_mode", "jwt").Encode()); w.Header().Get("Location") != "" || w.Code != http.StatusBadRequest {
			t.Errorf("answer: got %d %s, want a page", w.Code, w.Header().Get("Location"))
		}
		p.set(http.StatusOK, boxSet("P-256", "RSA")) // a key that was published since is looked for
		h.advanceClock(keySetRefetch)
		h.signedBox(t, b.tokens(t, c).str("id_token"), "RSA-OAEP-256", defaultEnc, "RSA")
		p.set(http.StatusInternalServerError, nil)
		h.advanceClock(2 * keySetStale)
		wantError(t, h.exchangeCode(t, c, b.code(t, c)), http.StatusServiceUnavailable, "temporarily_unavailable")
	})
}

// toServer encrypts a text to a key of the server, as a client would.
func (h *harness) toServer(t testing.TB, alg, enc, payload string, options *jose.EncrypterOptions) string {
	t.Helper()
	return boxed(t, h.serverKey(t, alg), alg, enc, payload, options)
}

func (h *harness) serverKey(t testing.TB, alg string) jose.JSONWebKey {
	t.Helper()
	body, _, err := h.Keys.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if _, isRSA := k.Key.(*rsa.PublicKey); k.Use == "enc" && isRSA == strings.HasPrefix(alg, "RSA") {
			return k
		}
	}
	t.Fatalf("no key for %s in %s", alg, body)
	return jose.JSONWebKey{}
}

func boxed(t testing.TB, key jose.JSONWebKey, alg, enc, payload string, options *jose.EncrypterOptions) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.ContentEncryption(enc), jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: key.Key, KeyID: key.KeyID}, options)
	if err != nil {
		t.Fatal(err)
	}
	return must(must(e.Encrypt([]byte(payload))).CompactSerialize())
}

func TestEncryptedRequestObject(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.fetching()
		p := publish(t, nil)
		b, c := h.person(t), h.client(t, signing("ES256", func(c *Client) {
			c.RequireRequest, c.RequestURIs = true, []string{p.URL + "/request"}
			c.RequestObjectKeyAlg, c.RequestObjectEnc = "RSA-OAEP", "A128GCM" // what it says; others are good, too
		}))
		b.consent(t, c)
		for _, pair := range pairsOf() {
			alg, enc := pair[0], pair[1]
			if enc == "" {
				enc = defaultEnc
			}
			object := h.toServer(t, alg, enc, h.object(t, c, nil), (&jose.EncrypterOptions{}).WithContentType("JWT"))
			p.set(http.StatusOK, json.RawMessage(object))
			for way, v := range map[string]url.Values{
				"by value": beside(c, object), "by reference": byReference(c, p.URL+"/request"), "pushed": byReference(c, h.pushForm(t, c, beside(c, object))),
			} {
				if q := b.authorize(t, h, v); q.Get("state") != "signed-state" || q.Get("code") == "" {
					t.Errorf("%s %s %s: got %v", alg, enc, way, q)
				}
			}
		}
	})
}

func TestForgedEncryptedRequestObjectsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, signing("ES256", func(c *Client) { c.RequireRequest = true }))
		b.consent(t, c)
		good := h.object(t, c, nil)
		plain := string(must(json.Marshal(h.objectFor(c, nil))))
		own := jose.JSONWebKey{Key: testKeys()["ES256"].Public(), KeyID: "k"}
		for name, object := range map[string]string{
			"nothing signed inside":          h.toServer(t, "ECDH-ES", "A128GCM", plain, nil),
			"alg none inside":                h.toServer(t, "ECDH-ES", "A128GCM", sign(t, "none", nil, nil, h.objectFor(c, nil)), nil),
			"signed by another inside":       h.toServer(t, "ECDH-ES", "A128GCM", sign(t, "ES256", testKeys()["other"], nil, h.objectFor(c, nil)), nil),
			"HMAC by the public key inside":  h.toServer(t, "ECDH-ES", "A128GCM", sign(t, "HS256", c.JWKS, nil, h.objectFor(c, nil)), nil),
			"another one inside":             h.toServer(t, "ECDH-ES", "A128GCM", h.toServer(t, "ECDH-ES", "A128GCM", good, nil), nil),
			"expired inside":                 h.toServer(t, "ECDH-ES", "A128GCM", h.object(t, c, map[string]any{"exp": h.Now().Add(-time.Hour).Unix()}), nil),
			"nothing inside":                 h.toServer(t, "ECDH-ES", "A128GCM", "", nil),
			"compressed (bomb)":              h.toServer(t, "ECDH-ES", "A128GCM", good, &jose.EncrypterOptions{Compression: jose.DEFLATE}),
			"compressed zeros":               h.toServer(t, "RSA-OAEP", "A128GCM", strings.Repeat("\x00", 4<<20), &jose.EncrypterOptions{Compression: jose.DEFLATE}),
			"RSA1_5":                         h.toServer(t, "RSA1_5", "A128GCM", good, nil),
			"A192GCM":                        h.toServer(t, "ECDH-ES", "A192GCM", good, nil),
			"to the client itself":           boxed(t, own, "ECDH-ES", "A128GCM", good, nil),
			"client's key under our name":    boxed(t, jose.JSONWebKey{Key: own.Key, KeyID: h.serverKey(t, "ECDH-ES").KeyID}, "ECDH-ES", "A128GCM", good, nil),
			"by the client's secret":         directly(t, []byte("0123456789abcdef"), good),
			"too long":                       h.toServer(t, "ECDH-ES", "A128GCM", h.object(t, c, map[string]any{"x": strings.Repeat("x", maxJWS)}), nil),
			"another client's request":       h.toServer(t, "ECDH-ES", "A128GCM", h.object(t, c, map[string]any{"client_id": "other"}), nil),
			"the object of a client, broken": h.toServer(t, "ECDH-ES", "A128GCM", good, nil) + "A",
		} {
			q := b.authorize(t, h, beside(c, object, "redirect_uri", testRedirect, "state", "outside"))
			if q.Get("error") != "invalid_request_object" || q.Get("code") != "" {
				t.Errorf("%s: got %v", name, q)
			}
		}
		// Where a signature is asked for, an encrypted text proves nothing.
		keyed := h.client(t, func(c *Client) { byKeys(keySetOf("", "ES256"))(c) })
		assertion := h.toServer(t, "ECDH-ES", "A128GCM", sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(keyed, nil)), nil)
		wantError(t, h.asserted(t, assertion), http.StatusUnauthorized, "invalid_client")
		access := b.tokens(t, h.client(t, nil)).str("access_token")
		if a := h.userinfoAnswer(t, h.toServer(t, "ECDH-ES", "A128GCM", access, nil)); a.status != http.StatusUnauthorized {
			t.Errorf("encrypted access token: got %d", a.status)
		}
	})
}

func directly(t testing.TB, key []byte, payload string) string {
	t.Helper()
	e := must(jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: key}, nil))
	return must(must(e.Encrypt([]byte(payload))).CompactSerialize())
}

// An ID token that was encrypted to the client is no hint; decrypted it is, and encrypted anew, to this server.
func TestEncryptedHint(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, func(c *Client) { c.JWKS, c.IDTokenKeyAlg = boxSet("P-256"), "ECDH-ES" })
		b.consent(t, c)
		sealed := b.tokens(t, c).str("id_token")
		inner, _ := openedBox(t, sealed, "ECDH-ES", defaultEnc, "P-256")
		hinted := func(hint string) url.Values {
			return b.authorize(t, h, c.params("prompt", "none", "id_token_hint", hint))
		}
		if q := hinted(sealed); q.Get("error") != "invalid_request" {
			t.Errorf("encrypted to the client: got %v", q)
		}
		for name, hint := range map[string]string{"decrypted": inner, "encrypted anew": h.toServer(t, "RSA-OAEP-256", "A256GCM", inner, nil)} {
			if q := hinted(hint); q.Get("code") == "" {
				t.Errorf("%s: got %v", name, q)
			}
			if out, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {hint}}); err != nil || out.Refused != "" || out.SessionID == "" {
				t.Errorf("%s, at logout: got %+v, %v", name, out, err)
			}
		}
		if out, err := h.ReadLogout(t.Context(), url.Values{"id_token_hint": {sealed}}); err != nil || out.Refused != RefusedHint {
			t.Errorf("at logout: got %+v, %v", out, err)
		}
		forged := h.toServer(t, "ECDH-ES", "A128GCM", `{"iss":"`+testIssuer+`","sub":"`+b.user.ID+`","aud":"`+c.ID+`"}`, nil)
		if q := hinted(forged); q.Get("error") != "invalid_request" {
			t.Errorf("unsigned: got %v", q)
		}
	})
}

func TestEncryptionValidation(t *testing.T) {
	t.Parallel()
	check := func(set json.RawMessage, e Encryption) error {
		c := Client{ID: "x", Name: "x", RedirectURIs: []string{testRedirect}, RequirePKCE: true, Encryption: e, Credentials: Credentials{JWKS: set}}.WithDefaults()
		return c.Validate()
	}
	for _, alg := range keys.KeyAlgs {
		if err := check(boxSet("RSA", "P-384"), all(alg, "A256GCM")); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if err := check(must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: boxKeys()["P-521"].Public()}}})), all("ECDH-ES", "")); err != nil {
		t.Errorf("key without use: %v", err)
	}
	for name, bad := range map[string]struct {
		set json.RawMessage
		e   Encryption
	}{
		"no keys":            {nil, all("ECDH-ES", "")},
		"signature key only": {boxSet(), all("RSA-OAEP", "")},
		"key of another alg": {boxSet("P-256"), all("RSA-OAEP-256", "")},
		"key named for another alg": {must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: boxKeys()["RSA"].Public(), Algorithm: "RSA-OAEP"},
		}})), all("RSA-OAEP-256", "")},
		"RSA1_5":      {boxSet("RSA"), all("RSA1_5", "")},
		"dir":         {boxSet("RSA"), all("dir", "")},
		"PBES2":       {boxSet("RSA"), all("PBES2-HS256+A128KW", "")},
		"enc":         {boxSet("RSA"), all("RSA-OAEP", "A192GCM")},
		"enc alone":   {boxSet("RSA"), all("", "A128GCM")},
		"object alg":  {nil, Encryption{RequestObjectKeyAlg: "RSA1_5"}},
		"object enc":  {nil, Encryption{RequestObjectKeyAlg: "RSA-OAEP", RequestObjectEnc: "none"}},
		"object enc ": {nil, Encryption{RequestObjectEnc: "A128GCM"}},
	} {
		if err := check(bad.set, bad.e); err == nil || !strings.Contains(err.Error(), "_alg") && !strings.Contains(err.Error(), "_enc") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	c := Client{ID: "x", Name: "x", AuthMethod: AuthPrivateKeyJWT, RedirectURIs: []string{testRedirect}, RequirePKCE: true, Credentials: Credentials{JWKS: must(json.Marshal(jose.JSONWebKeySet{
		Keys: []jose.JSONWebKey{{Key: boxKeys()["RSA"].Public(), Use: "enc"}},
	}))}}.WithDefaults()
	if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "jwks") {
		t.Errorf("an encryption key as the only proof: got %v", err)
	}
}

// A key that the client set aside for encryption proves nothing about who signs.
func TestEncryptionKeySignsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		c := h.client(t, byKeys(boxSet("P-256", "RSA")))
		for _, alg := range []string{"ES256", "RS256", "PS256"} {
			key := boxKeys()[map[string]string{"ES256": "P-256"}[alg]]
			if key == nil {
				key = boxKeys()["RSA"]
			}
			for _, kid := range []any{nil, "box-P-256", "box-RSA"} {
				head := map[string]any{}
				if kid != nil {
					head["kid"] = kid
				}
				wantError(t, h.asserted(t, sign(t, alg, key, head, h.assertionFor(c, nil))), http.StatusUnauthorized, "invalid_client")
			}
		}
		if a := h.asserted(t, sign(t, "ES256", testKeys()["ES256"], nil, h.assertionFor(c, nil))); a.status != http.StatusOK {
			t.Errorf("its signature key: got %d %v", a.status, a.body)
		}
	})
}

func FuzzEncryptedRequestObject(f *testing.F) {
	h := newHarness(f, dbtest.OpenSQLite(f), cache.NewMemory(nil))
	c := h.client(f, signing("ES256"))
	f.Add([]byte(h.object(f, c, nil)), "ECDH-ES", "A128GCM", "")
	f.Add([]byte("{}"), "RSA-OAEP-256", "A256CBC-HS512", "DEF")
	f.Add([]byte("...."), "RSA1_5", "A128GCM", "")
	f.Fuzz(func(t *testing.T, inner []byte, alg, enc, zip string) {
		head := map[string]any{"alg": alg, "enc": enc}
		if zip != "" {
			head["zip"] = zip
		}
		part := base64.RawURLEncoding.EncodeToString
		loose := part(must(json.Marshal(head))) + "." + part(inner) + "." + part(inner) + "." + part(inner) + "." + part(inner)
		if _, err := h.unsealed(t.Context(), loose); !errors.Is(err, keys.ErrDecrypt) {
			t.Fatalf("%q opens: %v", loose, err)
		}
		if len(inner) > keys.MaxEncrypted/2 {
			return
		}
		token, err := h.unsealed(t.Context(), h.toServer(t, "ECDH-ES", "A128GCM", string(inner), nil))
		if err != nil || token != string(inner) {
			t.Fatalf("got %q, %v, want what was encrypted", token, err)
		}
		if o, err := parseRequestObject(token); err == nil {
			_, _ = o.form()
		}
	})
}
