package identity

import "github.com/gatehouse-id/gatehouse/internal/seal"

// Sealed lists what this package keeps under the master key: people's own keys, and invitations to whoever has none yet.
func Sealed() []seal.Column {
	return []seal.Column{
		{
			Name:    "data_keys",
			Read:    `SELECT user_id, '', wrapped FROM data_keys WHERE user_id > $1 ORDER BY user_id LIMIT $2`,
			Write:   `UPDATE data_keys SET wrapped = $3 WHERE user_id = $1 AND wrapped = $2`,
			Purpose: func(id, _ string) string { return seal.PersonPurpose(id) },
		},
		{
			Name:    "invitations",
			Read:    `SELECT id, '', sealed FROM invitations WHERE id > $1 AND sealed IS NOT NULL ORDER BY id LIMIT $2`,
			Write:   `UPDATE invitations SET sealed = $3 WHERE id = $1 AND sealed = $2`,
			Purpose: func(id, _ string) string { return signUpPurpose(id) },
		},
	}
}
