//go:build !embedshim

package shim

import (
	"errors"
	"io"
)

var errNotEmbedded = errors.New("built without the embedshim tag")

// embedded says that this build carries no program.
func embedded(string) (io.ReadCloser, error) { return nil, errNotEmbedded }
