package unit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/unit/unittest"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// command returns a program of this machine as a workload of a.
func command(t *testing.T, a *unittest.Attempt, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not on this machine", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PERRIN_UNIT="+a.Serve(t), "PERRIN_OUT="+a.OutDir)
	return cmd
}

// hold fails unless out has each of the lines.
func hold(t *testing.T, out string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+out, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
}

func TestShell(t *testing.T) {
	a := unittest.New(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not on this machine")
	}
	out, err := command(t, a, "sh", "shell/unit.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hold(t, string(out), "task 2 of 5 on attic", "nobody wants us to stop", "cost so far: 4200 micro-credits")
	got := a.Published()
	if !strings.HasSuffix(got["started-2.txt"], "\n") || got["progress.txt"] != "half way\n" {
		t.Errorf("published %q", got)
	}
}

func TestShellIsToldOfTheDrain(t *testing.T) {
	a := unittest.New(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not on this machine")
	}
	a.Post(unitwire.Drain, "maintenance", 1)
	out, err := command(t, a, "sh", "shell/unit.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hold(t, string(out), "stopping in 0 ms: maintenance")
}

func TestShellFailsWithTheNodesWords(t *testing.T) {
	a := unittest.New(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not on this machine")
	}
	a.Fail = errors.New("disk on fire")
	out, err := command(t, a, "sh", "shell/unit.sh").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "500") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPython starts a program that works until the node announces a drain, and
// announces one when it has published.
func TestPython(t *testing.T) {
	a := unittest.New(t)
	cmd := command(t, a, "python3", "python/unit.py")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		out.WriteString(lines.Text() + "\n")
		if lines.Text() == "published progress.json" {
			a.Post(unitwire.Drain, "the machine goes to sleep", time.Now().Add(time.Minute).UnixMilli())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	digest := workload.DigestOf(make([]byte, 1000)).String()
	hold(t, out.String(), "task 2 of 5 on attic with 3 cores", "input data/images: a tree of 70000 bytes",
		"saved 1000 bytes as "+digest[:19], "cost so far: 4200 micro-credits")
	for _, want := range []string{"\ndrain in ", "ms: the machine goes to sleep\n", "\n501: version 1 of the unit protocol does not offer dial"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if got := a.Published(); got["progress.json"] != `{"step": 3}` || len(got["checkpoint/model.bin"]) != 1000 {
		t.Errorf("published %q", got)
	}
}

// build compiles the Go program and returns its path.
func build(t *testing.T, env ...string) string {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("go is not on this machine")
	}
	out := filepath.Join(t.TempDir(), "unit")
	cmd := exec.Command(goTool, "build", "-o", out, "./golang")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	return out
}

// checkGo holds what the Go program printed and published.
func checkGo(t *testing.T, a *unittest.Attempt, out string) {
	t.Helper()
	table := "a,b\n1,2\n"
	hold(t, out, "task 2 of 5 on attic, attempt 2", "input train.py: a file of 1 bytes", "published hello.txt: 18 bytes",
		"published results/table.csv: "+workload.DigestOf([]byte(table)).String(), "preempt in 0 ms: a dearer bid", "cost so far: 4200 micro-credits in 42 s")
	if got := a.Published(); got["hello.txt"] != "hello from a task\n" || got["results/table.csv"] != table {
		t.Errorf("published %q", got)
	}
}

func TestGo(t *testing.T) {
	a := unittest.New(t)
	a.Post(unitwire.Preempt, "a dearer bid", 1)
	out, err := command(t, a, build(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkGo(t, a, string(out))
}

func TestGoOutsideOfTheMesh(t *testing.T) {
	a := unittest.New(t)
	cmd := command(t, a, build(t))
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "PERRIN_UNIT is not set") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGoGuest runs the wasip1 build: its calls come through perrin.call.
func TestGoGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and compiles a wasm guest, some seconds")
	}
	program, err := os.ReadFile(build(t, "GOOS=wasip1", "GOARCH=wasm"))
	if err != nil {
		t.Fatal(err)
	}
	a := unittest.New(t)
	a.Post(unitwire.Preempt, "a dearer bid", 1)
	socket, ctx := a.Serve(t), t.Context()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	call := func(_ context.Context, m api.Module, reqPtr, reqLen, respPtr, respCap uint32) int32 {
		return perrinCall(m.Memory(), socket, reqPtr, reqLen, respPtr, respCap)
	}
	if _, err := r.NewHostModuleBuilder("perrin").NewFunctionBuilder().WithFunc(call).Export("call").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithArgs("unit").WithStdout(&out).WithStderr(&out).WithEnv("PERRIN_OUT", "/out").
		WithFSConfig(wazero.NewFSConfig().WithDirMount(a.OutDir, "/out"))
	_, err = r.InstantiateWithConfig(ctx, program, config)
	var exit *sys.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 0) {
		t.Fatalf("%v\n%s", err, &out)
	}
	checkGo(t, a, out.String())
}

// perrinCall is the host's side of perrin.call.
func perrinCall(mem api.Memory, socket string, reqPtr, reqLen, respPtr, respCap uint32) int32 {
	request, ok := mem.Read(reqPtr, reqLen)
	if !ok {
		result, _ := unitwire.Result(nil, 0, unitwire.ErrProtocol)
		return result
	}
	response, err := exchange(socket, bytes.Clone(request))
	result, n := unitwire.Result(response, int(respCap), err)
	if !mem.Write(respPtr, response[:n]) {
		result, _ = unitwire.Result(nil, 0, unitwire.ErrProtocol)
	}
	return result
}

func exchange(socket string, request []byte) ([]byte, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return unitwire.Exchange(struct{ io.ReadWriter }{conn}, request)
}
