package study

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestModules(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Path: "m/main", Version: "v1.2.0"}, Deps: []*debug.Module{
		{Path: "z/z", Version: "v0.1.0"}, {Path: "a/a", Version: "v2.0.0", Replace: &debug.Module{Path: "b/b", Version: "v2.0.1"}},
		{Path: "c/c", Version: "v3.0.0", Replace: &debug.Module{Path: "/home/ann/c"}},
	}}
	want := []string{"a/a@v2.0.0 => b/b@v2.0.1", "c/c@v3.0.0 => a folder", "m/main@v1.2.0", "z/z@v0.1.0"}
	if got := modules(info); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i := range 2 * mostModules {
		info.Deps = append(info.Deps, &debug.Module{Path: fmt.Sprint("d/", i), Version: "v1.0.0"})
	}
	if got := modules(info); len(got) != mostModules || !slices.IsSorted(got) {
		t.Errorf("%d modules, the first %q", len(got), got[0])
	}
	if got := modules(&debug.BuildInfo{}); len(got) > 0 {
		t.Errorf("of a build that does not say: %q", got)
	}
}

// TestManifestNamesModules wants those of this program, Perrin among them.
func TestManifestNamesModules(t *testing.T) {
	if m := (&Outcome{Scenario: parse(t, text)}).Manifest("v1", nil, time.Now()); !slices.Equal(m.Modules, Modules()) ||
		!slices.ContainsFunc(m.Modules, func(name string) bool { return strings.HasPrefix(name, "github.com/perrin-mesh/perrin@") }) {
		t.Errorf("got %q", m.Modules)
	}
}
