// Package mail carries the server's letters to people: by SMTP, or into a local inbox when nothing is configured. It
// knows neither people nor texts.
package mail

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrMessage says that a message cannot be sent as it is; trying again does not help.
	ErrMessage = errors.New("message not acceptable")
	// ErrRejected says that the mail server refused a message for good (a 5xx reply); trying again does not help.
	ErrRejected = errors.New("message rejected by the mail server")
	// ErrFull says that the queue holds as many messages as it may.
	ErrFull = errors.New("mail queue full")
	// ErrClosed says that the queue no longer takes messages.
	ErrClosed = errors.New("mail queue closed")
)

// Message is one letter to one person.
type Message struct {
	To      string // one bare address, no display name
	Subject string // one line
	Text    string
	HTML    string // optional second form of Text
}

// Mailer sends messages. SMTP and Inbox deliver; Queue puts either of them behind a buffer.
type Mailer interface {
	// Send delivers m, or an error: ErrMessage and ErrRejected are final, others may pass.
	Send(ctx context.Context, m Message) error
}

// Validate returns ErrMessage, with the reason, unless To is exactly one address and no header can break out of its line.
// Both come near to what people type, so a line break here would add headers or recipients (SMTP header injection).
func (m Message) Validate() error {
	if m.To == "" || len(m.To) > 254 || strings.ContainsFunc(m.To, breaksLine) || !utf8.ValidString(m.To) {
		return fmt.Errorf("%w: recipient is not one address", ErrMessage)
	}
	a, err := netmail.ParseAddress(m.To)
	if err != nil || a.Name != "" || a.Address != m.To {
		return fmt.Errorf("%w: recipient is not one address", ErrMessage)
	}
	if m.Subject == "" || len(m.Subject) > 512 || strings.ContainsFunc(m.Subject, breaksLine) || !utf8.ValidString(m.Subject) {
		return fmt.Errorf("%w: subject is not one line of text", ErrMessage)
	}
	if m.Text == "" {
		return fmt.Errorf("%w: no text", ErrMessage)
	}
	return nil
}

// breaksLine covers CR and LF, the other controls, and the Unicode line and paragraph separators.
func breaksLine(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}
