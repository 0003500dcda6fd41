package smt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/vm/cpio"
	"github.com/perrin-mesh/perrin/workload/vm/tsc"
	"github.com/perrin-mesh/perrin/workload/vm/vmtest"
)

// binaryEnv names a perrin to run; else one without the shim inside is built,
// which is slower. fullEnv lets the test run.
const (
	binaryEnv = "PERRIN_TEST_BINARY"
	fullEnv   = "PERRIN_TEST_FULL"
)

// within bounds the machine's life; it takes a minute of two idle cores.
const within = 9 * time.Minute

func TestMachine(t *testing.T) {
	if os.Getenv(fullEnv) == "" {
		t.Skip("too long for a short run: make smt")
	}
	said := boot(t)
	t.Run("topology", said.topology)
	t.Run("cores", said.wholeCores)
	t.Run("owners", said.owners)
	t.Run("escape", said.escape)
	t.Run("waits", said.waits)
}

// boot runs the machine to its end and returns what it said.
func boot(t *testing.T) *words {
	qemu := vmtest.QEMU(t)
	kernel, _ := vmtest.Kernel(t)
	initrd := filepath.Join(t.TempDir(), "initrd")
	pack(t, initrd)
	ctx, stop := context.WithTimeout(context.Background(), within)
	defer stop()
	// The vendor decides how a kernel reads which threads are siblings.
	cmd := exec.CommandContext(ctx, qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "microvm,x-option-roms=off", "-m", "2048", "-smp", "8,sockets=2,cores=2,threads=2",
		"-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,vendor=GenuineIntel",
		"-kernel", kernel, "-initrd", initrd, "-append",
		fmt.Sprintf("console=ttyS0 loglevel=4 panic=-1 reboot=t tsc=reliable tsc_early_khz=%d", tsc.KHz()),
		"-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	w := &words{text: strings.ReplaceAll(out.String(), "\r", "")}
	if err != nil || !strings.Contains(w.text, "\nALL DONE\n") {
		t.Fatalf("the machine ended with %v; it said\n%s", err, w.text[max(0, len(w.text)-8000):])
	}
	return w
}

// pack makes the initial RAM disk.
func pack(t *testing.T, to string) {
	dir := t.TempDir()
	build := func(name, from string) string {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, name), ".")
		cmd.Dir, cmd.Env = from, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, said)
		}
		return filepath.Join(dir, name)
	}
	perrin := os.Getenv(binaryEnv)
	if perrin == "" {
		perrin = build("perrin", "../../cmd/perrin")
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := cpio.NewWriter(f)
	w.Folder("etc")
	w.Device("dev/console", 0o600, 5, 1)
	w.Device("dev/null", 0o666, 1, 3)
	for name, from := range map[string]string{"usr/bin/perrin": perrin, "usr/bin/probe": runnertest.BuildProbe(t, "linux", "amd64"), "init": build("init", "testdata/init")} {
		image, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		w.File(name, 0o755, image)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// words are what the machine said on its console.
type words struct{ text string }

// of returns what a step said, and fails the test if it did not succeed.
func (w *words) of(t *testing.T, step string) string {
	t.Helper()
	_, rest, _ := strings.Cut(w.text, "\nBEGIN "+step+"\n")
	said, end, ok := strings.Cut(rest, "\nEND "+step+" ")
	if verdict, _, _ := strings.Cut(end, "\n"); !ok || verdict != "<nil>" {
		t.Errorf("%s ended with %q:\n%s", step, verdict, said)
	}
	return said
}

// cpus reads the CPUs that a probe's affinity says.
func (w *words) cpus(t *testing.T, step string) []int {
	t.Helper()
	list := regexp.MustCompile(`(?m)^\[([0-9 ]+)\]$`).FindStringSubmatch(w.of(t, step))
	if list == nil {
		t.Fatalf("%s says no CPUs: %q", step, w.of(t, step))
	}
	var cpus []int
	for _, word := range strings.Fields(list[1]) {
		n, _ := strconv.Atoi(word)
		cpus = append(cpus, n)
	}
	return cpus
}

// topology: the kernel has the machine that was asked for, and perrin sees it.
func (w *words) topology(t *testing.T) {
	for cpu := range 8 {
		if got, want := w.of(t, fmt.Sprintf("siblings%d", cpu)), fmt.Sprintf("%d-%d", cpu&^1, cpu|1); got != want {
			t.Fatalf("CPU %d has siblings %s, want %s: not the machine of the test", cpu, got, want)
		}
	}
	status := w.of(t, "ready")
	for _, want := range []string{"4 physical cores, 8 threads", "cpusets", "process", "wasm"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not say %q:\n%s", want, status)
		}
	}
	if log := w.of(t, "log"); !strings.Contains(log, "cgroups=v2") {
		t.Errorf("the node does not use version 2 cgroups:\n%s", log)
	}
	if drawn := w.of(t, "held"); !strings.Contains(drawn, "2 sockets, 4 cores, 8 threads") {
		t.Errorf("the machine is drawn as\n%s", drawn)
	}
	if got := w.of(t, "hello"); got != "outerr" && got != "errout" {
		t.Errorf("a program said %q", got)
	}
}

// wholeCores: whoever pays for cores has both threads of each, and no other CPU.
func (w *words) wholeCores(t *testing.T) {
	for step, cores := range map[string]int{"cores": 1, "two cores": 2} {
		cpus := w.cpus(t, step)
		if len(cpus) != 2*cores {
			t.Errorf("%s: CPUs %v", step, cpus)
		}
		for _, c := range cpus {
			if !slices.Contains(cpus, c^1) {
				t.Errorf("%s: CPUs %v have CPU %d without its sibling", step, cpus, c)
			}
		}
	}
}

// owners: the sibling of a thread is its tenant's and nobody else's.
func (w *words) owners(t *testing.T) {
	cores := regexp.MustCompile(`\[(..)\]`).FindAllStringSubmatch(w.of(t, "held"), -1)
	held := slices.IndexFunc(cores, func(core []string) bool { return strings.Contains(core[1], "A") })
	if len(cores) != 4 || held < 0 {
		t.Fatalf("cores are drawn as %v", cores)
	}
	stranger, own := w.cpus(t, "stranger's thread"), w.cpus(t, "own thread")
	if len(stranger) != 1 || len(own) != 1 {
		t.Fatalf("one thread each, and they have CPUs %v and %v", stranger, own)
	}
	if stranger[0]/2 == held {
		t.Errorf("CPU %d of another owner's is on core %d, of which a thread is held", stranger[0], held)
	}
	if own[0]/2 != held {
		t.Errorf("CPU %d of the same owner's is not on core %d, whose other thread it has and which nobody else may use", own[0], held)
	}
}

// escape: the program that tries to get out does not, in cgroups of version 2.
func (w *words) escape(t *testing.T) {
	if report := w.of(t, "escape"); strings.Count(report, "\t") < 20 {
		t.Errorf("it tried for little:\n%s", report)
	}
}

// waits: four programs of the machine's owner share two CPUs. They use two threads
// and want more, which the pressure of their cgroup tells, so three are not lent. The
// core of which one owner holds a thread is lent to nobody either way.
func (w *words) waits(t *testing.T) {
	lent := func(step string) int {
		var drawn struct {
			Offer struct {
				Free struct {
					Spare int `json:"spare"`
				} `json:"free"`
			} `json:"offer"`
		}
		if err := json.Unmarshal([]byte(w.of(t, step)), &drawn); err != nil {
			t.Fatal(err)
		}
		return drawn.Offer.Free.Spare
	}
	if before, beside := lent("lent before"), lent("lent beside"); beside > 5 {
		t.Errorf("%d threads are lent, %d beside the owner's programs; their cgroup's pressure is\n%s", before, beside, w.of(t, "pressure"))
	}
}
