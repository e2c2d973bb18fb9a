package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A setting that README.md does not name is one nobody finds; one it names in vain sends people astray.
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
	settings, named := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`env:"(GATEHOUSE_[A-Z_]+)"`).FindAllSubmatch(code, -1) {
		settings[string(m[1])] = true
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(GATEHOUSE_[A-Z_]+)` \\|").FindAllSubmatch(readme, -1) {
		named[string(m[1])] = true
	}
	for s := range settings {
		if !named[s] {
			t.Errorf("README.md has no row for %s", s)
		}
	}
	for s := range named {
		if !settings[s] {
			t.Errorf("README.md has a row for %s, which is no setting", s)
		}
	}
	if len(settings) == 0 {
		t.Error("no settings were found in cmd/gatehouse/config.go")
	}
}
