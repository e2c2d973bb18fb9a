package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/seal"
)

// Sealed is what this package keeps under the master key, but for the secrets of clients: what receivers of events want to be sent.
//
// Access tokens of pairwise clients hold something sealed as well; they run out within MaxAccessTokenTTL.
func Sealed() seal.Column {
	return seal.Column{
		Name:    "event_streams",
		Read:    `SELECT id, '', secret FROM event_streams WHERE id > $1 AND secret IS NOT NULL ORDER BY id LIMIT $2`,
		Write:   `UPDATE event_streams SET secret = $3 WHERE id = $1 AND secret = $2`,
		Purpose: func(id, _ string) string { return streamPurpose(id) },
	}
}

// resealAtOnce is how many clients are read at once.
const resealAtOnce = 200

// ResealSecrets brings the readable copies of clients' secrets under the newest master key, as seal.Sealer.Reseal does for a column.
func ResealSecrets(ctx context.Context, d *db.DB, s *seal.Sealer, told func(rows int)) (seal.Resealed, error) {
	out := seal.Resealed{Name: "clients"}
	after := ""
	for {
		type row struct{ id, secrets string }
		var rows []row
		err := d.Query(ctx, func(r db.Scanner) error {
			var x row
			err := r.Scan(&x.id, &x.secrets)
			rows = append(rows, x)
			return err
		}, `SELECT id, secrets FROM clients WHERE id > $1 ORDER BY id LIMIT $2`, after, resealAtOnce)
		if err != nil {
			return out, fmt.Errorf("read clients: %w", err)
		}
		if len(rows) == 0 {
			return out, nil
		}
		for _, x := range rows {
			fresh, r, err := resealSecrets(s, x.id, x.secrets)
			if err == nil && r.Changed > 0 {
				var n int64
				n, err = d.Exec(ctx, `UPDATE clients SET secrets = $3 WHERE id = $1 AND secrets = $2`, x.id, x.secrets, db.JSON(&fresh))
				r.Changed *= int(n) // 0: somebody else has written meanwhile
			}
			if err != nil {
				return out, fmt.Errorf("secrets of client %s: %w", x.id, err)
			}
			out.Add(r)
		}
		told(len(rows))
		after = rows[len(rows)-1].id
	}
}

// resealSecrets seals what stands behind the hashes in a list of secrets.
func resealSecrets(s *seal.Sealer, clientID, list string) (fresh []storedSecret, r seal.Resealed, err error) {
	if err := json.Unmarshal([]byte(list), &fresh); err != nil {
		return nil, r, err
	}
	for i, secret := range fresh {
		if len(secret.sealed()) == 0 {
			continue
		}
		again, same, err := s.Again(secret.sealed(), secretPurpose(clientID))
		switch {
		case errors.Is(err, seal.ErrOpen):
			r.Lost++
		case err != nil:
			return nil, r, err
		case same:
			r.Kept++
		default:
			r.Changed++
			fresh[i] = slices.Concat(bytes.Clone(secret.hash()), again)
		}
	}
	return fresh, r, nil
}
