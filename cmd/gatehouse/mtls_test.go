package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
)

// The whole way: a handshake with a certificate at the second address, a token by it, and userinfo's address in the metadata.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, cert := pair(t, t.TempDir(), 1)
	clientCert, clientKey, _ := pair(t, t.TempDir(), 2)
	dir := t.TempDir()
	storage := []string{"--database-url", "sqlite:" + filepath.Join(dir, "test.db"), "--master-key-file", filepath.Join(dir, "master.key")}
	s := start(t, append([]string{"--tls-cert", certFile, "--tls-key", keyFile, "--mtls-listen", "127.0.0.1:0", "--mtls-ca", clientCert}, storage...)...)
	code, out, errText := try(t, nil, append([]string{
		"client", "create", "--id", "machine", "--name", "Machine", "--grant-type", "client_credentials", "--scope", "read",
		"--auth-method", "tls_client_auth", "--tls-client-auth-subject-dn", "CN=test", "--certificate-bound",
	}, storage...)...)
	if code != exitOK {
		t.Fatalf("create: %d %s %s", code, out, errText)
	}
	own, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	client := func(certificates ...tls.Certificate) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Certificates: certificates}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: patience}
	}
	res, err := client().Get(s.Issuer + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var metadata struct {
		Token   string            `json:"token_endpoint"`
		Bound   bool              `json:"tls_client_certificate_bound_access_tokens"`
		Methods []string          `json:"token_endpoint_auth_methods_supported"`
		Aliases map[string]string `json:"mtls_endpoint_aliases"`
	}
	if err := json.NewDecoder(res.Body).Decode(&metadata); err != nil {
		t.Fatal(err)
	}
	alias := metadata.Aliases["token_endpoint"]
	if alias == "" || alias == metadata.Token || metadata.Aliases["userinfo_endpoint"] == "" || !metadata.Bound {
		t.Fatalf("metadata: %+v", metadata)
	}
	for name, row := range map[string]struct {
		client *http.Client
		url    string
		want   int
	}{
		"with the certificate":     {client(own), alias, http.StatusOK},
		"without":                  {client(), alias, http.StatusUnauthorized},
		"where nobody asks for it": {client(own), metadata.Token, http.StatusUnauthorized},
	} {
		res, err := row.client.PostForm(row.url, url.Values{"grant_type": {"client_credentials"}, "client_id": {"machine"}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = res.Body.Close()
		if res.StatusCode != row.want {
			t.Errorf("%s: got %d, want %d", name, res.StatusCode, row.want)
		}
	}
}
