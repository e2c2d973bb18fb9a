package mail

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// inboxSize is how many messages an Inbox keeps.
const inboxSize = 100

// Inbox keeps messages in memory instead of sending them, for a server that was started without a mail server. It logs
// each with its text, so a link can be followed from the terminal: never use it where others read the log.
type Inbox struct {
	log *slog.Logger

	mu    sync.Mutex
	kept  []Received // oldest first
	count int
}

// Received is a message in an Inbox.
type Received struct {
	Number int // 1 for the first message since the start; never given again
	At     time.Time
	Message
}

// NewInbox gives an empty inbox.
func NewInbox(log *slog.Logger) *Inbox { return &Inbox{log: log} }

// Send keeps m, and forgets the oldest message when there are more than 100.
func (b *Inbox) Send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	b.mu.Lock()
	b.count++
	b.kept = append(b.kept, Received{Number: b.count, At: time.Now(), Message: m})
	if extra := len(b.kept) - inboxSize; extra > 0 {
		b.kept = slices.Delete(b.kept, 0, extra)
	}
	b.mu.Unlock()
	b.log.InfoContext(ctx, "mail for the local inbox", "to", m.To, "subject", m.Subject, "text", m.Text)
	return nil
}

// Messages returns what is kept, newest first.
func (b *Inbox) Messages() []Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.kept)
	slices.Reverse(list)
	return list
}

// Message returns the message of that number while it is kept.
func (b *Inbox) Message(number int) (Received, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.kept {
		if m.Number == number {
			return m, true
		}
	}
	return Received{}, false
}
