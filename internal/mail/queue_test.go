package mail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gatehouse-id/gatehouse/internal/mail"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// route is a Mailer whose deliveries are decided by a function.
type route func(ctx context.Context, m mail.Message) error

func (f route) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

func TestQueueTriesAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fail int // how many tries fail
		err  error
		want int // tries
		lost bool
	}{
		{"works at once", 0, nil, 1, false},
		{"works the third time", 2, errors.New("connection refused"), 3, false},
		{"never works", 9, errors.New("connection refused"), 3, true},
		{"refused for good", 9, mail.ErrRejected, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				var out strings.Builder
				q := mail.NewQueue(route(func(context.Context, mail.Message) error {
					tries++
					if tries <= tt.fail {
						return tt.err
					}
					return nil
				}), slog.New(slog.NewTextHandler(&out, nil)))
				if err := q.Send(t.Context(), letterTo("ada@example.org")); err != nil {
					t.Fatal(err)
				}
				if err := q.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if tries != tt.want {
					t.Errorf("%d tries, want %d", tries, tt.want)
				}
				if lost := strings.Contains(out.String(), "mail lost"); lost != tt.lost {
					t.Errorf("logged as lost: %v, want %v", lost, tt.lost)
				}
				if strings.Contains(out.String(), "t=abc") || strings.Contains(out.String(), "ada@") {
					t.Errorf("the log tells the link or the address: %s", out.String())
				}
			})
		})
	}
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := mail.NewQueue(route(func(context.Context, mail.Message) error { <-gate; return nil }), quiet())
		accepted := 0
		var err error
		for range 2000 {
			if err = q.Send(t.Context(), letterTo("ada@example.org")); err != nil {
				break
			}
			accepted++
		}
		if !errors.Is(err, mail.ErrFull) {
			t.Errorf("after %d messages: %v, want ErrFull", accepted, err)
		}
		if accepted < 1000 || accepted > 1002 {
			t.Errorf("accepted %d, want 1000 and at most one for each worker", accepted)
		}
		close(gate)
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueCloseDrains(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	sent := map[string]bool{}
	q := mail.NewQueue(route(func(_ context.Context, m mail.Message) error {
		mu.Lock()
		defer mu.Unlock()
		sent[m.To] = true
		return nil
	}), quiet())
	for i := range 200 {
		// The request is over before its mail goes out.
		ctx, cancel := context.WithCancel(t.Context())
		if err := q.Send(ctx, letterTo(fmt.Sprintf("p%d@example.org", i))); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(sent) != 200 {
		t.Errorf("%d mails went out, want 200", len(sent))
	}
	if err := q.Send(t.Context(), letterTo("late@example.org")); !errors.Is(err, mail.ErrClosed) {
		t.Errorf("Send after Close = %v, want ErrClosed", err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestQueueCloseGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := mail.NewQueue(route(func(ctx context.Context, _ mail.Message) error {
			<-ctx.Done()
			return ctx.Err()
		}), quiet())
		for range 5 {
			if err := q.Send(t.Context(), letterTo("ada@example.org")); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Close = %v, want context.Canceled", err)
		}
		// The bubble ends only when both workers have.
	})
}

func TestInboxKeepsTheNewest(t *testing.T) {
	t.Parallel()
	b := mail.NewInbox(quiet())
	for i := range 130 {
		if err := b.Send(t.Context(), letterTo(fmt.Sprintf("p%d@example.org", i))); err != nil {
			t.Fatal(err)
		}
	}
	got := b.Messages()
	if len(got) != 100 || got[0].Number != 130 || got[99].Number != 31 {
		t.Fatalf("%d messages from %d to %d, want 100 from 130 to 31", len(got), got[0].Number, got[len(got)-1].Number)
	}
	if m, ok := b.Message(130); !ok || m.To != "p129@example.org" {
		t.Errorf("Message(130) = %v %v", m, ok)
	}
	if _, ok := b.Message(30); ok {
		t.Error("Message(30) is still there")
	}
}
