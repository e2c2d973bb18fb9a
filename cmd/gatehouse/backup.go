package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gatehouse-id/gatehouse/identity"
	"github.com/gatehouse-id/gatehouse/internal/db"
)

type backupCommands struct {
	Database backupDatabase `cmd:"" help:"Copy a SQLite database without people's keys, beside a running server. (Postgres: pg_dump --exclude-table-data=data_keys)"`
	Keys     backupKeys     `cmd:"" help:"Write people's keys into a file. Who was erased can be read from older backups for as long as a file with their key is kept."`
}

type restoreCommands struct {
	Keys restoreKeys `cmd:"" help:"Give people in a restored database their keys, and erase again who was erased since."`
}

type backupDatabase struct {
	File    string  `arg:"" help:"The file to write; it must not exist yet."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *backupDatabase) Run(t *terminal) error {
	return withData(t, &c.Storage, func(d *data) error {
		if d.db.Engine() != db.SQLite {
			return badSetting("database-url", "is not SQLite: use pg_dump --exclude-table-data=data_keys")
		}
		if err := d.db.Copy(t.ctx, c.File, "data_keys"); err != nil {
			return err
		}
		return t.print(map[string]string{"file": c.File}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "wrote\t%s\nwithout people's keys: back those up next, with `gatehouse backup keys`\n", c.File)
		})
	})
}

type backupKeys struct {
	File    string  `arg:"" help:"The file to write, in place of an older one."`
	Storage storage `embed:""`
}

// Run implements the command.
func (c *backupKeys) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		partial := c.File + ".partial"
		f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		n, err := people.WriteKeys(t.ctx, w)
		if err = errors.Join(err, w.Flush()); err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(partial, c.File)
		}
		if err != nil {
			return errors.Join(err, os.Remove(partial))
		}
		return t.print(map[string]any{"file": c.File, "keys": n}, func(w io.Writer) { _, _ = fmt.Fprintf(w, "wrote\t%s\nkeys\t%d\n", c.File, n) })
	})
}

type restoreKeys struct {
	File    string  `arg:"" help:"The newest file of backup keys; it must be younger than the backup of the database."`
	Storage storage `embed:""`
}

// restoredRecord is what restore keys did.
type restoredRecord struct {
	WrittenAt time.Time `json:"written_at"`
	Keys      int       `json:"keys"`
	Erased    []string  `json:"erased"`
	TooNew    []string  `json:"too_new"`
}

// Run implements the command.
func (c *restoreKeys) Run(t *terminal) error {
	return withPeople(t, &c.Storage, func(people *identity.Directory) error {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		r, err := people.RestoreKeys(t.ctx, f)
		if errors.Is(err, identity.ErrKeyFile) {
			return fmt.Errorf("%s is not a whole file of keys of this installation: nothing was changed", c.File)
		}
		if err != nil {
			return err
		}
		return t.print(restoredRecord{r.At, r.Keys, append([]string{}, r.Erased...), append([]string{}, r.Wait...)}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "keys of\t%s\nrestored\t%d\nerased again\t%d\n", when(r.At), r.Keys, len(r.Erased))
			if len(r.Wait) > 0 {
				_, _ = fmt.Fprintf(w, "without key\t%d\nThese signed up too late for this file to have theirs; they cannot sign in. Restore a younger file, or erase them:\n", len(r.Wait))
			}
			for _, id := range r.Wait {
				_, _ = fmt.Fprintln(w, id)
			}
		})
	})
}
