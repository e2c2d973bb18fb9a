package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// table makes an empty table for the tests of this package: parent ← child.
func table(t testing.TB, d *db.DB) {
	t.Helper()
	for _, text := range []string{
		`CREATE TABLE parent (id TEXT PRIMARY KEY, name TEXT UNIQUE, at TIMESTAMPTZ, data TEXT, raw BYTEA, yes BOOLEAN, n BIGINT NOT NULL)`,
		`CREATE TABLE child (id TEXT PRIMARY KEY, parent_id TEXT NOT NULL REFERENCES parent (id) ON DELETE CASCADE)`,
	} {
		if _, err := d.Exec(t.Context(), text); err != nil {
			t.Fatalf("create table: %v", err)
		}
	}
}

func each(t *testing.T, f func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		table(t, d)
		f(t, d)
	})
}

func insert(ctx context.Context, d *db.DB, id string) error {
	_, err := d.Exec(ctx, `INSERT INTO parent (id, name, n) VALUES ($1, $2, 0)`, id, "name of "+id)
	return err
}

func count(t *testing.T, d *db.DB) int {
	t.Helper()
	var n int
	if err := d.QueryRow(t.Context(), `SELECT count(*) FROM parent`).Scan(&n); err != nil {
		t.Fatalf("count: %v", err)
	}
	return n
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestErrorsAreAlikeOnBothEngines(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := insert(ctx, d, "a"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "primary key taken", insert(ctx, d, "a"), db.ErrConflict)
		_, err := d.Exec(ctx, `INSERT INTO parent (id, name, n) VALUES ('b', 'name of a', 0)`)
		wantErr(t, "unique column taken", err, db.ErrConflict)
		wantErr(t, "unique key taken with RETURNING", d.QueryRow(ctx, `INSERT INTO parent (id, n) VALUES ('a', 0) RETURNING id`).Scan(new(string)), db.ErrConflict)
		wantErr(t, "unique key taken in Query", d.Query(ctx, func(db.Scanner) error { return nil }, `INSERT INTO parent (id, n) VALUES ('a', 0) RETURNING id`), db.ErrConflict)
		wantErr(t, "no row", d.QueryRow(ctx, `SELECT id FROM parent WHERE id = 'nobody'`).Scan(new(string)), db.ErrNotFound)
		wantErr(t, "no row updated", d.QueryRow(ctx, `UPDATE parent SET n = 1 WHERE id = 'nobody' RETURNING id`).Scan(new(string)), db.ErrNotFound)
		_, err = d.Exec(ctx, `INSERT INTO child (id, parent_id) VALUES ('c', 'nobody')`)
		wantErr(t, "row referred to is not there", err, db.ErrNotFound)

		sentinel := errors.New("mine")
		wantErr(t, "error of the callback", d.Query(ctx, func(db.Scanner) error { return sentinel }, `SELECT id FROM parent`), sentinel)
		if err := d.Query(ctx, func(db.Scanner) error { t.Error("called without a row"); return nil }, `SELECT id FROM parent WHERE id = 'nobody'`); err != nil {
			t.Errorf("query without rows: %v", err)
		}

		// A mistake in the program is neither of them: trying again would not help.
		for what, text := range map[string]string{
			"not null":  `INSERT INTO parent (id) VALUES ('d')`,
			"no table":  `SELECT id FROM nowhere`,
			"no column": `UPDATE parent SET nothing = 1`,
			"syntax":    `SELEKT 1`,
		} {
			_, err := d.Exec(ctx, text)
			if err == nil || errors.Is(err, db.ErrConflict) || errors.Is(err, db.ErrNotFound) || errors.Is(err, db.ErrUnavailable) {
				t.Errorf("%s: got %v, want an error of no kind", what, err)
			}
		}
		if err := d.QueryRow(ctx, `SELECT id FROM parent WHERE id = 'a'`).Scan(new(int)); err == nil {
			t.Error("text scanned into a number: got no error")
		}
		if err := d.Ping(ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestClosedDatabaseIsUnavailable(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		var id string
		_ = d.QueryRow(ctx, `SELECT id FROM parent`).Scan(&id) // so that a compiled statement is closed, too
		if err := d.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		_, err := d.Exec(ctx, `DELETE FROM parent`)
		wantErr(t, "Exec", err, db.ErrUnavailable)
		wantErr(t, "QueryRow", d.QueryRow(ctx, `SELECT id FROM parent`).Scan(&id), db.ErrUnavailable)
		wantErr(t, "Query", d.Query(ctx, func(db.Scanner) error { return nil }, `SELECT id FROM parent`), db.ErrUnavailable)
		wantErr(t, "Tx", d.Tx(ctx, func(context.Context) error { return nil }), db.ErrUnavailable)
		wantErr(t, "Ping", d.Ping(ctx), db.ErrUnavailable)
	})
}

func TestTimeIsUp(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
		defer cancel()
		_, err := d.Exec(late, `DELETE FROM parent`)
		wantErr(t, "past the deadline", err, db.ErrUnavailable)
		wantErr(t, "past the deadline", err, context.DeadlineExceeded)

		given, up := context.WithCancel(t.Context())
		up()
		_, err = d.Exec(given, `DELETE FROM parent`)
		wantErr(t, "given up", err, context.Canceled)
		if errors.Is(err, db.ErrUnavailable) {
			t.Errorf("given up by the caller: got %v, want no ErrUnavailable", err)
		}
		if err := insert(t.Context(), d, "a"); err != nil {
			t.Errorf("the next statement: %v", err)
		}
	})
}

// A statement that runs when its caller gives up must leave the connection usable.
func TestCancelDuringStatement(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		endless := `WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c`
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantErr(t, "endless statement", d.QueryRow(ctx, endless).Scan(new(int)), context.DeadlineExceeded)
		if err := insert(t.Context(), d, "a"); err != nil {
			t.Errorf("the next statement: %v", err)
		}
	})
}

func TestTx(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		boom := errors.New("boom")

		if err := d.Tx(ctx, func(ctx context.Context) error {
			if err := insert(ctx, d, "kept"); err != nil {
				return err
			}
			var id string // a transaction reads what it wrote
			return d.QueryRow(ctx, `SELECT id FROM parent WHERE id = 'kept'`).Scan(&id)
		}); err != nil {
			t.Fatalf("commit: %v", err)
		}
		if n := count(t, d); n != 1 {
			t.Errorf("after commit: got %d rows, want 1", n)
		}

		wantErr(t, "error of f", d.Tx(ctx, func(ctx context.Context) error {
			if err := insert(ctx, d, "lost"); err != nil {
				return err
			}
			return boom
		}), boom)

		wantErr(t, "error of an inner Tx ends the outer", d.Tx(ctx, func(ctx context.Context) error {
			if err := insert(ctx, d, "lost"); err != nil {
				return err
			}
			return d.Tx(ctx, func(ctx context.Context) error {
				if err := insert(ctx, d, "lost too"); err != nil {
					return err
				}
				return boom
			})
		}), boom)

		// An inner Tx that succeeds has no commit of its own.
		wantErr(t, "joined", d.Tx(ctx, func(ctx context.Context) error {
			if err := d.Tx(ctx, func(ctx context.Context) error { return insert(ctx, d, "inner") }); err != nil {
				return err
			}
			return boom
		}), boom)

		func() {
			defer func() {
				if p := recover(); p != "panic" {
					t.Errorf("recovered %v, want the panic of f", p)
				}
			}()
			_ = d.Tx(ctx, func(ctx context.Context) error {
				if err := insert(ctx, d, "lost"); err != nil {
					return err
				}
				panic("panic")
			})
		}()

		given, up := context.WithCancel(ctx)
		err := d.Tx(given, func(ctx context.Context) error {
			err := insert(ctx, d, "lost")
			up()
			return err
		})
		wantErr(t, "context over before the commit", err, context.Canceled)

		wantErr(t, "conflict", d.Tx(ctx, func(ctx context.Context) error {
			if err := insert(ctx, d, "lost"); err != nil {
				return err
			}
			return insert(ctx, d, "kept")
		}), db.ErrConflict)

		if n := count(t, d); n != 1 {
			t.Errorf("after rollbacks: got %d rows, want 1", n)
		}
	})
}

// The transaction in a context belongs to its own database.
func TestTxOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	a, b := dbtest.OpenSQLite(t), dbtest.OpenSQLite(t)
	table(t, a)
	table(t, b)
	if err := a.Tx(t.Context(), func(ctx context.Context) error {
		return insert(ctx, b, "x")
	}); err != nil {
		t.Fatal(err)
	}
	if na, nb := count(t, a), count(t, b); na != 0 || nb != 1 {
		t.Errorf("rows: got %d and %d, want 0 and 1", na, nb)
	}
}

func TestSingleUseHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if err := insert(t.Context(), d, "code"); err != nil {
			t.Fatal(err)
		}
		race := func(name, text string) {
			var wins, losses atomic.Int32
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 50 {
				wg.Go(func() {
					<-start
					var id string
					switch err := d.QueryRow(t.Context(), text, "code").Scan(&id); {
					case err == nil && id == "code":
						wins.Add(1)
					case errors.Is(err, db.ErrNotFound):
						losses.Add(1)
					default:
						t.Errorf("%s: got %q, %v", name, id, err)
					}
				})
			}
			close(start)
			wg.Wait()
			if wins.Load() != 1 || losses.Load() != 49 {
				t.Errorf("%s: got %d winners and %d losers, want 1 and 49", name, wins.Load(), losses.Load())
			}
		}
		race("compare and set", `UPDATE parent SET n = n + 1 WHERE id = $1 AND n = 0 RETURNING id`)
		race("delete", `DELETE FROM parent WHERE id = $1 RETURNING id`)
	})
}

// Counters lose nothing, whether each step is a statement or a transaction of several.
func TestConcurrentWriters(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if err := insert(t.Context(), d, "counter"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for range 5 {
					step := func(ctx context.Context) error {
						_, err := d.Exec(ctx, `UPDATE parent SET n = n + 1 WHERE id = 'counter'`)
						return err
					}
					var err error
					if i%2 == 0 {
						err = step(t.Context())
					} else {
						err = d.Tx(t.Context(), step)
					}
					if err != nil {
						t.Errorf("count: %v", err)
					}
					var n int
					if err := d.QueryRow(t.Context(), `SELECT n FROM parent WHERE id = 'counter'`).Scan(&n); err != nil || n < 1 {
						t.Errorf("read: got %d, %v", n, err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := d.QueryRow(t.Context(), `SELECT n FROM parent WHERE id = 'counter'`).Scan(&n); err != nil || n != 100 {
			t.Errorf("counter: got %d, %v, want 100", n, err)
		}
	})
}

func TestTimeRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		zone := time.FixedZone("far", 9*3600)
		for i, given := range []time.Time{
			{},
			time.Date(2026, 11, 23, 17, 8, 0, 0, time.UTC),
			time.Date(2026, 11, 23, 17, 8, 0, 123456789, zone),
			time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1900, 2, 28, 23, 59, 59, 999999999, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		} {
			id := fmt.Sprint(i)
			var returned, read db.Time
			if err := d.QueryRow(ctx, `INSERT INTO parent (id, at, n) VALUES ($1, $2, 0) RETURNING at`, id, db.At(given)).Scan(&returned); err != nil {
				t.Fatalf("%v: %v", given, err)
			}
			if err := d.QueryRow(ctx, `SELECT at FROM parent WHERE id = $1`, id).Scan(&read); err != nil {
				t.Fatalf("%v: %v", given, err)
			}
			want := given.Truncate(time.Microsecond).UTC()
			if given.IsZero() {
				want = time.Time{}
			}
			if returned.Time != want || read.Time != want {
				t.Errorf("%v: got %v and %v, want %v", given, returned.Time, read.Time, want)
			}
		}
		var n int
		if err := d.QueryRow(ctx, `SELECT count(*) FROM parent WHERE at IS NULL`).Scan(&n); err != nil || n != 1 {
			t.Errorf("zero time: got %d NULLs, %v, want 1", n, err)
		}
	})
}

// SQLite compares times as text; the text must sort as time does, at every fraction and in every zone.
func TestTimesSortAsTime(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		base := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
		order := []time.Time{
			base.Add(-time.Second), base, base.Add(time.Microsecond), base.Add(10 * time.Microsecond), base.Add(100 * time.Millisecond),
			base.Add(time.Second).In(time.FixedZone("west", -11*3600)), base.Add(2 * time.Second).In(time.FixedZone("east", 14*3600)), base.AddDate(100, 0, 0),
		}
		for i := len(order) - 1; i >= 0; i-- {
			if _, err := d.Exec(ctx, `INSERT INTO parent (id, at, n) VALUES ($1, $2, $3)`, fmt.Sprint(i), db.At(order[i]), i); err != nil {
				t.Fatal(err)
			}
		}
		var got []int
		if err := d.Query(ctx, func(row db.Scanner) error {
			var n int
			err := row.Scan(&n)
			got = append(got, n)
			return err
		}, `SELECT n FROM parent ORDER BY at`); err != nil {
			t.Fatal(err)
		}
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7}; !cmp.Equal(got, want) {
			t.Errorf("order: got %v, want %v", got, want)
		}
		for i, at := range order {
			var before int
			if err := d.QueryRow(ctx, `SELECT count(*) FROM parent WHERE at < $1`, db.At(at)).Scan(&before); err != nil || before != i {
				t.Errorf("before %v: got %d, %v, want %d", at, before, err, i)
			}
		}
	})
}

func TestValuesRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		type detail struct {
			Name string
			List []string
			Map  map[string]int
		}
		given := detail{"Zoë <&> \u2028 \x00", []string{"a", ""}, map[string]int{"x": 1}}
		raw := []byte{0, 1, 0xff, '\'', '\\'}
		const name = "O'Brien; DROP TABLE parent; -- 日本 \\ $1 ?"
		if _, err := d.Exec(ctx, `INSERT INTO parent (id, name, data, raw, yes, n) VALUES ('a', $1, $2, $3, $4, $5)`,
			name, db.JSON(&given), raw, true, int64(1)<<62); err != nil {
			t.Fatal(err)
		}
		var got detail
		var gotName string
		var gotRaw []byte
		var yes bool
		var n int64
		if err := d.QueryRow(ctx, `SELECT name, data, raw, yes, n FROM parent WHERE id = $1`, "a").Scan(&gotName, db.JSON(&got), &gotRaw, &yes, &n); err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got, given) || gotName != name || !cmp.Equal(gotRaw, raw) || !yes || n != 1<<62 {
			t.Errorf("got %+v %q %x %v %d", got, gotName, gotRaw, yes, n)
		}

		if _, err := d.Exec(ctx, `INSERT INTO parent (id, n) VALUES ('nulls', 0)`); err != nil {
			t.Fatal(err)
		}
		kept := detail{Name: "kept"}
		if err := d.QueryRow(ctx, `SELECT data, raw FROM parent WHERE id = 'nulls'`).Scan(db.JSON(&kept), &gotRaw); err != nil || kept.Name != "kept" || gotRaw != nil {
			t.Errorf("NULLs: got %+v, %v, %v", kept, gotRaw, err)
		}
		if _, err := d.Exec(ctx, `UPDATE parent SET data = 'no json' WHERE id = 'nulls'`); err != nil {
			t.Fatal(err)
		}
		if err := d.QueryRow(ctx, `SELECT data FROM parent WHERE id = 'nulls'`).Scan(db.JSON(&kept)); err == nil {
			t.Error("broken JSON: got no error")
		}
		// Placeholders are numbered, not counted.
		var first, second string
		if err := d.QueryRow(ctx, `SELECT CAST($2 AS TEXT), CAST($1 AS TEXT) FROM parent WHERE id = $3`, "one", "two", "a").Scan(&first, &second); err != nil || first != "two" || second != "one" {
			t.Errorf("placeholders out of order: got %q, %q, %v", first, second, err)
		}
	})
}

func TestScanRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	var at db.Time
	for _, v := range []any{int64(1), []byte("x"), "yesterday", "2026-11-23T17:08:00Z"} {
		if err := at.Scan(v); err == nil {
			t.Errorf("time from %T %v: got no error", v, v)
		}
	}
	if err := db.JSON(&at).Scan(int64(1)); err == nil {
		t.Error("JSON from a number: got no error")
	}
}

// Reading while another statement of the same text is being read must not mix the two up.
func TestNestedQueries(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		want := []string{"a", "b", "c"}
		for _, id := range want {
			if err := insert(t.Context(), d, id); err != nil {
				t.Fatal(err)
			}
		}
		var ids func(ctx context.Context, depth int) ([]string, error)
		ids = func(ctx context.Context, depth int) (list []string, err error) {
			err = d.Query(ctx, func(row db.Scanner) error {
				var id string
				if err := row.Scan(&id); err != nil {
					return err
				}
				list = append(list, id)
				if depth == 0 {
					return nil
				}
				inner, err := ids(ctx, depth-1)
				if err == nil && !cmp.Equal(inner, want) {
					t.Errorf("inner reading: got %v, want %v", inner, want)
				}
				return err
			}, `SELECT id FROM parent ORDER BY id`)
			return list, err
		}
		if got, err := ids(t.Context(), 1); err != nil || !cmp.Equal(got, want) {
			t.Errorf("nested: got %v, %v, want %v", got, err, want)
		}
		if d.Engine() == db.Postgres {
			return // one connection answers one query at a time there: a transaction reads first, then works
		}
		if err := d.Tx(t.Context(), func(ctx context.Context) error {
			got, err := ids(ctx, 1)
			if !cmp.Equal(got, want) {
				t.Errorf("nested in a transaction: got %v, want %v", got, want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
}

// A statement that was compiled before the schema changed goes on working.
func TestSchemaChangesUnderStatements(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if err := insert(t.Context(), d, "a"); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if n := count(t, d); n != i+1 {
				t.Errorf("round %d: got %d rows, want %d", i, n, i+1)
			}
			if _, err := d.Exec(t.Context(), fmt.Sprintf(`ALTER TABLE parent ADD COLUMN extra%d TEXT`, i)); err != nil {
				t.Fatal(err)
			}
			if err := insert(t.Context(), d, fmt.Sprint("row", i)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Text that is built at run time must not fill the memory with statements.
func TestManyTexts(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenSQLite(t)
	for i := range 600 {
		var got int
		if err := d.QueryRow(t.Context(), fmt.Sprintf(`SELECT %d`, i)).Scan(&got); err != nil || got != i {
			t.Fatalf("got %d, %v, want %d", got, err, i)
		}
	}
	if n := d.Compiled(); n > 512 {
		t.Errorf("got %d statements kept, want at most 512", n)
	}
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t)
	d, err := db.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	table(t, d)
	files, err := filepath.Glob(strings.TrimPrefix(url, "sqlite:") + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: got mode %o, want 600", filepath.Base(f), mode)
		}
	}
}

func TestSQLitePathWithOddCharacters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%41&e.db")
	d, err := db.Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	table(t, d)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the file of that name: %v, %v", info, err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"empty":               "",
		"other scheme":        "mysql://root:hunter2@localhost/x",
		"no such directory":   "sqlite:" + filepath.Join(t.TempDir(), "none", "x.db"),
		"a directory":         "sqlite:" + t.TempDir(),
		"nobody listens":      "postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=2",
		"bad escape":          "postgres://u:hunter2%zz@127.0.0.1/x",
		"bad port":            "postgres://u:hunter2@127.0.0.1:port/x",
		"setting not allowed": "postgres://u:hunter2@127.0.0.1:1/x?sslmode=maybe",
	} {
		d, err := db.Open(t.Context(), url)
		if err == nil {
			_ = d.Close()
			t.Errorf("%s: got no error", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

// Another process that holds the write lock makes a writer wait or fail for now, never break.
func TestSQLiteLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t)
	a, err := db.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	table(t, a)
	b, err := db.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := a.Tx(t.Context(), func(ctx context.Context) error {
		if err := insert(ctx, a, "a"); err != nil {
			return err
		}
		if n := count(t, b); n != 0 {
			t.Errorf("reading beside a writer: got %d rows, want 0", n)
		}
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantErr(t, "writing beside a writer", insert(short, b, "b"), db.ErrUnavailable)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := insert(t.Context(), b, "b"); err != nil {
		t.Errorf("after the writer is done: %v", err)
	}
}
