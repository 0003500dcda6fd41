package policy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const small = `
name: small
duration: 3s
peers: 30
replications: 2
machines: [{cores: 4, price: {uniform: {from: 500, to: 1500}}}]
workloads: [{poisson: 20/s, service: 300ms}]
`

// TestPython runs a replication under the Python policy twice, to the same end.
func TestPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not on this machine")
	}
	s, err := scenario.Parse("small", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	s.Policy = scenario.Policy{Name: scenario.Own, Command: "python3 python/near.py"}
	var traces []uint64
	for range 2 {
		w, end, err := external.World(t.Context(), s, chance.Seed(1))
		if err != nil {
			t.Fatal(err)
		}
		for w.Step() {
		}
		end()
		if w.Err() != nil {
			t.Fatal(w.Err())
		}
		for _, f := range w.Result().Figures {
			if f.Name == "placed" && f.Value < 20 {
				t.Errorf("%v slots were placed", f.Value)
			}
		}
		traces = append(traces, w.Trace())
	}
	if traces[0] != traces[1] {
		t.Errorf("two runs: traces %x", traces)
	}
}

// TestGo builds the Go program and has it run a scenario.
func TestGo(t *testing.T) {
	dir := t.TempDir()
	file, program := filepath.Join(dir, "small.yaml"), filepath.Join(dir, "golang")
	if err := os.WriteFile(file, []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", program, "./golang").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := string(out); !regexp.MustCompile(`(?m)^success +100\.0000 `).MatchString(text) || !strings.Contains(text, "placement_p50") {
		t.Errorf("the program says:\n%s", out)
	}
}
