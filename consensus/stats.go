package consensus

import (
	"strconv"

	"github.com/perrin-mesh/perrin/workload"
)

// Stats is a look at a server; nothing in it is exact while it works.
type Stats struct {
	State         string          `json:"state"` // follower, candidate, leader or stopped, as the library names them
	Term          uint64          `json:"term"`
	Leader        workload.PeerID `json:"leader"`
	Servers       int             `json:"servers"`
	Voters        int             `json:"voters"`
	LastIndex     uint64          `json:"last_index"`
	CommitIndex   uint64          `json:"commit_index"`
	AppliedIndex  uint64          `json:"applied_index"`  // last command or configuration applied
	SnapshotIndex uint64          `json:"snapshot_index"` // last entry of the latest snapshot
	Pending       int             `json:"pending"`        // calls that wait for an answer
	Inbound       int             `json:"inbound"`        // connections that peers hold here
	Proposed      uint64          `json:"proposed"`       // proposals since the server was opened
	Failed        uint64          `json:"failed"`         // those of them that returned an error
	Refused       uint64          `json:"refused"`        // connections refused
	Retimed       uint64          `json:"retimed"`        // times that Retime succeeded
}

// Stats returns the server's numbers.
func (g *Group) Stats() Stats {
	c := g.Servers()
	s := Stats{
		State: "Stopped", Servers: len(c.Servers), Voters: len(c.Voters()),
		AppliedIndex: g.machine.applied.Load(), Proposed: g.count.proposed.Load(),
		Failed: g.count.failed.Load(), Refused: g.count.refused.Load(), Retimed: g.count.retimed.Load(),
	}
	in := g.current()
	if in == nil {
		return s
	}
	now := in.leadership(g.cfg.Self)
	s.State, s.Term, s.Leader = in.raft.State().String(), now.Term, now.Leader
	s.LastIndex, s.CommitIndex = in.raft.LastIndex(), in.raft.CommitIndex()
	s.SnapshotIndex, _ = strconv.ParseUint(in.raft.Stats()["last_snapshot_index"], 10, 64)
	s.Pending, s.Inbound = in.load(), in.trans.layer.inboundConns()
	return s
}

// AppliedIndex returns the last command or configuration that was applied here.
func (g *Group) AppliedIndex() uint64 { return g.machine.applied.Load() }
