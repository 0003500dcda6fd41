package repotest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range modulePackages(t) {
		if len(p.GoFiles) == 0 {
			continue // tests only: go list reads no comment there
		}
		base := p.ImportPath[strings.LastIndex(p.ImportPath, "/")+1:]
		starts := []string{"Package " + p.Name + " "}
		if p.Name == "main" {
			starts = []string{"Command " + base + " ", strings.ToUpper(base[:1]) + base[1:] + " "}
		}
		if !slices.ContainsFunc(starts, func(s string) bool { return strings.HasPrefix(p.Doc, s) }) {
			t.Errorf("%s: its package comment begins %.40q, want %q", p.ImportPath, p.Doc, starts[0])
		}
	}
}

// maxLines is where a file is to be taken apart.
const maxLines = 600

func TestFilesAreNotTooLong(t *testing.T) {
	files(t, ".go", func(path string, content []byte) {
		if n := bytes.Count(content, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, at most %d: take it apart", path, n, maxLines)
		}
	})
}

// A test that sleeps is slow where it waits too long and fails where it waits
// too little. Wait for a signal, or use virtual time: where a file runs in
// testing/synctest, sleeping is exact and takes no time.
func TestNoTestSleeps(t *testing.T) {
	files(t, "_test.go", func(path string, content []byte) {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, content, 0)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		virtual := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && !virtual && isName(sel.X, "time") && sel.Sel.Name == "Sleep" {
				t.Errorf("%s: a test sleeps", fset.Position(sel.Pos()))
			}
			return true
		})
	})
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// Nothing is announced for later in the code: it is built, or answers that it
// is not.
func TestNothingIsLeftForLater(t *testing.T) {
	words := [][]byte{[]byte("TO" + "DO"), []byte("FIX" + "ME"), []byte("XX" + "X:")}
	for _, suffix := range []string{".go", ".md", ".sh", "Makefile", ".ci/run"} {
		files(t, suffix, func(path string, content []byte) {
			for i, line := range bytes.Split(content, []byte("\n")) {
				for _, word := range words {
					if bytes.Contains(line, word) {
						t.Errorf("%s:%d: %s", path, i+1, word)
					}
				}
			}
		})
	}
}
