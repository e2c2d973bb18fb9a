package audit

import (
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// event is a row as it is stored, for hashing.
type event struct {
	id                                                           string
	at                                                           time.Time
	action, outcome, actor, userID, clientID, requestID, details string
	place                                                        []byte
}

// columns of event, from the table under the alias a. COALESCE is for rows that are not there.
const eventColumns = `COALESCE(a.action, ''), COALESCE(a.outcome, ''), COALESCE(a.actor, ''), COALESCE(a.user_id, ''), COALESCE(a.client_id, ''),
	COALESCE(a.request_id, ''), COALESCE(a.detail, ''), a.place`

func (e *event) fields() []any {
	return []any{&e.action, &e.outcome, &e.actor, &e.userID, &e.clientID, &e.requestID, &e.details, &e.place}
}

// stamp is a time as it is hashed: the database's own precision, one spelling on both engines.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// digest is over every column, each with its length in front, so that nothing can move from one to the next.
func (e *event) digest() [sha256.Size]byte {
	h := sha256.New()
	write(h, "gatehouse audit row 1", e.id, stamp(e.at), e.action, e.outcome, e.actor, e.userID, e.clientID, e.requestID, e.details, string(e.place))
	return [sha256.Size]byte(h.Sum(nil))
}

func write(w io.Writer, parts ...string) {
	for _, p := range parts {
		_, _ = fmt.Fprintf(w, "%d:%s", len(p), p)
	}
}

// leaf is what the tree holds of a row. Id and time are hashed beside the digest, so that they are still proven when retention has
// removed the row: else a row could be passed off as one that was old enough to go.
type leaf struct {
	n       int64
	eventID string
	at      time.Time
	digest  []byte
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (l leaf) hash() tlog.Hash {
	var b buffer
	write(&b, "gatehouse audit leaf 1", l.eventID, stamp(l.at), string(l.digest))
	return tlog.RecordHash(b)
}

// frontier is the right edge of a tree: the complete subtrees that its next hashes need, by level.
type frontier struct {
	size int64
	left []tlog.Hash
}

// add appends a leaf and gives the hashes to store, the first of them at tlog.StoredHashCount of the size before.
func (f *frontier) add(h tlog.Hash) []tlog.Hash {
	hashes := []tlog.Hash{h}
	level := 0
	for n := f.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(f.left[level], h)
		hashes = append(hashes, h)
		level++
	}
	if level == len(f.left) {
		f.left = append(f.left, h)
	}
	f.left[level] = h
	f.size++
	return hashes
}

// root is the hash of the tree so far (RFC 6962 §2.1).
func (f *frontier) root() (root tlog.Hash) {
	first := true
	if f.size == 0 {
		root, _ = tlog.TreeHash(0, nil)
		return root
	}
	for level, h := range f.left {
		switch {
		case f.size>>level&1 == 0:
		case first:
			root, first = h, false
		default:
			root = tlog.NodeHash(h, root)
		}
	}
	return root
}

func scanTree(row db.Scanner) (n int64, h tlog.Hash, err error) {
	var raw []byte
	if err = row.Scan(&n, &raw); err == nil && len(raw) == len(h) {
		copy(h[:], raw)
	}
	return n, h, err
}
