// Package outbound is the one HTTP client for addresses that others have named: sign-in providers, key sets, documents of
// apps. It reaches public addresses only, follows no redirect, and bounds time and size. It does not retry or keep anything.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

var (
	// ErrAddress says that an address is not public and was not allowed (server-side request forgery).
	ErrAddress = errors.New("address is not public")
	// ErrURL says that a URL is none this client asks: https only, http on an allowed loopback address, no user name.
	ErrURL = errors.New("URL is not allowed")
	// ErrRedirect says that the other side answered with a redirect.
	ErrRedirect = errors.New("redirects are not followed")
	// ErrTooLarge says that an answer is larger than allowed.
	ErrTooLarge = errors.New("answer is too large")
	// ErrStatus says that an answer is not 200 OK.
	ErrStatus = errors.New("unexpected status")
)

// Config is what a Client works with. The zero value reaches public addresses only.
type Config struct {
	Networks []netip.Prefix // reached beside the public ones, such as a company's own; loopback allows http there as well
	Timeout  time.Duration  // of a whole exchange, from dialling to the last byte (0: 10 s)
	MaxBody  int64          // bytes of an answer, after decoding (0: 1 MiB)
	TLS      *tls.Config    // nil: the system's roots
}

const (
	defaultTimeout = 10 * time.Second
	defaultMaxBody = 1 << 20
	maxHeader      = 64 << 10
	userAgent      = "gatehouse"
)

// Client asks other servers. It is safe for concurrent use.
type Client struct{ http *http.Client }

// New gives a Client.
func New(c Config) *Client {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.MaxBody <= 0 {
		c.MaxBody = defaultMaxBody
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	tlsConfig := c.TLS.Clone()
	tlsConfig.MinVersion = tls.VersionTLS12
	dialer := &net.Dialer{Timeout: c.Timeout, Control: func(_, address string, _ syscall.RawConn) error { return c.check(address) }}
	return &Client{&http.Client{
		Timeout: c.Timeout,
		Transport: &guard{config: c, next: &http.Transport{
			// No proxy from the environment: it would dial in our place, where nothing can be checked.
			DialContext: dialer.DialContext, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
			DisableCompression: true, MaxResponseHeaderBytes: maxHeader, MaxIdleConns: 16, MaxConnsPerHost: 16, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: c.Timeout, ResponseHeaderTimeout: c.Timeout,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
	}}
}

// HTTP gives the guarded client to libraries that want one.
func (c *Client) HTTP() *http.Client { return c.http }

// Get fetches a document of at most limit bytes (0: the client's own bound). accept names its media type, or is empty.
func (c *Client) Get(ctx context.Context, rawURL, accept string, limit int64) (body []byte, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	return c.Do(req, limit)
}

// Do sends a request and reads its answer, which must be 200 OK and of at most limit bytes (0: the client's own bound).
func (c *Client) Do(req *http.Request, limit int64) (body []byte, header http.Header, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.Header, fmt.Errorf("%w: %s", ErrStatus, resp.Status)
	}
	var in io.Reader = resp.Body
	if limit > 0 {
		in = &bounded{body: resp.Body, left: limit}
	}
	body, err = io.ReadAll(in)
	return body, resp.Header, err
}

// CheckURL reports ErrURL for a URL that the client would refuse whatever its address is, for those who keep URLs for later.
func (c *Client) CheckURL(u *url.URL) error { return c.http.Transport.(*guard).config.checkURL(u) }

// guard is the transport: it looks at each request before it is sent, and bounds what comes back.
type guard struct {
	config Config
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.config.checkURL(req.URL); err != nil {
		return nil, err
	}
	if req.Header.Get("User-Agent") == "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", userAgent)
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > g.config.MaxBody {
		_ = resp.Body.Close()
		return nil, ErrTooLarge
	}
	resp.Body = &bounded{body: resp.Body, left: g.config.MaxBody}
	return resp, nil
}

func (c Config) checkURL(u *url.URL) error {
	switch {
	case u.User != nil, u.Hostname() == "", u.Opaque != "":
		return fmt.Errorf("%w: %s", ErrURL, u.Redacted())
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http":
		if a, err := netip.ParseAddr(u.Hostname()); (err == nil && a.IsLoopback() || u.Hostname() == "localhost") && c.allowsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s needs https", ErrURL, u.Redacted())
}

func (c Config) allowsLoopback() bool {
	for _, p := range c.Networks {
		if p.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// check looks at an address after it was resolved and in the moment it is dialled, so that a name cannot mean one address
// here and another one there (DNS rebinding).
func (c Config) check(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrAddress, address)
	}
	if !c.Allows(a.Addr()) {
		return fmt.Errorf("%w: %s", ErrAddress, a.Addr())
	}
	return nil
}

// Allows reports whether the client may reach an address.
func (c Config) Allows(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	for _, p := range c.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return Public(a)
}

// Public reports whether an address is one of the public internet, by the registries of special-purpose addresses (RFC 6890).
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is4() {
		return !within(a, closed4)
	}
	switch {
	case a.Zone() != "":
		return false
	case nat64.Contains(a): // stands for the IPv4 address in its last four bytes (RFC 6052)
		b := a.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return global6.Contains(a) && !within(a, closed6)
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

var (
	global6 = netip.MustParsePrefix("2000::/3") // the only IPv6 addresses that were ever given out
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	closed6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20") // protocols, among them Teredo; documentation; 6to4
	closed4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32", // looks public, and is the wire server within Azure
	)
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// bounded is a body that fails once more than left bytes have come. io.LimitReader would end quietly, and half a document
// could pass for a whole one.
type bounded struct {
	body io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}

// Close implements io.Closer.
func (b *bounded) Close() error { return b.body.Close() }
