// Package e2e tries the real binary from outside: in Chromium, by independent OpenID Connect clients, and by many
// requests at once, on SQLite with the in-process cache and on Postgres with Redis.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/e2e/rig"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// binary is built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehouse-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(context.Background(), "..", dir, raceFlags...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// each runs f on both pairs of stores, each time with a server of its own.
func each(t *testing.T, f func(t *testing.T, s *rig.Server)) {
	t.Helper()
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, start(t, embedded(t)))
	})
	t.Run("postgres and redis", func(t *testing.T) {
		t.Parallel()
		f(t, start(t, full(t)))
	})
}

func embedded(t *testing.T) rig.Setup {
	t.Helper()
	return rig.Setup{Binary: binary, Dir: t.TempDir(), Port: freePort(t), Env: settings}
}

func full(t *testing.T) rig.Setup {
	t.Helper()
	s := embedded(t)
	s.Database, s.Redis = dbtest.PostgresURL(t), cachetest.URL(t)
	return s
}

// settings lift the limit that all tests share because they come from one address, and make clients of DPoP use nonces.
var settings = []string{"GATEHOUSE_LIMIT_ADDRESS_TRIES=1000000", "GATEHOUSE_REQUIRE_DPOP_NONCE=true"}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs a server until the end of the test, which must find it well-behaved to the last.
func start(t *testing.T, setup rig.Setup) *rig.Server {
	t.Helper()
	s, err := rig.Start(t.Context(), setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *rig.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	log := s.Log()
	for _, bad := range []string{"DATA RACE", "panic", "level=ERROR"} {
		if i := strings.Index(log, bad); i >= 0 {
			t.Errorf("the server's log holds %q: …%.600s", bad, log[max(0, i-100):])
		}
	}
	if t.Failed() {
		t.Logf("the server's log ends:\n%s", log[max(0, len(log)-2500):])
	}
}

// artifacts is a directory for screenshots: GATEHOUSE_TEST_ARTIFACTS if set, or one that goes with the test.
func artifacts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("GATEHOUSE_TEST_ARTIFACTS")
	if dir == "" {
		return t.TempDir()
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
