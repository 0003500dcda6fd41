package sandbox

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
)

// TestLauncherComesBack: a launcher that was killed, and one whose view is no
// longer the machine's, are started anew by who needs a sandbox next.
func TestLauncherComesBack(t *testing.T) {
	h := host(t, fmt.Sprintf("perrin-test-launcher-%d", os.Getpid()))
	g, err := h.NewGroup("g", Limits{Memory: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	run := func(what string) {
		t.Helper()
		p, err := g.Start(Program{Host: true, Work: t.TempDir(), Path: "/bin/true", Args: []string{"true"}}, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer p.Close()
		if e, err := p.Wait(); err != nil || e.Code != 0 || e.Signal != 0 {
			t.Errorf("%s: %+v, %v", what, e, err)
		}
	}
	run("at first")
	pid := func() int {
		h.launcher.mu.Lock()
		defer h.launcher.mu.Unlock()
		return h.launcher.pid
	}
	was := pid()
	if err := unix.Kill(was, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range keepParked + 2 { // those that waited, and new ones
		run("after the launcher was killed")
	}
	if pid() == was {
		t.Error("the launcher is the one that was killed")
	}
	h.launcher.mu.Lock()
	h.launcher.view = &inside.View{}
	h.launcher.mu.Unlock()
	was = pid()
	run("after the machine has changed")
	if pid() == was {
		t.Error("the launcher shows what the machine has no longer")
	}
}

// TestEmptySandboxesServeOnce: each program's first process is another one.
func TestEmptySandboxesServeOnce(t *testing.T) {
	l := host(t, fmt.Sprintf("perrin-test-once-%d", os.Getpid())).launcher
	seen := map[int]bool{}
	for range 3 * keepParked {
		b, err := l.take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[b.pid] {
			t.Errorf("%d was given twice", b.pid)
		}
		seen[b.pid] = true
		defer b.end()
	}
	l.wg.Wait()
	if n := len(l.parked); n > keepParked {
		t.Errorf("%d wait, at most %d", n, keepParked)
	}
	l.close()
	if _, err := l.take(); err == nil {
		t.Error("given after the end")
	}
}
