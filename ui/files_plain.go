//go:build !packed

package ui

import (
	"embed"
	"io/fs"
)

//go:embed all:templates assets locale
var embedded embed.FS

var pageFiles fs.FS = embedded
