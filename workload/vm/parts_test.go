package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// TestTailKeepsTheEnd: a machine may write to its console for ever.
func TestTailKeepsTheEnd(t *testing.T) {
	var c tail
	for i := range 100_000 {
		fmt.Fprintf(&c, "line %d\r\n", i)
	}
	if len(c.text) > keptConsole || c.reason() != "line 99999" {
		t.Errorf("kept %d bytes, says %q", len(c.text), c.reason())
	}
	if n, err := c.Write(make([]byte, 10*keptConsole)); n != 10*keptConsole || err != nil || len(c.text) != keptConsole {
		t.Errorf("wrote %d, %v; kept %d", n, err, len(c.text))
	}
}

// TestReason: our init's words come first, then a panic, then whatever is last,
// and nothing that a terminal would obey.
func TestReason(t *testing.T) {
	for said, want := range map[string]string{
		"": "", "\n\x1b[2J\n": "[2J",
		"[    1.2] booting\r\n[    1.3] Kernel panic - not syncing: VFS\r\n[    1.4] Kernel Offset: 0\r\n": "Kernel panic - not syncing: VFS",
		"[    1.2] x\nperrin-guest: no disk\n[    1.3] reboot: Restarting\n":                               "no disk",
		strings.Repeat("long ", 1000): strings.TrimSpace(strings.Repeat("long ", 1000))[:maxLine],
	} {
		var c tail
		_, _ = c.Write([]byte(said))
		if got := c.reason(); got != want {
			t.Errorf("%.60q: %q, want %q", said, got, want)
		}
	}
}

// TestCreditStaysInItsWindow: what a guest gives back cannot widen it.
func TestCreditStaysInItsWindow(t *testing.T) {
	c := newCredit(10)
	c.add(1 << 40)
	if !c.take(10) {
		t.Fatal("closed")
	}
	got := make(chan bool)
	go func() { got <- c.take(10) }()
	c.add(9)
	select {
	case <-got:
		t.Fatal("had 10 of 9")
	default:
	}
	c.add(1)
	if !<-got {
		t.Fatal("closed")
	}
	go func() { got <- c.take(1) }()
	c.close()
	if <-got {
		t.Error("took from a closed one")
	}
}

// TestBadParts: what is no machine is refused before anything starts, with the
// name of what is wrong.
func TestBadParts(t *testing.T) {
	r := testRunner(t)
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, testKernel(), 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("just text"), 0o644); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(t.TempDir(), "large.cpio")
	if err := os.WriteFile(large, []byte("070701"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 4<<30); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kernel string
		parts  []string
		want   string
	}{
		"text":               {text, []string{text}, "the kernel: not an image"},
		"for 32 bits":        {kernel, []string{text}, "not for x86-64"},
		"archives too large": {testBzImage(t), []string{large}, "archives of 4096 MiB do not fit into 256 MiB of memory"},
		"nothing beside":     {testBzImage(t), nil, "want a kernel and a file system or an archive"},
		"text beside":        {testBzImage(t), []string{text}, "part 1 after the kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spec := workload.DefaultSpec()
			_, err := r.Open(context.Background(), runner.Slot{Spec: &spec, Program: c.kernel, Parts: c.parts, Dir: dir})
			if !errors.Is(err, runner.ErrProgramInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

// testBzImage is the head of a kernel.
func testBzImage(t *testing.T) string {
	t.Helper()
	head := make([]byte, 1024)
	head[0x1fe], head[0x1ff] = 0x55, 0xaa
	head[0x1f1] = 1                    // one sector of setup code
	copy(head[0x200:], "\xeb\xfeHdrS") // which jumps to itself
	head[0x206], head[0x207] = 0x0f, 0x02
	copy(head[0x22c:], "\xff\xff\xff\x7f") // how high an initial RAM disk may lie
	path := filepath.Join(t.TempDir(), "bzImage")
	if err := os.WriteFile(path, head, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKernelThatNeverBoots: QEMU starts it, it does nothing for ever, and the
// attempt ends at the deadline with one sentence. So does the next one.
func TestKernelThatNeverBoots(t *testing.T) {
	r := testRunner(t)
	r.h.bootWithin = time.Second
	probe := runnertest.BuildProbe(t, "linux", "amd64")
	kernel := testBzImage(t)
	k := runnertest.Kit{Runner: r, Program: probe, Command: []string{"probe"}}
	k.Prepare = kitParts(kernel, []string{diskImage(t, probe, "mkfs.ext4", "-q", "-d", "TREE", "IMAGE", "16M")})
	s := k.Open(t, nil)
	for range 2 {
		got := s.Do("exit", "0").Want(t, workload.Exited, codeNotExecutable)
		if want := "the virtual machine did not start: it was not ready within 1s"; !strings.HasPrefix(got.Detail, want) {
			t.Errorf("detail %q, want %q", got.Detail, want)
		}
	}
}
