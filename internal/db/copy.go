package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// Copy writes a copy of a SQLite database, as it is at one moment, into a new file, while others go on working. The named
// tables are empty there: what they held is overwritten before the file gets its name.
func (d *DB) Copy(ctx context.Context, path string, without ...string) error {
	if d.engine != SQLite {
		return errors.New("only a SQLite database can be copied")
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	partial := path + ".partial"
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite would let everybody read it
	if err != nil {
		return err
	}
	_ = file.Close()
	if err = d.copyInto(ctx, partial, without); err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy database: %w", err), os.Remove(partial))
	}
	return nil
}

func (d *DB) copyInto(ctx context.Context, path string, without []string) error {
	if _, err := d.read.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return err
	}
	// No journal, which would keep what is deleted; a crash leaves a file without its name.
	made, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=journal_mode(off)&_pragma=secure_delete(1)&_pragma=synchronous(full)")
	if err != nil {
		return err
	}
	defer made.Close()
	made.SetMaxOpenConns(1)
	for _, table := range without {
		if _, err := made.ExecContext(ctx, `DELETE FROM `+table); err != nil { //nolint:gosec // our own names
			return err
		}
	}
	return made.Close()
}
