package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

// monthsAhead is for how many months to come there are partitions.
const monthsAhead = 2

// lockWait bounds how long writers of the log may wait for a partition that is being made.
const lockWait = `SET LOCAL lock_timeout = '3s'`

// Maintain takes in what was written late, makes partitions for the months to come and removes the rows that retention is over
// for, by whole months: a row lives up to a month longer than it must. Call it when the server starts and each hour.
// That rows were removed is signed first, so that nobody can remove others and call it retention.
func (t *Tree) Maintain(ctx context.Context) error {
	now := t.now().UTC()
	if t.db.Engine() == db.Postgres {
		if err := t.makePartitions(ctx, now); err != nil {
			return fmt.Errorf("audit partitions: %w", err)
		}
	}
	if err := t.append(ctx, farReach, time.Time{}); err != nil {
		return err
	}
	if err := t.removeBefore(ctx, month(now.Add(-t.retention), 0)); err != nil {
		return fmt.Errorf("audit retention: %w", err)
	}
	return nil
}

// month is the beginning of the month that lies n months after t's.
func month(t time.Time, n int) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
}

func (t *Tree) removeBefore(ctx context.Context, cutoff time.Time) error {
	var found bool
	if err := t.db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM audit WHERE at < $1)`, db.At(cutoff)).Scan(&found); err != nil {
		return err
	}
	if !found {
		return nil
	}
	if err := t.append(ctx, farReach, cutoff); err != nil {
		return err
	}
	last, err := t.lastCheckpoint(ctx)
	if err != nil {
		return err
	}
	if last == nil || last.Kept.Before(cutoff) {
		return nil // another replica took the turn; the next hour will do
	}
	if _, err := t.db.Exec(ctx, `UPDATE audit_head SET kept_since = $1 WHERE kept_since < $1`, db.At(cutoff)); err != nil {
		return err
	}
	if t.db.Engine() == db.Postgres {
		if err := t.dropPartitions(ctx, cutoff); err != nil {
			return err
		}
	}
	for { // in pieces: SQLite's writers wait for each
		n, err := t.db.Exec(ctx, `DELETE FROM audit WHERE at < $1 AND id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)`, db.At(cutoff), batch)
		if err != nil || n == 0 {
			return err
		}
	}
}

const partitionName = "audit_2006_01"

// partitions lists the months that have a partition, by name.
func (t *Tree) partitions(ctx context.Context) (map[string]time.Time, error) {
	found := map[string]time.Time{}
	err := t.db.Query(ctx, func(row db.Scanner) error {
		var name string
		if err := row.Scan(&name); err != nil {
			return err
		}
		if m, err := time.Parse(partitionName, name); err == nil {
			found[name] = m
		}
		return nil
	}, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit'::regclass`)
	return found, err
}

// makePartitions makes those of this month, the next ones, and every month of which rows lie in audit_default.
func (t *Tree) makePartitions(ctx context.Context, now time.Time) error {
	found, err := t.partitions(ctx)
	if err != nil {
		return err
	}
	var wanted []time.Time
	for i := range monthsAhead + 1 {
		wanted = append(wanted, month(now, i))
	}
	if err := t.db.Query(ctx, func(row db.Scanner) error {
		var at db.Time
		err := row.Scan(&at)
		wanted = append(wanted, month(at.Time, 0))
		return err
	}, `SELECT DISTINCT date_trunc('month', at, 'UTC') FROM audit_default`); err != nil {
		return err
	}
	made := map[time.Time]bool{}
	for _, m := range wanted {
		_, there := found[m.Format(partitionName)]
		if made[m] || there {
			continue
		}
		made[m] = true
		if err := t.makePartition(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// makePartition makes the one that begins at from. Postgres refuses while audit_default holds rows of it, so these move first:
// out of sight of the trigger that keeps rows, unchanged.
func (t *Tree) makePartition(ctx context.Context, from time.Time) error {
	name, until := from.Format(partitionName), month(from, 1)
	bounds := fmt.Sprintf(`FOR VALUES FROM ('%s') TO ('%s')`, stamp(from), stamp(until))
	return t.db.Tx(ctx, func(ctx context.Context) error {
		if _, err := t.db.Exec(ctx, lockWait); err != nil {
			return err
		}
		// One replica at a time.
		if _, err := t.db.Exec(ctx, `UPDATE audit_head SET turn = turn`); err != nil {
			return err
		}
		found, err := t.partitions(ctx)
		if err != nil {
			return err
		}
		if _, there := found[name]; there {
			return nil
		}
		if _, err := t.db.Exec(ctx, `LOCK TABLE audit IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		var rows bool
		if err := t.db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM audit_default WHERE at >= $1 AND at < $2)`, db.At(from), db.At(until)).Scan(&rows); err != nil {
			return err
		}
		steps := []string{`CREATE TABLE ` + name + ` PARTITION OF audit ` + bounds}
		if rows {
			within := fmt.Sprintf(` WHERE at >= '%s' AND at < '%s'`, stamp(from), stamp(until))
			steps = []string{
				`ALTER TABLE audit DETACH PARTITION audit_default`,
				steps[0],
				`INSERT INTO audit SELECT * FROM audit_default` + within,
				`DELETE FROM audit_default` + within,
				`ALTER TABLE audit ATTACH PARTITION audit_default DEFAULT`,
			}
		}
		for _, step := range steps {
			if _, err := t.db.Exec(ctx, step); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

func (t *Tree) dropPartitions(ctx context.Context, cutoff time.Time) error {
	found, err := t.partitions(ctx)
	if err != nil {
		return err
	}
	for name, from := range found {
		if month(from, 1).After(cutoff) {
			continue
		}
		err := t.db.Tx(ctx, func(ctx context.Context) error {
			if _, err := t.db.Exec(ctx, lockWait); err != nil {
				return err
			}
			_, err := t.db.Exec(ctx, `DROP TABLE IF EXISTS `+name)
			return err
		})
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return fmt.Errorf("drop %s: %w", name, err)
		}
	}
	return nil
}
