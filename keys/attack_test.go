package keys_test

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/keys"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// resigned makes a token of the given header and claims.
func resigned(t *testing.T, header, claims string, sign func(input string) []byte) string {
	t.Helper()
	input := b64(header) + "." + b64(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	r := open(t, config(t, d, newClock(), newMaster()))
	stranger := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	set, _ := published(t, r)
	strangers, _ := published(t, stranger)
	token, kid := sign(t, r, keys.RS256)
	es, esKID := sign(t, r, keys.ES256)
	parts := strings.Split(token, ".")
	foreign, foreignKID := sign(t, stranger, keys.RS256)
	foreignJWK, err := strangers.Key(foreignKID)[0].MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	const claims = `{"sub":"admin"}`
	mac := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write([]byte(input))
			return h.Sum(nil)
		}
	}
	public := set.Key(kid)[0].Key.(*rsa.PublicKey)
	jwk, err := set.Key(kid)[0].MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	// by signs with a key of the attacker's own, under a header that says where to find it.
	by := func(header map[jose.HeaderKey]any) string {
		private := mustGenerate(t)
		options := &jose.SignerOptions{ExtraHeaders: header}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, options)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		out, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	embedded := func() string {
		private := mustGenerate(t)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		out, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	nothing := func(string) []byte { return nil }
	junk := func(string) []byte { return make([]byte, 64) }
	last := token[len(token)-1]

	for name, forged := range map[string]string{
		"alg none":                             resigned(t, `{"alg":"none","kid":"`+kid+`"}`, claims, nothing),
		"alg None":                             resigned(t, `{"alg":"None","kid":"`+kid+`"}`, claims, nothing),
		"alg absent":                           resigned(t, `{"kid":"`+kid+`"}`, claims, nothing),
		"alg empty":                            resigned(t, `{"alg":"","kid":"`+kid+`"}`, claims, nothing),
		"HS256 with the public modulus":        resigned(t, `{"alg":"HS256","kid":"`+kid+`"}`, claims, mac(public.N.Bytes())),
		"HS256 with the public JWK":            resigned(t, `{"alg":"HS256","kid":"`+kid+`"}`, claims, mac(jwk)),
		"algorithm of another of our keys":     resigned(t, `{"alg":"ES256","kid":"`+kid+`"}`, claims, junk),
		"our ES256 token under the RSA kid":    b64(`{"alg":"ES256","kid":"`+kid+`","typ":"at+jwt"}`) + es[strings.Index(es, "."):],
		"our RS256 token under the EC kid":     b64(`{"alg":"RS256","kid":"`+esKID+`","typ":"at+jwt"}`) + token[strings.Index(token, "."):],
		"ES256 of zeros (CVE-2022-21449)":      resigned(t, `{"alg":"ES256","kid":"`+esKID+`"}`, claims, junk),
		"PS256 on an RS256 key":                resigned(t, `{"alg":"PS256","kid":"`+kid+`"}`, claims, junk),
		"embedded jwk":                         embedded(),
		"embedded jwk under our kid":           resigned(t, `{"alg":"RS256","kid":"`+kid+`","jwk":`+string(foreignJWK)+`}`, claims, junk),
		"embedded jwk beside a real token":     b64(`{"alg":"RS256","kid":"`+kid+`","typ":"at+jwt","jwk":`+string(foreignJWK)+`}`) + token[strings.Index(token, "."):],
		"jku":                                  by(map[jose.HeaderKey]any{"jku": "https://evil.example/jwks", "kid": esKID}),
		"x5u":                                  by(map[jose.HeaderKey]any{"x5u": "https://evil.example/cert", "kid": esKID}),
		"x5c":                                  resigned(t, `{"alg":"RS256","kid":"`+kid+`","x5c":["AA=="]}`, claims, junk),
		"crit b64":                             resigned(t, `{"alg":"ES256","kid":"`+esKID+`","b64":false,"crit":["b64"]}`, claims, junk),
		"unknown kid":                          resigned(t, `{"alg":"ES256","kid":"nobody"}`, claims, junk),
		"no kid":                               resigned(t, `{"alg":"ES256"}`, claims, junk),
		"kid as a path":                        resigned(t, `{"alg":"ES256","kid":"../../etc/passwd"}`, claims, junk),
		"kid as SQL":                           resigned(t, `{"alg":"ES256","kid":"' OR 1=1 --"}`, claims, junk),
		"kid is no string":                     resigned(t, `{"alg":"ES256","kid":["`+esKID+`"]}`, claims, junk),
		"alg twice":                            b64(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt","alg":"RS256"}`) + token[strings.Index(token, "."):],
		"member in another case":               b64(`{"ALG":"RS256","kid":"`+kid+`"}`) + token[strings.Index(token, "."):],
		"another server's token":               foreign,
		"another server's token, our kid":      b64(`{"alg":"RS256","kid":"`+kid+`","typ":"at+jwt"}`) + foreign[strings.Index(foreign, "."):],
		"changed claims":                       parts[0] + "." + b64(claims) + "." + parts[2],
		"changed typ":                          b64(`{"alg":"RS256","kid":"`+kid+`","typ":"JWT"}`) + token[strings.Index(token, "."):],
		"truncated signature":                  token[:len(token)-4],
		"signature left out":                   parts[0] + "." + parts[1] + ".",
		"signature missing":                    parts[0] + "." + parts[1],
		"unsecured with our header":            parts[0] + "." + parts[1] + ".AA",
		"detached payload":                     parts[0] + ".." + parts[2],
		"fourth part":                          token + ".AA",
		"second spelling: line break":          token + "\n",
		"second spelling: line break inside":   token[:len(token)-2] + "\r\n" + token[len(token)-2:],
		"second spelling: padding":             token + "=",
		"second spelling: stray bits":          token[:len(token)-1] + string(last+1),
		"second spelling: leading space":       " " + token,
		"JSON serialization":                   `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"DER signature instead of r and s":     resigned(t, `{"alg":"ES256","kid":"`+esKID+`"}`, claims, func(string) []byte { return []byte{0x30, 6, 2, 1, 1, 2, 1, 1} }),
		"empty":                                "",
		"only periods":                         "..",
		"larger than any request":              strings.Repeat("a", 65<<10),
		"deeply nested header":                 b64(strings.Repeat("[", 5000)) + ".e30.AA",
		"five-part JWE":                        "a.b.c.d.e",
		"invalid UTF-8 in the header":          b64("{\"alg\":\"ES256\",\"kid\":\"\xff\"}") + ".e30.AA",
		"our header with a private jwk member": b64(`{"alg":"ES256","kid":"`+esKID+`","d":"AA"}`) + es[strings.Index(es, "."):],
	} {
		for kind, verify := range map[string]func(string) (keys.Verified, error){"Verify": r.Verify, "VerifyHint": r.VerifyHint} {
			if v, err := verify(forged); !errors.Is(err, keys.ErrSignature) || v.KID != "" || v.Claims != nil {
				t.Errorf("%s: %s: got %+v, %v, want ErrSignature and nothing", name, kind, v, err)
			}
		}
	}
	if _, err := r.Verify(token); err != nil {
		t.Errorf("the real token: %v", err)
	}
}

// Whoever can write the database must not be able to publish a key of his own, or swap one key for another.
func TestPlantedKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]string{
		"sealed under another master": `INSERT INTO signing_keys SELECT alg, 7, kid, public, private, created_at, active_at, retired_at, gone_at FROM evil.signing_keys WHERE alg = 'ES256'`,
		"public half swapped":         `UPDATE signing_keys SET public = (SELECT public FROM evil.signing_keys WHERE alg = 'ES256') WHERE alg = 'ES256'`,
		"public half and kid swapped": `UPDATE signing_keys SET public = e.public, kid = e.kid FROM (SELECT public, kid FROM evil.signing_keys WHERE alg = 'ES256') e WHERE alg = 'ES256'`,
		"private half of another key": `UPDATE signing_keys SET private = (SELECT private FROM signing_keys WHERE alg = 'EdDSA') WHERE alg = 'ES256'`,
		"algorithm relabelled":        `UPDATE signing_keys SET alg = 'RS256', generation = 9 WHERE alg = 'ES256'`,
		"garbage":                     `UPDATE signing_keys SET public = '{"kty":"oct","k":"AAAA"}' WHERE alg = 'ES256'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := config(t, dbtest.OpenSQLite(t), newClock(), newMaster())
			running := open(t, conf)
			token, _ := sign(t, running, keys.ES256)
			body, _, _ := running.JWKS(t.Context())

			url := dbtest.SQLiteURL(t)
			evil, err := db.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer evil.Close()
			dbtest.Migrate(t, evil)
			open(t, config(t, evil, newClock(), newMaster()))
			if _, err := conf.DB.SQL().ExecContext(t.Context(), `ATTACH DATABASE $1 AS evil`, strings.TrimPrefix(url, "sqlite:")); err != nil {
				t.Fatal(err)
			}
			if _, err := conf.DB.SQL().ExecContext(t.Context(), plant); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Open(t.Context(), conf); err == nil {
				t.Error("start with a planted key: got no error")
			}
			// A server that runs already may refuse the whole reading; it must never take over the planted key.
			_ = running.Reload(t.Context())
			if after, _, err := running.JWKS(t.Context()); err != nil || string(after) != string(body) {
				t.Errorf("running server publishes %s (%v), want what it had: %s", after, err, body)
			}
			if _, err := running.Verify(token); err != nil {
				t.Errorf("running server: %v", err)
			}
		})
	}
}

func TestStolenDatabaseHasNoPrivateKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		open(t, config(t, d, newClock(), newMaster()))
		other, err := seal.New(newMaster())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := d.Query(t.Context(), func(row db.Scanner) error {
			var alg, kid, public string
			var private []byte
			if err := row.Scan(&alg, &kid, &public, &private); err != nil {
				return err
			}
			n++
			if _, err := other.Open(private, "signing key "+alg+" "+kid); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("%s: opened under another master key: %v", alg, err)
			}
			noPrivateMembers(t, []byte(public))
			return nil
		}, `SELECT alg, kid, public, private FROM signing_keys`); err != nil || n != 3 {
			t.Fatalf("read %d keys: %v", n, err)
		}
	})
}

func TestJWKSHasNoPrivateMembers(t *testing.T) {
	t.Parallel()
	r := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	if _, err := r.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	body, etag, err := r.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil || len(set.Keys) != 8 {
		t.Fatalf("key set: %d keys, %v", len(set.Keys), err)
	}
	seen := map[string]bool{}
	for _, raw := range set.Keys {
		noPrivateMembers(t, raw)
		var k struct{ Kid, Use, Alg, Kty string }
		if err := json.Unmarshal(raw, &k); err != nil {
			t.Fatal(err)
		}
		if k.Kid == "" || seen[k.Kid] || (k.Use != "sig" || k.Alg == "") && k.Use != "enc" || k.Kty == "" {
			t.Errorf("published key %s: kid must be distinct, use sig and alg, or use enc, and kty present", raw)
		}
		seen[k.Kid] = true
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil || !jwk.Valid() || !jwk.IsPublic() {
			t.Errorf("published key %s: not a valid public key: %v", raw, err)
		}
	}
	if strings.ContainsAny(string(body), "=") {
		t.Errorf("key set has padded base64: %s", body)
	}
	if len(etag) < 10 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		t.Errorf("entity tag %s is not quoted", etag)
	}
}

// noPrivateMembers allows only the members of a public key (RFC 7518 §6, RFC 8037 §2).
func noPrivateMembers(t *testing.T, jwk []byte) {
	t.Helper()
	allowed := map[string]bool{"kty": true, "use": true, "alg": true, "kid": true, "n": true, "e": true, "crv": true, "x": true, "y": true}
	var members map[string]any
	if err := json.Unmarshal(jwk, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if !allowed[name] {
			t.Errorf("published key has member %q", name)
		}
	}
}
