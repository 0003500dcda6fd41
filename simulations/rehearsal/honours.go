package rehearsal

import (
	"fmt"
	"slices"
	"strings"

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

// Refused is one field of a scenario that whole nodes do not honour, why, and what to
// write in the scenario.
type Refused struct{ Field, Why, Fix string }

// Refusals is the error of a scenario that asks for what whole nodes do not honour.
type Refusals []Refused

// Error names every field and why, a line for each.
func (r Refusals) Error() string {
	lines := make([]string, len(r))
	for i, each := range r {
		lines[i] = each.Field + ": " + each.Why
	}
	return strings.Join(lines, "\n")
}

// Hint says what to write in place of all of them.
func (r Refusals) Hint() string {
	fixes := make([]string, len(r))
	for i, each := range r {
		fixes[i] = each.Fix
	}
	return strings.Join(fixes, "; ")
}

// Check returns Refusals unless whole nodes honour all that a scenario says.
func Check(s *scenario.Scenario) error {
	var all Refusals
	for _, of := range [][]refusal{ofSize(s), ofMachines(s), ofWork(s), ofFaults(s), ofRest(s)} {
		for _, r := range of {
			if r.asks {
				all = append(all, r.Refused)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// refusal is what is refused of a scenario that asks for it.
type refusal struct {
	asks bool
	Refused
}

func ofSize(s *scenario.Scenario) []refusal {
	voters := cell.DefaultLimits().Voters(s.Peers)
	few := s.Peers <= maxPeers // beyond, a smaller mesh has another cell and other voters
	return []refusal{
		{!few, Refused{"peers", fmt.Sprintf("whole nodes are played up to %d at a time", maxPeers), "write peers: 50"}},
		{few && s.Peers > s.CellSize, Refused{"cell_size", "whole nodes are played in one cell", fmt.Sprintf("write cell_size: %d", s.Peers)}},
		{few && s.Voters != voters, Refused{"voters", fmt.Sprintf("a cell of %d nodes has %d", s.Peers, voters), fmt.Sprintf("write voters: %d", voters)}},
		{s.Duration > maxDuration, Refused{"duration", "whole nodes are played for 10 minutes at most", "write duration: 60s"}},
		{s.Owners != 1, Refused{"owners", "the nodes of one mesh are played with one owner", "write owners: 1"}},
	}
}

func ofMachines(s *scenario.Scenario) []refusal {
	if len(s.Machines) > 1 {
		return []refusal{{true, Refused{"machines", "all machines are alike but for their speed", "write one class of machines"}}}
	}
	m, prices := &s.Machines[0], "every node asks what the product's default is"
	return []refusal{
		{m.Price != chance.Always(1000), Refused{"machines.price", prices, "leave machines.price out"}},
		{m.Slope != 3000, Refused{"machines.slope", prices, "leave machines.slope out"}},
		{m.SMT != 0, Refused{"machines.smt", "threads of a core do not slow each other down", "leave machines.smt out"}},
	}
}

func ofWork(s *scenario.Scenario) []refusal {
	shape := func(w scenario.Workloads) bool { return w.Shape.Class != workload.Core || w.Shape.Share }
	clients := func(w scenario.Workloads) bool { return w.Clients > 0 }
	return []refusal{
		{slices.ContainsFunc(s.Workloads, shape), Refused{"workloads.shape", "whole nodes are played with work on whole cores alone", "write class: core"}},
		{slices.ContainsFunc(s.Workloads, clients), Refused{"workloads.clients", "what comes is written down before", "write poisson: 10/s"}},
	}
}

// ofFaults refuses the faults that a bubble of virtual time cannot have.
func ofFaults(s *scenario.Scenario) []refusal {
	has := func(kind string) bool {
		return slices.ContainsFunc(s.Faults, func(f scenario.Fault) bool { return f.Kind == kind })
	}
	return []refusal{
		{has(scenario.Freeze), Refused{"faults.freeze", "a process cannot be stopped and go on in virtual time", "write cut or crash in place of freeze"}},
		{has(scenario.Disk), Refused{"faults.disk", "disks take no virtual time", "leave faults.disk out"}},
		{has(scenario.Duplicate), Refused{"faults.duplicate", "QUIC drops packets that come twice, and who repeats a message is the product itself", "leave faults.duplicate out"}},
	}
}

func ofRest(s *scenario.Scenario) []refusal {
	d := scenario.Default()
	var out []refusal
	for _, c := range []struct {
		field string
		asks  bool
	}{
		{"policy", s.Policy.Name != scenario.Perrin},
		{"attackers", len(s.Attackers) > 0},
		{"costs", s.Costs != d.Costs && s.Costs != scenario.Costs{}},
		{"cells", s.Cells != d.Cells},
		{"ends_within", s.EndsWithin > 0},
		{"network.bandwidth", s.Network.Bandwidth != nil},
		{"network.connections", s.Network.Connections != nil},
		{"network.gossip", s.Network.Gossip != nil},
		{"network.dht", s.Network.DHT},
		{"workloads.verify_by", slices.ContainsFunc(s.Workloads, func(w scenario.Workloads) bool { return w.VerifyBy != nil })},
		{"workloads.start", slices.ContainsFunc(s.Workloads, func(w scenario.Workloads) bool { return !w.Start.IsZero() })},
	} {
		out = append(out, refusal{c.asks, Refused{c.field, "whole nodes do not honour it", "leave " + c.field + " out"}})
	}
	return out
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
