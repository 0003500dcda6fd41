//go:build embedshim

package shim

import (
	"embed"
	"io"
)

//go:embed all:embedded
var folder embed.FS

// embedded opens a program that this build carries.
func embedded(name string) (io.ReadCloser, error) { return folder.Open("embedded/" + name) }
