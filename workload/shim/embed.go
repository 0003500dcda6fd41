//go:build embedshim

package shim

import (
	"embed"
	"io"
)

//go:embed all:embedded
var folder embed.FS

// embedded opens the shim that this build carries.
func embedded() (io.ReadCloser, error) { return folder.Open("embedded/perrin-shim") }
