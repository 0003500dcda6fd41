package node

import (
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/scheduler/capacity"
)

// TestReserveBeyondTheMachine: a node that keeps more than there is would offer
// nothing; it says so and does not start.
func TestReserveBeyondTheMachine(t *testing.T) {
	topo := capacity.Topology{Cores: make([]capacity.Core, 2)}
	for _, c := range []struct {
		cores  int
		memory int64
		want   string
	}{
		{2, 1 << 20, ""}, {0, 0, ""}, {3, 0, "cores=3 is more than the 2"}, {0, 1 << 30, "memory=1024 MiB leaves nothing of the 1024 MiB"},
	} {
		n := &Node{cfg: Config{KeepCores: c.cores, KeepMemory: c.memory, Memory: 1 << 30}}
		err := n.checkReserve(topo)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("cores %d, memory %d: %v, want %q", c.cores, c.memory, err, c.want)
		}
	}
}
