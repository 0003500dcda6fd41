package wasm

import (
	"log/slog"
	"os"
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/shim"
)

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(m.Run())
}

func kit(t testing.TB) runnertest.Kit {
	r, err := New(Config{Host: runnertest.Host(t), CacheDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return runnertest.Kit{Runner: r, Program: runnertest.BuildProbe(t, "wasip1", "wasm"), Root: "/"}
}

func TestContract(t *testing.T) { runnertest.Suite(t, kit(t)) }
