package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

func TestEscape(t *testing.T) { runnertest.Escape(t, kit(t), runnertest.ColumnProcess) }

// TestEscapeIsNoticed: the program says so when it reaches what it was told is outside.
func TestEscapeIsNoticed(t *testing.T) {
	s := kit(t).Open(t, nil)
	file := filepath.Join(s.Dir, "secret")
	if err := os.WriteFile(file, []byte("of somebody else"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := s.Attempt("escape", "root=/work", "mark=of somebody else", "secret=/work/given", "other=/none/x", "key=/none/y", "variable=PERRIN_OUT")
	a.Mounts = []runner.Mount{{Source: file, Target: "given"}}
	r := s.Run(a)
	for _, want := range []string{"by its path, read /work/given: not refused", "through /proc, read /proc/self/root/../work/given: not refused",
		"by symbolic links that it makes, absolute: not refused", "the node's environment, read: not refused"} {
		if r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("exit code %d, nothing of %q in\n%s", r.Code, want, r.Stderr)
		}
	}
}
