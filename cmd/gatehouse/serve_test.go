package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// host is the address of an URL.
func host(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// get asks without following redirects.
func get(t *testing.T, target string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// A stopping server takes no new connection, finishes the request under way and then ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := start(t)
	address := host(t, s.Issuer)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	// The handler waits for the second half of the body. "100 Continue" tells that it has begun to read.
	_, _ = fmt.Fprintf(c, "POST /token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\nContent-Length: 29\r\n\r\n", address)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q %v, want 100 Continue", line, err)
	}
	_, _ = r.ReadString('\n')
	ended := make(chan int, 1)
	go func() { ended <- s.stop() }()
	for deadline := time.Now().Add(patience); ; {
		probe, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = probe.Close()
		if time.Now().After(deadline) {
			t.Fatal("a stopping server still takes connections")
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case code := <-ended:
		t.Fatalf("the server ended with code %d before its last request", code)
	default:
	}
	_, _ = io.WriteString(c, "grant_type=client_credentials")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("the last request got no answer: %v", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusBadRequest {
		t.Errorf("the last request got %d, want an OAuth error", res.StatusCode)
	}
	if code := <-ended; code != exitOK {
		t.Errorf("code %d, want 0", code)
	}
}

// The same binary on the other pair of stores.
func TestPostgresAndRedis(t *testing.T) {
	t.Parallel()
	const warning = "only one replica may run"
	database := dbtest.PostgresURL(t)
	alone := start(t, "--seed", "--database-url", database)
	if len(alone.Accounts) != 2 || !strings.Contains(alone.Log(), warning) {
		t.Errorf("%d accounts, want 2, and without Redis the log to say %q:\n%s", len(alone.Accounts), warning, alone.Log())
	}
	alone.stop()
	// The key file of the first start is in another directory.
	code, _, stderr := try(t, map[string]string{"GATEHOUSE_DATABASE_URL": database}, "serve", "--listen", "127.0.0.1:0")
	if code != exitUsage || !strings.Contains(stderr, "GATEHOUSE_MASTER_KEY (--master-key): is needed with Postgres") {
		t.Errorf("code %d, %q, want Postgres without a master key to be refused", code, stderr)
	}
	both := start(t, "--seed", "--database-url", dbtest.PostgresURL(t), "--redis-url", cachetest.URL(t))
	if strings.Contains(both.Log(), warning) {
		t.Errorf("with Redis the log says %q", warning)
	}
	if res, body := get(t, both.Issuer+"/readyz"); res.StatusCode != http.StatusOK {
		t.Errorf("/readyz: status %d, %s", res.StatusCode, body)
	}
}

// A server that cannot serve says so to its load balancer.
func TestReadiness(t *testing.T) {
	t.Parallel()
	h := &health{data: &data{db: dbtest.OpenSQLite(t), cache: cache.NewMemory(nil)}}
	ask := func(probe http.HandlerFunc) int {
		w := httptest.NewRecorder()
		probe(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code
	}
	if got := ask(h.ready); got != http.StatusOK {
		t.Errorf("status %d, want 200", got)
	}
	h.draining.Store(true)
	if got := ask(h.ready); got != http.StatusServiceUnavailable {
		t.Errorf("status %d while draining, want 503", got)
	}
	if got := ask(h.alive); got != http.StatusOK {
		t.Errorf("/healthz: status %d while draining, want 200: the process is well", got)
	}
	h.draining.Store(false)
	if err := h.data.db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ask(h.ready); got != http.StatusServiceUnavailable {
		t.Errorf("status %d without a database, want 503", got)
	}
}

// A path issuer: everything lives under it, and the metadata is at the root as well, with the path behind it.
func TestPathIssuer(t *testing.T) {
	t.Parallel()
	s := start(t, "--issuer", "http://127.0.0.1:9/auth/one")
	root := "http://" + s.Listen
	for path, want := range map[string]int{
		"/auth/one/.well-known/openid-configuration":       200,
		"/.well-known/openid-configuration/auth/one":       200,
		"/auth/one/.well-known/oauth-authorization-server": 200,
		"/.well-known/oauth-authorization-server/auth/one": 200,
		"/.well-known/openid-configuration":                404,
		"/auth/one/login":                                  200,
		"/login":                                           404,
		"/auth/one/nothing":                                404,
		"/healthz":                                         200,
		"/readyz":                                          200,
	} {
		res, body := get(t, root+path)
		if res.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", path, res.StatusCode, want)
		}
		if strings.Contains(path, "well-known") && want == 200 && !strings.Contains(body, `"issuer":"http://127.0.0.1:9/auth/one"`) {
			t.Errorf("GET %s: %s does not name the issuer", path, body)
		}
	}
	if res, _ := get(t, root+"/auth/one/token"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET /token: status %d, want 405", res.StatusCode)
	}
}

// Nothing a client says decides what a link says.
func TestHostHeaderPoisoning(t *testing.T) {
	t.Parallel()
	s := start(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.test"
	r.Header.Set("X-Forwarded-Host", "evil.test")
	r.Header.Set("Forwarded", "host=evil.test;proto=https")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); strings.Contains(string(body), "evil.test") {
		t.Errorf("metadata %s follows the client's headers", body)
	}
}

func TestOversizedHeader(t *testing.T) {
	t.Parallel()
	s := start(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Issuer+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Big", strings.Repeat("x", 64<<10))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", res.StatusCode)
	}
}

// pair writes a certificate for this machine and its key.
func pair(t *testing.T, dir string, serial int64) (certFile, keyFile string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, cert
}

// What is printed by a server that was told no issuer must be an address at which browsers have passkeys.
func TestIssuerOfLoopback(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://localhost:8080", "[::1]:1": "http://localhost:1", "127.0.0.2:80": "http://127.0.0.2:80",
	} {
		if got := issuerAt(listen, false).String(); got != want {
			t.Errorf("at %s the issuer is %s, want %s", listen, got, want)
		}
	}
	if got, want := issuerAt("127.0.0.1:8443", true).String(), "https://localhost:8443"; got != want {
		t.Errorf("with TLS the issuer is %s, want %s", got, want)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, cert := pair(t, t.TempDir(), 1)
	s := start(t, "--tls-cert", certFile, "--tls-key", keyFile)
	if !strings.HasPrefix(s.Issuer, "https://localhost:") {
		t.Fatalf("issuer %s, want https://localhost", s.Issuer)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	dial := func(min, max uint16, suites ...uint16) (tls.ConnectionState, error) {
		c, err := tls.Dial("tcp", s.Listen, &tls.Config{RootCAs: roots, MinVersion: min, MaxVersion: max, CipherSuites: suites}) //nolint:gosec // old versions are the point
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer c.Close()
		return c.ConnectionState(), nil
	}
	for name, refused := range map[string]func() (tls.ConnectionState, error){
		"TLS 1.0": func() (tls.ConnectionState, error) { return dial(tls.VersionTLS10, tls.VersionTLS10) },
		"TLS 1.1": func() (tls.ConnectionState, error) { return dial(tls.VersionTLS10, tls.VersionTLS11) },
		"CBC": func() (tls.ConnectionState, error) {
			return dial(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256)
		},
		"RSA key exchange": func() (tls.ConnectionState, error) {
			return dial(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
		},
		"RC4 and 3DES": func() (tls.ConnectionState, error) {
			return dial(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
		},
	} {
		if state, err := refused(); err == nil {
			t.Errorf("%s: connected with %s, want a refusal", name, tls.CipherSuiteName(state.CipherSuite))
		}
	}
	if state, err := dial(tls.VersionTLS12, tls.VersionTLS12); err != nil || state.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v, want a connection", err)
	}
	if state, err := dial(tls.VersionTLS12, 0); err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("got version %x, %v, want TLS 1.3 preferred", state.Version, err)
	}
	for _, http2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: http2}
		res, err := (&http.Client{Transport: transport, Timeout: patience}).Get(s.Issuer + "/login")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		transport.CloseIdleConnections()
		if got := res.Header.Get("Strict-Transport-Security"); got == "" {
			t.Error("no Strict-Transport-Security over https")
		}
		if want := map[bool]int{false: 1, true: 2}[http2]; res.ProtoMajor != want {
			t.Errorf("HTTP/%d, want HTTP/%d", res.ProtoMajor, want)
		}
	}
}

func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, _ := pair(t, dir, 1)
	c, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	serial := func() int64 {
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.SerialNumber.Int64()
	}
	touch := func(minutes time.Duration) {
		at := now.Add(minutes * time.Minute)
		if err := os.Chtimes(certFile, at, at); err != nil {
			t.Fatal(err)
		}
	}
	pair(t, dir, 2)
	touch(1)
	if got := serial(); got != 1 {
		t.Errorf("serial %d at once, want 1 until the next look", got)
	}
	now = now.Add(recheck)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the next look, want 2", got)
	}
	if err := os.WriteFile(certFile, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(2)
	now = now.Add(recheck)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after a broken file, want the old 2", got)
	}
}
