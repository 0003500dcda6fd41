package history

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the module's folder.
const root = "../.."

func plants(t *testing.T) []*Plant {
	t.Helper()
	files, err := filepath.Glob("testdata/plants/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d plants, %v", len(files), err)
	}
	var all []*Plant
	for _, f := range files {
		p, err := ReadPlant(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// TestPlantsFit holds that every plant still finds its place in the product.
func TestPlantsFit(t *testing.T) {
	for _, p := range plants(t) {
		if _, err := p.Overlay(root, t.TempDir()); err != nil {
			t.Error(err)
		}
	}
}

// TestPlantsAreCaught builds each bug into the product and holds that the check
// which is there for it finds it.
func TestPlantsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: it builds and runs a product for each bug")
	}
	for _, p := range plants(t) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			overlay, err := p.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if p.By == "test" {
				p.caughtByTest(t, overlay)
				return
			}
			s, ok := Schedules[p.At]
			if !ok {
				t.Fatalf("there is no schedule %q", p.At)
			}
			exe := build(t, "-overlay", overlay)
			for range tries {
				if p.caughtBy(t, exe, s) {
					return
				}
			}
			t.Errorf("%s\nThe check %q does not find it.", p.What, p.Catch)
		})
	}
}

// tries is how often daemons may miss the moment that a bug needs, on a machine
// that is very busy.
const tries = 3

func (p *Plant) caughtBy(t *testing.T, exe string, s Schedule) bool {
	found := run(t, Config{Exe: exe, Nodes: s.Nodes, Lease: s.Lease}, s.Run)
	for _, f := range found {
		t.Logf("%s: %s", f.Check, f.What)
	}
	return slices.ContainsFunc(found, func(f Finding) bool { return f.Check == p.Catch })
}

// caughtByTest runs a test of the product with the bug in it, which is to fail.
func (p *Plant) caughtByTest(t *testing.T, overlay string) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", overlay, "-run", p.Test, p.At)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out[:min(len(out), 600)])
	if err == nil || !strings.Contains(string(out), "--- FAIL") || !strings.Contains(string(out), p.Catch) {
		t.Errorf("%s\nThe test %s of %s does not find it: %v", p.What, p.Test, p.At, err)
	}
}
