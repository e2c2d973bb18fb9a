package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the release build with -ldflags "-X main.version=1.2.3".
var version = "dev"

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(t *terminal) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	return t.print(map[string]string{"version": version, "commit": commit, "go": runtime.Version()}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "gatehouse %s (commit %s, %s)\n", version, commit, runtime.Version())
	})
}
