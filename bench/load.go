package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// operation does one thing once on a connection; it fails unless the answer is the right one.
type operation func(c *conn) error

// testCase makes one operation for each connection, after whatever preparation it needs (unmeasured).
type testCase struct {
	name    string
	target  float64 // ratio to the bare handler to reach; 0: none
	address string  // "": the server's
	prepare func(c *conn) (operation, error)
}

// result of one case in one round.
type result struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// load is how much is asked at once and for how long.
type load struct {
	connections    int
	warmUp, length time.Duration
	lean           bool // by conn's own HTTP instead of net/http's client
}

// measure loads address with the case: a warm-up, then for as long as told.
func measure(address string, tc testCase, l load) (result, error) {
	type worker struct {
		conn *conn
		op   operation
		took []time.Duration
		err  error
	}
	workers := make([]worker, l.connections)
	for i := range workers {
		c, err := dial(address, l.lean)
		if err != nil {
			return result{}, err
		}
		defer c.close()
		op, err := tc.prepare(c)
		if err != nil {
			return result{}, fmt.Errorf("prepare %s: %w", tc.name, err)
		}
		workers[i] = worker{conn: c, op: op, took: make([]time.Duration, 0, 1<<16)}
	}
	begin := time.Now().Add(l.warmUp)
	end := begin.Add(l.length)
	var running sync.WaitGroup
	for i := range workers {
		w := &workers[i]
		running.Go(func() {
			for {
				start := time.Now()
				if start.After(end) {
					return
				}
				if err := w.op(w.conn); err != nil {
					w.err = fmt.Errorf("%s: %w", tc.name, err)
					return
				}
				if now := time.Now(); start.After(begin) && now.Before(end) {
					w.took = append(w.took, now.Sub(start))
				}
			}
		})
	}
	running.Wait()
	var took []time.Duration
	for _, w := range workers {
		if w.err != nil {
			return result{}, w.err
		}
		took = append(took, w.took...)
	}
	if len(took) == 0 {
		return result{}, fmt.Errorf("%s: nothing was done in %s", tc.name, l.length)
	}
	slices.Sort(took)
	return result{
		PerSecond: float64(len(took)) / l.length.Seconds(),
		P50:       took[len(took)/2],
		P99:       took[len(took)*99/100],
	}, nil
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
