package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// Bounds on what a forwarded header may make us do; a longer one is malformed.
const (
	maxForwarded = 4096 // bytes, all lines together
	maxHops      = 32
)

// client tells who sent r. Only a peer inside trusted may speak for somebody else: anyone can write these headers, and limits
// and logs count by this address (address spoofing). From the right, each trusted proxy's word is taken for the
// hop before it; the first address that is no trusted proxy is the client's. Whatever cannot be read exactly, and both
// headers at once (a proxy that writes one passes the client's own other one through), counts as the peer itself.
func client(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peerPort, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	peer := peerPort.Addr().Unmap().WithZone("")
	if len(trusted) == 0 || !within(trusted, peer) {
		return peer
	}
	var hops []netip.Addr
	ok := true
	xff, forwarded := r.Header["X-Forwarded-For"], r.Header["Forwarded"]
	switch {
	case len(xff) > 0 && len(forwarded) > 0:
		return peer
	case len(xff) > 0:
		hops, ok = parseXForwardedFor(xff, trusted)
	case len(forwarded) > 0:
		hops, ok = parseForwarded(forwarded)
	}
	if !ok || len(hops) > maxHops {
		return peer
	}
	client := peer
	for i := len(hops) - 1; i >= 0; i-- {
		client = hops[i]
		if !client.IsValid() {
			return peer
		}
		if !within(trusted, client) {
			return client
		}
	}
	return client
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parseXForwardedFor reads X-Forwarded-For lines, oldest hop first. What stands left of the first untrusted hop is
// the client's own invention and is not read at all. An unreadable hop is the zero Addr.
func parseXForwardedFor(lines []string, trusted []netip.Prefix) ([]netip.Addr, bool) {
	all := strings.Join(lines, ",")
	if len(all) > maxForwarded {
		return nil, false
	}
	var hops []netip.Addr // newest first while reading
	for rest, more := all, true; more && len(hops) <= maxHops; {
		hop := rest
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, hop = rest[:i], rest[i+1:]
		} else {
			more = false
		}
		a := parseNode(strings.Trim(hop, " \t"))
		hops = append(hops, a)
		if !within(trusted, a) {
			break
		}
	}
	for i, j := 0, len(hops)-1; i < j; i, j = i+1, j-1 {
		hops[i], hops[j] = hops[j], hops[i]
	}
	return hops, true
}

// parseForwarded reads Forwarded lines (RFC 7239 §4), oldest hop first. A hop that names nobody ("unknown", an obfuscated
// name, no "for") is the zero Addr. One syntax error anywhere spoils all: with quoted strings no part can be
// trusted to begin where it seems to.
func parseForwarded(lines []string) ([]netip.Addr, bool) {
	total := 0
	var hops []netip.Addr
	for _, line := range lines {
		if total += len(line); total > maxForwarded {
			return nil, false
		}
		for rest := line; ; {
			hop, tail, ok := parseElement(rest)
			if !ok {
				return nil, false
			}
			hops = append(hops, hop)
			if tail == "" {
				break
			}
			rest = tail[1:] // the comma
		}
	}
	return hops, true
}

// parseElement reads one forwarded-element; rest is empty or begins with the comma that ended it.
func parseElement(s string) (hop netip.Addr, rest string, ok bool) {
	seen := false
	for {
		s = strings.TrimLeft(s, " \t")
		n := tokenLength(s)
		if n == 0 || n == len(s) || s[n] != '=' {
			return hop, "", false
		}
		name, value := s[:n], ""
		if value, s, ok = parseValue(s[n+1:]); !ok {
			return hop, "", false
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return hop, "", false
			}
			seen, hop = true, parseNode(value)
		}
		s = strings.TrimLeft(s, " \t")
		switch {
		case s == "", s[0] == ',':
			return hop, s, true
		case s[0] != ';':
			return hop, "", false
		}
		s = s[1:]
	}
}

// parseValue reads a token or a quoted string (RFC 9110 §5.6).
func parseValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		n := tokenLength(s)
		return s[:n], s[n:], n > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c < ' ' && c != '\t', c == 0x7f:
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func tokenLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return i
		}
	}
	return len(s)
}

// parseNode reads "192.0.2.1", "192.0.2.1:8080", "2001:db8::1", "[2001:db8::1]" and "[2001:db8::1]:8080"; zones are refused.
func parseNode(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
			a, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && !a.Is6() {
				return netip.Addr{}
			}
		} else {
			var ap netip.AddrPort
			ap, err = netip.ParseAddrPort(s)
			a = ap.Addr()
		}
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}
