package audit

import "testing"

// A checkpoint that lies outside the server has one spelling, so that what was signed is what is read.
func FuzzCheckpoint(f *testing.F) {
	f.Add("gatehouse/audit\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nat 2030-01-02T03:04:05Z\nkept since 0001-01-01T00:00:00Z\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCheckpoint(text); err == nil && (c.text() != text || c.N < 0) {
			t.Errorf("%q is taken for %+v", text, c)
		}
	})
}
