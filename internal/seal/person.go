package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// ErrNoKey says that a person's key is not there: the person was erased, and what was sealed under it is noise.
var ErrNoKey = errors.New("the person has no key")

// NewPerson makes the key of a new person: own seals what is kept about them, and wrapped, sealed under the master key, is
// what the table data_keys holds. Whoever destroys wrapped has erased all that own has sealed, wherever it lies.
func (s *Sealer) NewPerson(userID string) (own *Sealer, wrapped []byte, err error) {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	own, err = New(key)
	return own, s.Seal(key, PersonPurpose(userID)), err
}

// Person opens the key of a person, or reports ErrNoKey if there is none (any more).
func (s *Sealer) Person(userID string, wrapped []byte) (*Sealer, error) {
	if len(wrapped) == 0 {
		return nil, ErrNoKey
	}
	key, err := s.Open(wrapped, PersonPurpose(userID))
	if err != nil {
		return nil, fmt.Errorf("key of person %s: %w", userID, err)
	}
	return New(key)
}

// PersonPurpose binds a key to its person: no row of data_keys opens in another's place.
func PersonPurpose(userID string) string { return "data-key:" + userID }
