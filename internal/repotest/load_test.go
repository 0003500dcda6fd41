// Package repotest holds the repository to its own rules: who may import whom
// and why, what the pure packages keep away from, that every package says what
// it is for, that no test sleeps, and that what the documents tell a reader to
// type works. It has only tests.
package repotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/perrin-mesh/perrin"

// root is the repository's top folder, from this package's.
const root = "../.."

// listed is what `go list` says of one package. Paths inside the module are
// relative to it.
type listed struct {
	ImportPath   string
	Name         string
	Dir          string
	Doc          string
	Standard     bool
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// all is every package of the module, test imports included.
var all = sync.OnceValues(func() ([]listed, error) { return goList("./...") })

func modulePackages(t *testing.T) []listed {
	t.Helper()
	list, err := all()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func goList(args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-e", "-json"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + err.Error() + ": " + stderr.String())
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		p.ImportPath = inside(p.ImportPath)
		for _, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports, p.Deps} {
			for i := range imports {
				imports[i] = inside(imports[i])
			}
		}
		list = append(list, p)
	}
}

// inside strips the module's path and a slash; the root package is ".".
func inside(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// under reports whether a path matches a pattern: itself, or with "/..." it and
// everything below.
func under(path, pattern string) bool {
	dir, tree := strings.CutSuffix(pattern, "/...")
	return path == dir || tree && strings.HasPrefix(path, dir+"/")
}

func underAny(path string, patterns []string) bool {
	for _, p := range patterns {
		if under(path, p) {
			return true
		}
	}
	return false
}

// files calls f for every file of the repository that ends with suffix, with
// its path from the top and its content. What is built or hidden is left out.
func files(t *testing.T, suffix string, f func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") && name != ".ci" || name == "bin" || name == "dist") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, suffix) || !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil {
			rel, _ := filepath.Rel(root, path)
			f(filepath.ToSlash(rel), content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
