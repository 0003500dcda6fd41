// Package scenarios is the gallery: scenarios that ship with the simulator, each a
// question with an answer in a minute or so, and an example to start one's own from.
package scenarios

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Names lists the gallery, sorted.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // they are in the binary
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Read returns the file of a scenario of the gallery.
func Read(name string) ([]byte, error) {
	data, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("the gallery has no scenario %.60q: %w", name, fs.ErrNotExist)
	}
	return data, nil
}
