package ui

import (
	"net/netip"
	"net/url"
)

// webURL gives raw back if a page may link to it: https, or http on this machine for developers. What apps register about
// themselves is a stranger's text ("javascript:" and its like).
func webURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Hostname() == "" {
		return ""
	}
	switch u.Scheme {
	case "https":
		return raw
	case "http":
		if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && a.IsLoopback() {
			return raw
		}
	}
	return ""
}
