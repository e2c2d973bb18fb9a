package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key := testKeys()["other"]
	return authority{issue(t, authority{}, key, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "Test authority"}
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}), key}
}

// issue makes a certificate for a key; an authority without certificate signs it by the same key.
func issue(t testing.TB, by authority, key crypto.Signer, edit func(c *x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(rand.Text())[:8]), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject:     pkix.Name{CommonName: "client", Organization: []string{"Example, Inc."}, Country: []string{"DE"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(c)
	}
	parent, signer := c, key
	if by.certificate != nil {
		parent, signer = by.certificate, by.key
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer))))
}

func pool(c ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, one := range c {
		p.AddCert(one)
	}
	return p
}

// withCertificate sends a form over a connection with a certificate; nil is one without.
func (h *harness) withCertificate(t testing.TB, path string, certificate *x509.Certificate, form url.Values, edit ...func(r *http.Request)) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.TLS = &tls.ConnectionState{}
	if certificate != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{certificate}
	}
	for _, f := range edit {
		f(r)
	}
	return h.do(t, r)
}

func credentialsForm(c registered) url.Values {
	return url.Values{"grant_type": {GrantClientCredentials}, "scope": {"read"}, "client_id": {c.ID}}
}

func TestTLSClientAuth(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		ca := newAuthority(t)
		h.Certificates = Certificates{Direct: true, CAs: pool(ca.certificate)}
		key := testKeys()["ES256"]
		good := issue(t, ca, key, func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{"client.example.test"}, []string{"ops@example.test"}
			c.IPAddresses, c.URIs = []net.IP{net.IPv4(192, 0, 2, 7)}, []*url.URL{must(url.Parse("spiffe://example.test/client"))}
		})
		for name, edit := range map[string]func(c *Client){
			"subject": func(c *Client) { c.TLSSubjectDN = `CN=client, O=Example\, Inc.,C=DE` },
			"dns":     func(c *Client) { c.TLSDNS = "client.example.test" },
			"uri":     func(c *Client) { c.TLSURI = "spiffe://example.test/client" },
			"ip":      func(c *Client) { c.TLSIP = "192.0.2.7" },
			"email":   func(c *Client) { c.TLSEmail = "ops@example.test" },
		} {
			c := h.client(t, func(c *Client) { c.AuthMethod = AuthTLS; edit(c) })
			if a := h.withCertificate(t, "/token", good, credentialsForm(c)); a.status != http.StatusOK {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
			for attack, certificate := range map[string]*x509.Certificate{
				"no certificate": nil,
				"another name": issue(t, ca, key, func(c *x509.Certificate) {
					c.Subject.CommonName = "client2"
					c.DNSNames, c.EmailAddresses = []string{"client.example.test.evil.example", "*.example.test"}, []string{"ops@example.test.evil.example"}
					c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 8)}
				}),
				"self-signed with the same names": issue(t, authority{}, key, func(c *x509.Certificate) {
					c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = good.DNSNames, good.EmailAddresses, good.IPAddresses, good.URIs
				}),
				"expired": issue(t, ca, key, func(c *x509.Certificate) {
					c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = good.DNSNames, good.EmailAddresses, good.IPAddresses, good.URIs
					c.NotAfter = time.Now().Add(-time.Minute)
				}),
				"for servers only": issue(t, ca, key, func(c *x509.Certificate) {
					c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = good.DNSNames, good.EmailAddresses, good.IPAddresses, good.URIs
					c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
				}),
			} {
				if a := h.withCertificate(t, "/token", certificate, credentialsForm(c)); a.status != http.StatusUnauthorized {
					t.Errorf("%s, %s: got %d %v, want 401", name, attack, a.status, a.body)
				}
			}
			// A second method beside the certificate.
			form := credentialsForm(c)
			form.Set("client_secret", "guess")
			wantError(t, h.withCertificate(t, "/token", good, form), http.StatusUnauthorized, "invalid_client")
		}
		// An address that does not ask for certificates finds none, whatever the connection says.
		c := h.client(t, func(c *Client) { c.AuthMethod, c.TLSDNS = AuthTLS, "client.example.test" })
		h.Certificates.Direct = false
		wantError(t, h.withCertificate(t, "/token", good, credentialsForm(c)), http.StatusUnauthorized, "invalid_client")
	})
}

func TestSelfSignedTLSClientAuth(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.Certificates = Certificates{Direct: true}
		mine, another := issue(t, authority{}, testKeys()["ES256"], nil), issue(t, authority{}, testKeys()["other"], nil)
		renewed := issue(t, authority{}, testKeys()["ES256"], nil)
		expired := issue(t, authority{}, testKeys()["ES256"], func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		x5c := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: testKeys()["ES256"].Public(), Certificates: []*x509.Certificate{mine}}}}))
		for _, row := range []struct {
			name        string
			set         json.RawMessage
			certificate *x509.Certificate
			want        int
		}{
			{"key", keySetOf("", "ES256"), mine, 200},
			{"key, new certificate", keySetOf("", "ES256"), renewed, 200},
			{"certificate", x5c, mine, 200},
			{"another certificate of the key", x5c, renewed, 401},
			{"another key", keySetOf("", "ES256"), another, 401},
			{"expired", keySetOf("", "ES256"), expired, 401},
			{"none", keySetOf("", "ES256"), nil, 401},
		} {
			c := h.client(t, func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, row.set })
			if a := h.withCertificate(t, "/token", row.certificate, credentialsForm(c)); a.status != row.want {
				t.Errorf("%s: got %d %v, want %d", row.name, a.status, a.body, row.want)
			}
		}
	})
}

func TestCertificateHeaderCountsFromProxiesOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		h.Certificates = Certificates{Direct: true, Header: "Client-Cert", Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		mine := issue(t, authority{}, testKeys()["ES256"], nil)
		proxys := issue(t, authority{}, testKeys()["RS256"], nil)
		c := h.client(t, func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, keySetOf("", "ES256") })
		ofProxy := h.client(t, func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, keySetOf("", "RS256") })
		value := ":" + base64.StdEncoding.EncodeToString(mine.Raw) + ":"
		from := func(address string, values ...string) func(r *http.Request) {
			return func(r *http.Request) {
				r.RemoteAddr = address
				r.Header["Client-Cert"] = values
			}
		}
		if a := h.withCertificate(t, "/token", nil, credentialsForm(c), from("10.1.2.3:999", value)); a.status != http.StatusOK {
			t.Errorf("from the proxy: got %d %v", a.status, a.body)
		}
		for attack, a := range map[string]answer{
			"from a stranger":                     h.withCertificate(t, "/token", nil, credentialsForm(c), from("203.0.113.9:999", value)),
			"no peer":                             h.withCertificate(t, "/token", nil, credentialsForm(c), from("", value)),
			"two headers":                         h.withCertificate(t, "/token", nil, credentialsForm(c), from("10.1.2.3:999", value, value)),
			"not a certificate":                   h.withCertificate(t, "/token", nil, credentialsForm(c), from("10.1.2.3:999", ":AAAA:")),
			"empty":                               h.withCertificate(t, "/token", nil, credentialsForm(c), from("10.1.2.3:999", "")),
			"the proxy's own is not the client's": h.withCertificate(t, "/token", proxys, credentialsForm(ofProxy), from("10.1.2.3:999")),
		} {
			if a.status != http.StatusUnauthorized {
				t.Errorf("%s: got %d %v, want 401", attack, a.status, a.body)
			}
		}
	})
}

func TestParseCertificateHeader(t *testing.T) {
	t.Parallel()
	c := issue(t, authority{}, testKeys()["ES256"], nil)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	der := base64.StdEncoding.EncodeToString(c.Raw)
	for name, value := range map[string]string{"RFC 9440": ":" + der + ":", "nginx": url.PathEscape(text), "HAProxy": der} {
		got, err := parseCertificateHeader(value)
		if err != nil || !got.Equal(c) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for name, value := range map[string]string{"open": ":" + der, "two": url.PathEscape(text + text), "key": url.PathEscape(strings.ReplaceAll(text, "CERTIFICATE", "PRIVATE KEY")), "long": strings.Repeat("A", maxCertificateHeader+1), "empty": ""} {
		if got, err := parseCertificateHeader(value); err == nil {
			t.Errorf("%s: got %v", name, got.Subject)
		}
	}
}

func TestParseDN(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]rdn{
		"CN=a":                   {{"2.5.4.3=a"}},
		"cn = a , O=b c ":        {{"2.5.4.3=a"}, {"2.5.4.10=b c"}},
		`CN=a\,b\+c\"d,C=DE`:     {{`2.5.4.3=a,b+c"d`}, {"2.5.4.6=DE"}},
		`CN=Lu\C4\8Di\C4\87`:     {{"2.5.4.3=Lučić"}},
		"OU=x+CN=a,DC=example":   {{"2.5.4.11=x", "2.5.4.3=a"}, {"0.9.2342.19200300.100.1.25=example"}},
		"1.2.3=v":                {{"1.2.3=v"}},
		`CN=trailing\ ,O=x`:      {{"2.5.4.3=trailing "}, {"2.5.4.10=x"}},
		"CN=a=b":                 {{"2.5.4.3=a=b"}},
		`CN=#notber`:             nil,
		"CN":                     nil,
		"":                       nil,
		"CN=":                    nil,
		"CN=a,":                  nil,
		`CN=a\`:                  nil,
		"FOO=a":                  nil,
		`CN="quoted"`:            nil,
		"CN=a;O=b":               nil,
		"CN=a,,O=b":              nil,
		"/CN=a/O=b":              nil,
		"CN=a,O=b\x00":           nil,
		"emailAddress=a@b.test":  {{"1.2.840.113549.1.9.1=a@b.test"}},
		"UID=u+SERIALNUMBER=5":   {{"0.9.2342.19200300.100.1.1=u", "2.5.4.5=5"}},
		"STREET=1 Way,ST=X,L=Y ": {{"2.5.4.9=1 Way"}, {"2.5.4.8=X"}, {"2.5.4.7=Y"}},
	} {
		got, err := parseDN(text)
		if (err != nil) != (want == nil) || (err == nil && !cmp.Equal(got, want)) {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzParseDN(f *testing.F) {
	f.Add(`CN=a\,b,O=c+OU=d`)
	f.Add(`CN=\C4\8D`)
	f.Fuzz(func(t *testing.T, s string) {
		dn, err := parseDN(s)
		if err != nil {
			return
		}
		for _, level := range dn {
			for _, pair := range level {
				if kind, value, ok := strings.Cut(pair, "="); !ok || kind == "" || value == "" {
					t.Fatalf("%q gives %q", s, dn)
				}
			}
		}
	})
}

func FuzzParseCertificateHeader(f *testing.F) {
	f.Add(":AAAA:")
	f.Add("-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----")
	f.Fuzz(func(t *testing.T, value string) {
		if c, err := parseCertificateHeader(value); (c == nil) == (err == nil) {
			t.Fatalf("got %v, %v", c, err)
		}
	})
}
