package gauge

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/scheduler/capacity"
)

const cpuinfo = "processor\t: 0\nmodel name\t: A\nmicrocode\t: 0x1\nflags\t: x\n\nprocessor\t: 1\nmodel name\t: A\nmicrocode\t: 0x1\n"

// hybrid is two fast cores of two threads and a slow one.
func hybrid() capacity.Topology {
	topo := capacity.Uniform(2, 2)
	topo.Cores = append(topo.Cores, capacity.Core{Tier: 1, CPUs: []int{4}})
	return topo
}

// fake measures a machine whose siblings add 30 % in arithmetic and 70 % in
// memory, and whose slow core does 55 %.
type fake struct {
	runs int
	took time.Duration
}

func (f *fake) run(_ context.Context, w work, cpus []int, d time.Duration) (float64, error) {
	f.runs++
	f.took += d
	turns, _ := w(func() bool { return true }) // the work ends when told to
	gain := 0.3
	if f.runs > 2 {
		gain = 0.7
	}
	switch {
	case slices.Equal(cpus, []int{4}):
		return 550 + float64(turns), nil
	case len(cpus) == 2:
		return 1000 * (1 + gain), nil
	}
	return 1000, nil
}

func TestMeasuredOnceForAProcessor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gauge.json")
	f := &fake{}
	for range 2 {
		r, err := load(t.Context(), hybrid(), cpuinfo, file, f.run)
		if err != nil || r.SMT != 1500 || !slices.Equal(r.Speeds, []int64{1000, 550}) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if f.runs != 6 || f.took > Budget {
		t.Errorf("%d runs of %v in all", f.runs, f.took)
	}
	for name, change := range map[string]func(){
		"new microcode": func() { _, _ = load(t.Context(), hybrid(), cpuinfo+"microcode\t: 0x2\n", file, f.run) },
		"garbage":       func() { _ = os.WriteFile(file, []byte("{"), 0o600) },
		"nonsense": func() {
			_ = os.WriteFile(file, []byte(`{"key":"`+keyOf(cpuinfo, hybrid())+`","smt":9999,"speeds":[1,2]}`), 0o600)
		},
	} {
		change()
		f.runs = 0
		if r, err := load(t.Context(), hybrid(), cpuinfo, file, f.run); err != nil || f.runs != 6 || r.SMT != 1500 {
			t.Errorf("%s: %+v, %v after %d runs", name, r, err, f.runs)
		}
	}
}

func TestNothingToMeasure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gauge.json")
	r, err := Load(t.Context(), capacity.Uniform(4, 1), cpuinfo, file)
	if err != nil || r.SMT != 0 || r.Speeds != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file is left")
	}
}

// TestRealRuns measures on this machine, shortly: whatever the CPUs, work is done
// on both, and cancelling ends it.
func TestRealRuns(t *testing.T) {
	for name, w := range map[string]work{"arithmetic": arithmetic, "memory": memory} {
		n, err := run(t.Context(), w, []int{0}, 20*time.Millisecond)
		if err != nil || n < 1000 {
			t.Errorf("%s: %.0f turns a second, %v", name, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, arithmetic, []int{0}, time.Hour); err == nil {
		t.Error("a cancelled run ends well")
	}
	if _, err := run(t.Context(), arithmetic, []int{1 << 9}, time.Millisecond); err == nil {
		t.Error("it runs on a CPU that is not there")
	}
}
