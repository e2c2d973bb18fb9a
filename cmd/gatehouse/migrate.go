package main

import (
	"fmt"
	"io"
)

type migrateCommand struct {
	Storage storage `embed:""`
}

// Run implements the command.
func (c *migrateCommand) Run(t *terminal) error {
	if err := c.Storage.check(); err != nil {
		return err
	}
	d, applied, err := openDatabase(t.ctx, &c.Storage)
	if err != nil {
		return err
	}
	defer d.Close()
	return t.print(map[string]any{"applied": append([]string{}, applied...)}, func(w io.Writer) {
		for _, name := range applied {
			_, _ = fmt.Fprintln(w, "applied", name)
		}
		if len(applied) == 0 {
			_, _ = fmt.Fprintln(w, "the schema is up to date")
		}
	})
}
