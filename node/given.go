package node

import (
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
)

// Supervisor ends attempts at the end of their lease, whatever becomes of the
// node. A runner.Supervisor is one.
type Supervisor interface {
	worker.Supervisor
	// Done is closed when it has failed: the node then stops.
	Done() <-chan struct{}
}

// Given stands in for the machine that a node runs on, together with
// Config.Runners, so that whole nodes can run in one process, in virtual time
// and on a network of their own. The node then starts no process, opens no
// socket unless a runner asks for one, and asks the host for nothing but files
// in its data folder. All fields but Watch are needed.
type Given struct {
	Topology   capacity.Topology
	Supervisor Supervisor    // stays its maker's: the node does not close it
	Clock      clock.Source  // what leases are counted by; the Supervisor's too
	Mesh       []mesh.Option // the network; see mesh.OnPackets
	// Watch is told of each entry that this node's replica of its home cell's ledger
	// has applied, in their order, from one goroutine at a time. It must not block.
	Watch func(*ledger.Command, *ledger.Result)
}

// watch is who is told of entries; nil is nobody.
func (c *Config) watch() func(*ledger.Command, *ledger.Result) {
	if c.Given == nil {
		return nil
	}
	return c.Given.Watch
}

// clock is what leases are counted by; nil is the machine's own.
func (c *Config) clock() clock.Source {
	if c.Given == nil {
		return nil
	}
	return c.Given.Clock
}
