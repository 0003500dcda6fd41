package vm

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/shim"
	"github.com/perrin-mesh/perrin/workload/vm/cpio"
	"github.com/perrin-mesh/perrin/workload/vm/vmtest"
)

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(m.Run())
}

// testKernelFiles returns the kernel and the drivers that the guest's init asks for.
func testKernelFiles(tb testing.TB) (kernel string, drivers map[string]string) {
	tb.Helper()
	kernel, dir := vmtest.Kernel(tb)
	want := map[string]bool{"virtio": true, "virtio_ring": true, "virtio_mmio": true, "virtio_console": true, "virtio_blk": true,
		"overlay": true, "squashfs": true}
	drivers = map[string]string{}
	err := filepath.WalkDir(filepath.Join(dir, "lib", "modules"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && want[strings.ReplaceAll(strings.TrimSuffix(d.Name(), ".ko"), "-", "_")] {
			rel, _ := filepath.Rel(dir, path)
			drivers[path] = rel
		}
		return err
	})
	if err != nil || len(drivers) != len(want) {
		tb.Fatalf("drivers %v of %v: %v", drivers, want, err)
	}
	return kernel, drivers
}

// buildGuest builds the guest's init once.
var buildGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "guest"), "./guest/cmd/perrin-guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return said, err
	}
	return os.ReadFile(filepath.Join(dir, "guest"))
})

// driverArchive writes an initial RAM disk that holds drivers.
func driverArchive(tb testing.TB, drivers map[string]string) string {
	tb.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for path, rel := range drivers {
		image, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		w.File(rel, 0o644, image)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	to := filepath.Join(tb.TempDir(), "drivers.cpio")
	if err := os.WriteFile(to, b.Bytes(), 0o644); err != nil {
		tb.Fatal(err)
	}
	return to
}

// diskImage makes a root file system that holds the probe alone.
func diskImage(tb testing.TB, probe string, mkfs ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	image, err := os.ReadFile(probe)
	if err != nil {
		tb.Fatal(err)
	}
	bin := filepath.Join(dir, "tree", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "probe"), image, 0o755); err != nil {
		tb.Fatal(err)
	}
	to := filepath.Join(dir, "root.img")
	for i, a := range mkfs {
		mkfs[i] = strings.NewReplacer("TREE", filepath.Join(dir, "tree"), "IMAGE", to).Replace(a)
	}
	if said, err := exec.Command(mkfs[0], mkfs[1:]...).CombinedOutput(); err != nil {
		tb.Fatalf("%q: %v\n%s", mkfs, err, said)
	}
	if err := os.Chmod(to, 0o644); err != nil {
		tb.Fatal(err)
	}
	return to
}

// testRunner returns the runner that may emulate, on a machine that has what it needs.
func testRunner(tb testing.TB) *Runner {
	tb.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		tb.Skip("no mkfs.ext4 (e2fsprogs); `make deps` installs it")
	}
	vmtest.QEMU(tb)
	guest, err := buildGuest()
	if err != nil {
		tb.Fatalf("build the guest's init: %v\n%s", err, guest)
	}
	_, r := New(Config{Host: runnertest.Host(tb), Dir: tb.TempDir(), Guest: guest, Logger: slog.New(slog.DiscardHandler)})
	return r
}

// kit is the contract suite's: Debian's kernel, its drivers and a disk.
func kit(tb testing.TB) runnertest.Kit {
	r := testRunner(tb)
	kernel, drivers := testKernelFiles(tb)
	probe := runnertest.BuildProbe(tb, "linux", "amd64")
	parts := []string{driverArchive(tb, drivers), diskImage(tb, probe, "mkfs.ext4", "-q", "-d", "TREE", "IMAGE", "16M")}
	return runnertest.Kit{Runner: r, Program: probe, Root: "/work", Command: []string{"probe"}, Memory: workload.MinVMMemory, Dear: true,
		Prepare: kitParts(kernel, parts)}
}

func kitParts(kernel string, parts []string) func(*workload.Spec, *runner.Slot) {
	return func(_ *workload.Spec, slot *runner.Slot) { slot.Program, slot.Parts = kernel, parts }
}

// TestContract boots some forty machines, of which each takes two seconds of a
// processor when it is emulated.
func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run")
	}
	runnertest.Suite(t, kit(t))
}
