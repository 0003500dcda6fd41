package wasm

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

func TestEscape(t *testing.T) { runnertest.Escape(t, kit(t), runnertest.ColumnWasm) }
