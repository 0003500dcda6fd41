package ledger

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestSpareWorkPaysForWhatItRan: not for waiting, and never for more than its time.
func TestSpareWorkPaysForWhatItRan(t *testing.T) {
	for _, tt := range []struct {
		class          workload.Class
		cpus           int32
		wall, cpu, pay int64
	}{
		{workload.Core, 1, 1000, 200, 1000}, {workload.Thread, 2, 1000, 200, 1000}, {workload.Spare, 1, 1000, 200, 200},
		{workload.Spare, 2, 1000, 800, 400}, {workload.Spare, 1, 1000, 5000, 1000}, {workload.Spare, 1, 1000, 0, 0},
	} {
		r := workload.Resources{Class: tt.class, CPUs: tt.cpus}
		if got := workload.PaidMs(&r, workload.Usage{WallMs: tt.wall, CPUMs: tt.cpu}); got != tt.pay {
			t.Errorf("%d %s: %d ms with %d ms of CPU are paid as %d, want %d", tt.cpus, tt.class, tt.wall, tt.cpu, got, tt.pay)
		}
	}
}
