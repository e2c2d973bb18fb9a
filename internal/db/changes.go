package db

import (
	"context"
	"errors"
)

// Version tells how often something was changed, by whichever process. What a process keeps of it in memory is good for as long
// as it stays the same.
func (d *DB) Version(ctx context.Context, name string) (version int64, err error) {
	err = d.QueryRow(ctx, `SELECT version FROM changes WHERE name = $1`, name).Scan(&version)
	if errors.Is(err, ErrNotFound) { // never changed
		err = nil
	}
	return version, err
}

// Changed counts a change of something in the transaction in ctx. Whoever changes the same thing waits until that has ended.
func (d *DB) Changed(ctx context.Context, name string) error {
	_, err := d.Exec(ctx, `INSERT INTO changes (name, version) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET version = changes.version + 1`, name)
	return err
}
