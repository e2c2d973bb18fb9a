// Package pack puts the files of the pages into the archive that small binaries embed.
package pack

import (
	"archive/zip"
	"compress/flate"
	"io"
	"io/fs"
)

// Folders are what package ui embeds.
var Folders = []string{"templates", "assets", "locale"}

// Write writes the folders of files to w. The same files give the same bytes (reproducible builds), so no times go in.
func Write(w io.Writer, files fs.FS) error {
	archive := zip.NewWriter(w)
	archive.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, folder := range Folders {
		err := fs.WalkDir(files, folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			f, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
			if err != nil {
				return err
			}
			_, err = f.Write(content)
			return err
		})
		if err != nil {
			return err
		}
	}
	return archive.Close()
}
