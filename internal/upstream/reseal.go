package upstream

import "github.com/gatehouse-id/gatehouse/internal/seal"

// Sealed is what this package keeps under the master key: the secrets of our clients at providers.
func Sealed() seal.Column {
	return seal.Column{
		Name:    "providers",
		Read:    `SELECT id, '', secret FROM providers WHERE id > $1 ORDER BY id LIMIT $2`,
		Write:   `UPDATE providers SET secret = $3 WHERE id = $1 AND secret = $2`,
		Purpose: func(id, _ string) string { return secretPurpose(id) },
	}
}
