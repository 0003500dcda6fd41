package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// TestRealMesh lets the scripts of testdata/e2e type at one mesh of three real
// daemons, which do not see the folder that the scripts work in. Nothing is to
// be left when they have ended.
func TestRealMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and starts a mesh, some seconds")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	bin, tmp := buildPrograms(t), t.TempDir()
	work := t.TempDir() // the mesh hides it from its daemons
	images := newImages(t, bin)
	mesh := startDev(t, bin, work, tmp)
	nodes := mesh.nodes(t, bin)
	t.Cleanup(func() { nothingLeft(t, tmp, nodes) })
	t.Cleanup(func() { mesh.stop(t) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/e2e", WorkdirRoot: work, RequireExplicitExec: true, UpdateScripts: os.Getenv("REWRITE") != "",
		Setup: func(env *testscript.Env) error {
			images.setup(env)
			return mesh.setup(env, bin)
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"interrupt": interruptCommand,
			"code":      codeCommand,
			"until":     untilCommand,
			"id":        idCommand,
			"port":      portCommand,
			"example":   exampleCommand,
			"image":     images.imageCommand(t),
			"pulled":    images.pulledCommand,
			"hostile":   hostileCommand(t),
			"module":    moduleCommand,
		},
	})
}

// buildPrograms builds perrin with its shim inside, and the Go example of the
// unit's protocol, native and as a guest.
func buildPrograms(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	embedded := "../../workload/shim/embedded/"
	builds := [][]string{
		{"build", "-trimpath", "-ldflags=-s -w", "-o", embedded + "perrin-shim", "../../workload/shim/cmd/perrin-shim"},
		{"build", "-trimpath", "-ldflags=-s -w", "-o", embedded + "perrin-unpack", "../../workload/oci/unpack/cmd/perrin-unpack"},
		{"build", "-tags", "embedshim", "-o", filepath.Join(dir, "perrin"), "."},
		{"build", "-o", filepath.Join(dir, "unit"), "../../examples/unit/golang"},
		{"build", "-o", filepath.Join(dir, "unit.wasm"), "../../examples/unit/golang"},
		{"build", "-ldflags=-s -w", "-o", filepath.Join(dir, "probe"), "../../workload/runner/runnertest/testdata/probe"},
	}
	for _, args := range builds {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if strings.HasSuffix(args[len(args)-2], ".wasm") {
			cmd.Env = append(cmd.Env, "GOOS=wasip1", "GOARCH=wasm")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

// dev is a `perrin dev` that runs.
type dev struct {
	cmd  *exec.Cmd
	data string // its temporary folder
	said *bytes.Buffer
	over chan struct{} // closed when its stderr has ended
}

func startDev(t *testing.T, bin, work, tmp string) *dev {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "perrin"), "dev", "--nodes", "3", "--cores", "4")
	cmd.Dir, cmd.Env = work, append(os.Environ(), "TMPDIR="+tmp, "PERRIN_SOCKET=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &dev{cmd: cmd, said: &bytes.Buffer{}, over: make(chan struct{})}
	ready := make(chan string, 1)
	go m.listen(stderr, ready)
	select {
	case m.data = <-ready:
	case <-m.over:
		t.Fatalf("perrin dev: %v\n%s", cmd.Wait(), m.said)
	}
	return m
}

// listen reads what dev says and finds the folder of the mesh that is ready.
func (m *dev) listen(r io.Reader, ready chan<- string) {
	defer close(m.over)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(m.said, lines.Text())
		if _, dir, ok := strings.Cut(lines.Text(), " is ready in "); ok {
			ready <- dir
		}
	}
}

// nodes returns who the mesh is made of.
func (m *dev) nodes(t *testing.T, bin string) []workload.PeerID {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "perrin"), "--socket", filepath.Join(m.data, "node1", "api.sock"), "nodes", "--json")
	out, err := cmd.Output()
	var list []api.Node
	if err := errors.Join(err, json.Unmarshal(out, &list)); err != nil || len(list) != 3 {
		t.Fatalf("perrin nodes: %v\n%s", err, out)
	}
	peers := make([]workload.PeerID, len(list))
	for i := range list {
		peers[i] = list[i].ID
	}
	return peers
}

func (m *dev) stop(t *testing.T) {
	var logs []string
	if t.Failed() {
		for _, node := range []string{"node1", "node2", "node3"} {
			log, err := os.ReadFile(filepath.Join(m.data, node, "log"))
			logs = append(logs, fmt.Sprintf("%s: %v\n%s", node, err, log[max(0, len(log)-4000):]))
		}
	}
	if err := m.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	<-m.over
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("perrin dev after Ctrl-C: %v\n%s", err, m.said)
	}
	for _, log := range logs {
		t.Log(log)
	}
}

// setup lets a script find the program and the mesh.
func (m *dev) setup(env *testscript.Env, bin string) error {
	tmp, err := os.MkdirTemp("", "p") // outside of what the daemons do not see, and short enough for sockets
	if err != nil {
		return err
	}
	env.Defer(func() {
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			env.T().Log("left behind: ", left, err)
			env.T().FailNow()
		}
		if err := os.RemoveAll(tmp); err != nil {
			env.T().Fatal(err)
		}
	})
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("BIN", bin)
	env.Setenv("TMPDIR", tmp)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_RUNTIME_DIR", env.WorkDir)
	env.Setenv("PERRIN_SOCKET", filepath.Join(m.data, "node1", "api.sock"))
	env.Setenv("SOCKET2", filepath.Join(m.data, "node2", "api.sock"))
	return nil
}

// nothingLeft fails when a process, a file or a cgroup outlived the commands.
// Orphans have become children of this process.
func nothingLeft(t *testing.T, tmp string, nodes []workload.PeerID) {
	t.Helper()
	for _, node := range nodes {
		if groups, err := filepath.Glob("/sys/fs/cgroup/*/perrin-" + node.Short()); err != nil || len(groups) > 0 {
			t.Errorf("cgroups are left: %v, %v", groups, err)
		}
	}
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", files, err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		list, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		for pid := range strings.FieldsSeq(string(list)) {
			if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && len(line) > 0 {
				t.Errorf("process %s is left: %q", pid, line)
			}
		}
	}
}

// codeCommand runs a command and compares its exit code; stdout and stderr are
// there for the next lines: code N COMMAND ARGS.
func codeCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ARGS")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// untilWithin bounds how long a condition of the mesh may take to become true.
const untilWithin = 30 * time.Second

// untilCommand runs perrin until it prints the text, a mesh being what settles:
// until TEXT ARGS.
func untilCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until TEXT ARGS")
	}
	ctx, cancel := context.WithTimeout(context.Background(), untilWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		cmd := exec.CommandContext(ctx, lookPath("perrin", ts.Getenv("PATH")), args[1:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = append(os.Environ(), "PERRIN_SOCKET="+ts.Getenv("PERRIN_SOCKET"), "HOME="+ts.Getenv("HOME"))
		said, err := cmd.CombinedOutput()
		if strings.Contains(string(said), args[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("never printed %q: %v\n%s", args[0], err, said)
		}
	}
}

// idCommand sets a variable to the last word of the first line of stdout: id NAME.
func idCommand(ts *testscript.TestScript, _ bool, args []string) {
	line, _, _ := strings.Cut(ts.ReadFile("stdout"), "\n")
	words := strings.Fields(line)
	if len(words) == 0 || len(args) != 1 {
		ts.Fatalf("usage: id NAME, after a command that prints an ID")
	}
	ts.Setenv(args[0], words[len(words)-1])
}

var ports struct {
	sync.Mutex
	given []int
}

// portCommand sets variables to UDP ports of loopback that nobody uses: port NAME...
func portCommand(ts *testscript.TestScript, _ bool, args []string) {
	ports.Lock()
	defer ports.Unlock()
	for _, name := range args {
		for {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			ts.Check(err)
			port := c.LocalAddr().(*net.UDPAddr).Port
			ts.Check(c.Close())
			if !slices.Contains(ports.given, port) {
				ports.given = append(ports.given, port)
				ts.Setenv(name, strconv.Itoa(port))
				break
			}
		}
	}
}

// exampleCommand copies files of the examples into the script's folder: example PATH...
func exampleCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, path := range args {
		data, err := os.ReadFile(filepath.Join("../../examples", path))
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(path)), data, 0o755))
	}
}
