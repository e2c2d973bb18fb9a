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
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNotFound says that no row answered a statement that must find one, or that a row to refer to is not there.
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
	hasty  *sql.DB // see Hasty

	// SQLite compiles a statement each time it is given as text, which takes longer than most of them run. pgx keeps
	// its own.
	compiled sync.Map // text → *sql.Stmt
	count    atomic.Int32
}

// maxCompiled bounds the statements kept; the program has fewer, so that only text built at run time could reach it.
const maxCompiled = 512

// Open connects to "sqlite:PATH" or "postgres://…". It does not migrate.
func Open(ctx context.Context, dsn string) (*DB, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return openSQLite(ctx, path)
	}
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New(`database URL must be "sqlite:PATH" or "postgres://…"`)
	}
	settings, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	pool := postgresPool(settings, 32)
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	settings.RuntimeParams["synchronous_commit"] = "off"
	hasty := postgresPool(settings, 8)
	if err := hasty.PingContext(ctx); err != nil { // a connection pooler in between knows not this parameter
		_ = hasty.Close()
		hasty = pool
	}
	return &DB{engine: Postgres, read: pool, write: pool, hasty: hasty}, nil
}

func postgresPool(settings *pgx.ConnConfig, connections int) *sql.DB {
	pool := stdlib.OpenDB(*settings.Copy())
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return pool
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	// SQLite would let everybody on the machine read the file, and gives its journals the mode of the file.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	_ = file.Close()
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
	return &DB{engine: SQLite, read: read, write: write, hasty: write}, nil
}

// Close closes every connection, and with them the statements kept compiled.
func (d *DB) Close() error {
	return errors.Join(d.read.Close(), d.write.Close(), d.hasty.Close()) // closing one twice does nothing
}

// Engine tells which engine this is, for the few steps that need one.
func (d *DB) Engine() Engine { return d.engine }

// SQL gives the pool that may write, for migrations.
func (d *DB) SQL() *sql.DB { return d.write }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return translate(d.read.PingContext(ctx)) }

type hastyKey struct{ d *DB }

// Hasty lets single statements that are given the context answer before Postgres has its log on disk; nothing changes for
// SQLite, which writes so always, nor inside a Tx. Should the machine that runs Postgres crash, the last fraction of a
// second of such statements may be undone, so it is for those only whose loss harms nobody.
func (d *DB) Hasty(ctx context.Context) context.Context {
	return context.WithValue(ctx, hastyKey{d}, true)
}

// txKey finds the transaction of one DB in a context; another DB's statements do not get into it.
type txKey struct{ d *DB }

// querier is what a pool and a transaction share.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx runs f in a transaction carried by the context: every statement of f that is given that context belongs to it; one
// that is given an outer context waits for the transaction and so, on SQLite, for ever. A Tx inside a Tx joins the outer
// one. A panic rolls back. A statement that failed ends the transaction on Postgres: f must return its error.
func (d *DB) Tx(ctx context.Context, f func(ctx context.Context) error) error {
	if _, joined := ctx.Value(txKey{d}).(*sql.Tx); joined {
		return f(ctx)
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	if err := f(context.WithValue(ctx, txKey{d}, tx)); err != nil {
		return err
	}
	err = tx.Commit()
	d.handOver()
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		err = ctx.Err() // the end of ctx has rolled back already
	}
	return translate(err)
}

// Exec runs a statement and returns how many rows it changed.
func (d *DB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := d.on(ctx, query).ExecContext(ctx, query, args...)
	if err != nil {
		return 0, translate(err)
	}
	d.handOver()
	n, err := res.RowsAffected()
	return n, translate(err)
}

// insertAtOnce is how many rows go to Postgres in one statement of InsertAll: it takes 65,535 arguments.
const insertAtOnce = 250

// InsertAll adds many rows, in the transaction in ctx or one of its own. into is "INSERT INTO t (a, b)".
func (d *DB) InsertAll(ctx context.Context, into string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	return d.Tx(ctx, func(ctx context.Context) error {
		if d.engine == SQLite { // which is called, not asked over a wire: one row at a time is fastest
			return translate(d.insertEach(ctx, into+" VALUES ("+Placeholders(len(rows[0]))+")", rows))
		}
		for batch := range slices.Chunk(rows, insertAtOnce) {
			width := len(batch[0])
			var text strings.Builder
			text.WriteString(into)
			args := make([]any, 0, len(batch)*width)
			for n, row := range batch {
				text.WriteString([]string{" VALUES (", ", ("}[min(n, 1)])
				placeholders(&text, 1+n*width, width)
				text.WriteByte(')')
				args = append(args, row...)
			}
			if _, err := d.Exec(ctx, text.String(), args...); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *DB) insertEach(ctx context.Context, query string, rows [][]any) error {
	statement, err := ctx.Value(txKey{d}).(*sql.Tx).PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer statement.Close()
	for _, row := range rows {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return nil
}

// Placeholders writes $1, $2, …, $n, for a list whose length is known at run time only.
func Placeholders(n int) string {
	var b strings.Builder
	placeholders(&b, 1, n)
	return b.String()
}

func placeholders(b *strings.Builder, first, n int) {
	for i := first; i < first+n; i++ {
		if i > first {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i))
	}
}

// handOver lets whoever waits for SQLite's one writing connection run at once. The connection has just been given to the
// next in line, who would else sit in the queue of this processor until the present request, with signatures to compute,
// gives it up: a lock convoy, in which the connection idles for most of the time.
func (d *DB) handOver() {
	if d.engine == SQLite {
		runtime.Gosched()
	}
}

// Row is the single row of QueryRow.
type Row struct {
	db   *DB
	rows *sql.Rows
	err  error
}

// QueryRow runs a statement that returns at most one row that matters; Scan reports ErrNotFound if there is none.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) Row {
	rows, err := d.on(ctx, query).QueryContext(ctx, query, args...) //nolint:rowserrcheck // Scan checks and closes
	return Row{d, rows, err}
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
	err := r.rows.Close()
	r.db.handOver()
	return translate(err)
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

// on picks the transaction in ctx, else the pool for the kind of statement, on SQLite with the statement compiled.
// Transactions do without: two readings of one compiled statement on one connection would disturb each other.
func (d *DB) on(ctx context.Context, query string) querier {
	if tx, ok := ctx.Value(txKey{d}).(*sql.Tx); ok {
		return tx
	}
	pool := d.write
	if strings.HasPrefix(strings.TrimLeft(query, " \n\t"), "SELECT") {
		pool = d.read
	} else if ctx.Value(hastyKey{d}) != nil {
		pool = d.hasty
	}
	if d.engine == Postgres {
		return pool
	}
	if kept, ok := d.compiled.Load(query); ok {
		return compiled{kept.(*sql.Stmt)}
	}
	if d.count.Load() >= maxCompiled {
		return pool
	}
	fresh, err := pool.PrepareContext(ctx, query)
	if err != nil {
		return pool // which will meet the same error and report it
	}
	kept, raced := d.compiled.LoadOrStore(query, fresh)
	if raced {
		_ = fresh.Close() //nolint:sqlclosecheck // the other one is kept open for the life of the DB
	} else {
		d.count.Add(1)
	}
	return compiled{kept.(*sql.Stmt)}
}

// compiled is a querier for the one statement it was made of.
type compiled struct{ stmt *sql.Stmt }

// ExecContext implements querier.
func (c compiled) ExecContext(ctx context.Context, _ string, args ...any) (sql.Result, error) {
	return c.stmt.ExecContext(ctx, args...)
}

// QueryContext implements querier.
func (c compiled) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return c.stmt.QueryContext(ctx, args...)
}

// translate maps a driver's error to the package's own, so that no driver type leaves it.
func translate(err error) error {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnavailable, err) // it did not answer in time
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &pg):
		switch {
		case pg.Code == "23505":
			return ErrConflict
		case pg.Code == "23503":
			return ErrNotFound
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57"),
			strings.HasPrefix(pg.Code, "40"), pg.Code == "25006":
			// connection, resources, operator intervention, deadlock, a standby after a failover
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return fmt.Errorf("postgres: %w", err)
	case errors.As(err, &lite):
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return ErrConflict
		case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
			return ErrNotFound
		}
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return fmt.Errorf("sqlite: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err) // what is left comes from the connection itself
}
