// Gen writes ui/files.zip for binaries built with the tag "packed". Run it from the root of the module, as "make build" does.
package main

import (
	"bytes"
	"log"
	"os"

	"github.com/gatehouse-id/gatehouse/ui/internal/pack"
)

func main() {
	log.SetFlags(0)
	var archive bytes.Buffer
	if err := pack.Write(&archive, os.DirFS("ui")); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("ui/files.zip", archive.Bytes(), 0o644); err != nil { //nolint:gosec // everybody may read what every binary holds
		log.Fatal(err)
	}
}
