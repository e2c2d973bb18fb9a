package keys_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/keys"
)

func mustGenerate(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Nothing verifies but the very tokens that were signed, byte for byte.
func FuzzVerify(f *testing.F) {
	r := open(f, config(f, dbtest.OpenSQLite(f), newClock(), newMaster()))
	ours := map[string]bool{}
	for _, alg := range algs {
		token, _ := sign(f, r, alg)
		ours[token] = true
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		v, err := r.Verify(token)
		switch {
		case err == nil && !ours[token]:
			t.Errorf("verified a token that was never signed: %q → %+v", token, v)
		case err != nil && ours[token]:
			t.Errorf("refused a token that was signed: %v", err)
		case err != nil && !errors.Is(err, keys.ErrSignature):
			t.Errorf("error is not ErrSignature: %v", err)
		}
		if _, hint := r.VerifyHint(token); (hint == nil) != (err == nil) {
			t.Errorf("hint and token disagree while no key is gone: %v, %v", hint, err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	r := open(b, config(b, dbtest.OpenSQLite(b), newClock(), newMaster()))
	claims := map[string]any{
		"iss": "https://id.example.com", "sub": "0190c0de-0000-7000-8000-000000000000", "aud": "app", "exp": 1893456000,
		"iat": 1893452400, "jti": "0190c0de-0000-7000-8000-000000000001", "client_id": "app", "scope": "openid profile email",
	}
	for _, alg := range algs {
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Sign(b.Context(), alg, "at+jwt", claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	r := open(b, config(b, dbtest.OpenSQLite(b), newClock(), newMaster()))
	for _, alg := range algs {
		b.Run(string(alg), func(b *testing.B) {
			token, _ := sign(b, r, alg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJWKS(b *testing.B) {
	r := open(b, config(b, dbtest.OpenSQLite(b), newClock(), newMaster()))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.JWKS(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
