package keys_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/keys"
)

// encryptionKeys gives the published keys to encrypt to, by family.
func encryptionKeys(t testing.TB, r *keys.Ring) map[keys.Alg]jose.JSONWebKey {
	t.Helper()
	body, _, err := r.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	found := map[keys.Alg]jose.JSONWebKey{}
	for _, k := range set.Keys {
		if k.Use != "enc" {
			continue
		}
		alg := keys.ECDHES
		if _, ok := k.Key.(*rsa.PublicKey); ok {
			alg = keys.RSAOAEP
		}
		if _, twice := found[alg]; twice {
			t.Errorf("two %s keys are published", alg)
		}
		found[alg] = k
	}
	return found
}

func encrypt(t testing.TB, key jose.JSONWebKey, alg, enc string, options *jose.EncrypterOptions) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.ContentEncryption(enc), jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: key.Key, KeyID: key.KeyID}, options)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt([]byte("a secret"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func family(alg string) keys.Alg {
	if strings.HasPrefix(alg, "RSA") {
		return keys.RSAOAEP
	}
	return keys.ECDHES
}

func TestDecrypt(t *testing.T) {
	t.Parallel()
	r := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	ours := encryptionKeys(t, r)
	for _, alg := range keys.KeyAlgs {
		for _, enc := range keys.ContentAlgs {
			for _, named := range []bool{true, false} {
				key := ours[family(alg)]
				if !named {
					key.KeyID = ""
				}
				payload, cty, err := r.Decrypt(t.Context(), encrypt(t, key, alg, enc, (&jose.EncrypterOptions{}).WithContentType("JWT")))
				if err != nil || string(payload) != "a secret" || cty != "JWT" {
					t.Errorf("%s %s (kid: %v): got %q, %q, %v", alg, enc, named, payload, cty, err)
				}
			}
		}
	}
}

func TestLifeOfAnEncryptionKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		c, master := newClock(), newMaster()
		conf := config(t, d, c, master)
		r := open(t, conf)
		start := c.now()
		first := encryptionKeys(t, r)
		if len(first) != 2 {
			t.Fatalf("published: %v", first)
		}
		other := open(t, conf) // a replica, or the server after a restart
		if got := encryptionKeys(t, other); !cmp.Equal(got[keys.ECDHES].KeyID, first[keys.ECDHES].KeyID) || got[keys.RSAOAEP].KeyID != first[keys.RSAOAEP].KeyID {
			t.Errorf("another replica publishes other keys")
		}
		old := encrypt(t, first[keys.ECDHES], "ECDH-ES+A256KW", "A256GCM", nil)

		c.set(start.Add(rotation))
		maintain(t, r)
		second := encryptionKeys(t, r)
		for alg := range first {
			if second[alg].KeyID == first[alg].KeyID || second[alg].KeyID == "" {
				t.Errorf("%s: not rotated", alg)
			}
		}
		// Who has fetched the key set from the one replica may send to the other.
		if _, _, err := other.Decrypt(t.Context(), encrypt(t, second[keys.RSAOAEP], "RSA-OAEP-256", "A128GCM", nil)); err != nil {
			t.Errorf("new key, on a replica that has not looked: %v", err)
		}
		for _, ring := range []*keys.Ring{r, other} {
			if _, _, err := ring.Decrypt(t.Context(), old); err != nil {
				t.Errorf("to the key before: %v", err)
			}
		}
		if got := states(t, r, keys.ECDHES); !cmp.Equal(got, []string{keys.Retired, keys.Active}) {
			t.Errorf("states: %v", got)
		}

		c.set(start.Add(rotation + cachePeriod + 8*24*time.Hour))
		if _, _, err := r.Decrypt(t.Context(), old); !errors.Is(err, keys.ErrDecrypt) {
			t.Errorf("to a key that is gone: %v", err)
		}
		maintain(t, r)
		var n int
		if err := d.QueryRow(t.Context(), `SELECT count(*) FROM encryption_keys`).Scan(&n); err != nil || n != 2 {
			t.Errorf("%d rows are left (%v), want 2", n, err)
		}
		made, err := r.Rotate(t.Context(), keys.ECDHES)
		if err != nil || len(made) != 1 || made[0].Generation != 3 || encryptionKeys(t, r)[keys.ECDHES].KeyID != made[0].KID {
			t.Errorf("rotate by command: got %+v, %v", made, err)
		}
	})
}

// header makes a token of another header, and breaks nothing else.
func withHeader(token string, edit func(h map[string]any)) string {
	head, rest, _ := strings.Cut(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var h map[string]any
	_ = json.Unmarshal(text, &h)
	edit(h)
	text, _ = json.Marshal(h)
	return base64.RawURLEncoding.EncodeToString(text) + "." + rest
}

func TestForgedEncryptionIsRefused(t *testing.T) {
	t.Parallel()
	r := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	stranger := open(t, config(t, dbtest.OpenSQLite(t), newClock(), newMaster()))
	ours, strangers := encryptionKeys(t, r), encryptionKeys(t, stranger)
	body, _ := published(t, r)
	var signing jose.JSONWebKey // a signing key of ours opens nothing
	for _, k := range body.Keys {
		if _, ok := k.Key.(*ecdsa.PublicKey); ok {
			signing = k
		}
	}
	good := encrypt(t, ours[keys.ECDHES], "ECDH-ES", "A128GCM", nil)
	rsaGood := encrypt(t, ours[keys.RSAOAEP], "RSA-OAEP-256", "A128GCM", nil)
	password, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte("password"), PBES2Count: 1000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: []byte("0123456789abcdef")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	compact := func(e jose.Encrypter) string {
		jwe, err := e.Encrypt([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	signed, _ := sign(t, r, keys.ES256)
	for name, token := range map[string]string{
		"compressed (bomb)":           encrypt(t, ours[keys.ECDHES], "ECDH-ES", "A128GCM", &jose.EncrypterOptions{Compression: jose.DEFLATE}),
		"RSA1_5":                      encrypt(t, ours[keys.RSAOAEP], "RSA1_5", "A128GCM", nil),
		"RSA1_5 by the header":        withHeader(rsaGood, func(h map[string]any) { h["alg"] = "RSA1_5" }),
		"password with huge work":     withHeader(compact(password), func(h map[string]any) { h["p2c"] = 2_000_000_000 }),
		"password":                    compact(password),
		"shared key":                  compact(shared),
		"enc of 192 bits":             encrypt(t, ours[keys.ECDHES], "ECDH-ES", "A192GCM", nil),
		"to another server":           encrypt(t, strangers[keys.ECDHES], "ECDH-ES", "A128GCM", nil),
		"to another's under our kid":  encrypt(t, jose.JSONWebKey{Key: strangers[keys.ECDHES].Key, KeyID: ours[keys.ECDHES].KeyID}, "ECDH-ES", "A128GCM", nil),
		"to our signing key":          encrypt(t, signing, "ECDH-ES", "A128GCM", nil),
		"to our signing key, no name": encrypt(t, jose.JSONWebKey{Key: signing.Key}, "ECDH-ES", "A128GCM", nil),
		"EC alg with an RSA key":      withHeader(rsaGood, func(h map[string]any) { h["alg"] = "ECDH-ES+A256KW" }),
		"RSA alg with an EC key":      withHeader(good, func(h map[string]any) { h["alg"] = "RSA-OAEP" }),
		"critical member":             withHeader(good, func(h map[string]any) { h["crit"] = []string{"x"}; h["x"] = 1 }),
		"epk that is not on the curve": withHeader(good, func(h map[string]any) {
			h["epk"] = map[string]any{"kty": "EC", "crv": "P-256", "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE", "y": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}
		}),
		"epk at infinity":         withHeader(good, func(h map[string]any) { h["epk"] = map[string]any{"kty": "EC", "crv": "P-256", "x": "", "y": ""} }),
		"epk on another curve":    withHeader(good, func(h map[string]any) { h["epk"].(map[string]any)["crv"] = "P-384" }),
		"epk is an RSA key":       withHeader(good, func(h map[string]any) { h["epk"] = map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"} }),
		"no epk":                  withHeader(good, func(h map[string]any) { delete(h, "epk") }),
		"header changed":          withHeader(good, func(h map[string]any) { h["cty"] = "JWT" }),
		"alg is no string":        withHeader(good, func(h map[string]any) { h["alg"] = []string{"ECDH-ES"} }),
		"tag cut":                 good[:strings.LastIndex(good, ".")+1],
		"tag shortened":           good[:len(good)-4],
		"a signed token":          signed,
		"JSON form":               `{"protected":"e30"}`,
		"empty":                   "",
		"five parts":              "....",
		"longer than anybody may": good + strings.Repeat("A", keys.MaxEncrypted),
	} {
		if payload, _, err := r.Decrypt(t.Context(), token); !errors.Is(err, keys.ErrDecrypt) {
			t.Errorf("%s: got %q, %v, want ErrDecrypt", name, payload, err)
		}
	}
	if _, err := r.Verify(good); !errors.Is(err, keys.ErrSignature) {
		t.Errorf("an encrypted token as a signed one: %v", err)
	}
	if _, _, err := r.Decrypt(t.Context(), good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestPlantedEncryptionKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]string{
		"public half of another": `UPDATE encryption_keys SET public = (SELECT public FROM signing_keys WHERE alg = 'ES256') WHERE alg = 'ECDH-ES'`,
		"a signing key":          `INSERT INTO encryption_keys SELECT 'ECDH-ES', 7, kid, public, private, created_at, NULL, NULL FROM signing_keys WHERE alg = 'ES256'`,
		"relabelled":             `UPDATE encryption_keys SET alg = 'RSA-OAEP', generation = 7 WHERE alg = 'ECDH-ES'`,
		"kid swapped":            `UPDATE encryption_keys SET kid = 'x' WHERE alg = 'ECDH-ES'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := config(t, dbtest.OpenSQLite(t), newClock(), newMaster())
			running := open(t, conf)
			body, _, _ := running.JWKS(t.Context())
			if _, err := conf.DB.SQL().ExecContext(t.Context(), plant); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Open(t.Context(), conf); err == nil {
				t.Error("start with a planted key: got no error")
			}
			_ = running.Reload(t.Context()) // may refuse the whole reading; it must never take over the planted key
			if after, _, err := running.JWKS(t.Context()); err != nil || string(after) != string(body) {
				t.Errorf("running server publishes %s (%v), want what it had: %s", after, err, body)
			}
		})
	}
}

func TestStolenDatabaseOpensNoMessage(t *testing.T) {
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
			if _, err := other.Open(private, "encryption key "+alg+" "+kid); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("%s: opened under another master key: %v", alg, err)
			}
			noPrivateMembers(t, []byte(public))
			return nil
		}, `SELECT alg, kid, public, private FROM encryption_keys`); err != nil || n != 2 {
			t.Fatalf("read %d keys: %v", n, err)
		}
	})
}

// Nothing opens but the very messages that were encrypted.
func FuzzDecrypt(f *testing.F) {
	r := open(f, config(f, dbtest.OpenSQLite(f), newClock(), newMaster()))
	for alg, key := range encryptionKeys(f, r) {
		f.Add(encrypt(f, key, string(alg), "A128GCM", nil))
		f.Add(encrypt(f, key, string(alg), "A256CBC-HS512", &jose.EncrypterOptions{Compression: jose.DEFLATE}))
	}
	f.Add("eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTEyOEdDTSIsImVwayI6eyJrdHkiOiJFQyJ9fQ....")
	f.Fuzz(func(t *testing.T, token string) {
		payload, _, err := r.Decrypt(t.Context(), token)
		if err == nil && string(payload) != "a secret" {
			t.Errorf("%q opens to %q", token, payload)
		}
		if err != nil && !errors.Is(err, keys.ErrDecrypt) {
			t.Errorf("error is not ErrDecrypt: %v", err)
		}
	})
}
