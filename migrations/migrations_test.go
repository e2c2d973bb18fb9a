package migrations_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/migrations"
)

// empty opens databases that nobody has migrated, on both engines; n connections to each.
func empty(t *testing.T, n int, f func(t *testing.T, pools []*db.DB)) {
	t.Helper()
	for name, newURL := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newURL(t)
			var pools []*db.DB
			for range n {
				d, err := db.Open(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = d.Close() })
				pools = append(pools, d)
			}
			f(t, pools)
		})
	}
}

func apply(t *testing.T, d *db.DB) []string {
	t.Helper()
	done, err := migrations.Apply(t.Context(), d.Engine(), d.SQL())
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return done
}

func TestApplyTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	empty(t, 1, func(t *testing.T, pools []*db.DB) {
		first := apply(t, pools[0])
		if len(first) == 0 || first[0] != "0001_init.sql" || !slices.IsSorted(first) {
			t.Errorf("first: got %v, want every step in order", first)
		}
		if _, err := pools[0].Exec(t.Context(), `INSERT INTO changes (name, version) VALUES ('kept', 1)`); err != nil {
			t.Fatal(err)
		}
		if second := apply(t, pools[0]); len(second) != 0 {
			t.Errorf("second: got %v, want nothing", second)
		}
		var n int
		if err := pools[0].QueryRow(t.Context(), `SELECT count(*) FROM changes`).Scan(&n); err != nil || n != 1 {
			t.Errorf("rows after the second: got %d, %v, want 1", n, err)
		}
	})
}

func TestReplicasMigrateTogether(t *testing.T) {
	t.Parallel()
	empty(t, 6, func(t *testing.T, pools []*db.DB) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var all []string
		for _, d := range pools {
			wg.Go(func() {
				done, err := migrations.Apply(t.Context(), d.Engine(), d.SQL())
				if err != nil {
					t.Errorf("apply: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, done...)
			})
		}
		wg.Wait()
		slices.Sort(all)
		if len(all) == 0 || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Errorf("steps run: got %v, want each once", all)
		}
		if more := apply(t, pools[0]); len(more) != 0 {
			t.Errorf("left over: %v", more)
		}
	})
}

// A step that fails leaves nothing behind, so that the next start can try again.
func TestFailedStepIsUndone(t *testing.T) {
	t.Parallel()
	empty(t, 1, func(t *testing.T, pools []*db.DB) {
		d := pools[0]
		if _, err := d.Exec(t.Context(), `CREATE TABLE audit (id TEXT)`); err != nil { // in the way of the first step's last table
			t.Fatal(err)
		}
		if _, err := migrations.Apply(t.Context(), d.Engine(), d.SQL()); err == nil || !strings.Contains(err.Error(), "0001_init.sql") {
			t.Errorf("got %v, want an error that names the step", err)
		}
		if _, err := d.Exec(t.Context(), `SELECT 1 FROM users`); err == nil {
			t.Error("a table of the failed step is there")
		}
		if _, err := d.Exec(t.Context(), `DROP TABLE audit`); err != nil {
			t.Fatal(err)
		}
		if done := apply(t, d); len(done) == 0 {
			t.Error("the next start did nothing")
		}
	})
}

func TestStepsForOneEngine(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{}
	for _, name := range []string{"0010_j.sql", "0002_b.sqlite.sql", "0002_b.postgres.sql", "0001_a.sql", "0003_c.postgres.sql", "readme.md", "migrations.go"} {
		dir[name] = &fstest.MapFile{}
	}
	for engine, want := range map[db.Engine][]string{
		db.SQLite:   {"0001_a.sql", "0002_b.sqlite.sql", "0010_j.sql"},
		db.Postgres: {"0001_a.sql", "0002_b.postgres.sql", "0003_c.postgres.sql", "0010_j.sql"},
	} {
		if got := migrations.Steps(dir, engine); !cmp.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", engine, got, want)
		}
	}
}
