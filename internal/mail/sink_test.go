package mail_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/mail"
)

// sink is a mail server just large enough to take what SMTP hands over.
type sink struct {
	port  int
	roots *x509.CertPool
	tls   *tls.Config // nil: STARTTLS is not offered

	mu       sync.Mutex
	reply    string // to RCPT, "250 ok" unless set
	taken    []taken
	sessions int
}

type taken struct {
	from, to  []string
	data      string
	encrypted bool
	auth      string
}

// newSink listens on loopback; implicit starts TLS with the first byte.
func newSink(t *testing.T, offerTLS, implicit bool) *sink {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	s := &sink{roots: x509.NewCertPool(), reply: "250 ok"}
	s.roots.AddCert(web.Certificate())
	config := &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
	if offerTLS {
		s.tls = config
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s.port = l.Addr().(*net.TCPAddr).Port
	if implicit {
		l = tls.NewListener(l, config)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c, implicit)
		}
	}()
	return s
}

func (s *sink) refuse(reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = reply
}

func (s *sink) mails() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]taken(nil), s.taken...)
}

func (s *sink) serve(c net.Conn, encrypted bool) {
	defer func() { _ = c.Close() }()
	s.mu.Lock()
	s.sessions++
	s.mu.Unlock()
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	now := taken{encrypted: encrypted}
	say("220 sink")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-sink")
			if s.tls != nil && !now.encrypted {
				say("250-STARTTLS")
			}
			say("250-8BITMIME")
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go")
			secure := tls.Server(c, s.tls)
			if secure.Handshake() != nil {
				return
			}
			c, in, now.encrypted = secure, bufio.NewReader(secure), true
		case "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			now.auth = strings.ReplaceAll(string(raw), "\x00", "|")
			say("235 ok")
		case "MAIL":
			now.from = append(now.from, rest)
			say("250 ok")
		case "RCPT":
			s.mu.Lock()
			reply := s.reply
			s.mu.Unlock()
			now.to = append(now.to, rest)
			say(reply)
		case "DATA":
			say("354 go")
			var data strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				data.WriteString(l)
			}
			now.data = data.String()
			s.mu.Lock()
			s.taken = append(s.taken, now)
			s.mu.Unlock()
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *sink) config(mode string) mail.SMTPConfig {
	return mail.SMTPConfig{Host: "127.0.0.1", Port: s.port, From: "Gatehouse <no-reply@example.com>", TLS: mode, Roots: s.roots}
}

func parse(t *testing.T, data string) *netmail.Message {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatalf("read the mail: %v\n%s", err, data)
	}
	return m
}

func letterTo(to string) mail.Message {
	return mail.Message{To: to, Subject: "Confirm your address", Text: fmt.Sprintf("Hello %s,\n\nhttps://id.example/verify/link?t=abc\n", to)}
}
