package repotest

import (
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// impure is what a pure package keeps away from: it would give another answer
// the next time, or on another replica.
var impure = map[string]string{
	"os": "I/O", "os/exec": "I/O", "os/signal": "I/O", "syscall": "I/O", "net": "I/O", "net/http": "I/O", "log": "I/O", "log/slog": "I/O",
	"math/rand": "randomness", "math/rand/v2": "randomness", "crypto/rand": "randomness",
	"sync": "goroutines", "sync/atomic": "goroutines", "context": "goroutines", "runtime": "the machine", "unsafe": "the machine",
}

// clock is what a pure package must not use of time; durations are numbers.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}

// anyOrder are functions that range over a map in a way that the lint cannot
// follow, with the reason why the order does not show.
var anyOrder = map[string]string{
	"workload.validateNames": "it shows one of several wrong names; nothing is decided by which",
	"lease.Next":             "it finds the least of all",
	"ledger.Restore":         "it only asks whether there is one",
	"ledger.compact":         "forgetting one node does not touch another, and keeps the greatest epoch",
	"ledger.tasks":           "one task is in one slot",
}

// mayLock are files of pure packages that may import sync, with the reason.
var mayLock = map[string]string{
	"memo.go": "it remembers signatures that were verified: what it answers is what verifying again would",
}

// repeatable are packages of the simulator that must do the same each time.
var repeatable = []string{
	"simulations/chance", "simulations/model", "simulations/policy", "simulations/queue", "simulations/scenario", "simulations/stats",
}

func TestPurePackagesArePure(t *testing.T) {
	all := slices.Concat(pure, repeatable)
	loaded := load(t, all)
	if len(loaded) != len(all) {
		t.Fatalf("%d of %d packages", len(loaded), len(all))
	}
	for _, p := range loaded {
		for _, f := range p.Syntax {
			lint(t, p, f)
		}
	}
}

// load reads the types and syntax of packages of this module.
func load(t *testing.T, folders []string) []*packages.Package {
	t.Helper()
	var paths []string
	for _, p := range folders {
		paths = append(paths, "./"+p)
	}
	loaded, err := packages.Load(&packages.Config{
		Dir: root, Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedExportFile |
			packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo,
	}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range loaded {
		for _, e := range p.Errors {
			t.Error(e)
		}
	}
	return loaded
}

func lint(t *testing.T, p *packages.Package, f *ast.File) {
	at := func(n ast.Node) token.Position { return p.Fset.Position(n.Pos()) }
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if why := impure[path]; why != "" && (path != "sync" || mayLock[filepath.Base(at(i).Filename)] == "") {
			t.Errorf("%s: a pure package imports %s: %s", at(i), path, why)
		}
	}
	var inside []*ast.FuncDecl
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			inside = append(inside[:0], n)
		case *ast.GoStmt:
			t.Errorf("%s: a pure package starts a goroutine", at(n))
		case *ast.SelectStmt, *ast.SendStmt:
			t.Errorf("%s: a pure package uses a channel", at(n))
		case *ast.SelectorExpr:
			if use, ok := p.TypesInfo.Uses[n.Sel].(*types.Func); ok && use.Pkg() != nil && use.Pkg().Path() == "time" && slices.Contains(clock, use.Name()) {
				t.Errorf("%s: a pure package reads the clock: time.%s", at(n), use.Name())
			}
		case *ast.RangeStmt:
			if isMap(p.TypesInfo.TypeOf(n.X)) && !ordered(inside, n) && !exempt(p.Name, inside) {
				t.Errorf("%s: the order of a map may matter here: sort, or make each step independent of the others", at(n))
			}
		}
		return true
	})
}

func exempt(pkg string, inside []*ast.FuncDecl) bool {
	return len(inside) > 0 && anyOrder[pkg+"."+inside[0].Name.Name] != ""
}

func isMap(t types.Type) bool {
	if t == nil {
		return false
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// ordered reports whether ranging over a map cannot show its order: the function
// sorts, or every statement of the loop commutes with itself. It errs on the
// strict side.
func ordered(inside []*ast.FuncDecl, loop *ast.RangeStmt) bool {
	for _, f := range inside {
		if sorts(f) {
			return true
		}
	}
	return commutes(loop.Body)
}

func sorts(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if ok && (isName(sel.X, "slices") || isName(sel.X, "sort")) && strings.HasPrefix(sel.Sel.Name, "Sort") {
			found = true
		}
		return !found
	})
	return found
}

func commutes(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.BlockStmt:
		return !slices.ContainsFunc(s.List, func(each ast.Stmt) bool { return !commutes(each) })
	case *ast.IfStmt:
		return (s.Init == nil || commutes(s.Init)) && commutes(s.Body) && (s.Else == nil || commutes(s.Else))
	case *ast.RangeStmt:
		return commutes(s.Body)
	case *ast.IncDecStmt, *ast.BranchStmt:
		return true
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		return ok && isName(call.Fun, "delete")
	case *ast.ReturnStmt:
		return !slices.ContainsFunc(s.Results, func(e ast.Expr) bool { return !constant(e) })
	case *ast.AssignStmt:
		return commutesAssign(s)
	}
	return false
}

// commutesAssign accepts new names, sums, an entry of a map or list, and the
// least or greatest so far.
func commutesAssign(s *ast.AssignStmt) bool {
	if s.Tok != token.ASSIGN {
		return true // := and the likes of +=
	}
	for i, to := range s.Lhs {
		if _, entry := to.(*ast.IndexExpr); entry || isName(to, "_") {
			continue
		}
		if len(s.Rhs) != len(s.Lhs) || !constant(s.Rhs[i]) && !extreme(s.Rhs[i]) {
			return false
		}
	}
	return true
}

func extreme(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && (isName(call.Fun, "min") || isName(call.Fun, "max"))
}

func constant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return e.Name == "true" || e.Name == "false" || e.Name == "nil"
	}
	return false
}
