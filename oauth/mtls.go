package oauth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ory/fosite"
)

// Certificates says where the TLS certificate of a client is found and who may have issued it (RFC 8705). The zero value finds
// none, and nothing about certificates is announced.
type Certificates struct {
	Direct  bool           // connections to this process ask for certificates
	Header  string         // in which a proxy hands the certificate on: Client-Cert (RFC 9440), or with PEM or base64 in it
	Proxies []netip.Prefix // peers whose Header counts
	CAs     *x509.CertPool // issuers of certificates for tls_client_auth; nil: none
	URL     string         // where clients with a certificate connect, if not at the issuer: mtls_endpoint_aliases
}

// enabled reports whether certificates can be found at all.
func (c *Certificates) enabled() bool { return c.Direct || c.Header != "" }

// methods lists the ways of authentication that work.
func (c *Certificates) methods() []string {
	switch {
	case !c.enabled():
		return nil
	case c.CAs == nil:
		return []string{AuthSelfSignedTLS}
	}
	return []string{AuthTLS, AuthSelfSignedTLS}
}

var errCertificateHeader = errors.New("not a certificate")

// of finds the certificate by which the sender of a request proved, in the TLS handshake, to hold its key; nil if there is none. A header
// counts only when it comes from a proxy of ours, and then the certificate of the connection, if any, is the proxy's.
func (c *Certificates) of(r *http.Request) (*x509.Certificate, []*x509.Certificate, error) {
	if c.Header != "" {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil && slices.ContainsFunc(c.Proxies, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) }) {
			values := r.Header.Values(c.Header)
			if len(values) == 0 || len(values) == 1 && values[0] == "" {
				return nil, nil, nil
			}
			if len(values) > 1 { // one of them may be the client's own
				return nil, nil, errCertificateHeader
			}
			certificate, err := parseCertificateHeader(values[0])
			return certificate, nil, err
		}
	}
	if c.Direct && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return r.TLS.PeerCertificates[0], r.TLS.PeerCertificates[1:], nil
	}
	return nil, nil, nil
}

const maxCertificateHeader = 16 << 10

// parseCertificateHeader reads one certificate as proxies write it: base64 of DER between colons (RFC 9440 §2.1), PEM in
// percent-encoding (nginx, Apache), or bare base64 of DER (HAProxy).
func parseCertificateHeader(value string) (*x509.Certificate, error) {
	if len(value) > maxCertificateHeader {
		return nil, errCertificateHeader
	}
	value = strings.TrimSpace(value)
	if inner, ok := strings.CutPrefix(value, ":"); ok {
		if value, ok = strings.CutSuffix(inner, ":"); !ok {
			return nil, errCertificateHeader
		}
	} else if strings.Contains(value, "BEGIN") {
		text, err := url.PathUnescape(value) // leaves "+" alone, which is base64
		if err != nil {
			return nil, errCertificateHeader
		}
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			return nil, errCertificateHeader
		}
		return parseCertificate(block.Bytes)
	}
	der, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, errCertificateHeader
	}
	return parseCertificate(der)
}

func parseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errCertificateHeader
	}
	return c, nil
}

// certificateThumbprint is the x5t#S256 of RFC 8705 §3.1.
func certificateThumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkCertificate believes a client that proved to hold the key of its registered certificate.
func (s *Server) checkCertificate(ctx context.Context, r *http.Request, client *registration) error {
	certificate, chain, err := s.Certificates.of(r)
	switch {
	case err != nil:
		return fosite.ErrInvalidClient.WithHint("The client certificate cannot be read.")
	case certificate == nil:
		return fosite.ErrInvalidClient.WithHint("The client presented no TLS certificate.")
	}
	now := s.Now()
	if now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
		return fosite.ErrInvalidClient.WithHint("The client certificate is not valid now.")
	}
	if client.AuthMethod == AuthSelfSignedTLS {
		return s.checkSelfSigned(ctx, client, certificate)
	}
	if s.Certificates.CAs == nil || !issuedBy(s.Certificates.CAs, certificate, chain, now) {
		return fosite.ErrInvalidClient.WithHint("The client certificate was not issued by an authority that is trusted here.")
	}
	if !client.named(certificate) {
		return fosite.ErrInvalidClient.WithHint("The client certificate is not the registered one.")
	}
	return nil
}

func issuedBy(cas *x509.CertPool, certificate *x509.Certificate, chain []*x509.Certificate, now time.Time) bool {
	between := x509.NewCertPool()
	for _, c := range chain {
		between.AddCert(c)
	}
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: cas, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// checkSelfSigned wants the certificate, or its key, among the client's keys (RFC 8705 §2.2).
func (s *Server) checkSelfSigned(ctx context.Context, client *registration, certificate *x509.Certificate) error {
	if client.JWKSURI == "" {
		if holdsCertificate(client.keys, certificate) {
			return nil
		}
		return fosite.ErrInvalidClient.WithHint("The client certificate is not the registered one.")
	}
	for _, missing := range []bool{false, true} {
		keys, err := s.keySets.get(ctx, client.JWKSURI, missing)
		if err != nil {
			s.Log.WarnContext(ctx, "keys of a client cannot be fetched", "client_id", client.ID, "err", err)
			return fosite.ErrInvalidClient.WithHint("The keys at the client's jwks_uri cannot be fetched.")
		}
		if holdsCertificate(keys, certificate) {
			return nil
		}
	}
	return fosite.ErrInvalidClient.WithHint("The client certificate is not the registered one.")
}

func holdsCertificate(keys []clientKey, certificate *x509.Certificate) bool {
	return slices.ContainsFunc(keys, func(k clientKey) bool {
		if k.use == useEncryption {
			return false
		}
		if k.certificate != nil {
			return slices.Equal(k.certificate, certificate.Raw)
		}
		key, ok := k.key.(interface{ Equal(x crypto.PublicKey) bool })
		return ok && key.Equal(certificate.PublicKey)
	})
}

// named reports whether a certificate bears the registered name, letter by letter; wildcards mean nothing here (RFC 8705 §2.1.2).
func (r *registration) named(c *x509.Certificate) bool {
	switch {
	case r.TLSSubjectDN != "":
		want, err := parseDN(r.TLSSubjectDN)
		have, ok := subjectDN(c)
		return err == nil && ok && slices.EqualFunc(want, have, slices.Equal[rdn])
	case r.TLSDNS != "":
		return slices.ContainsFunc(c.DNSNames, func(name string) bool { return strings.EqualFold(name, r.TLSDNS) })
	case r.TLSURI != "":
		return slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.String() == r.TLSURI })
	case r.TLSIP != "":
		want, err := netip.ParseAddr(r.TLSIP)
		return err == nil && slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool {
			have, ok := netip.AddrFromSlice(ip)
			return ok && have.Unmap() == want.Unmap()
		})
	case r.TLSEmail != "":
		return slices.Contains(c.EmailAddresses, r.TLSEmail)
	}
	return false
}

// rdn is one level of a distinguished name: "type=value" pairs, sorted.
type rdn []string

// dnTypes are the short names of RFC 4514 §3, and the one that everybody uses beside them.
var dnTypes = map[string]string{
	"CN": "2.5.4.3", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8", "STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11",
	"UID": "0.9.2342.19200300.100.1.1", "DC": "0.9.2342.19200300.100.1.25", "EMAILADDRESS": "1.2.840.113549.1.9.1", "E": "1.2.840.113549.1.9.1",
}

// subjectDN gives the subject as it stands in the certificate, in the order of RFC 4514: last level first.
func subjectDN(c *x509.Certificate) ([]rdn, bool) {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &sequence); err != nil || len(rest) > 0 {
		return nil, false
	}
	var dn []rdn
	for _, set := range slices.Backward(sequence) {
		var level rdn
		for _, attribute := range set {
			value, ok := attribute.Value.(string)
			if !ok {
				return nil, false
			}
			level = append(level, attribute.Type.String()+"="+value)
		}
		slices.Sort(level)
		dn = append(dn, level)
	}
	return dn, len(dn) > 0
}

var errDN = errors.New("give a distinguished name as in RFC 4514, such as CN=client,O=Example,C=DE")

// parseDN reads a distinguished name (RFC 4514 §3).
func parseDN(s string) ([]rdn, error) {
	var dn []rdn
	level := rdn{}
	for {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			return nil, errDN
		}
		kind := dnTypes[strings.ToUpper(strings.TrimSpace(name))]
		if kind == "" {
			kind = strings.TrimSpace(name)
			if kind == "" || strings.Trim(kind, "0123456789.") != "" {
				return nil, errDN
			}
		}
		value, rest, ok := parseDNValue(rest)
		if !ok {
			return nil, errDN
		}
		level = append(level, kind+"="+value)
		if rest == "" || rest[0] == ',' {
			slices.Sort(level)
			dn, level = append(dn, level), rdn{}
		}
		if rest == "" {
			return dn, nil
		}
		s = rest[1:]
	}
}

// parseDNValue reads a value up to the "," or "+" behind it.
func parseDNValue(s string) (value, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	var b strings.Builder
	kept := 0 // up to here nothing may be trimmed
	i := 0
	for ; i < len(s) && s[i] != ',' && s[i] != '+'; i++ {
		switch c := s[i]; {
		case c == '\\' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
			kept = b.Len()
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			kept = b.Len()
		case c == '\\', c == '"', c == ';', c == '<', c == '>', c == 0, c == '#' && b.Len() == 0: // "#": BER, which no name needs
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	value = b.String()
	value = value[:kept] + strings.TrimRight(value[kept:], " ")
	return value, s[i:], value != ""
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
