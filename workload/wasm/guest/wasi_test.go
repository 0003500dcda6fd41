package guest

import (
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// enosys is what WASI answers for what is not there.
const enosys = 52

const noFile = 50

var wasiRow = regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| (yes|no|refused|partly)[ |,]")

// documented reads docs/wasi.md: what it says of each function.
func documented(t *testing.T) map[string]string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "wasi.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, row := range wasiRow.FindAllStringSubmatch(string(doc), -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			out[strings.Trim(name, "`")] = row[2]
		}
	}
	return out
}

// TestWASIIsAsDocumented calls every function of WASI preview 1 and holds
// docs/wasi.md to which of them exist.
func TestWASIIsAsDocumented(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig(wazero.NewCompilationCache()))
	defer rt.Close(ctx)
	host, err := wasi_snapshot_preview1.Instantiate(ctx, rt)
	if err != nil {
		t.Fatal(err)
	}
	says := documented(t)
	functions := host.(api.Module).ExportedFunctionDefinitions()
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		want := says[name]
		delete(says, name)
		if name == "proc_exit" { // it does not return
			continue
		}
		errno := callWASI(t, rt, functions[name])
		if there := want == "yes" || want == "partly" || want == "refused"; want == "" || there != (errno != enosys) {
			t.Errorf("%s answers %d, docs/wasi.md says %q of it", name, errno, want)
		}
	}
	for name, word := range says {
		t.Errorf("docs/wasi.md says %q of %s, which is no function of WASI preview 1", word, name)
	}
}

// callWASI runs a module that calls f with a file that is not open and zeros, and exits with what it answers.
func callWASI(t *testing.T, rt wazero.Runtime, f api.FunctionDefinition) uint32 {
	t.Helper()
	_, err := rt.InstantiateWithConfig(context.Background(), caller(f), wazero.NewModuleConfig().WithName("").WithStartFunctions(startFunction))
	if err == nil {
		return 0
	}
	exit, ok := err.(*sys.ExitError)
	if !ok {
		t.Fatalf("%s: %v", f.Name(), err)
	}
	return exit.ExitCode()
}

// caller is a module with one page of memory whose _start is
// proc_exit(f(noFile, 0, ...)). See https://webassembly.github.io/spec/core/binary/.
func caller(f api.FunctionDefinition) []byte {
	section := func(id byte, items ...[]byte) []byte {
		body := append([]byte{byte(len(items))}, slices.Concat(items...)...)
		return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
	}
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	imported := func(fn string, kind byte) []byte { return slices.Concat(name(wasiModule), name(fn), []byte{0, kind}) }
	args := []byte{}
	for i, p := range f.ParamTypes() {
		args = append(args, 0x42-btoi(p == api.ValueTypeI32), noFile*btoi(i == 0)) // i64.const or i32.const
	}
	answer := []byte{0x10, 0} // call 0
	if len(f.ResultTypes()) == 0 {
		answer = append(answer, 0x41, 0)
	}
	code := slices.Concat([]byte{0}, args, answer, []byte{0x10, 1, 0x0b}) // call 1, end
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, functionType(f.ParamTypes(), f.ResultTypes()), functionType([]api.ValueType{api.ValueTypeI32}, nil), functionType(nil, nil)),
		section(2, imported(f.Name(), 0), imported("proc_exit", 1)),
		section(3, []byte{2}),
		section(5, []byte{0, 1}),
		section(7, slices.Concat(name("memory"), []byte{2, 0}), slices.Concat(name(startFunction), []byte{0, 2})),
		section(10, append([]byte{byte(len(code))}, code...)))
}

func functionType(params, results []api.ValueType) []byte {
	return slices.Concat([]byte{0x60, byte(len(params))}, params, []byte{byte(len(results))}, results)
}

func btoi(b bool) byte {
	if b {
		return 1
	}
	return 0
}
