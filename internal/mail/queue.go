package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	queueSize    = 1000
	queueWorkers = 2
	queueTries   = 3
	tryTimeout   = time.Minute
)

// Queue sends in the background, so that how long an answer takes never tells whether a mail went out (account
// enumeration by time) and a slow mail server holds nobody up. It lives in memory: what has not gone out when the process
// dies is lost, and the person asks for another link.
type Queue struct {
	mailer Mailer
	log    *slog.Logger
	stop   context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex // guards closed, and sending on letters against closing it
	closed bool

	letters chan letter
}

type letter struct {
	ctx context.Context // the request's values (its id, for the log), not its end
	Message
}

// NewQueue starts two workers that send through m. Close ends them.
func NewQueue(m Mailer, log *slog.Logger) *Queue {
	running, stop := context.WithCancel(context.Background())
	q := &Queue{mailer: m, log: log, stop: stop, ended: make(chan struct{}), letters: make(chan letter, queueSize)}
	var workers sync.WaitGroup
	for range queueWorkers {
		workers.Go(func() { q.work(running) })
	}
	go func() {
		workers.Wait()
		close(q.ended)
	}()
	return q
}

// Send accepts m for later. It never waits: ErrMessage, ErrFull or ErrClosed say that m was not accepted.
func (q *Queue) Send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	select {
	case q.letters <- letter{context.WithoutCancel(ctx), m}:
		return nil
	default:
		return ErrFull
	}
}

// Close accepts nothing more and waits until everything accepted has gone out or failed. When ctx ends first it drops
// the rest and returns ctx's error.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.letters)
	}
	q.mu.Unlock()
	defer q.stop()
	select {
	case <-q.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send the %d mails still waiting: %w", len(q.letters), ctx.Err())
	}
}

func (q *Queue) work(running context.Context) {
	for l := range q.letters {
		if err := q.deliver(running, l); err != nil {
			q.log.ErrorContext(l.ctx, "mail lost", "subject", l.Subject, "err", err)
		}
	}
}

// deliver tries three times, 2 and then 8 seconds apart, unless the error is final.
func (q *Queue) deliver(running context.Context, l letter) error {
	pause := 2 * time.Second
	for try := 1; ; try++ {
		err := q.try(running, l)
		if err == nil || try == queueTries || errors.Is(err, ErrMessage) || errors.Is(err, ErrRejected) {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 4
		case <-running.Done():
			return err
		}
	}
}

func (q *Queue) try(running context.Context, l letter) error {
	ctx, cancel := context.WithTimeout(l.ctx, tryTimeout)
	defer cancel()
	defer context.AfterFunc(running, cancel)()
	return q.mailer.Send(ctx, l.Message)
}
