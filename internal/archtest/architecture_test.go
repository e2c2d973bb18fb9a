// Package archtest holds the lines of docs/architecture.md: who may import whom. It has no code of its own.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/gatehouse-id/gatehouse"
)

// rule forbids the packages under "deny" to the packages under "in", save those under "except". Packages of this module
// are named by their directory, others by import path; a name covers everything below it.
type rule struct {
	name             string
	in, except, deny []string
}

var rules = []rule{
	{name: "only oauth imports fosite", in: []string{"."}, except: []string{"oauth", "internal/oryx"}, deny: []string{"github.com/ory", "github.com/go-jose/go-jose/v3"}},
	{name: "only internal/db imports the engines", in: []string{"."}, except: []string{"internal/db"}, deny: []string{"github.com/jackc/pgx", "modernc.org/sqlite"}},
	{name: "only internal/cache imports Redis", in: []string{"."}, except: []string{"internal/cache"}, deny: []string{"github.com/redis/go-redis"}},
	{name: "only identity imports WebAuthn", in: []string{"."}, except: []string{"identity"}, deny: []string{"github.com/go-webauthn"}},
	{name: "nobody imports commands", in: []string{"."}, except: []string{"cmd"}, deny: []string{"cmd"}},
	{name: "oauth does not know ui", in: []string{"oauth"}, deny: []string{"ui"}},
	{name: "domain packages know no HTTP", in: []string{"identity", "consent", "keys"}, deny: []string{"net/http", "internal/web"}},
	{name: "domain packages do not know what stands on them", in: []string{"identity", "consent", "keys"}, deny: []string{"oauth", "ui"}},
	{name: "identity stands alone", in: []string{"identity"}, deny: []string{"consent", "keys"}},
	{name: "consent stands alone", in: []string{"consent"}, deny: []string{"identity", "keys"}},
	{name: "keys stand alone", in: []string{"keys"}, deny: []string{"identity", "consent"}},
	{name: "internal packages know none of the others", in: []string{"internal", "migrations"}, deny: []string{"identity", "consent", "keys", "oauth", "ui"}},
	{name: "no mocks, no assertion library", in: []string{"."}, deny: []string{"github.com/stretchr/testify", "go.uber.org/mock", "github.com/alicebob/miniredis"}},
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, spec := range f.ast.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				if under(f.dir, r.in) && !under(f.dir, r.except) && denied(imported, r.deny) {
					t.Errorf("%s imports %s: %s", f.path, imported, r.name)
				}
			}
		}
	}
}

// Whoever uses oauth must not come to depend on fosite: then it could no longer be replaced behind this one package.
func TestExportedNamesOfOAuthMentionNoFosite(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.dir != "oauth" || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		names := map[string]bool{}
		for _, spec := range f.ast.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if !denied(imported, []string{"github.com/ory", "github.com/go-jose/go-jose/v3"}) {
				continue
			}
			if spec.Name != nil {
				names[spec.Name.Name] = true
			} else {
				names[path.Base(imported)] = true
			}
		}
		for _, decl := range f.ast.Decls {
			for name, expr := range exportedTypes(decl) {
				ast.Inspect(expr, func(n ast.Node) bool {
					if sel, ok := n.(*ast.SelectorExpr); ok {
						if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] {
							t.Errorf("%s: %s mentions %s.%s", f.path, name, x.Name, sel.Sel.Name)
						}
					}
					return true
				})
			}
		}
	}
}

// exportedTypes gives the type expressions that a declaration shows to other packages, by the name they are shown under.
func exportedTypes(decl ast.Decl) map[string]ast.Node {
	out := map[string]ast.Node{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv.List[0].Type)) {
			out[d.Name.Name] = d.Type
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && s.Type != nil {
					out[s.Names[0].Name] = s.Type
				}
			case *ast.TypeSpec:
				if !s.Name.IsExported() {
					continue
				}
				fields, ok := s.Type.(*ast.StructType)
				if !ok {
					out[s.Name.Name] = s.Type
					continue
				}
				for _, field := range fields.Fields.List {
					if len(field.Names) == 0 {
						out[s.Name.Name] = field.Type
					} else if field.Names[0].IsExported() {
						out[s.Name.Name+"."+field.Names[0].Name] = field.Type
					}
				}
			}
		}
	}
	return out
}

func exportedReceiver(t ast.Expr) bool {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

type goFile struct {
	path, dir string
	ast       *ast.File
}

// goFiles reads every Go file of the repository, tests too, without function bodies' meaning: only the syntax counts.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "var" || name == "bin" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, goFile{path: rel, dir: path.Dir(rel), ast: parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func under(dir string, roots []string) bool {
	for _, r := range roots {
		if r == "." || dir == r || strings.HasPrefix(dir, r+"/") {
			return true
		}
	}
	return false
}

func denied(imported string, deny []string) bool {
	return under(strings.TrimPrefix(imported, module+"/"), deny)
}

// What a fuzz target begins with, and must never fail on again, lies beside it.
func TestEveryFuzzTargetHasACorpus(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, decl := range f.ast.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok || d.Recv != nil || !strings.HasPrefix(d.Name.Name, "Fuzz") || !strings.HasSuffix(f.path, "_test.go") {
				continue
			}
			corpus := path.Join(f.dir, "testdata/fuzz", d.Name.Name)
			if files, err := filepath.Glob(path.Join(root, corpus, "*")); err != nil || len(files) == 0 {
				t.Errorf("%s: %d files, %v", corpus, len(files), err)
			}
		}
	}
}
