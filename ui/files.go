package ui

import (
	"archive/zip"
	"bytes"
	"io/fs"
)

// pageFiles are the folders templates, assets and locale. files_plain.go embeds them as they are; files_packed.go, in binaries
// that "make build" makes, as an archive a quarter as large.

// unpack opens an archive that package pack wrote. A broken one is a broken build.
func unpack(archive []byte) fs.FS {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		panic("the pages of this binary are damaged: " + err.Error())
	}
	return r
}
