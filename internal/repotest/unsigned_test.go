package repotest

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// benchTag is the build tag under which signatures can be left out, for internal/bench.
const benchTag = "perrin_unsigned"

// TestNoBuildForUseLeavesSignaturesOut: without the tag the answer is a constant no,
// nothing else asks for the tag, and cmd/perrin does not compile with it.
func TestNoBuildForUseLeavesSignaturesOut(t *testing.T) {
	var tagged []string
	files(t, ".go", func(name string, content []byte) {
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(line, "//go:build ") && strings.Contains(line, benchTag) && !strings.Contains(line, "!"+benchTag) {
				tagged = append(tagged, name)
			}
			if strings.HasPrefix(line, "package ") {
				break
			}
		}
	})
	slices.Sort(tagged)
	if want := []string{"cmd/perrin/unsigned.go", "internal/bench/unsigned.go", "workload/signing_unsigned.go"}; !slices.Equal(tagged, want) {
		t.Errorf("files of the tag: %q, want %q", tagged, want)
	}
	fset := token.NewFileSet()
	off, err := parser.ParseFile(fset, "../../workload/signing.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range off.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			t.Errorf("signing.go holds more than functions")
			continue
		}
		ret, ok := f.Body.List[0].(*ast.ReturnStmt)
		if !ok || len(f.Body.List) != 1 || len(ret.Results) != 1 || !isFalse(ret.Results[0]) {
			t.Errorf("%s of signing.go does more than return false", f.Name.Name)
		}
	}
	ctx := build.Default
	ctx.BuildTags = []string{benchTag}
	if match, err := ctx.MatchFile("../../cmd/perrin", "unsigned.go"); err != nil || !match {
		t.Errorf("cmd/perrin/unsigned.go is left out of a build with the tag: %v", err)
	}
	main, err := parser.ParseFile(fset, "../../cmd/perrin/unsigned.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{Importer: importer.Default()}
	if _, err := conf.Check("main", fset, []*ast.File{main}, nil); err == nil {
		t.Error("cmd/perrin compiles with the tag")
	}
}

func isFalse(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "false"
}
