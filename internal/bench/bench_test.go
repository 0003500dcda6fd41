package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/shim"
)

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(m.Run())
}

// TestEveryScenarioRuns runs each at its smallest, against a daemon of this
// tree. What it measures means nothing.
func TestEveryScenarioRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: it builds perrin and starts several meshes")
	}
	dir := t.TempDir()
	exe := filepath.Join(dir, "perrin")
	if out, err := exec.Command("go", "build", "-o", exe, "../../cmd/perrin").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			smoke(t, exe, s.name)
		})
	}
}

func smoke(t *testing.T, exe, scenario string) {
	short, err := os.MkdirTemp("", "b") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	var stdout bytes.Buffer
	profiles := filepath.Join(short, "profiles")
	args := []string{"-small", "-json", "-run", "^" + scenario + "$", "-perrin", exe, "-dir", short, "-profile", profiles, "-profile-seconds", "1"}
	if code := run(t.Context(), args, &stdout, t.Output()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	var got report
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(got.Lines, func(l line) bool { return l.Scenario == scenario && l.Value > 0 && l.Pass != nil }) {
		t.Errorf("it measured nothing that has a limit: %+v", got.Lines)
	}
	taken, err := filepath.Glob(filepath.Join(profiles, "map-*.pprof"))
	if err != nil || scenario == "map" && len(taken) != 5 {
		t.Errorf("profiles of the map: %v, %v; want five", taken, err)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		l     line
		pass  bool
		ratio float64
	}{
		{atMost("", "ms", 5, 10), true, 2},
		{atMost("", "ms", 20, 10), false, 0.5},
		{atLeast("", "/s", 200, 100), true, 2},
		{atLeast("", "/s", 50, 100), false, 0.5},
		{atMost("", "ms", 10, 10), true, 1},
	} {
		c.l.judge()
		if c.l.Pass == nil || *c.l.Pass != c.pass || c.l.Ratio != c.ratio {
			t.Errorf("%+v", c.l)
		}
	}
	free := atMost("", "ms", 3, 0).against("a rival", 6)
	if free.judge(); free.Pass != nil || free.RivalRatio != 2 {
		t.Errorf("without a limit: %+v", free)
	}
}

// TestAMissedLimitIsCounted holds that lines without a limit are neither held nor
// missed.
func TestAMissedLimitIsCounted(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	r.add(atMost("good", "ms", 1, 2))
	r.add(atMost("bad", "ms", 3, 2))
	r.add(atMost("free", "ms", 3, 0))
	if missed := r.summary(); missed != 1 || !bytes.Contains(out.Bytes(), []byte("1 of 2 limits held")) {
		t.Errorf("%d missed:\n%s", missed, out.String())
	}
}

func TestPercentiles(t *testing.T) {
	var ms []float64
	for i := range 200 {
		ms = append(ms, float64(200-i))
	}
	for p, want := range map[int]float64{1: 2, 50: 100, 99: 198, 100: 200} {
		if got := percentile(ms, p); got != want {
			t.Errorf("p%d: %v, want %v", p, got, want)
		}
	}
	if percentile(nil, 50) != 0 || percentile([]float64{7}, 99) != 7 {
		t.Error("of none and of one")
	}
}

// TestTheNativeProgramTellsTheTime runs it bare; the wasm one runs in every
// scenario.
func TestTheNativeProgramTellsTheTime(t *testing.T) {
	if program, _ := noopProgram(); program == nil {
		t.Skip("needs amd64")
	}
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, elf(clockCode), 0o755); err != nil {
		t.Fatal(err)
	}
	before := time.Now().UnixNano()
	out, err := exec.Command(path).Output()
	if err != nil {
		t.Fatal(err)
	}
	at, err := clockOf(out)
	if err != nil || at < before || at > time.Now().UnixNano() {
		t.Errorf("%d, %v: want a time after %d", at, err, before)
	}
}

func TestAProcessIsAddedUp(t *testing.T) {
	u := usageOf(os.Getpid())
	if u.procs < 1 || u.rss < 1<<20 || u.pss > u.rss {
		t.Errorf("%+v", u)
	}
}
