package archtest

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// small are the tables that do not grow with people, and may be read whole.
var small = map[string]string{
	"audit_head":      "one row",
	"secrets":         "a handful of rows",
	"signing_keys":    "a few rows a year",
	"encryption_keys": "a few rows a year",
	"event_streams":   "at most one for each app",
	"attributes":      "those that an operator has defined, which are bounded",
	"providers":       "as many as there are other places to sign in",
	"client_hosts":    "one for each decision of an operator",
}

// whole are the statements that read a large table to its end, and why they may.
var whole = map[string]string{
	"SELECT DISTINCT date_trunc('month', at, 'UTC') FROM audit_default": "holds what came before its month had a partition, which is nothing",
	"INSERT INTO audit SELECT * FROM audit_default":                     "as above",
	"DELETE FROM audit_default":                                         "as above",
	"SELECT size, at, note FROM audit_checkpoints ORDER BY size, at":    "gatehouse audit verify looks at all of them",
	"SELECT user_id, wrapped FROM data_keys":                            "gatehouse backup keys writes all of them",
	"SELECT u.id, u.created_at FROM users u WHERE NOT EXISTS (SELECT 1 FROM data_keys k WHERE k.user_id = u.id) ORDER BY u.id": "gatehouse restore keys, after it",
}

// completed tells what a place that puts a statement together at run time makes of it: an example of each kind.
var completed = map[string][]string{
	"cmd/gatehouse/bench.go run":                 {},                                                // VACUUM
	"internal/audit/retention.go dropPartitions": {},                                                // ALTER and DROP TABLE
	"internal/audit/retention.go makePartition":  {},                                                // CREATE TABLE
	"internal/audit/tree.go insert":              {},                                                // INSERT of values
	"internal/seal/reseal.go Reseal":             {},                                                // the texts are found where they stand
	"identity/import.go against":                 {`SELECT id FROM users WHERE id IN ($1, $2, $3)`}, // the others are found where they stand
	"identity/role.go role":                      {`SELECT r.name FROM roles r WHERE r.id = $1`, `SELECT r.name FROM roles r WHERE r.name_key = $1`},
	"identity/upstream.go endWhere":              {},
	"oauth/grants.go Poll": {
		`UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL AND session_id = $2`,
		`UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL AND user_id = $2 AND created_at <= $3`,
		`UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL AND user_id = $2 AND created_at <= $3 AND client_id = $4`,
		`UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL AND session_id = id AND user_id = $2 AND created_at <= $3`,
	},
	"oauth/outbox.go Retry": {
		`UPDATE deliveries SET status = 'waiting', attempts = 0, due_at = $1, done_at = NULL WHERE status = 'failed'`,
		`UPDATE deliveries SET status = 'waiting', attempts = 0, due_at = $1, done_at = NULL WHERE status = 'failed' AND client_id = $2`,
	},
}

// A query without an index is fast in a test and slow with a million people. This takes every statement in the sources, has
// Postgres plan it with sequential scans ruled out where there is any other way, and fails on those that are left.
func TestEveryQueryHasAnIndex(t *testing.T) {
	t.Parallel()
	pool := dbtest.OpenPostgres(t)
	conn, err := pool.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, set := range []string{
		"SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan",
		// The tables are empty, and nearly empty ones are joined by reading them whole.
		"SET enable_hashjoin = off", "SET enable_mergejoin = off", "SET work_mem = '64kB'", "SET hash_mem_multiplier = 1",
	} {
		if _, err := conn.ExecContext(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	// Enough people that Postgres does not rather keep all passkeys in a hash.
	for _, fill := range []string{
		`INSERT INTO users (id, email_index, email, email_verified, password_hash, must_change_password, role, status, created_at, updated_at)
			SELECT 'u' || n, CAST('u' || n AS BYTEA), '', TRUE, '', FALSE, 'user', 'active', now(), now() FROM generate_series(1, 5000) AS n`,
		`INSERT INTO passkeys (id, user_id, credential_hash, sealed, sign_count, created_at)
			SELECT 'p' || n, 'u' || n, CAST('p' || n AS BYTEA), '', 0, now() FROM generate_series(1, 5000) AS n`,
		`ANALYZE users, passkeys`,
	} {
		if _, err := conn.ExecContext(t.Context(), fill); err != nil {
			t.Fatal(err)
		}
	}
	partial := partialIndexes(t, conn)
	statements, built := statements(t)
	for _, where := range built {
		if _, ok := completed[where]; !ok {
			t.Errorf("%s: a statement is put together at run time: give an example of it in completed", where)
		}
	}
	for where := range completed {
		if !slices.Contains(built, where) {
			t.Errorf("completed has %q in vain", where)
		}
	}
	for where, examples := range completed {
		for _, text := range examples {
			statements[text] = where
		}
	}
	used := map[string]bool{}
	for _, text := range slices.Sorted(maps.Keys(statements)) {
		plan, err := explain(t, conn, text)
		if err != nil {
			t.Errorf("%s: %v\n%s", statements[text], err, text)
			continue
		}
		for _, scan := range plan.scans(partial, false) {
			if used[scan.Relation], used[text] = true, true; small[scan.Relation] == "" && whole[text] == "" {
				t.Errorf("%s: %s\n%s", statements[text], scan, text)
			}
		}
	}
	for table := range small {
		if !used[table] {
			t.Errorf("%s is never read whole: take it from the list", table)
		}
	}
	for text := range whole {
		if !used[text] {
			t.Errorf("the exception is of no use: %s", text)
		}
	}
	if len(statements) < 100 {
		t.Errorf("only %d statements were found", len(statements))
	}
}

// A row that is deleted takes those that refer to it along: without an index Postgres reads their table to its end for each.
func TestEveryReferenceHasAnIndex(t *testing.T) {
	t.Parallel()
	d := dbtest.OpenPostgres(t)
	err := d.Query(t.Context(), func(row db.Scanner) error {
		var table, constraint string
		err := row.Scan(&table, &constraint)
		t.Errorf("%s: %s has no index that begins with its column", table, constraint)
		return err
	}, `SELECT CAST(CAST(c.conrelid AS regclass) AS text), c.conname FROM pg_constraint c WHERE c.contype = 'f' AND NOT EXISTS (
		SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND i.indkey[0] = c.conkey[1])`)
	if err != nil {
		t.Fatal(err)
	}
}

func partialIndexes(t *testing.T, conn *sql.Conn) map[string]bool {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), `SELECT CAST(CAST(indexrelid AS regclass) AS text) FROM pg_index WHERE indpred IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		out[name] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// node is a step of a plan.
type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Cond     string `json:"Index Cond"`
	Plans    []node `json:"Plans"`
}

func (n node) String() string { return fmt.Sprintf("%s on %s %s", n.Type, n.Relation, n.Index) }

// scans gives the steps that read a table or an index from end to end. A step under a LIMIT that follows the order of an index stops
// early, and a partial index holds little.
func (n node) scans(partial map[string]bool, limited bool) (out []node) {
	switch n.Type {
	case "Seq Scan":
		out = append(out, n)
	case "Index Scan", "Index Only Scan":
		if n.Cond == "" && !limited && !partial[n.Index] {
			out = append(out, n)
		}
	case "Bitmap Index Scan":
		if n.Cond == "" && !partial[n.Index] {
			out = append(out, n)
		}
	case "Bitmap Heap Scan":
		for i := range n.Plans {
			n.Plans[i].Relation = n.Relation
		}
	case "Limit":
		limited = true
	case "Sort", "Aggregate", "Hash", "HashAggregate": // need all of what is below
		limited = false
	}
	for _, p := range n.Plans {
		out = append(out, p.scans(partial, limited)...)
	}
	return out
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

func explain(t *testing.T, conn *sql.Conn, text string) (node, error) {
	t.Helper()
	most := 0
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		most = max(most, n)
	}
	if _, err := conn.ExecContext(t.Context(), "PREPARE looked_at AS "+text); err != nil {
		return node{}, err
	}
	defer func() { _, _ = conn.ExecContext(t.Context(), "DEALLOCATE looked_at") }()
	call := "EXPLAIN (FORMAT JSON) EXECUTE looked_at"
	if most > 0 {
		call += "(" + strings.TrimSuffix(strings.Repeat("NULL,", most), ",") + ")"
	}
	var raw []byte
	if err := conn.QueryRowContext(t.Context(), call).Scan(&raw); err != nil {
		return node{}, err
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(raw, &plans); err != nil || len(plans) != 1 {
		return node{}, fmt.Errorf("plan %s: %w", raw, err)
	}
	return plans[0].Plan, nil
}

var (
	sqlStart = regexp.MustCompile(`^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s`)
	// An INSERT to which rows of values are added at run time reads nothing.
	valuesFollow = regexp.MustCompile(`^\s*INSERT INTO \w+ \([^()]*\)(\s*VALUES)?\s*$`)
	// A condition to which a list is added.
	listFollows = regexp.MustCompile(`\sWHERE \w+$`)
)

// statements gives the SQL texts in the sources of what runs in production, each with a place where it stands, and the places where
// a statement is put together at run time.
func statements(t *testing.T) (texts map[string]string, built []string) {
	t.Helper()
	texts = map[string]string{}
	add := func(text, where string) {
		if !sqlStart.MatchString(text) || valuesFollow.MatchString(text) {
			return
		}
		if listFollows.MatchString(text) {
			text += " IN ($1, $2, $3)"
		}
		texts[text] = where
	}
	files := slices.DeleteFunc(goFiles(t), func(f goFile) bool {
		return strings.HasSuffix(f.path, "_test.go") || under(f.dir, []string{"bench", "e2e", "internal/db", "migrations", "tools"})
	})
	constants := map[string]ast.Expr{} // by directory and name
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					spec := spec.(*ast.ValueSpec)
					for i, name := range spec.Names {
						if i < len(spec.Values) {
							constants[f.dir+"."+name.Name] = spec.Values[i]
						}
					}
				}
			}
			return true
		})
	}
	for _, f := range files {
		for _, d := range f.ast.Decls {
			where := f.path
			if fn, ok := d.(*ast.FuncDecl); ok {
				where += " " + fn.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					for i, arg := range n.Args {
						text, ok := fold(arg, f.dir, constants)
						if ok {
							add(text, where)
						} else if isQuery(n, i) && !isParameter(arg, d) {
							built = append(built, where)
						}
					}
				case *ast.AssignStmt, *ast.CompositeLit: // a text that is kept for later
					ast.Inspect(n, func(inner ast.Node) bool {
						if e, ok := inner.(ast.Expr); ok {
							if text, ok := fold(e, f.dir, constants); ok {
								add(text, where)
								return false
							}
						}
						_, call := inner.(*ast.CallExpr)
						return !call
					})
				}
				return true
			})
		}
	}
	slices.Sort(built)
	return texts, slices.Compact(built)
}

// isQuery tells whether the ith argument of a call is the text of a statement, as internal/db takes it.
func isQuery(call *ast.CallExpr, i int) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch method.Sel.Name {
	case "Exec", "QueryRow":
		return i == 1
	case "Query":
		return i == 2
	}
	return false
}

// isParameter tells whether e is a parameter of the function: then the text stands where the function is called.
func isParameter(e ast.Expr, d ast.Decl) bool {
	name, ok := e.(*ast.Ident)
	f, isFunc := d.(*ast.FuncDecl)
	if !ok || !isFunc {
		return false
	}
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name.Name {
				return true
			}
		}
	}
	return false
}

// fold computes a constant string.
func fold(e ast.Expr, dir string, constants map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.ParenExpr:
		return fold(e.X, dir, constants)
	case *ast.BinaryExpr:
		left, ok1 := fold(e.X, dir, constants)
		right, ok2 := fold(e.Y, dir, constants)
		return left + right, ok1 && ok2 && e.Op == token.ADD
	case *ast.Ident:
		if value, ok := constants[dir+"."+e.Name]; ok {
			return fold(value, dir, constants)
		}
	}
	return "", false
}
