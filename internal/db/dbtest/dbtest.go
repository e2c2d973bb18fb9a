// Package dbtest runs a store test on both engines, each time on an empty, migrated database.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/migrations"
)

// Each runs f as subtests "sqlite" and "postgres". Postgres comes from GATEHOUSE_TEST_POSTGRES (a URL whose role may
// create databases); without it the test fails, because a store that was tried on one engine only was not tried.
func Each(t *testing.T, f func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, OpenSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, OpenPostgres(t)) })
}

// OpenSQLite gives a migrated SQLite database that ends with the test.
func OpenSQLite(t testing.TB) *db.DB {
	t.Helper()
	return open(t, SQLiteURL(t))
}

// OpenPostgres gives a migrated Postgres database that ends with the test.
func OpenPostgres(t testing.TB) *db.DB {
	t.Helper()
	return open(t, PostgresURL(t))
}

// SQLiteURL names an empty SQLite database, for tests that start the whole binary.
func SQLiteURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
}

// PostgresURL creates an empty Postgres database that is dropped at the end of the test.
func PostgresURL(t testing.TB) string {
	t.Helper()
	base := os.Getenv("GATEHOUSE_TEST_POSTGRES")
	if base == "" {
		t.Fatal("GATEHOUSE_TEST_POSTGRES is not set: run the tests with `make test`, which starts a private Postgres")
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("GATEHOUSE_TEST_POSTGRES: %v", err)
	}
	admin, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	name := "t_" + strings.ToLower(rand.Text())
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		_, _ = admin.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		_ = admin.Close()
	})
	u.Path = "/" + name
	return u.String()
}

func open(t testing.TB, dsn string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), dsn)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = d.Close() })
	Migrate(t, d)
	return d
}

// Migrate brings a database that the test opened itself up to date.
func Migrate(t testing.TB, d *db.DB) {
	t.Helper()
	if _, err := migrations.Apply(t.Context(), d.Engine(), d.SQL()); err != nil {
		t.Fatalf("migrate: %v", err)
	}
}
