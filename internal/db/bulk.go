package db

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// AddAll adds very many rows in the fastest way the engine has: COPY on Postgres, InsertAll on SQLite. It does not belong to a
// transaction in ctx.
func (d *DB) AddAll(ctx context.Context, table string, columns []string, rows [][]any) error {
	if d.engine == SQLite {
		return d.InsertAll(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+")", rows)
	}
	for _, row := range rows {
		for i, v := range row {
			var err error
			switch v := v.(type) {
			case Time: // COPY is binary: times go as such
				if row[i] = any(v.Time); v.IsZero() {
					row[i] = nil
				}
			case driver.Valuer:
				if row[i], err = v.Value(); err != nil {
					return err
				}
			}
		}
	}
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Close()
	return translate(conn.Raw(func(driverConn any) error {
		_, err := driverConn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
		return err
	}))
}
