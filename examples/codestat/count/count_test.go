package count

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sample = `// Package p is a sample.
package p

/* a comment
of two lines */ import "fmt"

type T[K any] struct{ k K }

var f = func() int { return 1 } // not a declaration

func (t *T[K]) Method(x struct{ a int }) (y int) {
	s := ` + "`raw\n\ntext`" + `
	fmt.Println(s, x)

	return 1 }

func outer() {
	g := func() {
	}
	g() /* tail
*/
}

func external(int) int
func generic[A, B interface{ ~int }](a A) {}
`

func TestSample(t *testing.T) {
	c := New("p")
	c.Add("p.go", []byte(sample))
	got := c.Stat()
	if got.Functions != 4 || got.Longest != (Longest{"T.Method", "p.go", 7}) {
		t.Errorf("functions %d, longest %+v", got.Functions, got.Longest)
	}
	if got.Lines != 27 || got.Code != 17 || got.Comment != 3 || got.Blank != 7 || got.Broken != 0 {
		t.Errorf("lines %d, code %d, comment %d, blank %d, broken %d", got.Lines, got.Code, got.Comment, got.Blank, got.Broken)
	}
	if got.Identifiers[0] != (Identifier{"int", 6}) {
		t.Errorf("identifiers %v", got.Identifiers[:3])
	}
}

func TestOddFiles(t *testing.T) {
	tests := map[string]struct {
		src  string
		want Stat
	}{
		"empty":            {"", Stat{Files: 1}},
		"no last line":     {"package p", Stat{Files: 1, Lines: 1, Code: 1}},
		"blank":            {"\n\n", Stat{Files: 1, Lines: 2, Blank: 2}},
		"not Go":           {"\x00\x01'\n\"\\", Stat{Files: 1, Lines: 2, Code: 2, Broken: 1}},
		"line directive":   {"package p\n//line x.go:900\nfunc f() {\n}\n", Stat{Files: 1, Lines: 4, Code: 3, Comment: 1, Functions: 1, Longest: Longest{"f", "x.go", 2}}},
		"open brackets":    {"package p\nfunc f((({{{[[[\n", Stat{Files: 1, Lines: 2, Code: 2, Broken: 1}},
		"closing brackets": {"package p\n)))}}}\nfunc f() {}\n", Stat{Files: 1, Lines: 3, Code: 3, Functions: 1, Longest: Longest{"f", "x.go", 1}}},
	}
	for name, test := range tests {
		c := New("")
		c.Add("x.go", []byte(test.src))
		got := c.Stat()
		got.Identifiers = nil
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestJSONIsWhatTheStandardLibraryReads(t *testing.T) {
	c := New("a \"quoted\"\\ \n\x01 path é")
	c.Add("p.go", []byte(sample))
	want := c.Stat()
	var got Stat
	if err := json.Unmarshal(want.AppendJSON(nil), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	empty := New("").Stat()
	var fields map[string]any
	if err := json.Unmarshal(empty.AppendJSON(nil), &fields); err != nil || len(fields) != reflect.TypeFor[Stat]().NumField() {
		t.Errorf("an empty one: %v, %v", fields, err)
	}
	bad := Stat{Dir: "\xff"}
	if !bytes.Contains(bad.AppendJSON(nil), []byte(`"dir":"�"`)) {
		t.Errorf("not UTF-8: %s", bad.AppendJSON(nil))
	}
}

// stdlib returns the Go files of some folders of the standard library.
func stdlib(t testing.TB, dirs ...string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(goroot(t), "src", dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Skipf("the source of package %s is not on this machine", dir)
		}
		for _, name := range names {
			if files[name], err = os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// parsed counts with go/parser what Counter counts with go/scanner.
func parsed(t testing.TB, c *Stat, uses map[string]int, name string, src []byte) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	c.Files++
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		c.Functions++
		if fn.Body == nil {
			continue
		}
		lines := fset.PositionFor(fn.Body.Rbrace, false).Line - fset.PositionFor(fn.Pos(), false).Line + 1
		if lines > c.Longest.Lines {
			c.Longest = Longest{title(fn), name, lines}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Name != "." { // of import . "path"
			uses[id.Name]++
		}
		return true
	})
}

func title(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.ParenExpr:
			typ = t.X
		default:
			return typ.(*ast.Ident).Name + "." + fn.Name.Name
		}
	}
}

// scanned counts lines with go/scanner: each that has a token is code, each
// other that has a comment is one.
func scanned(src []byte) (code, comment int) {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(src))
	var sc scanner.Scanner
	sc.Init(file, src, nil, scanner.ScanComments)
	kind := map[int]token.Token{}
	for {
		pos, tok, lit := sc.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue
		}
		line := fset.PositionFor(pos, false).Line
		for i := range strings.Count(lit, "\n") + 1 {
			if tok != token.COMMENT || kind[line+i] == 0 {
				kind[line+i] = tok
			}
		}
	}
	for _, tok := range kind {
		if tok == token.COMMENT {
			comment++
		} else {
			code++
		}
	}
	return code, comment
}

var packages = []string{"net/http", "runtime", "sync/atomic", "math/big", "iter", "slices", "go/types", "encoding/json", "internal/sync"}

func TestAgreesWithTheParserOnTheStandardLibrary(t *testing.T) {
	for _, dir := range packages {
		for name, src := range stdlib(t, dir) {
			c := New(dir)
			c.Add(name, src)
			got := c.Stat()
			want, uses := Stat{}, map[string]int{}
			parsed(t, &want, uses, name, src)
			if got.Functions != want.Functions || got.Longest != want.Longest || got.Broken != 0 {
				t.Errorf("%s: %d functions, longest %+v; the parser says %d and %+v", name, got.Functions, got.Longest, want.Functions, want.Longest)
			}
			own := map[string]int{}
			for _, id := range c.words.list() {
				own[id.Name] = id.Count
			}
			if !reflect.DeepEqual(own, uses) {
				t.Errorf("%s: other identifiers than the parser: %d and %d", name, len(own), len(uses))
			}
			code, comment := scanned(src)
			if got.Code != code || got.Comment != comment {
				t.Errorf("%s: %d lines of code, %d of comments; the scanner says %d and %d", name, got.Code, got.Comment, code, comment)
			}
			if n := strings.Count(string(src), "\n"); got.Lines != n || got.Code+got.Comment+got.Blank != n {
				t.Errorf("%s: %d lines, %d code, %d comment, %d blank, want %d lines", name, got.Lines, got.Code, got.Comment, got.Blank, n)
			}
		}
	}
}

func FuzzCounter(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("package p\nvar x = 0x1e+y /* a\nb */ ; func(f) { `\n"))
	f.Add([]byte("'\\"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c := New("")
		c.Add("x.go", src)
		s := c.Stat()
		if s.Code < 0 || s.Comment < 0 || s.Blank < 0 || s.Code+s.Comment+s.Blank != s.Lines || s.Longest.Lines > s.Lines {
			t.Errorf("%q: %+v", src, s)
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	files := stdlib(b, "net/http")
	for b.Loop() {
		uses := map[string]int{}
		for _, src := range files {
			var sc scanner.Scanner
			sc.Init(token.NewFileSet().AddFile("", -1, len(src)), src, nil, scanner.ScanComments)
			for {
				_, tok, lit := sc.Scan()
				if tok == token.EOF {
					break
				}
				if tok == token.IDENT {
					uses[lit]++
				}
			}
		}
		if len(uses) == 0 {
			b.Fatal("nothing counted")
		}
	}
}

func BenchmarkCounter(b *testing.B) {
	files := stdlib(b, "net/http")
	for b.Loop() {
		c := New("")
		for name, src := range files {
			c.Add(name, src)
		}
		if c.Stat().Lines == 0 {
			b.Fatal("nothing counted")
		}
	}
}

func BenchmarkParser(b *testing.B) {
	files := stdlib(b, "net/http")
	for b.Loop() {
		stat, uses := Stat{}, map[string]int{}
		for name, src := range files {
			parsed(b, &stat, uses, name, src)
		}
		if stat.Functions == 0 || len(uses) == 0 {
			b.Fatal("nothing counted")
		}
	}
}

// goroot is where the Go installation's own source lies.
func goroot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("the go command is not here:", err)
	}
	return strings.TrimSpace(string(out))
}
