package keys

import "github.com/gatehouse-id/gatehouse/internal/seal"

// Sealed lists what this package keeps under the master key: the private halves of keys.
func Sealed() []seal.Column {
	return []seal.Column{
		{
			Name:    "signing_keys",
			Read:    `SELECT kid, alg, private FROM signing_keys WHERE kid > $1 AND private IS NOT NULL ORDER BY kid LIMIT $2`,
			Write:   `UPDATE signing_keys SET private = $3 WHERE kid = $1 AND private = $2`,
			Purpose: func(kid, alg string) string { return purpose(Alg(alg), kid) },
		},
		{
			Name:    "encryption_keys",
			Read:    `SELECT kid, alg, private FROM encryption_keys WHERE kid > $1 ORDER BY kid LIMIT $2`,
			Write:   `UPDATE encryption_keys SET private = $3 WHERE kid = $1 AND private = $2`,
			Purpose: func(kid, alg string) string { return encryptionPurpose(Alg(alg), kid) },
		},
	}
}
