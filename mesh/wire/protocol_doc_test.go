package wire_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/protocol.md anew")

const (
	protocolDoc  = "../../docs/protocol.md"
	meaningsFile = "testdata/meanings.txt"
)

// sources are the folders whose structs with cbor tags cross the wire or are
// signed, and whose constants Proto* are protocols.
var sources = []string{".", "..", "../admission", "../directory", "../gossip", "../../workload", "../../workload/rights"}

// notOnTheWire are structs with cbor tags that are only stored, with the reason.
var notOnTheWire = map[string]string{
	"books":           "the issuer's own file",
	"invitationEntry": "the issuer's own file",
	"Appraisal":       "what the local API answers",
	"Trust":           "part of Appraisal",
	"Measurement":     "part of Appraisal",
	"TokenLink":       "a link of a token as the ledger keeps it",
}

type field struct{ name, key, kind, bound, comment string }

type declared struct {
	structs map[string][]field
	consts  map[string]string // Proto* to the ID
}

// declarations reads what the sources declare.
func declarations(t *testing.T) declared {
	d := declared{map[string][]field{}, map[string]string{}}
	for _, dir := range sources {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					if s, ok := n.Type.(*ast.StructType); ok {
						if fields := wireFields(s); len(fields) > 0 {
							d.structs[n.Name.Name] = fields
						}
					}
				case *ast.ValueSpec:
					d.addProtocols(t, n)
				}
				return true
			})
		}
	}
	return d
}

func (d declared) addProtocols(t *testing.T, v *ast.ValueSpec) {
	for i, name := range v.Names {
		if !strings.HasPrefix(name.Name, "Proto") || i >= len(v.Values) {
			continue
		}
		lit, ok := v.Values[i].(*ast.BasicLit)
		if !ok {
			continue
		}
		id, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if old, ok := d.consts[name.Name]; ok && old != id {
			t.Errorf("two protocols are called %s: %s and %s", name.Name, old, id)
		}
		for other, have := range d.consts {
			if have == id && other != name.Name {
				t.Errorf("%s and %s have the same ID %s: a host serves only one of them", other, name.Name, id)
			}
		}
		d.consts[name.Name] = id
	}
}

var keyInTag = regexp.MustCompile(`^(\d+),keyasint`)

func wireFields(s *ast.StructType) (out []field) {
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		key := keyInTag.FindStringSubmatch(tag.Get("cbor"))
		if key == nil {
			continue
		}
		comment := strings.TrimSpace(f.Comment.Text())
		for _, name := range f.Names {
			out = append(out, field{name.Name, key[1], kindOf(f.Type), tag.Get("max"), comment})
		}
	}
	return out
}

// kindOf says a Go type in the words of the document.
func kindOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if e.Name == "string" {
			return "text"
		}
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.StarExpr:
		return kindOf(e.X) + ", may be absent"
	case *ast.MapType:
		return "map of " + kindOf(e.Key) + " to " + kindOf(e.Value)
	case *ast.ArrayType:
		elem := kindOf(e.Elt)
		switch {
		case elem == "byte" && e.Len == nil:
			return "bytes"
		case elem == "byte":
			return lengthOf(e.Len) + " bytes"
		}
		return "list of " + elem
	}
	return "?"
}

func lengthOf(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		return lit.Value
	}
	return "16" // secretSize
}

// meanings reads what the fields mean that have no comment of their own.
func meanings(t *testing.T) map[string]string {
	raw, err := os.ReadFile(meaningsFile)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		name, text, ok := strings.Cut(line, " ")
		if !ok || out[name] != "" {
			t.Errorf("%s:%d: %q: want a name, used once, and a meaning", meaningsFile, i+1, line)
		}
		out[name] = text
	}
	return out
}

// table is the Markdown of one struct's fields.
func table(t *testing.T, name string, fields []field, means map[string]string, used map[string]bool) string {
	var b strings.Builder
	b.WriteString("| no. | field | type | at most | meaning |\n|---|---|---|---|---|\n")
	for _, f := range fields {
		full := name + "." + f.name
		text := f.comment
		if m := means[full]; m != "" {
			text, used[full] = m, true
		}
		if text == "" {
			t.Errorf("%s: neither a comment nor a line of %s says what it means", full, meaningsFile)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.key, f.name, f.kind, boundOf(f), strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", "\\|"))
	}
	return b.String()
}

func boundOf(f field) string {
	unit := "entries"
	switch {
	case f.bound == "":
		return ""
	case !strings.HasPrefix(f.kind, "list") && !strings.HasPrefix(f.kind, "map"):
		unit = "bytes"
	}
	return f.bound + " " + unit
}

var section = regexp.MustCompile(`(?s)<!-- fields of (\w+) -->\n(.*?)<!-- end -->`)

// TestProtocolDoc holds that docs/protocol.md shows every field of every message
// as it is declared; -rewrite brings it up to date. It also holds that every
// protocol has an ID of its own and is in the document.
func TestProtocolDoc(t *testing.T) {
	raw, err := os.ReadFile(protocolDoc)
	if err != nil {
		t.Fatal(err)
	}
	d, means, used, shown := declarations(t), meanings(t), map[string]bool{}, map[string]bool{}
	want := section.ReplaceAllStringFunc(string(raw), func(old string) string {
		name := section.FindStringSubmatch(old)[1]
		fields, ok := d.structs[name]
		if !ok {
			t.Errorf("%s shows the fields of %s, which is not declared", protocolDoc, name)
			return old
		}
		shown[name] = true
		return "<!-- fields of " + name + " -->\n" + table(t, name, fields, means, used) + "<!-- end -->"
	})
	for name := range d.structs {
		if !shown[name] && notOnTheWire[name] == "" {
			t.Errorf("%s does not show %s: add <!-- fields of %s --> and <!-- end -->", protocolDoc, name, name)
		}
	}
	for name := range means {
		if !used[name] {
			t.Errorf("%s explains %s, which is no field that is shown", meaningsFile, name)
		}
	}
	for _, id := range d.consts {
		if !strings.Contains(want, "`"+id+"`") {
			t.Errorf("%s does not name the protocol %s", protocolDoc, id)
		}
	}
	if want == string(raw) {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is not up to date: go test ./mesh/wire -run TestProtocolDoc -rewrite", protocolDoc)
	}
	if err := os.WriteFile(protocolDoc, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestProtocolDocNamesEveryWord holds that the closed lists of words are
// explained: kinds of failure, reasons for no bid, domains of signatures, and
// what a leader can be asked.
func TestProtocolDocNamesEveryWord(t *testing.T) {
	raw, err := os.ReadFile(protocolDoc)
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{"error.go": {"Kind"}, "../../workload/market.go": {"Code"}, "../../workload/signed.go": {"Domain"}, "../../workload/run.go": {"Phase", "Exit"}}
	seen := 0
	for path, types := range lists {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || v.Type == nil || len(v.Values) != 1 || !slices.Contains(types, kindOf(v.Type)) {
				return true
			}
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			if !strings.Contains(string(raw), "`"+word+"`") {
				t.Errorf("%s does not explain %q of %s", protocolDoc, word, path)
			}
			return true
		})
	}
	if seen < 50 {
		t.Errorf("%d words found: the lists have moved", seen)
	}
}
