package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A setting that README.md does not name is one nobody finds; one it names in vain, or twice, or otherwise than
// `gatehouse serve --help`, sends people astray.
func TestReadmeNamesEverySetting(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile(filepath.Join(root, "cmd", "gatehouse", "config.go"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		field    = regexp.MustCompile("`.*env:\"(GATEHOUSE_[A-Z_]+)\".*`")
		preset   = regexp.MustCompile(`default:"([^"]*)"`)
		help     = regexp.MustCompile(`help:"((?:[^"\\]|\\.)*)"`)
		bracket  = regexp.MustCompile(`^(.*) \[(.*)\]$`)
		flag     = regexp.MustCompile(`--[a-z][a-z-]*`)
		variable = strings.NewReplacer("--", "GATEHOUSE_", "-", "_")
	)
	var want []string
	for _, m := range field.FindAllSubmatch(code, -1) {
		meaning, normal := "", ""
		if h := help.FindSubmatch(m[0]); h != nil {
			meaning = strings.ReplaceAll(string(h[1]), `\"`, `"`)
		}
		if b := bracket.FindStringSubmatch(meaning); b != nil {
			meaning, normal = b[1], b[2]
		}
		if d := preset.FindSubmatch(m[0]); d != nil {
			normal = strings.ReplaceAll(normal, "${default}", string(d[1]))
		}
		row := "| " + string(m[1]) + " | " + normal + " | " + meaning + " |"
		want = append(want, flag.ReplaceAllStringFunc(row, func(f string) string { return strings.ToUpper(variable.Replace(f)) }))
	}
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `GATEHOUSE_.*$").FindAllString(string(readme), -1) {
		got = append(got, strings.ReplaceAll(row, "`", ""))
	}
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("README.md lacks this row, or tells it otherwise than the help of serve (without backquotes):\n%s", row)
		}
	}
	for i, row := range got {
		if !slices.Contains(want, row) {
			t.Errorf("README.md has a row that the help of serve does not have:\n%s", row)
		} else if slices.Contains(got[:i], row) {
			t.Errorf("README.md has this row twice:\n%s", row)
		}
	}
	if len(want) == 0 {
		t.Error("no settings were found in cmd/gatehouse/config.go")
	}
}
