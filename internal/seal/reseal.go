package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// Column is where values lie that are sealed under the master key: one column of one table.
type Column struct {
	Name    string                       // of the table
	Read    string                       // gives id, what else its purpose takes, and value, of at most $2 rows behind the id $1, by id
	Write   string                       // puts $3 in place of the value $2 in the row with id $1
	Purpose func(id, more string) string // of a value
}

// Resealed is what came of sealing a column anew.
type Resealed struct {
	Name    string
	Changed int // values that were under an older key
	Kept    int // values that were under the newest key already
	Lost    int // values that open under none of the keys
}

// Add adds what came of other rows.
func (r *Resealed) Add(o Resealed) {
	r.Changed, r.Kept, r.Lost = r.Changed+o.Changed, r.Kept+o.Kept, r.Lost+o.Lost
}

// resealAtOnce is how many rows go in one transaction.
const resealAtOnce = 500

// Secrets is the column of this package.
func Secrets() Column {
	return Column{
		Name:    "secrets",
		Read:    `SELECT name, '', sealed FROM secrets WHERE name > $1 ORDER BY name LIMIT $2`,
		Write:   `UPDATE secrets SET sealed = $3 WHERE name = $1 AND sealed = $2`,
		Purpose: func(name, _ string) string { return "secret:" + name },
	}
}

// Again seals a value anew if it is not under the newest key; same tells that it is. ErrOpen: it opens under none.
func (s *Sealer) Again(sealed []byte, purpose string) (fresh []byte, same bool, err error) {
	newest := &Sealer{keys: s.keys[:1]}
	if _, err := newest.Open(sealed, purpose); err == nil {
		return sealed, true, nil
	}
	plain, err := s.Open(sealed, purpose)
	if err != nil {
		return nil, false, err
	}
	return s.Seal(plain, purpose), false, nil
}

// Reseal brings every value of a column under the newest key, some hundred in a transaction. It may be broken off at any time: the next run
// passes over what is done. What somebody else writes meanwhile stands. told hears of each batch.
func (s *Sealer) Reseal(ctx context.Context, d *db.DB, c Column, told func(rows int)) (Resealed, error) {
	out := Resealed{Name: c.Name}
	after := ""
	for {
		type row struct {
			id, more string
			value    []byte
		}
		var rows []row
		err := d.Query(ctx, func(r db.Scanner) error {
			var x row
			err := r.Scan(&x.id, &x.more, &x.value)
			rows = append(rows, x)
			return err
		}, c.Read, after, resealAtOnce)
		if err != nil {
			return out, fmt.Errorf("read %s: %w", c.Name, err)
		}
		if len(rows) == 0 {
			return out, nil
		}
		batch := Resealed{}
		err = d.Tx(ctx, func(ctx context.Context) error {
			batch = Resealed{} // a transaction may run again
			for _, x := range rows {
				if len(x.value) == 0 {
					continue
				}
				fresh, same, err := s.Again(x.value, c.Purpose(x.id, x.more))
				switch {
				case errors.Is(err, ErrOpen):
					batch.Lost++
					continue
				case err != nil:
					return err
				case same:
					batch.Kept++
					continue
				}
				n, err := d.Exec(ctx, c.Write, x.id, x.value, fresh)
				if err != nil {
					return err
				}
				batch.Changed += int(n)
			}
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("write %s: %w", c.Name, err)
		}
		out.Add(batch)
		told(len(rows))
		after = rows[len(rows)-1].id
	}
}
