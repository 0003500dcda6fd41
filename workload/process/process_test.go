package process

import (
	"log/slog"
	"os"
	"runtime"
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
	"github.com/perrin-mesh/perrin/workload/shim"
)

func TestMain(m *testing.M) {
	shim.Main()
	os.Exit(m.Run())
}

func kit(t testing.TB) runnertest.Kit {
	return runnertest.Kit{Runner: New(runnertest.Host(t), slog.New(slog.DiscardHandler)),
		Program: runnertest.BuildProbe(t, "linux", runtime.GOARCH), Root: "/work"}
}

func TestContract(t *testing.T) { runnertest.Suite(t, kit(t)) }
