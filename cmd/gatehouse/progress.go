package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress says on standard error how far a long command is: in one line that is written over on a terminal, else in a line now and
// then.
type progress struct {
	out      io.Writer
	terminal bool
	total    int64        // 0: nobody knows
	done     func() int64 // in the unit of total
	begun    time.Time
	said     time.Time
}

func newProgress(out io.Writer, total int64, done func() int64) *progress {
	p := &progress{out: out, total: total, done: done, begun: time.Now(), said: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// How often progress speaks.
const (
	onTerminal = 250 * time.Millisecond
	inLog      = 10 * time.Second
)

// tell says how far it is if it is time to.
func (p *progress) tell(rows int) {
	every := inLog
	if p.terminal {
		every = onTerminal
	}
	if now := time.Now(); now.Sub(p.said) >= every {
		p.said = now
		p.say(progressLine(rows, p.done(), p.total, now.Sub(p.begun)))
	}
}

func (p *progress) say(line string) {
	if p.terminal {
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	} else {
		_, _ = fmt.Fprintln(p.out, line)
	}
}

// end leaves the line to what follows.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// progressLine tells rows, share, rate and what is left to wait.
func progressLine(rows int, done, total int64, took time.Duration) string {
	line := fmt.Sprintf("%d rows, %.0f/s", rows, float64(rows)/max(took.Seconds(), 0.001))
	if total <= 0 || done <= 0 {
		return line
	}
	share := min(float64(done)/float64(total), 1)
	left := time.Duration(float64(took) * (1 - share) / share)
	return line + fmt.Sprintf(", %.0f%%, %s left", 100*share, left.Round(time.Second))
}
