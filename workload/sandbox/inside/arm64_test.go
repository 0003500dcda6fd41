package inside

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCallsOfArm64: every system call that this package names in files of all
// architectures has a number on arm64 in golang.org/x/sys, and no two allowed or
// forbidden ones have the same. A build for arm64 would say the first, but nobody
// makes one here.
func TestCallsOfArm64(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatalf("where is golang.org/x/sys: %v", err)
	}
	numbers := callNumbers(t, filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_arm64.go"))
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_amd64.go") || strings.HasSuffix(file, "_test.go") {
			continue
		}
		seen := map[uint64]string{}
		for _, name := range callNames(t, file) {
			nr, ok := numbers[name]
			if !ok {
				t.Errorf("%s: %s has no number on arm64", file, name)
			}
			if other := seen[nr]; ok && other != "" && other != name {
				t.Errorf("%s: %s and %s are both %d", file, name, other, nr)
			}
			seen[nr] = name
			checked++
		}
	}
	if checked < 200 {
		t.Errorf("only %d names were found", checked)
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// callNames lists the unix.SYS_ names in a file.
func callNames(t *testing.T, file string) (names []string) {
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "SYS_") {
			names = append(names, s.Sel.Name)
		}
		return true
	})
	return names
}

// callNumbers reads the constants of a file of x/sys.
func callNumbers(t *testing.T, file string) map[string]uint64 {
	numbers := map[string]uint64{}
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			if nr, err := strconv.ParseUint(lit.Value, 10, 32); err == nil {
				numbers[spec.Names[0].Name] = nr
			}
		}
		return true
	})
	return numbers
}
