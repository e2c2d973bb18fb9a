// Package web is what every HTTP request passes through: request id, client address, access log, recovery, security
// headers, cookies. It knows nothing of OAuth or of people.
package web

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
)

type (
	requestIDKey struct{}
	addressKey   struct{}
	userAgentKey struct{}
)

// RequestID returns the id of the request in ctx, or "". Error pages show it as the reference; the log carries it.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID puts an id into ctx.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// Address returns the client's address: the peer's, or what a configured proxy forwarded. The zero Addr means none.
func Address(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

// WithAddress puts a client address into ctx.
func WithAddress(ctx context.Context, a netip.Addr) context.Context {
	return context.WithValue(ctx, addressKey{}, a)
}

// UserAgent returns what the client of the request in ctx says it is, or "". It is a stranger's text of any length.
func UserAgent(ctx context.Context) string {
	s, _ := ctx.Value(userAgentKey{}).(string)
	return s
}

// WithUserAgent puts a client's own description into ctx.
func WithUserAgent(ctx context.Context, s string) context.Context {
	return context.WithValue(ctx, userAgentKey{}, s)
}

// Network names what one stranger usually commands, for limits: the IPv4 address or the IPv6 /64 of the request in ctx. It is ""
// if there is none.
func Network(ctx context.Context) string {
	a := Address(ctx).Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return ""
	case a.Is6():
		return netip.PrefixFrom(a, 64).Masked().String()
	}
	return a.String()
}

// WiderNetwork is Network for whoever rents addresses by the hundred, which come side by side: the IPv4 /24 or the IPv6 /48.
// Many strangers may share it, so that limits on it are higher.
func WiderNetwork(ctx context.Context) string {
	a := Address(ctx).Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.String()
}

// Site is where the server lives, taken from the configured issuer and from nowhere else: a Host header never decides
// what a link says (host-header poisoning).
type Site struct {
	issuer string
	base   string // path of the issuer, "" at the root
	origin string
	secure bool

	watched bool // see Watching
}

// NewSite takes a validated issuer: an absolute http(s) URL without query, fragment or trailing slash.
func NewSite(issuer *url.URL) Site {
	return Site{
		issuer: strings.TrimSuffix(issuer.String(), "/"),
		base:   strings.TrimSuffix(issuer.EscapedPath(), "/"),
		origin: issuer.Scheme + "://" + issuer.Host,
		secure: issuer.Scheme == "https",
	}
}

// Issuer is the issuer identifier, exactly as it appears in tokens.
func (s Site) Issuer() string { return s.issuer }

// Origin is scheme://host[:port].
func (s Site) Origin() string { return s.origin }

// Secure reports whether people reach the site by https; cookies depend on it.
func (s Site) Secure() bool { return s.secure }

// Path gives the path of a page as a browser must ask for it: "/login" → "/auth/login" for an issuer with a path.
func (s Site) Path(p string) string { return s.base + p }

// URL gives the absolute URL of a page.
func (s Site) URL(p string) string { return s.issuer + p }
