package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// DefaultRetention is how long rows are kept unless somebody decides otherwise.
const DefaultRetention = 400 * 24 * time.Hour

const (
	// batch is how many rows one transaction takes into the tree: a writer on SQLite waits that long.
	batch = 500
	// reach is how far back a look for new rows goes. Rows become visible in another order than that of their times: a
	// transaction takes a while to commit, and the replicas' clocks differ.
	reach = 10 * time.Minute
	// farReach is the same for the look in Maintain.
	farReach = 25 * time.Hour
	// signEvery and signRows bound what the newest checkpoint does not cover yet.
	signEvery = time.Minute
	signRows  = 1000
)

// ErrTampered says that the tree in the database does not continue what this server has signed. Nothing is signed on top.
var ErrTampered = errors.New("audit tree was tampered with: run gatehouse audit verify")

// TreeConfig is what a Tree works with. DB, Seal and Log are required.
type TreeConfig struct {
	DB        *db.DB
	Seal      *seal.Sealer
	Log       *slog.Logger
	Retention time.Duration    // 0: DefaultRetention
	Now       func() time.Time // nil: time.Now
}

// Tree chains the rows of the log together behind their writers' backs: a Merkle tree over all rows, of which the server signs a
// checkpoint now and then. Any number of replicas may run one on the same database.
type Tree struct {
	db        *db.DB
	log       *slog.Logger
	retention time.Duration
	now       func() time.Time
	signer    signer

	mu    sync.Mutex
	turn  int64      // the last one seen; -1: none yet
	swept time.Time  // rows that were visible by then have been looked at
	known *tlog.Tree // the newest one this process has seen: what is signed must continue it
}

// OpenTree opens the tree on a migrated database.
func OpenTree(ctx context.Context, c TreeConfig) (*Tree, error) {
	if c.DB == nil || c.Seal == nil || c.Log == nil {
		return nil, errors.New("an audit tree needs a database, a sealer and a logger")
	}
	t := &Tree{db: c.DB, log: c.Log, retention: c.Retention, now: c.Now, turn: -1}
	if t.retention <= 0 {
		t.retention = DefaultRetention
	}
	if t.now == nil {
		t.now = time.Now
	}
	var err error
	t.signer, err = openSigner(ctx, c.DB, c.Seal)
	return t, err
}

// PublicKey is the key that checkpoints are checked with, as note.NewVerifier reads it.
func (t *Tree) PublicKey() string { return t.signer.public }

// Append takes the rows that are new into the tree and signs a checkpoint if one is due. Of the replicas that call it, one
// does the work; the others have nothing left to do.
func (t *Tree) Append(ctx context.Context) error { return t.append(ctx, reach, time.Time{}) }

// append looks back by reach; a kept that is not zero is signed at once.
func (t *Tree) append(ctx context.Context, reach time.Duration, kept time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	began := t.now()
	since, err := t.since(ctx, reach)
	if err != nil {
		return fmt.Errorf("audit tree: %w", err)
	}
	from := Position{At: since}
	for {
		due, err := t.due(ctx, from)
		if err != nil {
			return fmt.Errorf("audit tree: %w", err)
		}
		if !due && kept.IsZero() {
			break
		}
		n, last, err := t.take(ctx, from, kept)
		if errors.Is(err, errNotOurTurn) {
			return nil // nor has everything been looked at
		}
		if err != nil {
			return fmt.Errorf("audit tree: %w", err)
		}
		if n < batch {
			break
		}
		from = last
	}
	t.swept = began
	return nil
}

// since is the time from which on rows may be new.
func (t *Tree) since(ctx context.Context, reach time.Duration) (time.Time, error) {
	if !t.swept.IsZero() {
		return t.swept.Add(-reach), nil
	}
	if _, err := t.readTurn(ctx); err != nil {
		return time.Time{}, err
	}
	var at db.Time
	err := t.db.QueryRow(ctx, `SELECT at FROM audit_checkpoints ORDER BY size DESC, at DESC LIMIT 1`).Scan(&at)
	if errors.Is(err, db.ErrNotFound) {
		return time.Unix(0, 0), nil
	}
	return at.Add(-farReach), err // whatever was written while no server ran
}

func (t *Tree) readTurn(ctx context.Context) (size int64, err error) {
	err = t.db.QueryRow(ctx, `SELECT turn, size FROM audit_head`).Scan(&t.turn, &size)
	return size, err
}

// newRows is what the tree lacks, from a position on.
const newRows = ` FROM audit a WHERE (a.at, a.id) > ($1, $2) AND NOT EXISTS (SELECT 1 FROM audit_leaves l WHERE l.at = a.at AND l.event_id = a.id)`

// due tells whether a turn would have anything to do, so that an idle server does not write.
func (t *Tree) due(ctx context.Context, from Position) (bool, error) {
	var found, unsigned bool
	var at db.Time
	err := t.db.QueryRow(ctx, `SELECT EXISTS (SELECT 1`+newRows+`),
		(SELECT size FROM audit_head) > COALESCE((SELECT MAX(size) FROM audit_checkpoints), 0),
		(SELECT at FROM audit_checkpoints ORDER BY size DESC, at DESC LIMIT 1)`, db.At(from.At), from.ID).Scan(&found, &unsigned, &at)
	return found || unsigned && t.now().Sub(at.Time) >= signEvery, err
}

var errNotOurTurn = errors.New("another replica took the turn")

// take is one turn: it belongs to the replica whose UPDATE finds the turn as it last saw it.
func (t *Tree) take(ctx context.Context, from Position, kept time.Time) (taken int, last Position, err error) {
	seen, known := t.turn, t.known
	err = t.db.Tx(ctx, func(ctx context.Context) error {
		var size int64
		err := t.db.QueryRow(ctx, `UPDATE audit_head SET turn = turn + 1 WHERE turn = $1 RETURNING size`, seen).Scan(&size)
		if errors.Is(err, db.ErrNotFound) {
			return errNotOurTurn
		}
		if err != nil {
			return err
		}
		events, err := t.newEvents(ctx, from)
		if err != nil {
			return err
		}
		reader := t.stored(ctx)
		if err := t.grow(ctx, size, events, reader); err != nil {
			return err
		}
		tree := tlog.Tree{N: size + int64(len(events))}
		if tree.Hash, err = tlog.TreeHash(tree.N, reader); err != nil {
			return fmt.Errorf("%w: %w", ErrTampered, err)
		}
		if err := continues(known, tree, reader); err != nil {
			return err
		}
		if err := t.sign(ctx, tree, kept, reader); err != nil {
			return err
		}
		if taken = len(events); taken > 0 {
			last = Position{events[taken-1].at, events[taken-1].id}
		}
		known = &tree
		return nil
	})
	switch {
	case errors.Is(err, errNotOurTurn):
		if _, err := t.readTurn(ctx); err != nil {
			return 0, last, err
		}
		return 0, last, errNotOurTurn
	case err != nil:
		return 0, last, err
	}
	t.turn, t.known = seen+1, known
	return taken, last, nil
}

func (t *Tree) newEvents(ctx context.Context, from Position) (list []event, err error) {
	err = t.db.Query(ctx, func(row db.Scanner) error {
		var e event
		var at db.Time
		err := row.Scan(append([]any{&e.id, &at}, e.fields()...)...)
		e.at = at.Time
		list = append(list, e)
		return err
	}, `SELECT a.id, a.at, `+eventColumns+newRows+` ORDER BY a.at, a.id LIMIT $3`, db.At(from.At), from.ID, batch)
	return list, err
}

// grow writes leaves and hashes for events behind the first size leaves.
func (t *Tree) grow(ctx context.Context, size int64, events []event, reader *storedHashes) error {
	if len(events) == 0 {
		return nil
	}
	var leaves, nodes [][]any
	for i := range events {
		digest := events[i].digest()
		l := leaf{n: size + int64(i), eventID: events[i].id, at: events[i].at, digest: digest[:]}
		leaves = append(leaves, []any{l.n, l.eventID, db.At(l.at), l.digest})
		hashes, err := tlog.StoredHashesForRecordHash(l.n, l.hash(), reader)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTampered, err)
		}
		first := tlog.StoredHashCount(l.n)
		for j, h := range hashes {
			reader.kept[first+int64(j)] = h
			nodes = append(nodes, []any{first + int64(j), slices.Clone(h[:])})
		}
	}
	if err := t.insert(ctx, `INSERT INTO audit_leaves (n, event_id, at, digest) VALUES `, leaves); err != nil {
		return err
	}
	if err := t.insert(ctx, `INSERT INTO audit_tree (n, hash) VALUES `, nodes); err != nil {
		return err
	}
	_, err := t.db.Exec(ctx, `UPDATE audit_head SET size = $1`, size+int64(len(events)))
	return err
}

// rowsPerInsert bounds the placeholders of one statement.
const rowsPerInsert = 100

func (t *Tree) insert(ctx context.Context, statement string, rows [][]any) error {
	for chunk := range slices.Chunk(rows, rowsPerInsert) {
		var text strings.Builder
		text.WriteString(statement)
		var args []any
		for _, row := range chunk {
			before := "("
			if len(args) > 0 {
				before = ", ("
			}
			for _, v := range row {
				args = append(args, v)
				text.WriteString(before + "$" + strconv.Itoa(len(args)))
				before = ", "
			}
			text.WriteString(")")
		}
		_, err := t.db.Exec(ctx, text.String(), args...)
		if errors.Is(err, db.ErrConflict) {
			return fmt.Errorf("%w: leaves beyond the tree's end", ErrTampered)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sign writes a checkpoint for tree if one is due. It must continue the last one: a history rewritten in the database does
// not get a signature (whoever rewrote it would otherwise just wait for the next checkpoint).
func (t *Tree) sign(ctx context.Context, tree tlog.Tree, kept time.Time, reader *storedHashes) error {
	last, err := t.lastCheckpoint(ctx)
	if err != nil {
		return err
	}
	now := t.now()
	rows := tree.N
	if last != nil {
		rows -= last.N
		if err := continues(&last.Tree, tree, reader); err != nil {
			return err
		}
		if last.Kept.After(kept) {
			kept = last.Kept
		}
		due := rows >= signRows || rows > 0 && now.Sub(last.At) >= signEvery || kept.After(last.Kept)
		if !due {
			return nil
		}
	}
	if tree.N == 0 {
		return nil
	}
	if kept.IsZero() {
		kept = time.Unix(0, 0)
	}
	c := checkpoint{Tree: tree, At: now.Truncate(time.Microsecond).UTC(), Kept: kept.UTC()}
	signed, err := t.signer.seal(c)
	if err != nil {
		return err
	}
	_, err = t.db.Exec(ctx, `INSERT INTO audit_checkpoints (size, at, note) VALUES ($1, $2, $3)`, c.N, db.At(c.At), signed)
	if err == nil {
		// Where logs are collected elsewhere, this line is the memory that nobody with the database can rewrite.
		t.log.InfoContext(ctx, "audit checkpoint", "size", c.N, "hash", c.Hash.String())
	}
	return err
}

// lastCheckpoint is nil if there is none.
func (t *Tree) lastCheckpoint(ctx context.Context) (*checkpoint, error) {
	var signed string
	err := t.db.QueryRow(ctx, `SELECT note FROM audit_checkpoints ORDER BY size DESC, at DESC LIMIT 1`).Scan(&signed)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if err != nil {
		return nil, err
	}
	c, err := t.signer.open(signed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return &c, nil
}

// continues tells whether tree begins with the leaves of before.
func continues(before *tlog.Tree, tree tlog.Tree, reader tlog.HashReader) error {
	switch {
	case before == nil || before.N == 0:
		return nil
	case before.N > tree.N:
		return fmt.Errorf("%w: it had %d leaves and has %d", ErrTampered, before.N, tree.N)
	case before.N == tree.N && before.Hash == tree.Hash:
		return nil
	case before.N == tree.N:
		return fmt.Errorf("%w: its first %d leaves are others", ErrTampered, before.N)
	}
	proof, err := tlog.ProveTree(tree.N, before.N, reader)
	if err == nil {
		err = tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
	}
	if err != nil {
		return fmt.Errorf("%w: its first %d leaves are others: %w", ErrTampered, before.N, err)
	}
	return nil
}

// storedHashes reads audit_tree for tlog, each hash once.
type storedHashes struct {
	read func(n int64) (tlog.Hash, error)
	kept map[int64]tlog.Hash
}

// stored reads within ctx, and so within its transaction.
func (t *Tree) stored(ctx context.Context) *storedHashes {
	return &storedHashes{kept: map[int64]tlog.Hash{}, read: func(n int64) (tlog.Hash, error) {
		_, h, err := scanTree(t.db.QueryRow(ctx, `SELECT n, hash FROM audit_tree WHERE n = $1`, n))
		return h, err
	}}
}

// ReadHashes implements tlog.HashReader.
func (s *storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		h, ok := s.kept[n]
		if !ok {
			var err error
			if h, err = s.read(n); err != nil {
				return nil, fmt.Errorf("hash %d of the tree: %w", n, err)
			}
			s.kept[n] = h
		}
		list[i] = h
	}
	return list, nil
}
