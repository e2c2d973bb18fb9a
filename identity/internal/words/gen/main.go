// Gen writes the word list of package words and the time zone names of package identity. Run it by "go generate ./identity/...".
//
// Sources: the breached passwords of the npm package @zxcvbn-ts/language-common 3.0.4 (MIT; fetched by npm and compared with
// its published digest), the English words and names of github.com/ccojocar/zxcvbn-go (MIT), and the zone names of the Go
// distribution (public domain).
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go/frequency"

	"github.com/gatehouse-id/gatehouse/identity/internal/words"
)

const (
	source = "@zxcvbn-ts/language-common@3.0.4"
	digest = "viSNNnRYtc7ULXzxrQIVUNwHAPSXRtoIwy/Tq4XQQdIknBzw4vz36lQLF6mvhMlTIlpjoN/Z1GFu/fwiAlUSsw==" // SHA-512
	file   = "package/dist/passwords.json.js"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	passwords, err := leaked()
	if err != nil {
		return fmt.Errorf("breached passwords: %w", err)
	}
	if err := os.WriteFile("words.bin", build(passwords), 0o644); err != nil { //nolint:gosec // a source file
		return err
	}
	zones, err := zoneNames()
	if err != nil {
		return fmt.Errorf("time zones: %w", err)
	}
	return os.WriteFile("../../zones.txt", []byte(strings.Join(zones, "\n")+"\n"), 0o644) //nolint:gosec // a source file
}

// build sorts the words into tiers, the earliest tier winning, and packs their hashes.
func build(passwords []string) []byte {
	tiers := map[uint64]words.Tier{}
	add := func(t words.Tier, list []string) {
		for _, w := range list {
			w = strings.ToLower(w)
			if n := utf8.RuneCountInString(w); n < words.Shortest || n > words.Longest {
				continue
			}
			key := words.Of(w).Key()
			if old, ok := tiers[key]; !ok || t < old {
				tiers[key] = t
			}
		}
	}
	english, surnames := frequency.Lists["English"].List, frequency.Lists["Surname"].List
	add(words.Commonest, english[:100])
	add(words.Common, passwords[:1000])
	add(words.Common, english[100:1000])
	add(words.Common, []string{"gatehouse"})
	add(words.Known, passwords)
	add(words.Known, frequency.Lists["Passwords"].List)
	add(words.Known, frequency.Lists["MaleNames"].List)
	add(words.Known, frequency.Lists["FemaleNames"].List)
	add(words.Listed, english)
	add(words.Listed, surnames[:10000])

	entries := make([]uint64, 0, len(tiers))
	for key, t := range tiers {
		entries = append(entries, key<<2|uint64(t))
	}
	slices.Sort(entries)
	var out bytes.Buffer
	for _, e := range entries {
		out.Write([]byte{byte(e >> 32), byte(e >> 24), byte(e >> 16), byte(e >> 8), byte(e)}) //nolint:gosec // the five low bytes, one by one
	}
	return out.Bytes()
}

// leaked gives the breached passwords, the commonest first.
func leaked() ([]string, error) {
	dir, err := os.MkdirTemp("", "words")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name, err := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, source).Output() //nolint:gosec // source is a constant
	if err != nil {
		return nil, fmt.Errorf("npm pack: %w", err)
	}
	archive, err := os.ReadFile(filepath.Join(dir, filepath.Base(strings.TrimSpace(string(name)))))
	if err != nil {
		return nil, err
	}
	if sum := sha512.Sum512(archive); base64.StdEncoding.EncodeToString(sum[:]) != digest {
		return nil, errors.New(source + " is not the file it was")
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if h.Name != file {
			continue
		}
		text, err := io.ReadAll(files)
		if err != nil {
			return nil, err
		}
		// The file is a program: var x = "one,two,three".split(",")
		_, rest, ok := strings.Cut(string(text), `"`+"123456,")
		joined, _, closed := strings.Cut(rest, `".split`)
		if !ok || !closed {
			return nil, errors.New(file + " has another shape")
		}
		return strings.Split("123456,"+joined, ","), nil
	}
}

func zoneNames() ([]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	var names []string
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, "/") && f.Name != "Factory" {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
