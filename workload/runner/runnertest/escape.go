package runnertest

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// rewrite has Escape write what it finds into the document.
var rewrite = flag.Bool("rewrite", false, "write what the probe reports into docs/threat-model.md")

// Columns of the table of Escape, after the goal's.
const (
	ColumnProcess = 1 + iota
	ColumnWasm
	ColumnOCI
	ColumnVM
	ColumnGVisor
	columns
)

// Escape runs a program that tries to get out by every way it knows, beside
// another slot's, and holds what it reports against the runner's column of the
// table in docs/threat-model.md. More arguments of the probe say what is its own.
func Escape(t *testing.T, k Kit, column int, more ...string) {
	t.Setenv("PERRIN_TEST_SECRET", "of the node")
	other := k.Open(t, nil)
	busy, stop := context.WithCancel(context.Background())
	up, over := make(chan struct{}), make(chan struct{})
	theirs := other.Attempt("sleep")
	theirs.Stdout = NewWhenReady(func() { close(up) })
	go func() { defer close(over); _, _ = other.Session.Run(busy, theirs) }()
	<-up
	defer func() { stop(); <-over }()

	s := k.Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.CPUs = []int{0} })
	args := []string{"escape", "root=" + k.Root, "variable=PERRIN_TEST_SECRET", fmt.Sprint("pid=", os.Getpid()), "other=" + stage(t, other.Dir, "theirs", mark)}
	args = append(append(args, outside(t)...), more...)
	a := s.Attempt(args...)
	a.Mounts = []runner.Mount{{Source: input(t, s.Dir, args), Target: "input"}}
	r := s.Run(a)
	if r.Code != 0 {
		t.Errorf("it got out, or something answered as nothing should:\n%s", r.Stderr)
	}
	var found [][2]string
	for line := range strings.Lines(r.Stdout) {
		goal, how, _ := strings.Cut(strings.TrimSpace(line), "\t")
		found = append(found, [2]string{goal, how})
	}
	if len(found) < 20 {
		t.Fatalf("it tried for %d goals only: %+v", len(found), r.Outcome)
	}
	compare(t, found, column)
}

// mark is in every file that must not be read.
const mark = "of somebody else"

// outside puts things on the host that a program must not reach, and says what.
func outside(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	key := stage(t, dir, "keys/node.key", mark)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("", "p") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	abstract := fmt.Sprintf("perrin-escape-%d", os.Getpid())
	for network, address := range map[string]string{"unix": filepath.Join(short, "api.sock"), "unixpacket": "@" + abstract + "-p"} {
		listen(t, network, address)
	}
	listen(t, "unix", "@"+abstract)
	tcp := listen(t, "tcp", "127.0.0.1:0")
	shm := os.Getpid()<<8 | 0x42
	id, err := unix.SysvShmGet(shm, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return []string{"mark=" + mark, "secret=" + stage(t, dir, "secret", mark), "key=" + key, "socket=" + filepath.Join(short, "api.sock"),
		"tcp=" + tcp, "abstract=" + abstract, fmt.Sprint("shm=", shm)}
}

func listen(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// input is a folder with a file and links that lead out.
func input(t *testing.T, dir string, args []string) string {
	t.Helper()
	secret := ""
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, "secret="); ok {
			secret = v
		}
	}
	tree := filepath.Dir(stage(t, dir, "input/file", "given"))
	for name, to := range map[string]string{"link": secret, "up": strings.Repeat("../", 40) + secret[1:]} {
		if err := os.Symlink(to, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// The table lies between these lines.
const (
	tableBegin = "| a program tries for | process | wasm | oci | vm | oci in gVisor |"
	tableRule  = "|---|---|---|---|---|---|"
)

func compare(t *testing.T, found [][2]string, column int) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "../../../docs/threat-model.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	from := slices.Index(lines, tableBegin) + 2
	to := from
	for to < len(lines) && strings.HasPrefix(lines[to], "|") {
		to++
	}
	if from < 2 || lines[from-1] != tableRule {
		t.Fatalf("%s has no table that begins with %s", path, tableBegin)
	}
	if *rewrite {
		lines = slices.Replace(lines, from, to, rewritten(lines[from:to], found, column)...)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for i, f := range found {
		if i >= to-from {
			t.Errorf("docs/threat-model.md has no line %q", f[0])
			continue
		}
		if cells := cellsOf(lines[from+i]); cells[0] != f[0] || cells[column] != f[1] {
			t.Errorf("docs/threat-model.md says %q: %q, the probe %q: %q (-rewrite writes it)", cells[0], cells[column], f[0], f[1])
		}
	}
	if to-from != len(found) {
		t.Errorf("docs/threat-model.md has %d lines, the probe %d", to-from, len(found))
	}
}

func cellsOf(line string) (cells [columns]string) {
	for i, c := range strings.Split(strings.Trim(line, "|"), "|") {
		if i < len(cells) {
			cells[i] = strings.TrimSpace(c)
		}
	}
	return cells
}

// rewritten is the table with one column anew.
func rewritten(old []string, found [][2]string, column int) (out []string) {
	had := map[string][columns]string{}
	for _, line := range old {
		c := cellsOf(line)
		had[c[0]] = c
	}
	for _, f := range found {
		c := had[f[0]]
		c[0], c[column] = f[0], f[1]
		out = append(out, "| "+strings.Join(c[:], " | ")+" |")
	}
	return out
}
