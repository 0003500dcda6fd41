package rehearsal

import (
	"fmt"

	"github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of what is played.
const (
	maxPeers    = 100
	maxDuration = int64(10 * 60 * 1_000_000_000) // ns
)

// Refused is the error of a scenario that asks for what whole nodes do not honour.
type Refused struct{ Field, Why, Fix string }

// Error names the field and why.
func (e *Refused) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Why) }

// Check returns a *Refused unless whole nodes honour all that a scenario says.
func Check(s *scenario.Scenario) error {
	for _, r := range []func(*scenario.Scenario) *Refused{checkSize, checkMachines, checkWork, checkRest} {
		if refused := r(s); refused != nil {
			return refused
		}
	}
	return nil
}

func checkSize(s *scenario.Scenario) *Refused {
	voters := cell.DefaultLimits().Voters(s.Peers)
	switch {
	case s.Peers > maxPeers:
		return &Refused{"peers", fmt.Sprintf("whole nodes are played up to %d at a time", maxPeers), "write peers: 50, or leave --fidelity out"}
	case s.Peers > s.CellSize:
		return &Refused{"cell_size", "whole nodes are played in one cell", fmt.Sprintf("write cell_size: %d", s.Peers)}
	case s.Voters != voters:
		return &Refused{"voters", fmt.Sprintf("a cell of %d nodes has %d", s.Peers, voters), fmt.Sprintf("write voters: %d", voters)}
	case s.Duration > maxDuration:
		return &Refused{"duration", "whole nodes are played for 10 minutes at most", "write duration: 60s"}
	case s.Owners != 1:
		return &Refused{"owners", "the nodes of one mesh are played with one owner", "write owners: 1"}
	}
	return nil
}

func checkMachines(s *scenario.Scenario) *Refused {
	m, prices := &s.Machines[0], "every node asks what the product's default is"
	switch {
	case len(s.Machines) > 1:
		return &Refused{"machines", "all machines are alike but for their speed", "write one class of machines"}
	case m.Price != chance.Always(1000):
		return &Refused{"machines.price", prices, "leave it out"}
	case m.Slope != 3000:
		return &Refused{"machines.slope", prices, "leave it out"}
	case m.SMT != 0:
		return &Refused{"machines.smt", "threads of a core do not slow each other down", "leave it out"}
	}
	return nil
}

func checkWork(s *scenario.Scenario) *Refused {
	for i := range s.Workloads {
		w := &s.Workloads[i]
		switch {
		case w.Shape.Class != workload.Core || w.Shape.Share:
			return &Refused{"workloads.shape", "whole nodes are played with work on whole cores alone", "write class: core"}
		case w.Clients > 0:
			return &Refused{"workloads.clients", "what comes is written down before", "write poisson: 10/s"}
		}
	}
	return nil
}

func checkRest(s *scenario.Scenario) *Refused {
	d := scenario.Default()
	for _, c := range []struct {
		field string
		asks  bool
	}{
		{"policy", s.Policy.Name != scenario.Perrin},
		{"churn", !s.Churn.Session.IsZero() || len(s.Churn.Departures) > 0},
		{"faults", len(s.Faults) > 0},
		{"attackers", len(s.Attackers) > 0},
		{"costs", s.Costs != d.Costs && s.Costs != scenario.Costs{}},
		{"cells", s.Cells != d.Cells},
		{"ends_within", s.EndsWithin > 0},
	} {
		if c.asks {
			return &Refused{c.field, "whole nodes do not honour it", "leave it out, or leave --fidelity out"}
		}
	}
	return nil
}

// Twin returns the scenario that the model runs beside whole nodes: their CPUs
// and disks take no virtual time, so it has costs of zero.
func Twin(s *scenario.Scenario) *scenario.Scenario {
	t := *s
	t.Costs = scenario.Costs{}
	return &t
}

// perNode is what a node of a mesh takes in memory, in bytes.
const perNode = 24 << 20

// Memory estimates the bytes that playing a scenario needs.
func Memory(s *scenario.Scenario) int64 { return 128<<20 + int64(s.Peers)*perNode }
