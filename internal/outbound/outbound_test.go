package outbound_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/outbound"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func get(t *testing.T, c *outbound.Client, url string, limit int64) ([]byte, error) {
	t.Helper()
	body, _, err := c.Get(t.Context(), url, "", limit)
	return body, err
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// Private, loopback, link-local and metadata addresses, in each spelling of IPv6 that reaches an IPv4 address (SSRF).
func TestServerSideRequestForgeryAddresses(t *testing.T) {
	t.Parallel()
	for addr, public := range map[string]bool{
		"1.1.1.1": true, "140.82.121.3": true, "172.15.255.255": true, "172.32.0.1": true, "::ffff:1.1.1.1": true, "2606:4700::1111": true, "64:ff9b::101:101": true,

		"0.0.0.0": false, "10.0.0.1": false, "100.100.100.200": false, "127.0.0.1": false, "127.8.8.8": false, "169.254.169.254": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.0.0.192": false, "192.168.1.1": false, "198.18.0.1": false, "224.0.0.1": false,
		"255.255.255.255": false, "168.63.129.16": false, "203.0.113.7": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::7f00:1": false, "64:ff9b::7f00:1": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false,
		"ff02::1": false, "2001::1": false, "2001:db8::1": false, "2002:7f00:1::": false, "3fff::1": false, "4000::1": false, "100::1": false,
	} {
		if got := outbound.Public(netip.MustParseAddr(addr)); got != public {
			t.Errorf("%s: public %t, want %t", addr, got, public)
		}
		if got := (outbound.Config{}).Allows(netip.MustParseAddr(addr)); got != public {
			t.Errorf("%s: allowed %t, want %t", addr, got, public)
		}
	}
	own := outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for addr, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": false, "9.9.9.9": true} {
		if got := own.Allows(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s beside 10.1.0.0/16: allowed %t, want %t", addr, got, want)
		}
	}
}

// The check is made when dialling: a name that resolves to a private address is refused like the address itself (DNS rebinding).
func TestDNSRebindingToLoopback(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") }))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := outbound.New(outbound.Config{})
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		_, err := get(t, c, "https://"+host+":"+u.Port()+"/", 0)
		wantErr(t, host, err, outbound.ErrAddress)
	}
}

func TestURLsThatAreNeverAsked(t *testing.T) {
	t.Parallel()
	strict, loose := outbound.New(outbound.Config{}), outbound.New(outbound.Config{Networks: loopback})
	for _, raw := range []string{"http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https://user:pw@example.com/", "https:///x", "gopher://127.0.0.1/", "http://127.0.0.1.example.com/"} {
		for _, c := range []*outbound.Client{strict, loose} {
			_, err := get(t, c, raw, 0)
			if err == nil || !errors.Is(err, outbound.ErrURL) && !strings.Contains(err.Error(), "no Host in request URL") {
				t.Errorf("%s: error %v, want %v", raw, err, outbound.ErrURL)
			}
		}
	}
	_, err := get(t, strict, "http://127.0.0.1/", 0)
	wantErr(t, "http on loopback without leave", err, outbound.ErrURL)
}

// A public server must not be able to send us on to a private one (SSRF by redirect).
func TestRedirectToPrivateAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusFound))
	t.Cleanup(server.Close)
	_, err := get(t, outbound.New(outbound.Config{Networks: loopback}), server.URL, 0)
	wantErr(t, "redirect", err, outbound.ErrRedirect)
}

// Whether the length is announced or not, an answer ends at its bound, and never as a shorter document that looks whole.
func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 1000
		if r.URL.Path == "/announced" {
			w.Header().Set("Content-Length", "1000")
		}
		for range n {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			if r.URL.Path != "/announced" {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	t.Cleanup(server.Close)
	for path := range map[string]bool{"/announced": true, "/endless": true} {
		exact := outbound.New(outbound.Config{Networks: loopback, MaxBody: 1000})
		if body, err := get(t, exact, server.URL+path, 0); err != nil || !bytes.Equal(body, bytes.Repeat([]byte("x"), 1000)) {
			t.Errorf("%s of just the allowed size: %d bytes, %v", path, len(body), err)
		}
		_, err := get(t, exact, server.URL+path, 999)
		wantErr(t, path+" over the caller's bound", err, outbound.ErrTooLarge)
		_, err = get(t, outbound.New(outbound.Config{Networks: loopback, MaxBody: 999}), server.URL+path, 0)
		wantErr(t, path+" over the client's bound", err, outbound.ErrTooLarge)
	}
}

func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	_, err := get(t, outbound.New(outbound.Config{Networks: loopback, Timeout: 50 * time.Millisecond}), server.URL, 0)
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v, want a timeout", err)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Agent", r.UserAgent())
		_, _ = io.WriteString(w, r.Header.Get("Accept"))
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := outbound.New(outbound.Config{Networks: loopback, TLS: &tls.Config{RootCAs: roots}})
	body, header, err := c.Get(t.Context(), server.URL, "application/json", 0)
	if err != nil || string(body) != "application/json" || header.Get("X-Agent") != "gatehouse" {
		t.Errorf("got %q, agent %q, %v", body, header.Get("X-Agent"), err)
	}
	_, _, err = c.Get(t.Context(), server.URL+"/missing", "", 0)
	wantErr(t, "404", err, outbound.ErrStatus)
	if _, _, err = outbound.New(outbound.Config{Networks: loopback}).Get(t.Context(), server.URL, "", 0); err == nil {
		t.Error("a certificate of unknown origin was accepted")
	}
}
