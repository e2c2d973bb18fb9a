// Package migrations holds the schema as numbered, forward-only steps and applies those that a database lacks.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/gatehouse-id/gatehouse/internal/db"
)

//go:embed *.sql
var files embed.FS

// lockKey is the Postgres advisory lock that lets one replica migrate while the others wait ("gatehouse" in ASCII, cut).
const lockKey = 0x6761746568

// Apply runs every step the database lacks, in one transaction, and returns their names. Replicas that start together
// wait for each other. NNNN_x.sql serves both engines; NNNN_x.sqlite.sql and NNNN_x.postgres.sql serve one.
func Apply(ctx context.Context, engine db.Engine, pool *sql.DB) ([]string, error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin migration: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if engine == db.Postgres {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
			return nil, fmt.Errorf("lock migrations: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY)`); err != nil {
		return nil, fmt.Errorf("create schema_version: %w", err)
	}
	var done []string
	for _, name := range steps(files, engine) {
		res, err := tx.ExecContext(ctx, `INSERT INTO schema_version (name) VALUES ($1) ON CONFLICT DO NOTHING`, name)
		if err != nil {
			return nil, fmt.Errorf("record migration %s: %w", name, err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return nil, fmt.Errorf("record migration %s: %w", name, err)
		}
		if n == 0 { // done before
			continue
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		done = append(done, name)
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit migrations: %w", err)
	}
	return done, nil
}

// steps lists the files for one engine; Glob returns them in order of their numbers.
func steps(dir fs.FS, engine db.Engine) []string {
	names, _ := fs.Glob(dir, "*.sql")
	var out []string
	for _, n := range names {
		if strings.Count(n, ".") == 1 || strings.HasSuffix(n, "."+string(engine)+".sql") {
			out = append(out, n)
		}
	}
	return out
}
