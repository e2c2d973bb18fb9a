package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// SMTPConfig says where and how to hand over mail.
type SMTPConfig struct {
	Host     string
	Port     int    // 0: 587, or 465 for TLS "tls"
	Username string // empty: no authentication
	Password string
	From     string         // "Gatehouse <no-reply@example.com>" or a bare address
	TLS      string         // "starttls" (default, required of the server), "tls" (from the first byte) or "none"
	Roots    *x509.CertPool // nil: the system's
}

// SMTP hands messages to a mail server.
type SMTP struct {
	client *gomail.Client
	from   *netmail.Address
	domain string
}

// NewSMTP checks c; it does not connect. Its errors name the setting at fault.
func NewSMTP(c SMTPConfig) (*SMTP, error) {
	if c.Host == "" {
		return nil, errors.New("mail host is empty")
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil || strings.ContainsFunc(c.From, breaksLine) {
		return nil, fmt.Errorf("mail from %q is not an address such as \"Gatehouse <no-reply@example.com>\"", c.From)
	}
	options := []gomail.Option{
		gomail.WithTimeout(15 * time.Second),
		gomail.WithTLSConfig(&tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12, RootCAs: c.Roots}),
	}
	port := 587
	switch c.TLS {
	case "", "starttls":
		// Mandatory: opportunistic TLS can be stripped by anyone on the path, and the mails hold reset links.
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case "tls":
		port = 465
		options = append(options, gomail.WithSSL())
	case "none":
		if c.Username != "" {
			return nil, errors.New("mail TLS \"none\" would send the mail password in the clear: use \"starttls\" or \"tls\", or no user name")
		}
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("mail TLS %q is none of starttls, tls, none", c.TLS)
	}
	if c.Port != 0 {
		port = c.Port
	}
	options = append(options, gomail.WithPort(port))
	if c.Username != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(c.Username), gomail.WithPassword(c.Password))
	}
	client, err := gomail.NewClient(c.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("mail server %s:%d: %w", c.Host, port, err)
	}
	return &SMTP{client: client, from: from, domain: from.Address[strings.LastIndexByte(from.Address, '@')+1:]}, nil
}

// Send connects, hands over m and disconnects.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&netmail.Address{Address: m.To})
	msg.Subject(m.Subject)
	msg.SetDate()
	// The library's own id would tell the machine's host name.
	msg.SetMessageIDWithValue(rand.Text() + "@" + s.domain)
	// RFC 3834 §5: holiday replies stay away from generated mail.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	if err := s.client.DialAndSendWithContext(ctx, msg); err != nil {
		var refused *gomail.SendError
		if errors.As(err, &refused) && refused.ErrorCode() >= 500 {
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
		return fmt.Errorf("send mail: %w", err)
	}
	return nil
}
