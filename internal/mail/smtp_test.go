package mail_test

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/mail"
)

func TestSMTPDelivers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, tls          string
		offer, implicit    bool
		username, wantAuth string
		wantEncrypted      bool
	}{
		{name: "starttls", tls: "starttls", offer: true, wantEncrypted: true},
		{name: "starttls with password", tls: "", offer: true, username: "postbox", wantAuth: "|postbox|opensesame", wantEncrypted: true},
		{name: "tls", tls: "tls", implicit: true, wantEncrypted: true},
		{name: "tls with password", tls: "tls", implicit: true, username: "postbox", wantAuth: "|postbox|opensesame", wantEncrypted: true},
		{name: "none", tls: "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, tt.offer, tt.implicit)
			c := s.config(tt.tls)
			if tt.username != "" {
				c.Username, c.Password = tt.username, "opensesame"
			}
			m, err := mail.NewSMTP(c)
			if err != nil {
				t.Fatal(err)
			}
			text := "Grüße,\n\n.a line with a dot\nhttps://id.example/verify/link?t=" + strings.Repeat("x", 120) + "\n"
			err = m.Send(t.Context(), mail.Message{To: "ada@example.org", Subject: "Bestätigen Sie Ihre Adresse", Text: text})
			if err != nil {
				t.Fatalf("Send: %v", err)
			}
			got := s.mails()
			if len(got) != 1 {
				t.Fatalf("sink took %d mails, want 1", len(got))
			}
			if got[0].encrypted != tt.wantEncrypted || got[0].auth != tt.wantAuth {
				t.Errorf("encrypted %v auth %q, want %v %q", got[0].encrypted, got[0].auth, tt.wantEncrypted, tt.wantAuth)
			}
			if len(got[0].to) != 1 || !strings.HasPrefix(got[0].to[0], "TO:<ada@example.org>") {
				t.Errorf("recipients %q, want only ada@example.org", got[0].to)
			}
			letter := parse(t, got[0].data)
			subject, err := new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject"))
			if err != nil || subject != "Bestätigen Sie Ihre Adresse" {
				t.Errorf("subject %q (%v)", subject, err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(letter.Body))
			if err != nil {
				t.Fatal(err)
			}
			if g := strings.ReplaceAll(string(body), "\r\n", "\n"); strings.TrimSpace(strings.ReplaceAll(g, "\n..", "\n.")) != strings.TrimSpace(text) {
				t.Errorf("text\n%q\nwant\n%q", g, text)
			}
			if g := letter.Header.Get("Auto-Submitted"); g != "auto-generated" {
				t.Errorf("Auto-Submitted %q, want auto-generated", g)
			}
			if g := letter.Header.Get("Message-Id"); !strings.HasSuffix(g, "@example.com>") {
				t.Errorf("Message-ID %q does not end in the sender's domain", g)
			}
		})
	}
}

func TestSMTPSendsBothForms(t *testing.T) {
	t.Parallel()
	s := newSink(t, false, false)
	m, err := mail.NewSMTP(s.config("none"))
	if err != nil {
		t.Fatal(err)
	}
	letter := letterTo("ada@example.org")
	letter.HTML = "<p>Hello</p>"
	if err := m.Send(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	data := s.mails()[0].data
	if g := parse(t, data).Header.Get("Content-Type"); !strings.HasPrefix(g, "multipart/alternative") {
		t.Errorf("content type %q, want multipart/alternative", g)
	}
}

// A server, or somebody in between, that does not offer STARTTLS gets no mail: it would hold a reset link in the clear.
func TestAttackStartTLSStripped(t *testing.T) {
	t.Parallel()
	s := newSink(t, false, false)
	m, err := mail.NewSMTP(s.config("starttls"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), letterTo("ada@example.org")); err == nil {
		t.Error("Send succeeded without TLS")
	}
	if got := s.mails(); len(got) != 0 {
		t.Errorf("sink took %d mails, want none", len(got))
	}
}

func TestAttackMailServerWithForeignCertificate(t *testing.T) {
	t.Parallel()
	s := newSink(t, true, false)
	c := s.config("starttls")
	c.Roots = nil
	m, err := mail.NewSMTP(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), letterTo("ada@example.org")); err == nil {
		t.Error("Send trusted an unknown certificate")
	}
}

func TestAttackHeaderInjection(t *testing.T) {
	t.Parallel()
	s := newSink(t, false, false)
	m, err := mail.NewSMTP(s.config("none"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, to, subject string }{
		{"crlf in to", "ada@example.org\r\nBcc: eve@evil.example", "Hi"},
		{"lf in to", "ada@example.org\nRCPT TO:<eve@evil.example>", "Hi"},
		{"two recipients", "ada@example.org, eve@evil.example", "Hi"},
		{"display name", "Ada <ada@example.org>", "Hi"},
		{"angle brackets", "<ada@example.org>", "Hi"},
		{"quoted line break", "\"ada\r\n\"@example.org", "Hi"},
		{"comment", "ada@example.org (eve@evil.example)", "Hi"},
		{"group", "everyone: ada@example.org, eve@evil.example;", "Hi"},
		{"nul in to", "ada@example.org\x00", "Hi"},
		{"empty to", "", "Hi"},
		{"not utf-8", "ada\xff@example.org", "Hi"},
		{"too long", strings.Repeat("a", 250) + "@example.org", "Hi"},
		{"crlf in subject", "ada@example.org", "Hi\r\nBcc: eve@evil.example"},
		{"lf in subject", "ada@example.org", "Hi\nX: y"},
		{"cr in subject", "ada@example.org", "Hi\rX: y"},
		{"line separator in subject", "ada@example.org", "Hi\u2028X: y"},
		{"empty subject", "ada@example.org", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			letter := mail.Message{To: tt.to, Subject: tt.subject, Text: "text"}
			if err := m.Send(t.Context(), letter); !errors.Is(err, mail.ErrMessage) {
				t.Errorf("SMTP.Send = %v, want ErrMessage", err)
			}
			inbox := mail.NewInbox(quiet())
			if err := inbox.Send(t.Context(), letter); !errors.Is(err, mail.ErrMessage) {
				t.Errorf("Inbox.Send = %v, want ErrMessage", err)
			}
			q := mail.NewQueue(inbox, quiet())
			if err := q.Send(t.Context(), letter); !errors.Is(err, mail.ErrMessage) {
				t.Errorf("Queue.Send = %v, want ErrMessage", err)
			}
			if err := q.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if got := s.mails(); len(got) != 0 || s.sessions != 0 {
		t.Errorf("sink saw %d connections and %d mails, want none", s.sessions, len(got))
	}
}

func TestSMTPTellsFinalFromPassingErrors(t *testing.T) {
	t.Parallel()
	s := newSink(t, false, false)
	m, err := mail.NewSMTP(s.config("none"))
	if err != nil {
		t.Fatal(err)
	}
	s.refuse("550 no such mailbox")
	if err := m.Send(t.Context(), letterTo("ada@example.org")); !errors.Is(err, mail.ErrRejected) {
		t.Errorf("after 550: %v, want ErrRejected", err)
	}
	s.refuse("451 try later")
	if err := m.Send(t.Context(), letterTo("ada@example.org")); err == nil || errors.Is(err, mail.ErrRejected) {
		t.Errorf("after 451: %v, want an error that may pass", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Send(gone, letterTo("ada@example.org")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, want context.Canceled", err)
	}
}

func TestNewSMTPNamesTheSetting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		c    mail.SMTPConfig
		want string
	}{
		{"no host", mail.SMTPConfig{From: "a@example.com"}, "host"},
		{"no sender", mail.SMTPConfig{Host: "mx"}, "from"},
		{"sender breaks line", mail.SMTPConfig{Host: "mx", From: "a@example.com\r\nBcc: b@example.com"}, "from"},
		{"unknown tls", mail.SMTPConfig{Host: "mx", From: "a@example.com", TLS: "maybe"}, "TLS"},
		{"password in the clear", mail.SMTPConfig{Host: "mx", From: "a@example.com", TLS: "none", Username: "u"}, "clear"},
		{"port", mail.SMTPConfig{Host: "mx", From: "a@example.com", Port: 70000}, "port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := mail.NewSMTP(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewSMTP = %v, want an error about %q", err, tt.want)
			}
		})
	}
}

func FuzzMessageValidate(f *testing.F) {
	f.Add("ada@example.org", "Confirm your address")
	f.Add("ada@example.org\r\nBcc: eve@evil.example", "Hi")
	f.Add("\"a\\\r\nb\"@example.org", "Hi\u2028")
	f.Fuzz(func(t *testing.T, to, subject string) {
		m := mail.Message{To: to, Subject: subject, Text: "text"}
		if m.Validate() != nil {
			return
		}
		if strings.ContainsAny(to+subject, "\r\n\x00") {
			t.Errorf("accepted a line break in %q or %q", to, subject)
		}
	})
}
