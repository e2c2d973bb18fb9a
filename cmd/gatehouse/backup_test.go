package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// program finds one of Postgres's programs, which Debian keeps out of PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	slices.Sort(found)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install Postgres", err)
	}
	return path
}

// The backups of docs/operating.md, taken and brought back as it says, on both engines: who was erased between the two is not
// there any more, everybody else is.
func TestAttackRestoringTheErased(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			main, keys := filepath.Join(dir, "backup"), filepath.Join(dir, "keys")
			env := map[string]string{"GATEHOUSE_MASTER_KEY_FILE": filepath.Join(dir, "master.key"), "GATEHOUSE_DATABASE_URL": dbtest.SQLiteURL(t)}
			if engine == "postgres" {
				env["GATEHOUSE_DATABASE_URL"] = dbtest.PostgresURL(t)
			}
			must := func(args ...string) string {
				t.Helper()
				code, stdout, stderr := try(t, env, args...)
				if code != exitOK {
					t.Fatalf("%s: %s", strings.Join(args, " "), stderr)
				}
				return stdout
			}
			must("migrate")
			var ada userRecord
			if err := json.Unmarshal([]byte(must("user", "create", "--email", "ada@example.test", "--json")), &ada); err != nil {
				t.Fatal(err)
			}
			must("user", "create", "--email", "bob@example.test")
			d, err := db.Open(t.Context(), env["GATEHOUSE_DATABASE_URL"])
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if _, err := d.Exec(t.Context(), `UPDATE users SET created_at = $1`, db.At(time.Now().Add(-24*time.Hour))); err != nil {
				t.Fatal(err)
			}
			if engine == "sqlite" {
				must("backup", "database", main)
			} else if out, err := exec.Command(program(t, "pg_dump"), "--exclude-table-data=data_keys", "--no-owner", "--file", main, env["GATEHOUSE_DATABASE_URL"]).CombinedOutput(); err != nil { //nolint:gosec // a fixed program
				t.Fatalf("%v: %s", err, out)
			}
			must("backup", "keys", keys) // an older one, in whose place the next comes
			must("user", "erase", "--now", "ada@example.test")
			must("backup", "keys", keys)
			if raw, err := os.ReadFile(keys); err != nil || bytes.Contains(raw, []byte(ada.ID)) || bytes.Count(raw, []byte("user_id")) != 1 {
				t.Fatalf("%v; the keys after the erasure: %s", err, raw)
			}

			// The machine is lost.
			if engine == "sqlite" {
				env["GATEHOUSE_DATABASE_URL"] = "sqlite:" + main
			} else {
				env["GATEHOUSE_DATABASE_URL"] = dbtest.PostgresURL(t)
				if out, err := exec.Command(program(t, "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--file", main, env["GATEHOUSE_DATABASE_URL"]).CombinedOutput(); err != nil { //nolint:gosec // a fixed program
					t.Fatalf("%v: %s", err, out)
				}
			}
			if list := must("user", "list"); strings.Contains(list, "@") {
				t.Errorf("without keys the backup opens:\n%s", list)
			}
			var r restoredRecord
			if err := json.Unmarshal([]byte(must("restore", "keys", keys, "--json")), &r); err != nil {
				t.Fatal(err)
			}
			if r.Keys != 1 || !slices.Equal(r.Erased, []string{ada.ID}) || len(r.TooNew) > 0 {
				t.Errorf("restored %+v, want one key, and one person erased again", r)
			}
			if list := must("user", "list"); !strings.Contains(list, "bob@example.test") || strings.Contains(list, "ada@") || strings.Contains(list, ada.ID) {
				t.Errorf("accounts after all:\n%s", list)
			}
			if out := must("user", "erase", "--now", ada.ID); !strings.Contains(out, "is gone") {
				t.Errorf("the erased person: %s", out)
			}
		})
	}
}
