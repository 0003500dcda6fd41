// Codestat counts the Go code in one folder and prints one line of JSON: files,
// lines, functions, the longest function, the most used identifiers. It is the
// program of the demo: built for wasip1 it runs in the wasm runner, built
// natively in the process runner.
//
//	GOOS=wasip1 GOARCH=wasm go build -o codestat.wasm ./examples/codestat
//	perrin map codestat.wasm -- "$(go env GOROOT)"/src/net/*/
//
// Usage: codestat [-deep] FOLDER. With -deep the folders below are counted too.
package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/examples/codestat/count"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main: it returns 0, 1 when the folder cannot be read and 2 when it is
// called in a wrong way.
func run(args []string, stdout, stderr io.Writer) int {
	deep := len(args) > 0 && args[0] == "-deep"
	if deep {
		args = args[1:]
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		io.WriteString(stderr, "usage: codestat [-deep] FOLDER\n")
		return 2
	}
	line, err := report(args[0], deep)
	if err == nil {
		_, err = stdout.Write(line)
	}
	if err != nil {
		io.WriteString(stderr, "error: "+err.Error()+"\n")
		return 1
	}
	return 0
}

// report returns the line that is printed for dir.
func report(dir string, deep bool) ([]byte, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, errors.New(dir + " is not a folder")
	}
	c := count.New(filepath.ToSlash(dir))
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && !deep:
			return fs.SkipDir
		case !d.Type().IsRegular() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		c.Add(filepath.ToSlash(rel), src)
		return err
	})
	if err != nil {
		return nil, err
	}
	stat := c.Stat()
	return append(stat.AppendJSON(nil), '\n'), nil
}
