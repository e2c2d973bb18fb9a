package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/web"
)

// house is a log with its tree on one database, under a clock that the test moves.
type house struct {
	*testing.T
	db   *db.DB
	seal *seal.Sealer
	log  *audit.Log
	tree *audit.Tree

	mu  sync.Mutex
	at  time.Time
	out strings.Builder
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *house) forward(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func onBoth(t *testing.T, f func(h *house)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Parallel()
		h := &house{T: t, db: d, at: moment}
		var err error
		if h.seal, err = seal.New(bytes.Repeat([]byte{7}, seal.KeySize)); err != nil {
			t.Fatal(err)
		}
		if h.log, err = audit.Open(t.Context(), d, h.seal, slog.New(slog.NewTextHandler(&h.out, nil)), h.now); err != nil {
			t.Fatal(err)
		}
		h.tree = h.replica()
		f(h)
	})
}

// replica is another process's tree.
func (h *house) replica() *audit.Tree {
	h.Helper()
	tree, err := audit.OpenTree(h.Context(), audit.TreeConfig{DB: h.db, Seal: h.seal, Log: slog.New(slog.DiscardHandler), Now: h.now})
	if err != nil {
		h.Fatal(err)
	}
	return tree
}

// write records n acts, a second apart.
func (h *house) write(n int) {
	for i := range n {
		h.log.Record(h.Context(), audit.Event{Action: "x", Actor: fmt.Sprint("u", i), Detail: map[string]string{"n": fmt.Sprint(i)}})
		h.forward(time.Second)
	}
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// sign takes everything in and lets a checkpoint fall due.
func (h *house) sign() {
	h.Helper()
	h.must(h.tree.Append(h.Context()))
	h.forward(2 * time.Minute)
	h.must(h.tree.Append(h.Context()))
}

func (h *house) verify(kept ...string) *audit.Report {
	h.Helper()
	r, err := h.tree.Verify(h.Context(), kept, nil)
	h.must(err)
	return r
}

func (h *house) clean(leaves int64) *audit.Report {
	h.Helper()
	r := h.verify()
	if !r.OK || r.Leaves != leaves {
		h.Fatalf("verify: got %d leaves and %v, want %d and no problem", r.Leaves, r.Problems, leaves)
	}
	return r
}

// exec is somebody who can write SQL, and has dropped the triggers.
func (h *house) exec(query string, args ...any) {
	h.Helper()
	if h.db.Engine() == db.SQLite {
		for _, name := range []string{"audit_keep", "audit_keep_row"} {
			_, err := h.db.Exec(h.Context(), `DROP TRIGGER IF EXISTS `+name)
			h.must(err)
		}
	} else {
		_, err := h.db.Exec(h.Context(), `ALTER TABLE audit DISABLE TRIGGER USER`)
		h.must(err)
	}
	n, err := h.db.Exec(h.Context(), query, args...)
	h.must(err)
	if n == 0 {
		h.Fatalf("%s changed nothing", query)
	}
}

// id is of the nth leaf.
func (h *house) id(n int) (id string) {
	h.Helper()
	h.must(h.db.QueryRow(h.Context(), `SELECT event_id FROM audit_leaves WHERE n = $1`, n).Scan(&id))
	return id
}

func TestTreeGrowsAndVerifies(t *testing.T) {
	onBoth(t, func(h *house) {
		if r := h.clean(0); r.Checkpoint != "" || r.Pending != 0 {
			h.Errorf("empty log: got %+v", r)
		}
		total := 0
		for _, n := range []int{1, 1, 2, 3, 5, 8, 600} { // the last one takes two batches
			h.write(n)
			total += n
			if r := h.verify(); !r.OK || r.Pending != int64(n) {
				h.Errorf("before %d rows are taken in: got %+v", n, r)
			}
			h.sign()
			r := h.clean(int64(total))
			if r.Pending != 0 || r.Unsigned != 0 || r.Removed != 0 || r.Late != 0 || r.Checkpoint == "" {
				h.Errorf("after %d rows: got %+v", total, r)
			}
		}
		if !strings.HasPrefix(h.verify().Checkpoint, "gatehouse/audit\n620\n") {
			h.Errorf("checkpoint: %q", h.verify().Checkpoint)
		}
		before := h.clean(620).Checkpoints
		h.forward(time.Hour)
		h.must(h.tree.Append(h.Context()))
		if r := h.clean(620); r.Checkpoints != before {
			h.Errorf("after an idle hour there are %d checkpoints, want the %d of before", r.Checkpoints, before)
		}
	})
}

func TestRowsAreAppendOnly(t *testing.T) {
	onBoth(t, func(h *house) {
		h.write(1)
		for _, query := range []string{`UPDATE audit SET action = 'y'`, `DELETE FROM audit`} {
			if n, err := h.db.Exec(h.Context(), query); err == nil {
				h.Errorf("%s: changed %d rows, want a refusal", query, n)
			}
		}
		if h.db.Engine() == db.Postgres {
			if _, err := h.db.Exec(h.Context(), `TRUNCATE audit`); err == nil {
				h.Error("TRUNCATE was not refused")
			}
		}
		if got := rows(h.T, h.db); len(got) != 1 || got[0].Action != "x" {
			h.Errorf("got %+v, want the row as it was", got)
		}
	})
}

// Every way to lie about the past is told, and the place of it.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	long := db.At(moment.Add(-30 * 24 * time.Hour))
	for name, test := range map[string]struct {
		do   func(h *house)
		kind string
		leaf int64
	}{
		"action changed":  {func(h *house) { h.exec(`UPDATE audit SET action = 'y' WHERE id = $1`, h.id(7)) }, audit.RowChanged, 7},
		"outcome changed": {func(h *house) { h.exec(`UPDATE audit SET outcome = 'failure' WHERE id = $1`, h.id(7)) }, audit.RowChanged, 7},
		"actor changed":   {func(h *house) { h.exec(`UPDATE audit SET actor = 'u8' WHERE id = $1`, h.id(7)) }, audit.RowChanged, 7},
		"place removed":   {func(h *house) { h.exec(`UPDATE audit SET place = $2 WHERE id = $1`, h.id(7), []byte{1}) }, audit.RowChanged, 7},
		"text moved over": {func(h *house) { h.exec(`UPDATE audit SET actor = '', user_id = actor WHERE id = $1`, h.id(7)) }, audit.RowChanged, 7},
		"time changed": {func(h *house) {
			h.exec(`UPDATE audit SET at = $2 WHERE id = $1`, h.id(7), db.At(moment.Add(time.Hour)))
		}, audit.RowMissing, 7},
		"row removed":      {func(h *house) { h.exec(`DELETE FROM audit WHERE id = $1`, h.id(7)) }, audit.RowMissing, 7},
		"last row removed": {func(h *house) { h.exec(`DELETE FROM audit WHERE id = $1`, h.id(19)) }, audit.RowMissing, 19},
		"all rows removed": {func(h *house) { h.exec(`DELETE FROM audit`) }, audit.RowMissing, 0},
		"row passed off as removed by retention": {func(h *house) {
			h.exec(`UPDATE audit_leaves SET at = $1 WHERE n = 7`, long)
			h.exec(`UPDATE audit_head SET kept_since = $1`, db.At(moment.Add(time.Hour)))
			h.exec(`DELETE FROM audit WHERE id = $1`, h.id(7))
		}, audit.RowMissing, 7},
		"row inserted into the past": {func(h *house) {
			h.exec(`INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail) VALUES ('z', $1, 'x', 'success', '', '', '', '', '{}')`, long)
		}, audit.RowExtra, -1},
		"two rows swapped": {func(h *house) {
			a, b := h.id(7), h.id(8)
			h.exec(`UPDATE audit SET actor = (CASE WHEN id = $1 THEN 'u8' ELSE 'u7' END) WHERE id IN ($1, $2)`, a, b)
		}, audit.RowChanged, 7},
		"two leaves swapped": {func(h *house) {
			h.exec(`UPDATE audit_leaves SET n = CASE n WHEN 7 THEN 107 ELSE 108 END WHERE n IN (7, 8)`)
			h.exec(`UPDATE audit_leaves SET n = CASE n WHEN 107 THEN 8 ELSE 7 END WHERE n IN (107, 108)`)
		}, audit.LeafChanged, 7},
		"leaf removed": {func(h *house) { h.exec(`DELETE FROM audit_leaves WHERE n = 7`) }, audit.LeafMissing, 7},
		"hash changed": {func(h *house) { h.exec(`UPDATE audit_tree SET hash = $1 WHERE n = 3`, make([]byte, 32)) }, audit.LeafChanged, 2},
		"hash cut":     {func(h *house) { h.exec(`UPDATE audit_tree SET hash = $1 WHERE n = 3`, []byte{1}) }, audit.LeafChanged, 2},
		"checkpoint forged": {func(h *house) {
			h.exec(`UPDATE audit_checkpoints SET note = REPLACE(note, 'kept since 1970', 'kept since 1971')`)
		}, audit.CheckpointForged, -1},
		"checkpoint scribbled": {func(h *house) { h.exec(`UPDATE audit_checkpoints SET note = 'x'`) }, audit.CheckpointForged, -1},
		"checkpoints removed":  {func(h *house) { h.exec(`DELETE FROM audit_checkpoints`) }, audit.CheckpointMissing, -1},
		"tree cut to its start": {func(h *house) {
			h.exec(`DELETE FROM audit_leaves`)
			h.exec(`DELETE FROM audit_tree`)
			h.exec(`UPDATE audit_head SET size = 0`)
		}, audit.LeafMissing, 0},
		"tree and rows cut": {func(h *house) {
			h.exec(`DELETE FROM audit WHERE id = $1`, h.id(19))
			h.exec(`DELETE FROM audit_leaves WHERE n = 19`)
			h.exec(`UPDATE audit_head SET size = 19`)
		}, audit.LeafMissing, 19},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(h *house) {
				h.write(20)
				h.sign()
				h.clean(20)
				h.forward(3 * time.Hour)
				h.write(1)
				h.sign() // so that the past is past
				test.do(h)
				r := h.verify()
				i := slices.IndexFunc(r.Problems, func(p audit.Problem) bool { return p.Kind == test.kind })
				if r.OK || i < 0 || r.Problems[i].Leaf != test.leaf {
					h.Errorf("got %+v, want %s of leaf %d", r.Problems, test.kind, test.leaf)
				}
			})
		})
	}
}

// Somebody rewrites a row and everything over it, removes the checkpoints and waits for the server to sign the result.
func TestRewrittenHistoryIsNotSigned(t *testing.T) {
	onBoth(t, func(h *house) {
		h.write(20)
		h.sign()
		kept := h.clean(20).Checkpoint

		other := &house{T: h.T, db: dbtest.OpenSQLite(h.T), seal: h.seal, at: moment}
		other.log = audit.New(other.db, slog.New(slog.DiscardHandler), other.now)
		other.tree = other.replica()
		other.write(20) // what the liar would like to have happened
		other.sign()
		var nodes [][]byte
		h.must(other.db.Query(h.Context(), func(row db.Scanner) error {
			var hash []byte
			err := row.Scan(&hash)
			nodes = append(nodes, hash)
			return err
		}, `SELECT hash FROM audit_tree ORDER BY n`))
		for n, hash := range nodes {
			h.exec(`UPDATE audit_tree SET hash = $2 WHERE n = $1`, n, hash)
		}
		h.write(2)
		h.forward(2 * time.Minute)
		for name, tree := range map[string]*audit.Tree{"the running server": h.tree, "one that starts now": h.replica()} {
			if err := tree.Append(h.Context()); !errors.Is(err, audit.ErrTampered) {
				h.Errorf("%s: got %v, want ErrTampered", name, err)
			}
		}
		h.exec(`DELETE FROM audit_checkpoints`)
		if err := h.tree.Append(h.Context()); !errors.Is(err, audit.ErrTampered) {
			h.Errorf("the running server, without checkpoints: got %v, want ErrTampered", err)
		}
		if r := h.verify(kept); r.OK {
			h.Error("verify against a checkpoint that was kept elsewhere finds nothing")
		}
	})
}

// The whole database is put back to what it was: it agrees with itself, and only a checkpoint kept elsewhere tells.
func TestRollbackToAnOlderState(t *testing.T) {
	onBoth(t, func(h *house) {
		h.write(10)
		h.sign()
		early := h.clean(10).Checkpoint
		h.write(10)
		h.sign()
		kept := h.clean(20).Checkpoint
		h.exec(`DELETE FROM audit WHERE id IN (SELECT event_id FROM audit_leaves WHERE n >= 10)`)
		h.exec(`DELETE FROM audit_leaves WHERE n >= 10`)
		h.exec(`DELETE FROM audit_checkpoints WHERE size > 10`)
		h.exec(`UPDATE audit_head SET size = 10`)
		h.clean(10)
		if r := h.verify(early); !r.OK {
			h.Errorf("older checkpoint: got %v", r.Problems)
		}
		if r := h.verify(kept); r.OK || r.Problems[0].Kind != audit.LeafMissing {
			h.Errorf("newer checkpoint: got %v, want %s", r.Problems, audit.LeafMissing)
		}
	})
}

func TestForeignCheckpoint(t *testing.T) {
	onBoth(t, func(h *house) {
		h.write(10)
		h.sign()
		foreign, err := seal.New(bytes.Repeat([]byte{8}, seal.KeySize))
		h.must(err)
		other := &house{T: h.T, db: dbtest.OpenSQLite(h.T), seal: foreign, at: moment}
		other.log = audit.New(other.db, slog.New(slog.DiscardHandler), other.now)
		other.tree = other.replica()
		other.write(10)
		other.sign()
		if r := h.verify(other.verify().Checkpoint); r.OK || r.Problems[0].Kind != audit.CheckpointForged {
			h.Errorf("got %v, want %s", r.Problems, audit.CheckpointForged)
		}
		if h.tree.PublicKey() == other.tree.PublicKey() || h.tree.PublicKey() != h.replica().PublicKey() {
			h.Error("a server has one key of its own")
		}
	})
}

// Several replicas at once: every row is taken in once.
func TestReplicasShareTheTree(t *testing.T) {
	onBoth(t, func(h *house) {
		trees := []*audit.Tree{h.tree, h.replica(), h.replica()}
		var wg sync.WaitGroup
		for i, tree := range trees {
			wg.Go(func() {
				for range 8 {
					h.write(20)
					if err := tree.Append(h.Context()); err != nil {
						h.Errorf("replica %d: %v", i, err)
					}
				}
			})
		}
		wg.Wait()
		h.forward(2 * time.Minute)
		for range 2 { // the first may have to learn whose turn it was
			for _, tree := range trees {
				h.must(tree.Append(h.Context()))
			}
		}
		if r := h.clean(480); r.Pending != 0 || r.Unsigned != 0 {
			h.Errorf("got %+v", r)
		}
		// If the one that did the work is gone, another goes on.
		h.write(3)
		h.forward(2 * time.Minute)
		fresh := h.replica()
		h.must(fresh.Append(h.Context()))
		h.clean(483)
	})
}

// A transaction that commits late shows a row that is older than some that were taken in before.
func TestLateRowIsTakenIn(t *testing.T) {
	onBoth(t, func(h *house) {
		early := moment
		h.forward(5 * time.Minute)
		h.write(3)
		h.sign()
		h.exec(`INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail) VALUES ('z', $1, 'x', 'success', '', '', '', '', '{}')`, db.At(early))
		h.sign()
		if r := h.clean(4); r.Late != 0 {
			h.Errorf("late by minutes: got %d late", r.Late)
		}
		h.forward(20 * time.Hour)
		h.write(1)
		h.sign()
		h.exec(`INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail) VALUES ('y', $1, 'x', 'success', '', '', '', '', '{}')`, db.At(early))
		h.must(h.tree.Maintain(h.Context()))
		h.sign()
		if r := h.clean(6); r.Late != 1 {
			h.Errorf("late by hours: got %d late, want 1", r.Late)
		}
	})
}

func TestRetention(t *testing.T) {
	onBoth(t, func(h *house) {
		h.must(h.tree.Maintain(h.Context()))
		h.write(10)
		h.sign()
		h.forward(200 * 24 * time.Hour)
		h.must(h.tree.Maintain(h.Context()))
		h.write(10)
		h.sign()
		h.forward(240 * 24 * time.Hour)
		for range 2 {
			h.must(h.tree.Maintain(h.Context()))
		}
		h.write(1)
		h.sign()
		r := h.clean(21)
		if got := rows(h.T, h.db); len(got) != 11 || r.Removed != 10 {
			h.Fatalf("got %d rows, %d removed, want 11 and 10", len(got), r.Removed)
		}
		if r.KeptSince.After(h.now().Add(-audit.DefaultRetention)) {
			h.Errorf("kept since %s: rows younger than the retention may be gone", r.KeptSince)
		}
		// What is left of them cannot be changed.
		h.exec(`UPDATE audit_leaves SET event_id = 'another' WHERE n = 3`)
		if r := h.verify(); r.OK || r.Problems[0].Kind != audit.LeafChanged || r.Problems[0].Leaf != 3 {
			h.Errorf("leaf of a removed row changed: got %v", r.Problems)
		}
	})
}

// Rows of the first release are still there, and are taken in.
func TestRowsOfBeforeAreKept(t *testing.T) {
	t.Parallel()
	for name, newURL := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := db.Open(t.Context(), newURL(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			first, err := os.ReadFile("../../migrations/0001_init.sql")
			if err != nil {
				t.Fatal(err)
			}
			s, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
			if err != nil {
				t.Fatal(err)
			}
			h := &house{T: t, db: d, seal: s, at: moment}
			for _, step := range []string{
				`CREATE TABLE schema_version (name TEXT PRIMARY KEY)`, `INSERT INTO schema_version (name) VALUES ('0001_init.sql')`, string(first),
				`INSERT INTO audit (id, at, action, outcome, actor, user_id, client_id, request_id, detail)
					VALUES ('old', '2029-12-31T23:59:59.000001Z', 'x', 'success', 'a', 'u1', 'c', 'r', '{"k":"v"}')`,
			} {
				if _, err := d.SQL().ExecContext(t.Context(), step); err != nil {
					t.Fatal(err)
				}
			}
			dbtest.Migrate(t, d)
			h.log = audit.New(d, slog.New(slog.DiscardHandler), h.now)
			h.tree = h.replica()
			h.must(h.tree.Maintain(t.Context()))
			h.write(2)
			h.sign()
			h.clean(3)
			list, err := h.log.Trail(t.Context(), "u1", audit.Position{}, 5)
			if err != nil || len(list) != 1 || list[0].ID != "old" || list[0].Detail["k"] != "v" || list[0].At.Nanosecond() != 1000 {
				t.Errorf("got %+v, %v", list, err)
			}
		})
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenPostgres(t)
	onDefault := func() (n int) {
		if err := d.QueryRow(t.Context(), `SELECT COUNT(*) FROM audit_default`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, db: d, seal: s, at: moment}
	h.log = audit.New(d, slog.New(slog.DiscardHandler), h.now)
	h.tree = h.replica()
	h.write(5) // before any partition is there
	h.sign()
	if onDefault() != 5 {
		t.Fatalf("got %d rows in the default partition, want 5", onDefault())
	}
	var wg sync.WaitGroup
	for _, tree := range []*audit.Tree{h.tree, h.replica(), h.replica()} {
		wg.Go(func() {
			if err := tree.Maintain(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h.forward(62 * 24 * time.Hour)
	h.write(5)
	if onDefault() != 0 {
		t.Errorf("got %d rows in the default partition, want them moved", onDefault())
	}
	h.sign()
	h.clean(10)
	var tables []string
	if err := d.Query(t.Context(), func(row db.Scanner) error {
		var name string
		err := row.Scan(&name)
		tables = append(tables, name)
		return err
	}, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit'::regclass ORDER BY 1`); err != nil {
		t.Fatal(err)
	}
	if want := []string{"audit_2030_01", "audit_2030_02", "audit_2030_03", "audit_default"}; !slices.Equal(tables, want) {
		t.Errorf("partitions: got %v, want %v", tables, want)
	}
	if _, err := d.Exec(t.Context(), `UPDATE audit SET action = 'y'`); err == nil {
		t.Error("rows in a partition can be changed")
	}
}

// Where an act was done can be read until the person is erased, and never by a change of the row.
func TestErasureMakesPlacesUnreadable(t *testing.T) {
	onBoth(t, func(h *house) {
		_, err := h.db.Exec(h.Context(), `INSERT INTO users (id, email_index, email, email_verified, password_hash, must_change_password, role, status, created_at, updated_at)
			VALUES ('u1', $1, $1, TRUE, '', FALSE, 'user', 'active', $2, $2)`, []byte{1}, db.At(moment))
		h.must(err)
		_, wrapped, err := h.seal.NewPerson("u1")
		h.must(err)
		_, err = h.db.Exec(h.Context(), `INSERT INTO data_keys (user_id, wrapped) VALUES ('u1', $1)`, wrapped)
		h.must(err)
		ctx := web.WithUserAgent(web.WithAddress(h.Context(), netip.MustParseAddr("192.0.2.7")), "Firefox/140.0 "+strings.Repeat("x", 1000)+"\xff")
		for _, user := range []string{"u1", "", "stranger"} {
			h.log.Record(ctx, audit.Event{Action: "x", UserID: user})
			h.forward(time.Second)
		}
		h.log.Record(h.Context(), audit.Event{Action: "x", UserID: "u1"}) // no request
		h.sign()

		places := func() (got []string) {
			l, err := audit.Open(h.Context(), h.db, h.seal, slog.New(slog.DiscardHandler), h.now)
			h.must(err)
			list, err := l.Rows(h.Context(), audit.Filter{}, audit.Position{}, 10)
			h.must(err)
			for _, e := range list {
				got = append(got, fmt.Sprint(e.Place.Address.IsValid(), " ", strings.HasPrefix(e.Place.UserAgent, "Firefox/140.0 x"), " ", len(e.Place.UserAgent) <= 300))
			}
			return got
		}
		if got, want := places(), []string{"true true true", "true true true", "false false true", "false false true"}; !slices.Equal(got, want) {
			h.Errorf("got %q, want %q", got, want)
		}
		var raw []byte
		h.must(h.db.QueryRow(h.Context(), `SELECT place FROM audit WHERE user_id = 'u1' ORDER BY at LIMIT 1`).Scan(&raw))
		if bytes.Contains(raw, []byte("192.0.2")) || bytes.Contains(raw, []byte("Firefox")) {
			h.Error("the address can be read in the database")
		}
		_, err = h.db.Exec(h.Context(), `DELETE FROM users`)
		h.must(err)
		if got, want := places(), []string{"false false true", "true true true", "false false true", "false false true"}; !slices.Equal(got, want) {
			h.Errorf("after erasure: got %q, want %q", got, want)
		}
		h.clean(4) // the row is what it was
		if h.out.Len() != 0 {
			h.Errorf("log: %s", &h.out)
		}
	})
}

func TestTrailAndRows(t *testing.T) {
	onBoth(t, func(h *house) {
		for i := range 25 {
			h.log.Record(h.Context(), audit.Event{Action: fmt.Sprint("a", i%2), UserID: fmt.Sprint("u", i%5), Outcome: []string{audit.Success, audit.Failure}[i%2]})
			if i%3 == 0 { // some in the same instant
				h.forward(time.Second)
			}
		}
		var seen []string
		for at := (audit.Position{}); ; {
			page, err := h.log.Trail(h.Context(), "u1", at, 2)
			h.must(err)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				if e.UserID != "u1" {
					h.Errorf("row of %s in the trail of u1", e.UserID)
				}
				seen = append(seen, stampOf(e))
			}
			at = page[len(page)-1].Position()
		}
		if len(seen) != 5 || len(slices.Compact(slices.Clone(seen))) != 5 || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
			h.Errorf("trail: got %v, want 5 rows, the newest first", seen)
		}
		count := func(f audit.Filter) int {
			n := 0
			for at := (audit.Position{}); ; {
				page, err := h.log.Rows(h.Context(), f, at, 4)
				h.must(err)
				if len(page) == 0 {
					return n
				}
				n += len(page)
				at = page[len(page)-1].Position()
			}
		}
		for want, f := range map[int]audit.Filter{
			25: {}, 13: {Action: "a0"}, 12: {Outcome: audit.Failure}, 5: {UserID: "u3", Newest: true}, 0: {ClientID: "c"},
			1: {Until: moment.Add(time.Microsecond)}, 24: {Since: moment.Add(time.Second), Newest: true},
		} {
			if got := count(f); got != want {
				h.Errorf("%+v: got %d rows, want %d", f, got, want)
			}
		}
	})
}

func stampOf(e audit.Entry) string { return e.At.Format("15:04:05.000000") + e.ID }
