package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-id/gatehouse/identity"
)

// Prefixes of keys that are put together at run time; each is followed by one of a known set.
var builtKeys = []string{
	"account.passkeys.", "strength.", "activity.", "scope.", "span.", "when.month.", "claim.", "account.done.", "account.sessions.", "account.apps.", "account.codes.", "when.minutes.", "account_profile.group.", "account_preferences.theme.",
}

// TestTextsCompleteAndUsed reads every template and every Go string for the keys they use.
func TestTextsCompleteAndUsed(t *testing.T) {
	t.Parallel()
	all, err := loadTexts(pageFiles, "locale/en") // TestLanguagesComplete compares the others with it
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]string{}
	call := regexp.MustCompile(`\(?\bt "([^"]+)"`)
	files, err := fs.Glob(pageFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, err := fs.ReadFile(pageFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(raw), -1) {
			used[m[1]] = name
		}
		if base := strings.TrimSuffix(filepath.Base(name), ".html"); all[base+".title"] != "" {
			used[base+".title"] = name
		}
	}
	for _, key := range identity.Keys() {
		used[key] = "identity.Keys"
	}
	for file, literals := range stringsInGo(t) {
		for _, s := range literals {
			if _, ok := all[s]; ok {
				used[s] = file
			}
			for _, part := range []string{".text", ".do", ".next", ".subject", ".after"} { // of an error page or a mail
				if _, ok := all[s+part]; ok {
					used[s+part] = file
				}
				if _, ok := all["mail."+s+part]; ok {
					used["mail."+s+part] = file
				}
			}
		}
	}
	for key, where := range used {
		if _, ok := all[key]; !ok {
			t.Errorf("%s uses the text %q, which no locale file has", where, key)
		}
	}
	for key, s := range all {
		built := slices.ContainsFunc(builtKeys, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		if used[key] == "" && !built {
			t.Errorf("nothing uses the text %q", key)
		}
		if strings.TrimSpace(s) != s || s == "" {
			t.Errorf("text %q is empty or has space around it", key)
		}
	}
}

// stringsInGo collects the string literals of this package and of those whose keys it shows.
func stringsInGo(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, dir := range []string{".", "../oauth"} {
		names, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						found[name] = append(found[name], s)
					}
				}
				return true
			})
		}
	}
	return found
}
