package main

import (
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

// guessed tries one device code more than is allowed and returns the last status.
func guessed(t *testing.T, s *server) (status int) {
	t.Helper()
	for range 11 {
		res, err := http.PostForm(s.Issuer+"/device", url.Values{"user_code": {"BCDF-GHJK"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		status = res.StatusCode
	}
	return status
}

func TestLimitsStandOutsideCertification(t *testing.T) {
	t.Parallel()
	if got := guessed(t, start(t)); got != http.StatusTooManyRequests {
		t.Errorf("without the test profile: the 11th guess got %d, want 429", got)
	}
	if got := guessed(t, start(t, "--certification=on")); got != http.StatusUnprocessableEntity {
		t.Errorf("with the test profile: the 11th guess got %d, want 422", got)
	}
}

func TestCertificationTrustsItsAuthorityOnLoopback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, cert := pair(t, dir, 1)
	s := start(t, "--tls-cert", certFile, "--tls-key", keyFile)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]certification{"off": {Mode: "off"}, "without the authority": {Mode: "on"}, "with it": {Mode: "on", CA: ca}} {
		var meaning checked
		if err := c.check(&settings{}, &meaning, true); err != nil {
			t.Fatal(err)
		}
		_, _, err := outbound.New(outbound.Config{Networks: meaning.outbound, TLS: meaning.trust}).Get(t.Context(), s.Issuer+"/jwks", "", 0)
		if (err == nil) != (name == "with it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
