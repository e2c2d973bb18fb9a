//go:build race

package e2e

// The server under test looks for races when the tests do.
var raceFlags = []string{"-race"}
