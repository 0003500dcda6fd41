package repotest

import (
	"go/ast"
	exact "go/constant"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// bounded are the packages whose bounds docs/bounds.md lists; of those marked
// true it has to list every constant that is named like one.
var bounded = map[string]bool{
	"node": true, "node/leader": true, "node/worker": true, "node/api": true, "consensus": true, "consensus/ledger": true,
	"consensus/store": true, "scheduler": false, "mesh": false, "mesh/wire": false, "mesh/gossip": false, "mesh/directory": false,
	"workload": false, "workload/blob": false, "node/attestor": true, "mesh/attest": false, "mesh/attest/collect": true, "mesh/admission": false, "workload/sandbox": false,
	"workload/oci/image": true, "workload/oci/unpack": true, "workload/oci/unpack/unpacker": true, "workload/oci/source": true, "workload/vm": true, "workload/oci": true,
	"workload/receipt": true, "workload/rights": true, "workload/wasm": true,
	"node/notary": true,
}

// notBounds are constants that are named like a bound and bound nothing that
// grows, with the reason.
var notBounds = map[string]string{
	"api.maxErrorAnswer":       "of one error's text",
	"consensus.maxConfigBytes": "of one field of a snapshot's header",
	"consensus.maxHeader":      "of one message's header",
	"image.maxEntries":         "of two files that are read once",
	"ledger.maxWall":           "a number that JSON can carry",
	"node.keptEvery":           "a number of rounds",
	"node.maxAnswer":           "wire.MaxBulk by another name",
	"source.maxName":           "of one argument",
	"unpack.maxTarget":         "of one path",
}

// likeABound is how a bound is named.
var likeABound = regexp.MustCompile(`^(max|Max|kept|Keep)[A-Z]`)

var boundRow = regexp.MustCompile(`^\| [^|]+ \| ([^|]+) \| ([a-z]+\.[A-Za-z.]+) \| [^|]*\|$`)

// TestBoundsAreAsDocumented holds docs/bounds.md to the constants it names.
func TestBoundsAreAsDocumented(t *testing.T) {
	values := boundsOfCode(t)
	doc, err := os.ReadFile(filepath.Join(root, "docs", "bounds.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, line := range strings.Split(string(doc), "\n") {
		row := boundRow.FindStringSubmatch(line)
		if row == nil {
			if cells := strings.Split(line, "|"); len(cells) == 6 && strings.Contains(cells[3], ".") {
				t.Errorf("bounds.md:%d: a row that does not read: %s", i+1, line)
			}
			continue
		}
		name := row[2]
		seen[name] = true
		have, ok := values[name]
		if !ok {
			t.Errorf("bounds.md:%d: there is no constant %s", i+1, name)
			continue
		}
		want, err := figure(row[1], have.millis)
		if err != nil || want != have.value {
			t.Errorf("bounds.md:%d: %s is %d, the page says %q (%d): %v", i+1, name, have.value, row[1], want, err)
		}
	}
	if len(seen) < 80 {
		t.Errorf("read only %d rows", len(seen))
	}
	for name, v := range values {
		if v.required && !seen[name] && notBounds[name] == "" {
			t.Errorf("%s = %d bounds something, and docs/bounds.md does not say so", name, v.value)
		}
	}
	for name := range notBounds {
		if _, ok := values[name]; !ok {
			t.Errorf("%s is excused and is not there", name)
		}
	}
}

// bound is a constant of the code. A time.Duration counts in ns, other times in ms.
type bound struct {
	value    int64
	millis   bool
	required bool
}

func boundsOfCode(t *testing.T) map[string]bound {
	t.Helper()
	out := map[string]bound{}
	for _, p := range load(t, slices.Collect(maps.Keys(bounded))) {
		all := bounded[strings.TrimPrefix(p.PkgPath, module+"/")]
		for _, name := range p.Types.Scope().Names() {
			if c, ok := p.Types.Scope().Lookup(name).(*types.Const); ok {
				add(out, p.Name+"."+name, c.Val(), c.Type(), all && likeABound.MatchString(name))
			}
		}
		for _, f := range p.Syntax {
			defaults(p, f, out)
		}
	}
	return out
}

func add(out map[string]bound, name string, v exact.Value, of types.Type, required bool) {
	if v == nil || v.Kind() != exact.Int {
		return
	}
	if n, whole := exact.Int64Val(v); whole {
		out[name] = bound{value: n, millis: of.String() != "time.Duration", required: required}
	}
}

// defaults adds what functions named Default or DefaultConfig set, as package.Default.Field.
func defaults(p *packages.Package, f *ast.File, out map[string]bound) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Default") {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok {
					v := p.TypesInfo.Types[kv.Value]
					add(out, p.Name+"."+fn.Name.Name+"."+key.Name, v.Value, v.Type, false)
				}
			}
			return true
		})
	}
}

// units are what a figure may be in; times are ms.
var units = map[string]int64{
	"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "days": 24 * 3_600_000,
}

// figure reads "10,000", "64 MiB" or "15 min"; times are ns unless millis.
func figure(text string, millis bool) (int64, error) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	factor, ok := units[unit]
	if err != nil || !ok {
		return 0, strconv.ErrSyntax
	}
	if !millis {
		factor *= 1_000_000
	}
	return n * factor, nil
}
