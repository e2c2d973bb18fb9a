package main

import (
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/audit"
	"github.com/gatehouse-id/gatehouse/internal/seal"
	"github.com/gatehouse-id/gatehouse/internal/upstream"
	"github.com/gatehouse-id/gatehouse/keys"
	"github.com/gatehouse-id/gatehouse/oauth"
)

// keysReseal brings everything under the newest master key.
type keysReseal struct {
	Storage storage `embed:""`
}

// resealRecord is what the command prints.
type resealRecord struct {
	Tables    []resealedTable `json:"tables"`
	Lost      int             `json:"lost"`                // open under none of the keys
	Still     int             `json:"still,omitempty"`     // came to lie under an older key meanwhile
	DropAfter time.Time       `json:"drop_after,omitzero"` // the older keys can leave the list
}

type resealedTable struct {
	Table    string `json:"table"`
	Resealed int    `json:"resealed"`
	Already  int    `json:"already"`
	Lost     int    `json:"lost"`
}

// Run implements the command.
func (c *keysReseal) Run(t *terminal) error {
	return withData(t, &c.Storage, func(d *data) error {
		first, err := reseal(t, d)
		if err != nil {
			return err
		}
		second, err := reseal(t, d) // finds what a process has sealed meanwhile for which the newest key is none yet
		if err != nil {
			return err
		}
		out := resealRecord{}
		for i, r := range first {
			out.Tables = append(out.Tables, resealedTable{r.Name, r.Changed, r.Kept, r.Lost})
			out.Lost += r.Lost
			out.Still += second[i].Changed
		}
		if out.Lost == 0 && out.Still == 0 {
			out.DropAfter = time.Now().Add(oauth.MaxAccessTokenTTL).UTC().Truncate(time.Second)
		}
		d.audit.Record(t.ctx, audit.Event{Action: "master_key.reseal", Detail: map[string]string{"lost": fmt.Sprint(out.Lost), "still": fmt.Sprint(out.Still)}})
		return t.print(out, func(w io.Writer) { out.write(w) })
	})
}

func (o resealRecord) write(w io.Writer) {
	_, _ = fmt.Fprintln(w, "TABLE\tRESEALED\tALREADY\tLOST")
	for _, r := range o.Tables {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", r.Table, r.Resealed, r.Already, r.Lost)
	}
	switch {
	case o.Lost > 0:
		_, _ = fmt.Fprintf(w, "\n%d values open under none of the master keys: bring back the key they were sealed with, and drop none.\n", o.Lost)
	case o.Still > 0:
		_, _ = fmt.Fprintf(w, "\nA process still seals under an older key: restart every replica with the newest key in front, then run this again.\n")
	default:
		_, _ = fmt.Fprintf(w, "\nEverything is under the newest key. Restart every replica without the older ones after %s, when tokens issued before have run out.\n", when(o.DropAfter))
		_, _ = fmt.Fprintln(w, "Backups from before, of the database or of people's keys, still need them: keep a copy apart for as long as you keep those.")
	}
}

// reseal goes over every table once.
func reseal(t *terminal, d *data) ([]seal.Resealed, error) {
	columns := []seal.Column{seal.Secrets()}
	columns = append(columns, keys.Sealed()...)
	columns = append(columns, oauth.Sealed(), upstream.Sealed())
	columns = append(columns, identity.Sealed()...)
	rows := 0
	p := newProgress(t.stderr, 0, func() int64 { return 0 })
	defer p.end()
	told := func(n int) {
		rows += n
		p.tell(rows)
	}
	clients, err := oauth.ResealSecrets(t.ctx, d.db, d.seal, told)
	if err != nil {
		return nil, err
	}
	list := []seal.Resealed{clients}
	for _, column := range columns {
		r, err := d.seal.Reseal(t.ctx, d.db, column, told)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
