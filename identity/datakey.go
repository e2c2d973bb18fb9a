package identity

import (
	"errors"

	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// What is personal is sealed under a key of the person's own, which lies in the table data_keys, sealed under the master key.
// The table is apart so that backups can leave it out: see keyfile.go. A statement that needs the key reads it along:
// SELECTs join data_keys, so that they do not find a person without key; others take wrappedKey.

// wrappedKey is the data key in the RETURNING of an UPDATE of users; NULL if there is none.
const wrappedKey = `(SELECT k.wrapped FROM data_keys k WHERE k.user_id = users.id)`

// ownSealer opens a person's data key, as data_keys has it. Somebody without key is an erased person: ErrNotFound.
func (d *Directory) ownSealer(userID string, wrapped []byte) (*seal.Sealer, error) {
	own, err := d.seal.Person(userID, wrapped)
	if errors.Is(err, seal.ErrNoKey) {
		return nil, ErrNotFound
	}
	return own, err
}
