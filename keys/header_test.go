package keys

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Even under our own signature a header that brings a key or rules along is refused (RFC 8725 §3.10): no future caller
// of Sign can make Verify look at them.
func TestForeignHeaderMembersAreRefused(t *testing.T) {
	t.Parallel()
	d, master := dbtest.OpenSQLite(t), make([]byte, seal.KeySize)
	_, _ = rand.Read(master)
	s, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), Config{DB: d, Seal: s, Audit: audit.New(d, slog.New(slog.DiscardHandler), nil), TokenLife: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	k := r.keys.Load().active(ES256, time.Now())
	for member, ok := range map[string]bool{
		``:                     true,
		`,"typ":"JWT"`:         true,
		`,"jku":"https://e.x"`: false,
		`,"x5u":"https://e.x"`: false,
		`,"x5t":"AA"`:          false,
		`,"cty":"JWT"`:         false,
		`,"nonce":"x"`:         false,
		`,"jwk":{}`:            false,
		`,"crit":["exp"]`:      false,
		`,"typ":1`:             false,
		`,"typ":null`:          true, // decodes as absent
	} {
		head := `{"alg":"ES256","kid":"` + k.KID + `"` + member + `}`
		input := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{}`))
		signature, err := k.sign([]byte(input))
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Verify(input + "." + base64.RawURLEncoding.EncodeToString(signature))
		if ok && err != nil || !ok && !errors.Is(err, ErrSignature) {
			t.Errorf("header %s: got %v, want accepted = %v", head, err, ok)
		}
	}
}
