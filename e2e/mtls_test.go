package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority keeps what it issues in a directory, and itself there as ca.pem.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, true)
	return a
}

// issue makes a certificate and writes it with its key; alone, it is signed by its own key.
func (a *authority) issue(name string, c *x509.Certificate, alone bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if alone {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	text := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	)
	if err := os.WriteFile(a.file(name), text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

// Apps that prove who they are by certificates, and tokens that are tied to one, at a server that speaks TLS itself.
func TestMutualTLSStory(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(*testing.T) rig.Setup{"embedded": embedded, "postgres and redis": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			ca.issue("server", &x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, false)
			forClient := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			ca.issue("named", &x509.Certificate{Subject: pkix.Name{CommonName: "billing", Organization: []string{"Example"}}, ExtKeyUsage: forClient}, false)
			ca.issue("other", &x509.Certificate{Subject: pkix.Name{CommonName: "other"}, ExtKeyUsage: forClient}, false)
			_, own := ca.issue("self-signed", &x509.Certificate{Subject: pkix.Name{CommonName: "billing"}, ExtKeyUsage: forClient}, true)
			set := setup(t)
			set.Cert, set.Key, set.Roots = ca.file("server"), ca.file("server"), x509.NewCertPool()
			set.Roots.AddCert(ca.cert)
			set.Env = append(slices.Clone(set.Env), "GATEHOUSE_MTLS_LISTEN=127.0.0.1:"+strconv.Itoa(freePort(t)), "GATEHOUSE_MTLS_CA="+ca.file("ca"))
			s := start(t, set)
			email := "ada@example.test"
			userID := newUser(t, s, email)

			keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: own.Public()}}})
			if err != nil {
				t.Fatal(err)
			}
			ownFile, storyFile := filepath.Join(ca.dir, "own.json"), filepath.Join(ca.dir, "keys.json")
			for file, text := range map[string][]byte{ownFile: keys, storyFile: storyKeys().public} {
				if err := os.WriteFile(file, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			apps := registerAll(t, s, storyFile, "", map[string][]string{
				"named":       web("--auth-method", "tls_client_auth", "--tls-client-auth-subject-dn", "CN=billing,O=Example", "--certificate-bound"),
				"self-signed": web("--auth-method", "self_signed_tls_client_auth", "--jwks", ownFile, "--certificate-bound"),
				"fapi":        keyed(web("--profile", "fapi2-security", "--auth-method", "private_key_jwt", "--certificate-bound")),
			})
			got := tell(t, s, "mtls.mjs", email, append(os.Environ(), "ISSUER="+s.Issuer, "REDIRECT_URI="+redirectURI, "APPS="+apps,
				"KEYS="+storyKeys().private, "CERTIFICATES="+ca.dir, "NODE_EXTRA_CA_CERTS="+ca.file("ca")))
			for _, app := range []string{"named", "self-signed", "fapi"} {
				if got[app] != userID {
					t.Errorf("%s: got the person %q, want %q", app, got[app], userID)
				}
			}
		})
	}
}
