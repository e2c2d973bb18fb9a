package oauth

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The metadata names certificates exactly when they can be found, and each method that a client may be registered for.
func TestMetadataNamesWhatWorks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		methods := []string{AuthBasic, AuthPost, AuthPrivateKeyJWT, AuthSecretJWT}
		for _, row := range []struct {
			name    string
			c       Certificates
			methods []string
			aliases int
		}{
			{"none", Certificates{URL: "https://mtls.example.test"}, methods, 0},
			{"self-signed", Certificates{Header: "Client-Cert"}, append(methods[:4:4], AuthSelfSignedTLS), 0},
			{"authorities", Certificates{Direct: true, CAs: pool(newAuthority(t).certificate), URL: "https://mtls.example.test"}, append(methods[:4:4], AuthTLS, AuthSelfSignedTLS), 7},
		} {
			config := h.Config
			config.Certificates = row.c
			var got metadata
			if err := json.Unmarshal(must(New(config)).metadata.body, &got); err != nil {
				t.Fatal(err)
			}
			withNone := append(row.methods[:len(row.methods):len(row.methods)], AuthNone)
			if d := cmp.Diff(withNone, got.TokenAuthMethods) + cmp.Diff(withNone, got.RevocationAuthMethods) + cmp.Diff(row.methods, got.IntrospectionAuthMethods); d != "" {
				t.Errorf("%s: methods (-want +got):\n%s", row.name, d)
			}
			if got.CertificateBound != row.c.enabled() || len(got.Aliases) != row.aliases {
				t.Errorf("%s: bound %v, aliases %v", row.name, got.CertificateBound, got.Aliases)
			}
			if d := cmp.Diff([]string{"RS256", "PS256", "ES256", "EdDSA", "Ed25519", "HS256"}, got.TokenAuthAlgs) + cmp.Diff(dpopAlgs, got.DPoPAlgs); d != "" {
				t.Errorf("%s: algorithms (-want +got):\n%s", row.name, d)
			}
		}
	})
}
