//go:build packed

package ui

import _ "embed"

//go:embed files.zip
var archive []byte

var pageFiles = unpack(archive)
