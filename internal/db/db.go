// Package db opens the SQL store and runs statements on it. One SQL text serves SQLite and Postgres: the portable
// subset is TEXT, BIGINT, BOOLEAN, BYTEA, TIMESTAMPTZ, ON CONFLICT, RETURNING and $n placeholders; ids and times are
// made in Go. The package knows no table but its own.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the "pgx" driver
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNotFound says that no row answered a statement that must find one.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a unique key is taken.
	ErrConflict = errors.New("already exists")
	// ErrUnavailable says that the database cannot be reached or does not answer; the caller may try again.
	ErrUnavailable = errors.New("database unavailable")
)

// Engine names the SQL engine behind a DB.
type Engine string

// The two engines, spelled as in migration file names.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// DB is a pool of connections. SQLite allows one writer, so its writes queue on a pool of one connection instead of
// polling the file lock; reads go to a pool of their own.
type DB struct {
	engine Engine
	read   *sql.DB
	write  *sql.DB
}

// Open connects to "sqlite:PATH" or "postgres://…". It does not migrate.
func Open(ctx context.Context, dsn string) (*DB, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return openSQLite(ctx, path)
	}
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New(`database URL must be "sqlite:PATH" or "postgres://…"`)
	}
	pool, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	pool.SetMaxOpenConns(32)
	pool.SetMaxIdleConns(32)
	d := &DB{engine: Postgres, read: pool, write: pool}
	if err := pool.PingContext(ctx); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	return d, nil
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	source := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)" +
		"&_pragma=synchronous(normal)&_pragma=foreign_keys(1)&_pragma=cache_size(-4000)"
	write, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open sqlite file %s: %w", path, err)
	}
	read, err := sql.Open("sqlite", source)
	if err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	read.SetMaxOpenConns(4)
	read.SetMaxIdleConns(4)
	return &DB{engine: SQLite, read: read, write: write}, nil
}

// Close closes every connection.
func (d *DB) Close() error {
	if d.read == d.write {
		return d.write.Close()
	}
	return errors.Join(d.read.Close(), d.write.Close())
}

// Engine tells which engine this is, for the few steps that need one.
func (d *DB) Engine() Engine { return d.engine }

// SQL gives the pool that may write, for migrations.
func (d *DB) SQL() *sql.DB { return d.write }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return translate(d.read.PingContext(ctx)) }

type txKey struct{}

// querier is what a pool and a transaction share.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx runs f in a transaction carried by the context: every statement of f that is given that context belongs to it.
// A Tx inside a Tx joins the outer one. A panic rolls back.
func (d *DB) Tx(ctx context.Context, f func(ctx context.Context) error) error {
	if _, joined := ctx.Value(txKey{}).(*sql.Tx); joined {
		return f(ctx)
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	if err := f(context.WithValue(ctx, txKey{}, tx)); err != nil {
		return err
	}
	return translate(tx.Commit())
}

// Exec runs a statement and returns how many rows it changed.
func (d *DB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := d.on(ctx, query).ExecContext(ctx, query, args...)
	if err != nil {
		return 0, translate(err)
	}
	return res.RowsAffected()
}

// Row is the single row of QueryRow.
type Row struct {
	rows *sql.Rows
	err  error
}

// QueryRow runs a statement that returns at most one row that matters; Scan reports ErrNotFound if there is none.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) Row {
	rows, err := d.on(ctx, query).QueryContext(ctx, query, args...) //nolint:rowserrcheck,sqlclosecheck // Scan does both
	return Row{rows, err}
}

// Scan reads the row into dest.
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return translate(r.err)
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return translate(err)
		}
		return ErrNotFound
	}
	if err := r.rows.Scan(dest...); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return translate(r.rows.Close())
}

// Query runs a statement and calls scan for each row.
func (d *DB) Query(ctx context.Context, scan func(row Scanner) error, query string, args ...any) error {
	rows, err := d.on(ctx, query).QueryContext(ctx, query, args...)
	if err != nil {
		return translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
	}
	return translate(rows.Err())
}

// Scanner is one row of Query, or a Row.
type Scanner interface{ Scan(dest ...any) error }

// on picks the transaction in ctx, else the pool for the kind of statement.
func (d *DB) on(ctx context.Context, query string) querier {
	if tx, ok := ctx.Value(txKey{}).(*sql.Tx); ok {
		return tx
	}
	if strings.HasPrefix(strings.TrimLeft(query, " \n\t"), "SELECT") {
		return d.read
	}
	return d.write
}

// translate maps a driver's error to the package's own, so that no driver type leaves it.
func translate(err error) error {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &pg):
		switch {
		case pg.Code == "23505":
			return ErrConflict
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57"):
			return fmt.Errorf("%w: %w", ErrUnavailable, err) // connection, resources, operator intervention
		}
		return fmt.Errorf("postgres: %w", err)
	case errors.As(err, &lite):
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return ErrConflict
		}
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return fmt.Errorf("sqlite: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err) // what is left comes from the connection itself
}
