package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// doomedEnv makes TestDoomed run a machine until it is killed.
const doomedEnv = "PERRIN_TEST_DOOMED"

// tellingGuard says on stdout where a machine's cgroups are.
type tellingGuard struct{}

func (tellingGuard) Guard(p runner.Proc) (func(), error) {
	for _, dir := range p.Cgroups {
		fmt.Println("cgroup", dir)
	}
	return func() {}, nil
}

// TestDoomed is the daemon that TestKilledDaemon kills.
func TestDoomed(t *testing.T) {
	if os.Getenv(doomedEnv) == "" {
		return
	}
	s := kit(t).Open(t, func(_ *workload.Spec, slot *runner.Slot) { slot.Guard = tellingGuard{} })
	a := s.Attempt("spin")
	a.Stdout = runnertest.NewWhenReady(func() { fmt.Println("spinning") })
	s.Run(a)
}

// TestKilledDaemon: of a machine whose daemon is killed no process is left, and
// the next daemon removes its cgroups.
func TestKilledDaemon(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run")
	}
	kit(t) // skips where there is nothing to boot
	daemon := exec.Command(os.Args[0], "-test.run=^TestDoomed$", "-test.timeout=4m")
	daemon.Env = append(os.Environ(), doomedEnv+"=yes")
	said, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = daemon.Wait() }()
	defer func() { _ = daemon.Process.Kill() }()
	var cgroups []string
	spins := false
	for lines := bufio.NewScanner(said); !spins && lines.Scan(); {
		if dir, ok := strings.CutPrefix(lines.Text(), "cgroup "); ok {
			cgroups = append(cgroups, dir)
		}
		spins = lines.Text() == "spinning"
	}
	if !spins {
		t.Fatal("the daemon ended before its machine ran")
	}
	if len(cgroups) == 0 {
		t.Skip("cgroups are not writable")
	}
	if len(members(t, cgroups)) == 0 {
		t.Fatal("the machine is not in its cgroups")
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); len(members(t, cgroups)) > 0; {
		if time.Now().After(end) {
			t.Fatalf("processes %v outlive their daemon", members(t, cgroups))
		}
		<-time.After(20 * time.Millisecond)
	}
	next, err := sandbox.NewHost(sandbox.Config{Prefix: filepath.Base(filepath.Dir(cgroups[0])), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range cgroups {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

// members are the processes in any of the cgroups.
func members(t *testing.T, cgroups []string) []string {
	t.Helper()
	var out []string
	for _, dir := range cgroups {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out = append(out, strings.Fields(string(text))...)
	}
	return out
}
