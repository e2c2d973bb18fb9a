package ui

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-id/gatehouse/ui/internal/pack"
)

// TestPackedPages compares the archive of a release with the files it is made of.
func TestPackedPages(t *testing.T) {
	t.Parallel()
	var one, two bytes.Buffer
	for _, w := range []*bytes.Buffer{&one, &two} {
		if err := pack.Write(w, pageFiles); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same files give two archives")
	}
	want, got := contents(t, pageFiles), contents(t, unpack(one.Bytes()))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("files in the archive (-want +got):\n%s", diff)
	}
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s differs in the archive", name)
		}
	}
	pages, err := parseTemplates(unpack(one.Bytes()), (&Pages{}).functions(&locale{}))
	if err != nil || pages["login"] == nil {
		t.Errorf("templates of the archive: %v", err)
	}
}

func contents(t *testing.T, files fs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, folder := range pack.Folders {
		err := fs.WalkDir(files, folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := fs.ReadFile(files, name)
			all[name] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
