// Package scenarios is the gallery: scenarios, and experiments for a sweep, that
// ship with the simulator. Each is a question with an answer in a minute or so, but
// for those of very many peers, and an example to start one's own from.
package scenarios

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.yaml experiments/*.yaml
var files embed.FS

// Names lists the scenarios of the gallery, sorted.
func Names() []string { return names(".") }

// Experiments lists the experiments of the gallery, sorted.
func Experiments() []string { return names("experiments") }

func names(dir string) []string {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(err) // they are in the binary
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Read returns the file of a scenario of the gallery. The error wraps
// fs.ErrNotExist.
func Read(name string) ([]byte, error) { return read("scenario", name, name+".yaml") }

// ReadExperiment returns the file of an experiment of the gallery. The error wraps
// fs.ErrNotExist.
func ReadExperiment(name string) ([]byte, error) {
	return read("experiment", name, "experiments/"+name+".yaml")
}

func read(what, name, path string) ([]byte, error) {
	data, err := files.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the gallery has no %s %.60q: %w", what, name, fs.ErrNotExist)
	}
	return data, nil
}
