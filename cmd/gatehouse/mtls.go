package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/gatehouse-id/gatehouse/oauth"
)

// check says what the settings mean for the protocol.
func (m *mutualTLS) check(s *settings, c *checked) error {
	out := oauth.Certificates{Direct: m.Listen != "", Header: m.Header, Proxies: c.proxies, URL: strings.TrimSuffix(m.URL, "/")}
	if m.Listen != "" {
		if err := checkListen("mtls-listen", m.Listen); err != nil {
			return err
		}
		if s.TLSCert == "" {
			return badSetting("mtls-listen", "needs --tls-cert and --tls-key")
		}
	}
	switch {
	case strings.Trim(m.Header, pathCharacters) != "" || strings.ContainsAny(m.Header, ".~"):
		return badSetting("client-cert-header", "%q is not the name of a header", m.Header)
	case m.Header != "" && len(c.proxies) == 0:
		return badSetting("client-cert-header", "needs --trusted-proxies: from others a certificate proves nothing")
	case m.URL != "" && m.Listen == "" && m.Header == "":
		return badSetting("mtls-url", "needs --mtls-listen or --client-cert-header")
	case m.CA != "" && m.Listen == "" && m.Header == "":
		return badSetting("mtls-ca", "needs --mtls-listen or --client-cert-header")
	}
	if m.URL != "" {
		u, err := url.Parse(out.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return badSetting("mtls-url", "%q is not an https URL such as https://mtls.id.example.com", m.URL)
		}
	}
	if m.CA != "" {
		text, err := os.ReadFile(m.CA)
		if err != nil {
			return badSetting("mtls-ca", "%v", err)
		}
		out.CAs = x509.NewCertPool()
		if !out.CAs.AppendCertsFromPEM(text) {
			return badSetting("mtls-ca", "%s holds no certificate in PEM", m.CA)
		}
	}
	c.certificates = out
	return nil
}

// beside gives the public URL of the second address, if no other was set: the issuer's host and path with its port.
func (m *mutualTLS) beside(issuer *url.URL, l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(issuer.Hostname(), port), Path: issuer.Path}
	return u.String()
}

// serveMutualTLS answers clients with certificates. Who issued them is judged client by client, not here.
func serveMutualTLS(server *http.Server, l net.Listener, c *certificate) error {
	config := c.config()
	config.ClientAuth = tls.RequestClientCert
	return serveListener(server, tls.NewListener(l, config))
}
