// Command bench measures the real gatehouse binary from outside, beside a bare net/http handler in the same run: ratios
// compare machines, absolute numbers do not. It loads loopback only, for a bounded time. `make bench` runs it on SQLite
// with the in-process cache and on a private Postgres and Redis.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
)

// What the project wants to reach on two cores that driver, Postgres and Redis share; ratios are in cases.go and
// were set for net/http's client as the driver.
const (
	maxIdle  = 30 << 20
	maxStart = 300 * time.Millisecond
	maxSize  = 30 << 20
)

type options struct {
	load
	binary string
	rounds int
	only   string
	json   bool
	check  bool
	people int
	keep   string
}

// report is what --json prints.
type report struct {
	Go          string             `json:"go"`
	Cores       int                `json:"cores"`
	Connections int                `json:"connections"`
	Driver      string             `json:"driver"`
	Signatures  map[string]float64 `json:"signatures_per_core_per_second"`
	BinarySize  int64              `json:"binary_bytes"`
	Variants    []*variant         `json:"variants"`
}

type variant struct {
	Name       string        `json:"name"`
	FirstStart time.Duration `json:"first_start_ns"` // empty directory: makes the keys and the schema
	Start      time.Duration `json:"start_ns"`       // median of restarts
	Idle       int64         `json:"idle_rss_bytes"`
	Loaded     int64         `json:"loaded_rss_bytes"`
	Bare       []result      `json:"bare"`
	Cases      []*measured   `json:"cases"`
}

type measured struct {
	Name      string   `json:"name"`
	Target    float64  `json:"target_ratio,omitempty"`
	PerSecond float64  `json:"per_second"` // median of rounds
	Ratio     float64  `json:"ratio"`      // to the bare handler of the same round, median of rounds
	Rounds    []result `json:"rounds"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "bare" {
		fmt.Fprintln(os.Stderr, "bench:", bare(context.Background(), os.Args[2]))
		os.Exit(1)
	}
	var o options
	flag.StringVar(&o.binary, "binary", "bin/gatehouse", "stripped `file` to measure")
	flag.IntVar(&o.connections, "connections", 8, "keep-alive connections")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds, of which the median counts")
	flag.DurationVar(&o.warmUp, "warm-up", time.Second, "unmeasured time before each case")
	flag.DurationVar(&o.length, "length", 3*time.Second, "measured time of each case")
	flag.BoolVar(&o.lean, "lean", false, "load with a driver that costs little, instead of net/http's client; targets are not judged then")
	flag.StringVar(&o.only, "only", "", "only the variant `sqlite` or `postgres`")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of tables")
	flag.BoolVar(&o.check, "check", false, "fail when a target is missed")
	flag.IntVar(&o.people, "people", 0, "compare a server with a hundred people and one with `N` instead, which `gatehouse bench load` makes")
	flag.StringVar(&o.keep, "keep", "", "with -people: keep the large databases and use them again (`directory`; on Postgres, database gatehouse_many)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return fmt.Errorf("%w (run make build)", err)
	}
	if o.people > 0 {
		return runScale(ctx, o, binary, out)
	}
	r := &report{Go: runtime.Version(), Cores: runtime.NumCPU(), Connections: o.connections, Driver: "net/http", BinarySize: info.Size()}
	if o.lean {
		r.Driver = "lean"
	}
	if r.Signatures, err = signatures(min(o.length, time.Second)); err != nil {
		return err
	}
	postgres, redis := os.Getenv("GATEHOUSE_TEST_POSTGRES"), os.Getenv("GATEHOUSE_TEST_REDIS")
	if o.only != "postgres" {
		if err := r.add(ctx, o, "SQLite, in-process cache", rig.Setup{Binary: binary}); err != nil {
			return err
		}
	}
	switch {
	case o.only == "sqlite":
	case postgres == "" || redis == "":
		return errors.New("GATEHOUSE_TEST_POSTGRES and GATEHOUSE_TEST_REDIS are not set: run make bench, or -only sqlite")
	default:
		if err := r.add(ctx, o, "Postgres, Redis", rig.Setup{Binary: binary, Database: postgres, Redis: redis}); err != nil {
			return err
		}
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else {
		r.print(out)
	}
	if missed := r.missed(); o.check && len(missed) > 0 {
		return errors.New("missed: " + strings.Join(missed, "; "))
	}
	return nil
}

func (r *report) add(ctx context.Context, o options, name string, s rig.Setup) error {
	v, err := measureVariant(ctx, o, name, s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.Variants = append(r.Variants, v)
	return nil
}

func measureVariant(ctx context.Context, o options, name string, s rig.Setup) (*variant, error) {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s.Dir = dir
	if s.Port, err = rig.FreePort(); err != nil {
		return nil, err
	}
	v := &variant{Name: name}
	server, err := v.starts(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Stop() }()
	f, err := furnish(ctx, server)
	if err != nil {
		return nil, err
	}
	floor := s.Database
	if floor == "" {
		floor = "sqlite:" + filepath.Join(dir, "floor.db")
	}
	bareAddress, stop, err := startBare(floor)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := v.rounds(ctx, o, server, bareAddress, f); err != nil {
		return nil, fmt.Errorf("%w\nthe server's last words:\n%s", err, tail(server.Log(), 2000))
	}
	v.Loaded, err = resident(server.PID())
	return v, err
}

// starts measures the first start, restarts, and the memory of a server that has nothing to do.
func (v *variant) starts(ctx context.Context, s rig.Setup) (*rig.Server, error) {
	timed := func() (*rig.Server, time.Duration, error) {
		begin := time.Now()
		server, err := rig.Start(ctx, s)
		return server, time.Since(begin), err
	}
	server, took, err := timed()
	if err != nil {
		return nil, err
	}
	v.FirstStart = took
	select { // the first RSA key may still be in the making, which would make the next start a first one too
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	var restarts []float64
	for range 5 {
		if err := server.Stop(); err != nil {
			return nil, err
		}
		if server, took, err = timed(); err != nil {
			return nil, err
		}
		restarts = append(restarts, float64(took))
	}
	v.Start = time.Duration(median(restarts))
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	v.Idle, err = resident(server.PID())
	return server, err
}

// rounds interleaves the cases, so that a slow moment of the machine hits all of them alike.
func (v *variant) rounds(ctx context.Context, o options, server *rig.Server, bareAddress string, f *fixture) error {
	address := strings.TrimPrefix(server.Issuer, "http://")
	cases := append(f.cases(), floors(bareAddress)...)
	for _, tc := range cases {
		m := &measured{Name: tc.name, Target: tc.target}
		if o.lean { // it leaves more of the machine to the bare handler than to any server
			m.Target = 0
		}
		v.Cases = append(v.Cases, m)
	}
	ratios := make([][]float64, len(cases))
	rates := make([][]float64, len(cases))
	for range o.rounds {
		bare, err := measure(bareAddress, testCase{name: "bare handler", prepare: get("/", "")}, o.load)
		if err != nil {
			return err
		}
		v.Bare = append(v.Bare, bare)
		for i, tc := range cases {
			if err := ctx.Err(); err != nil {
				return err
			}
			at := address
			if tc.address != "" {
				at = tc.address
			}
			got, err := measure(at, tc, o.load)
			if err != nil {
				return err
			}
			v.Cases[i].Rounds = append(v.Cases[i].Rounds, got)
			rates[i] = append(rates[i], got.PerSecond)
			ratios[i] = append(ratios[i], got.PerSecond/bare.PerSecond)
		}
	}
	for i, m := range v.Cases {
		m.PerSecond, m.Ratio = median(rates[i]), median(ratios[i])
	}
	return nil
}

// startBare runs the bare handler as a child of its own.
func startBare(dsn string) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, "bare", dsn)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("bare handler: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// resident is the memory a process holds in RAM, in bytes.
func resident(pid int) (int64, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/…/status")
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
