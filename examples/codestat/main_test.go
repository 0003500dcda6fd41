package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/examples/codestat/count"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

func stdlib(t testing.TB, dir string) string {
	t.Helper()
	name := filepath.Join(goroot(t), "src", dir)
	if _, err := os.Stat(name); err != nil {
		t.Skipf("the source of package %s is not on this machine", dir)
	}
	return name
}

func TestCountsOneFolder(t *testing.T) {
	dir := stdlib(t, "net")
	var stdout, stderr bytes.Buffer
	if code := run([]string{dir}, &stdout, &stderr); code != 0 || stderr.Len() != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if n := strings.Count(stdout.String(), "\n"); n != 1 || !strings.HasSuffix(stdout.String(), "}\n") {
		t.Errorf("%d lines", n)
	}
	var flat, deep count.Stat
	if err := json.Unmarshal(stdout.Bytes(), &flat); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	if flat.Files != len(names) || flat.Dir != dir || flat.Functions == 0 || strings.Contains(flat.Longest.File, "/") {
		t.Errorf("%d files in %q, want %d; longest %+v", flat.Files, flat.Dir, len(names), flat.Longest)
	}
	stdout.Reset()
	if code := run([]string{"-deep", dir}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if err := json.Unmarshal(stdout.Bytes(), &deep); err != nil || deep.Files <= flat.Files || deep.Lines <= flat.Lines {
		t.Errorf("with the folders below %d files, without %d; %v", deep.Files, flat.Files, err)
	}
}

func TestWrongCalls(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.go")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "usage"}, {[]string{"a", "b"}, 2, "usage"}, {[]string{"-x"}, 2, "usage"}, {[]string{"-deep"}, 2, "usage"},
		{[]string{"/nonexistent"}, 1, "no such file"}, {[]string{file}, 1, "not a folder"},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		if code := run(test.args, &stdout, &stderr); code != test.code || !strings.Contains(stderr.String(), test.want) || stdout.Len() != 0 {
			t.Errorf("codestat %q: exit code %d, %s", test.args, code, &stderr)
		}
	}
}

func TestFolderWithoutGo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{t.TempDir()}, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), `"files":0,"lines":0`) {
		t.Errorf("exit code %d: %s%s", code, &stdout, &stderr)
	}
}

// guest builds the program for wasip1.
func guest(t testing.TB) []byte {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("go is not in PATH")
	}
	out := filepath.Join(t.TempDir(), "codestat.wasm")
	build := exec.Command(goTool, "build", "-o", out, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGuestCountsTheSame runs the wasip1 build beside the native one.
func TestGuestCountsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and compiles a wasm guest, some seconds")
	}
	dirs := []string{"sort", "encoding/json"}
	for _, d := range dirs {
		stdlib(t, d)
	}
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	m, err := r.CompileModule(ctx, guest(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		host := stdlib(t, d)
		var native, stderr, inside bytes.Buffer
		if code := run([]string{host}, &native, &stderr); code != 0 {
			t.Fatal(stderr.String())
		}
		config := wazero.NewModuleConfig().WithName("").WithArgs("codestat", "/src").WithStdout(&inside).WithStderr(&stderr).
			WithFSConfig(wazero.NewFSConfig().WithReadOnlyDirMount(host, "/src"))
		_, err := r.InstantiateModule(ctx, m, config)
		var exit *sys.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 0) {
			t.Fatalf("%v: %s", err, &stderr)
		}
		want := strings.Replace(native.String(), host, "/src", 1)
		if got := inside.String(); got != want {
			t.Errorf("%s: the guest prints\n%s\nthe program\n%s", d, got, want)
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
