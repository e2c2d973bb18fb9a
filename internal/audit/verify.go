package audit

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Problem is one thing that a clean log would not have.
type Problem struct {
	Kind    string `json:"kind"`               // one of the kinds below
	Leaf    int64  `json:"leaf"`               // its number; -1: none
	EventID string `json:"event_id,omitempty"` // of the row
	Text    string `json:"text"`
}

// Kinds of problems.
const (
	RowChanged        = "row_changed"        // its columns are not what they were when it was taken in
	RowMissing        = "row_missing"        // it was removed, and retention did not do it
	RowExtra          = "row_extra"          // it was written with a time of long ago
	LeafChanged       = "leaf_changed"       // audit_leaves and audit_tree disagree
	LeafMissing       = "leaf_missing"       // the tree is shorter than it was, or has a hole
	CheckpointForged  = "checkpoint_forged"  // this server did not sign it
	CheckpointBroken  = "checkpoint_broken"  // what it says of the tree is not so
	CheckpointMissing = "checkpoint_missing" // there is a tree that nobody signed
	maxProblems       = 100                  // further ones are not listed
	extraAfter        = 2 * time.Hour        // rows are taken in long before
	lateAfter         = time.Hour            // a leaf that comes this much behind a younger one counts as late
	verifyBatch       = int64(1000)          // leaves per query
)

// Report is what Verify found. Problems are in the order of the tree, the first mismatch first.
type Report struct {
	OK          bool      `json:"ok"`
	Leaves      int64     `json:"leaves"`      // rows that were ever taken in
	Removed     int64     `json:"removed"`     // of these, by retention
	Late        int64     `json:"late"`        // of these, more than an hour after younger ones: a replica's clock was wrong, or somebody wrote into the past
	Unsigned    int64     `json:"unsigned"`    // leaves that no checkpoint covers yet
	Pending     int64     `json:"pending"`     // rows that are not taken in yet
	Checkpoints int64     `json:"checkpoints"` // that were checked
	KeptSince   time.Time `json:"kept_since,omitzero"`
	PublicKey   string    `json:"public_key"`
	Checkpoint  string    `json:"checkpoint,omitempty"` // the newest; keep it elsewhere and give it to a later Verify
	Problems    []Problem `json:"problems"`
}

func (r *Report) problem(kind string, n int64, id, format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{kind, n, id, fmt.Sprintf(format, args...)})
	}
}

// Verify recomputes everything from the rows and compares it with what the server has signed. kept are checkpoints that were kept outside
// the database, if any: only they show that somebody has put back the whole database to an older state. progress, which may
// be nil, is told how many of all leaves are done. An error means that Verify could not do its work.
func (t *Tree) Verify(ctx context.Context, kept []string, progress func(done, total int64)) (*Report, error) {
	r := &Report{Problems: []Problem{}, PublicKey: t.signer.public}
	v := &verification{tree: t, report: r, roots: map[int64]tlog.Hash{}}
	if err := v.readCheckpoints(ctx, kept); err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	var size int64
	if err := t.db.QueryRow(ctx, `SELECT size FROM audit_head`).Scan(&size); err != nil {
		return nil, fmt.Errorf("read head of the tree: %w", err)
	}
	for v.edge.size < size {
		from := v.edge.size
		if err := v.batch(ctx, min(from+verifyBatch, size)); err != nil {
			return nil, fmt.Errorf("read leaves from %d on: %w", from, err)
		}
		if v.edge.size == from {
			break // a hole
		}
		if progress != nil {
			progress(v.edge.size, size)
		}
	}
	r.Leaves = v.edge.size
	switch {
	case v.edge.size < max(size, v.newest.N):
		r.problem(LeafMissing, v.edge.size, "", "the tree ends after %d leaves; it had %d", v.edge.size, max(size, v.newest.N))
	case size > 0 && r.Checkpoints == 0:
		r.problem(CheckpointMissing, -1, "", "there are %d leaves and no checkpoint of this server", size)
	default:
		r.Unsigned = size - v.newest.N
	}
	if err := v.strangers(ctx); err != nil {
		return nil, fmt.Errorf("look for rows outside the tree: %w", err)
	}
	r.OK = len(r.Problems) == 0
	return r, nil
}

type verification struct {
	tree     *Tree
	report   *Report
	roots    map[int64]tlog.Hash // by size, as signed
	newest   checkpoint
	edge     frontier
	youngest time.Time
	broken   bool // a checkpoint was found broken; so are all that follow
}

func (v *verification) readCheckpoints(ctx context.Context, kept []string) error {
	for _, signed := range kept {
		v.checkpoint(signed, "the one that was kept elsewhere")
	}
	return v.tree.db.Query(ctx, func(row db.Scanner) error {
		var size int64
		var at db.Time
		var signed string
		if err := row.Scan(&size, &at, &signed); err != nil {
			return err
		}
		if c, ok := v.checkpoint(signed, fmt.Sprintf("the one of %d leaves", size)); ok {
			v.report.Checkpoint, v.report.KeptSince = signed, c.Kept
		}
		return nil
	}, `SELECT size, at, note FROM audit_checkpoints ORDER BY size, at`)
}

func (v *verification) checkpoint(signed, which string) (checkpoint, bool) {
	c, err := v.tree.signer.open(signed)
	if err != nil {
		v.report.problem(CheckpointForged, -1, "", "%s: %v", which, err)
		return c, false
	}
	v.report.Checkpoints++
	if root, twice := v.roots[c.N]; twice && root != c.Hash {
		v.report.problem(CheckpointBroken, -1, "", "%s: another one of the same size says something else", which)
		return c, false
	}
	v.roots[c.N] = c.Hash
	if c.N > v.newest.N || c.N == v.newest.N && c.At.After(v.newest.At) {
		v.newest = c
	}
	return c, true
}

// batch checks the leaves up to until, each with its row and its hashes.
func (v *verification) batch(ctx context.Context, until int64) error {
	stored, err := v.stored(ctx, tlog.StoredHashCount(v.edge.size), tlog.StoredHashCount(until))
	if err != nil {
		return err
	}
	return v.tree.db.Query(ctx, func(row db.Scanner) error {
		var l leaf
		var e event
		var at db.Time
		var there bool
		if err := row.Scan(append([]any{&l.n, &l.eventID, &at, &l.digest, &there}, e.fields()...)...); err != nil {
			return err
		}
		if l.n != v.edge.size {
			return nil // behind a hole, which the end reports
		}
		l.at = at.Time
		e.id, e.at = l.eventID, l.at
		v.leaf(l, e, there, stored)
		return nil
	}, `SELECT l.n, l.event_id, l.at, l.digest, a.id IS NOT NULL, `+eventColumns+`
		FROM audit_leaves l LEFT JOIN audit a ON a.at = l.at AND a.id = l.event_id WHERE l.n >= $1 AND l.n < $2 ORDER BY l.n`, v.edge.size, until)
}

func (v *verification) stored(ctx context.Context, from, until int64) (map[int64]tlog.Hash, error) {
	hashes := map[int64]tlog.Hash{}
	err := v.tree.db.Query(ctx, func(row db.Scanner) error {
		n, h, err := scanTree(row)
		hashes[n] = h
		return err
	}, `SELECT n, hash FROM audit_tree WHERE n >= $1 AND n < $2`, from, until)
	return hashes, err
}

func (v *verification) leaf(l leaf, e event, there bool, stored map[int64]tlog.Hash) {
	r := v.report
	digest := e.digest()
	switch {
	case there && !bytes.Equal(digest[:], l.digest):
		r.problem(RowChanged, l.n, l.eventID, "row %s of %s was changed", l.eventID, stamp(l.at))
	case !there && l.at.Before(v.newest.Kept):
		r.Removed++
	case !there:
		r.problem(RowMissing, l.n, l.eventID, "row %s of %s is gone; retention removes only what is older than %s", l.eventID, stamp(l.at), stamp(v.newest.Kept))
	}
	if l.at.After(v.youngest) {
		v.youngest = l.at
	} else if v.youngest.Sub(l.at) > lateAfter {
		r.Late++
	}
	first := tlog.StoredHashCount(l.n)
	for i, h := range v.edge.add(l.hash()) {
		if got, ok := stored[first+int64(i)]; !ok || got != h {
			r.problem(LeafChanged, l.n, l.eventID, "leaf %d and the hashes of the tree disagree", l.n)
			break
		}
	}
	if root, signed := v.roots[v.edge.size]; signed && root != v.edge.root() && !v.broken {
		v.broken = true
		r.problem(CheckpointBroken, l.n, "", "the first %d leaves are not those that were signed", v.edge.size)
	}
}

// strangers looks for rows that the tree does not know.
func (v *verification) strangers(ctx context.Context) error {
	limit := v.newest.At.Add(-extraAfter)
	if v.newest.At.IsZero() {
		limit = time.Unix(0, 0)
	}
	const unknown = ` FROM audit a WHERE NOT EXISTS (SELECT 1 FROM audit_leaves l WHERE l.at = a.at AND l.event_id = a.id)`
	err := v.tree.db.Query(ctx, func(row db.Scanner) error {
		var id string
		var at db.Time
		err := row.Scan(&id, &at)
		v.report.problem(RowExtra, -1, id, "row %s of %s is not in the tree", id, stamp(at.Time))
		return err
	}, `SELECT a.id, a.at`+unknown+` AND a.at < $1 ORDER BY a.at, a.id LIMIT 100`, db.At(limit))
	if err != nil {
		return err
	}
	return v.tree.db.QueryRow(ctx, `SELECT COUNT(*)`+unknown+` AND a.at >= $1`, db.At(limit)).Scan(&v.report.Pending)
}
