package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// origin is the first line of every checkpoint and the name of the key that signs it.
const origin = "gatehouse/audit"

// CheckpointBegin is how the text of a checkpoint begins.
const CheckpointBegin = origin + "\n"

// checkpoint is a signed statement: the tree had this hash at this size, and rows older than Kept may have been removed.
type checkpoint struct {
	tlog.Tree
	At   time.Time
	Kept time.Time
}

func (c checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\nat %s\nkept since %s\n", origin, c.N, c.Hash, stamp(c.At), stamp(c.Kept))
}

var errMalformed = errors.New("checkpoint: malformed")

func parseCheckpoint(text string) (c checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 6 {
		return c, errMalformed
	}
	if c.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return c, errMalformed
	}
	hash, at, kept := lines[2], strings.TrimPrefix(lines[3], "at "), strings.TrimPrefix(lines[4], "kept since ")
	if c.Hash, err = tlog.ParseHash(hash); err != nil {
		return c, err
	}
	if c.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return c, err
	}
	if c.Kept, err = time.Parse(time.RFC3339Nano, kept); err != nil {
		return c, err
	}
	if c.N < 0 || c.text() != text { // one spelling only
		return c, errMalformed
	}
	return c, nil
}

// signer signs checkpoints with a key of the server (Ed25519), sealed in SQL under the master key: who can write to the
// database but does not hold the master key cannot sign.
type signer struct {
	sign   note.Signer
	verify note.Verifiers
	public string // for note.NewVerifier
}

func openSigner(ctx context.Context, d *db.DB, s *seal.Sealer) (signer, error) {
	seed, err := s.Secret(ctx, d, "audit-checkpoint")
	if err != nil {
		return signer{}, err
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		return signer{}, err
	}
	const ed25519Algorithm = 1 // as in note's own keys
	hash := strings.Split(public, "+")[1]
	sign, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{ed25519Algorithm}, seed...)))
	if err != nil {
		return signer{}, err
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return signer{}, err
	}
	return signer{sign, note.VerifierList(verifier), public}, nil
}

func (s signer) seal(c checkpoint) (string, error) {
	signed, err := note.Sign(&note.Note{Text: c.text()}, s.sign)
	return string(signed), err
}

// open reads a signed checkpoint; one that this server did not sign is an error.
func (s signer) open(signed string) (checkpoint, error) {
	n, err := note.Open([]byte(signed), s.verify)
	if err != nil {
		return checkpoint{}, fmt.Errorf("checkpoint not signed by this server: %w", err)
	}
	return parseCheckpoint(n.Text)
}
