package repotest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// compiled is a package that goes into a binary, with the files that its build tags choose.
type compiled struct {
	ImportPath, Dir string
	Standard        bool
	Module          *struct{ Path string }
	GoFiles         []string
	CgoFiles        []string
}

// compiledInto lists what a build of ./cmd/perrin with some tags is made of.
func compiledInto(t *testing.T, tags string) (list []compiled) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags", tags, "-json=ImportPath,Dir,Standard,Module,GoFiles,CgoFiles", "./cmd/perrin")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p compiled
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// makesFakes is how folders are called that make up machines: ours for tests, the
// simulators and fakes of go-tpm-tools, go-sev-guest, go-tdx-guest and configfs-tsm.
var makesFakes = regexp.MustCompile(`(?i)^(\w*test|testing|testdata|\w*fake\w*|\w*simulator|mssim|swtpm)$`)

func fakes(element string) bool { return element != "attest" && makesFakes.MatchString(element) }

// areNone are packages of such a name that make up no machine.
var areNone = map[string]string{
	"testing":           "perrin sim runs whole nodes in virtual time",
	"testing/synctest":  "as above",
	"internal/synctest": "as above",
	"github.com/pion/ice/v4/internal/fakenet": "WebRTC's packet connections",
}

// TestNoFakeLevelInTheBinary holds, of the very files that a release and a build for
// measurements are made of, that no package in them makes up a machine, that nothing
// names the verifiers that take another maker's root but where they are declared, and
// that nothing reaches a function past its name.
func TestNoFakeLevelInTheBinary(t *testing.T) {
	for _, tags := range []string{"embedshim", "embedshim,perrin_unsigned"} {
		parsed, declared := 0, 0
		for _, p := range compiledInto(t, tags) {
			if areNone[p.ImportPath] == "" && slices.ContainsFunc(strings.Split(p.ImportPath, "/"), fakes) {
				t.Errorf("%s: the binary has %s", tags, p.ImportPath)
			}
			if p.Standard || p.Module == nil || p.Module.Path != "github.com/perrin-mesh/perrin" {
				continue
			}
			for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
				parsed++
				declared += fakeless(t, filepath.Join(p.Dir, name))
			}
		}
		if parsed < 300 || declared != 2 {
			t.Errorf("%s: %d files, in which VerifyBelow is declared %d times, want 2", tags, parsed, declared)
		}
	}
}

// fakeless checks one file, and returns how often it declares VerifyBelow.
func fakeless(t *testing.T, file string) (declared int) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	ast.Inspect(tree, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.FuncDecl:
			if x.Name.Name == "VerifyBelow" && x.Recv == nil {
				declared++
			}
		case *ast.Ident:
			if x.Name == "VerifyBelow" {
				used++
			}
		case *ast.KeyValueExpr:
			if key, ok := x.Key.(*ast.Ident); ok && key.Name == "appraise" {
				t.Errorf("%s sets who appraises", file)
			}
		case *ast.AssignStmt:
			for _, left := range x.Lhs {
				if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == "appraise" {
					t.Errorf("%s sets who appraises", file)
				}
			}
		case *ast.Comment:
			if strings.HasPrefix(x.Text, "//go:linkname") {
				t.Errorf("%s: %s", file, x.Text)
			}
		}
		return true
	})
	if used != declared {
		t.Errorf("%s calls VerifyBelow, which takes another maker's root", file)
	}
	return declared
}
