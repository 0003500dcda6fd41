package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/examples/codestat/count"
)

// results fills a folder as `perrin map --output` does.
func results(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, line := range lines {
		task := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(task, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(task, "stdout"), []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "summary.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func line(s count.Stat) string { return string(s.AppendJSON(nil)) }

func TestTable(t *testing.T) {
	dir := results(t,
		line(count.Stat{Dir: "go/src/fmt", Files: 2, Lines: 100, Code: 60, Comment: 30, Blank: 10, Functions: 7,
			Longest: count.Longest{Name: "Printf", File: "print.go", Lines: 40}, Identifiers: []count.Identifier{{Name: "p", Count: 9}, {Name: "err", Count: 2}}}),
		line(count.Stat{Dir: "go/src/net/http", Files: 3, Lines: 2000, Code: 1500, Comment: 400, Blank: 100, Functions: 90,
			Longest: count.Longest{Name: "Server.Serve", File: "server.go", Lines: 300}, Identifiers: []count.Identifier{{Name: "err", Count: 50}}}),
		line(count.Stat{Dir: "go/src/net", Files: 1, Lines: 20, Code: 20, Functions: 1, Broken: 1}),
	)
	var stdout, stderr bytes.Buffer
	if code := run([]string{"-top", "2", dir}, &stdout, &stderr); code != 0 || stderr.Len() != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	want := `  files  lines  code  comments  blank  functions  folder
      3   2000  1500       400    100         90  net/http
      2    100    60        30     10          7  fmt
      1     20    20         0      0          1  1 more
      6   2120  1580       430    110         98  all 3

longest function: Server.Serve, 300 lines, net/http/server.go
most used identifiers (of each folder's 50): err 52, p 9
files that are not Go: 1
`
	if got := stdout.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTasksWithoutALineAreNamed(t *testing.T) {
	dir := results(t, line(count.Stat{Dir: "a", Files: 1, Lines: 1}), "panic: out of memory")
	if err := os.MkdirAll(filepath.Join(dir, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := run([]string{dir}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "task 1: ") || !strings.Contains(stderr.String(), "task 7: ") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	if !strings.Contains(stdout.String(), "all 1") {
		t.Errorf("no table of the good one:\n%s", &stdout)
	}
}

func TestWrongCalls(t *testing.T) {
	for args, want := range map[string]int{"": 2, "a b": 2, "-top 0 a": 2, "-no a": 2, "/nonexistent": 1, t.TempDir(): 1} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != want || stderr.Len() == 0 || stdout.Len() != 0 {
			t.Errorf("merge %s: exit code %d, want %d; %s", args, code, want, &stderr)
		}
	}
}

// TestRealResults merges what is counted in the standard library's source.
func TestRealResults(t *testing.T) {
	src := filepath.Join(goroot(t), "src")
	var lines []string
	sum := 0
	for _, dir := range []string{"net/http", "encoding/json", "sort"} {
		names, _ := filepath.Glob(filepath.Join(src, dir, "*.go"))
		if len(names) == 0 {
			t.Skipf("the source of package %s is not on this machine", dir)
		}
		c := count.New(dir)
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sum += bytes.Count(b, []byte("\n"))
			c.Add(filepath.Base(name), b)
		}
		lines = append(lines, line(c.Stat()))
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{results(t, lines...)}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{"net/http\n", "sort\n", fmt.Sprintf(" %d ", sum), "all 3\n", "longest function: ", "err "} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
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
