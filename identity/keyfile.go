package identity

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// People's keys are backed up apart from all else, and kept for a short time only: a backup of the rest may then be kept for
// long, for it says nothing about somebody who was erased since. A file of keys is lines of JSON: a heading, a line for each key, and
// an end with a MAC over all before it, so that a file that is cut off, changed or of another installation is not mistaken
// for the news that people were erased.

const keyFileFormat = "gatehouse-keys-1"

// maxKeyLine bounds a line of a file of keys.
const maxKeyLine = 4 << 10

// ErrKeyFile says that a file of keys is damaged, or belongs to another installation.
var ErrKeyFile = errors.New("not a whole file of keys of this installation")

// createdBefore is how much older than a file of keys an account must be before its absence there says that it was erased: the
// clocks of replicas differ, and a sign-up may take its time.
const createdBefore = time.Hour

type keyFileHead struct {
	Format string    `json:"format"`
	At     time.Time `json:"at"` // the file holds every key that there was then
}

// keyFileLine is a key, or with MAC the end.
type keyFileLine struct {
	UserID string `json:"user_id,omitempty"`
	Key    []byte `json:"key,omitempty"` // sealed under the master key, as data_keys has it
	MAC    []byte `json:"mac,omitempty"`
}

// keyFileMAC needs a secret that an old backup of the database has as well.
func (d *Directory) keyFileMAC() hash.Hash {
	return hmac.New(sha256.New, seal.MAC(d.emailKey, "file of keys"))
}

// WriteKeys writes the keys of all people, as they are at one moment, and returns how many.
func (d *Directory) WriteKeys(ctx context.Context, w io.Writer) (n int, err error) {
	mac := d.keyFileMAC()
	out := json.NewEncoder(io.MultiWriter(w, mac)) // a line each
	if err := out.Encode(keyFileHead{keyFileFormat, d.now().UTC()}); err != nil {
		return 0, fmt.Errorf("write keys: %w", err)
	}
	err = d.db.Query(ctx, func(row db.Scanner) error {
		var l keyFileLine
		if err := row.Scan(&l.UserID, &l.Key); err != nil {
			return err
		}
		n++
		return out.Encode(l)
	}, `SELECT user_id, wrapped FROM data_keys`)
	if err == nil {
		err = json.NewEncoder(w).Encode(keyFileLine{MAC: mac.Sum(nil)})
	}
	if err != nil {
		return 0, fmt.Errorf("write keys: %w", err)
	}
	return n, nil
}

// Restored is what RestoreKeys did.
type Restored struct {
	At     time.Time // when the file was written
	Keys   int       // that were missing and are back
	Erased []string  // ids of people who had been erased by then, and are again
	Wait   []string  // ids of people without key who are too new for the file to know
}

// RestoreKeys gives the people of a database that was restored without keys theirs back, from a file of WriteKeys that is younger
// than the database. Keys that are there stay; keys of people who are not there are passed over. Whoever has none then
// but had an account when the file was written had been erased by then, and is erased again. ErrKeyFile, before anything is done.
func (d *Directory) RestoreKeys(ctx context.Context, file io.ReadSeeker) (r Restored, err error) {
	r.At, err = d.readKeys(file, func(string, []byte) error { return nil }) // as far as the MAC
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = d.db.Tx(ctx, func(ctx context.Context) error {
			_, err := d.readKeys(file, func(userID string, wrapped []byte) error {
				n, err := d.db.Exec(ctx, `INSERT INTO data_keys (user_id, wrapped) SELECT id, $2 FROM users WHERE id = $1 ON CONFLICT DO NOTHING`, userID, wrapped)
				r.Keys += int(n)
				return err
			})
			return err
		})
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore keys: %w", err)
	}
	var gone []string
	err = d.db.Query(ctx, func(row db.Scanner) error {
		var id string
		var created db.Time
		err := row.Scan(&id, &created)
		if created.Before(r.At.Add(-createdBefore)) {
			gone = append(gone, id)
		} else {
			r.Wait = append(r.Wait, id)
		}
		return err
	}, `SELECT u.id, u.created_at FROM users u WHERE NOT EXISTS (SELECT 1 FROM data_keys k WHERE k.user_id = u.id) ORDER BY u.id`)
	for _, id := range gone {
		if err == nil {
			_, err = d.Erase(ctx, id, true)
			r.Erased = append(r.Erased, id)
		}
	}
	if err != nil {
		return r, fmt.Errorf("erase people without key: %w", err)
	}
	return r, nil
}

// readKeys calls take for each key of a file, and reports ErrKeyFile unless the file is whole.
func (d *Directory) readKeys(file io.Reader, take func(userID string, wrapped []byte) error) (at time.Time, err error) {
	mac := d.keyFileMAC()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxKeyLine)
	var head keyFileHead
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Format != keyFileFormat {
		return at, ErrKeyFile
	}
	for {
		_, _ = mac.Write(lines.Bytes())
		_, _ = mac.Write([]byte{'\n'})
		if !lines.Scan() {
			break
		}
		var l keyFileLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			return at, ErrKeyFile
		}
		if l.MAC != nil {
			if !hmac.Equal(l.MAC, mac.Sum(nil)) || lines.Scan() {
				return at, ErrKeyFile
			}
			return head.At, lines.Err()
		}
		if uuid.Validate(l.UserID) != nil || len(l.Key) == 0 {
			return at, ErrKeyFile
		}
		if err := take(l.UserID, l.Key); err != nil {
			return at, err
		}
	}
	return at, ErrKeyFile // there was no end
}
