package model

import (
	"encoding/binary"
	"fmt"
	"slices"

	rules "github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/workload"
)

// cell is a cell and, of its present term, the leader's desks.
type cell struct {
	id     workload.CellID
	at     int32 // its number
	first  int32 // members are the peers from first to last-1
	last   int32
	voters []int32
	leader int32 // -1 while there is none
	term   int32
	state  *ledger.State
	index  uint64

	desk     policy.Desk
	leases   *lease.Desk
	renewals *lease.Renewals[heldSlot]
	wakeAt   int64             // ns, of the desk's wake-up that is on its way; 0 is none
	leaseAt  int64             // ns, of the look at leases that is on its way
	quorum   int64             // ns that a majority takes to have an entry, without jitter and disks
	commits  int64             // ns, when the last proposal so far is committed
	pipes    []pipe            // of Raft, to each voter
	toFree   []workload.PeerID // whose releases wait for the end of a step
	free     map[workload.PeerID][]workload.AuctionID
	asked    []inquiry // questions to siblings that are open
	said     digest
	told     digest // the next, which others have from toldAt on
	toldAt   int64  // ns; 0 is never
	buried   int    // workloads that have ended since the last look at what to compact
}

// found founds a cell of the peers from first to last-1. Voters are the first.
func (w *World) found(first, last int32) error {
	c := cell{
		at: int32(len(w.cells)), first: first, last: last, leader: first, term: 1, state: ledger.New(w.rules()),
		free: map[workload.PeerID][]workload.AuctionID{},
	}
	s := w.seed.Stream(uint32(c.at), forLeader)
	binary.BigEndian.PutUint64(c.id[:], s.Uint64())
	binary.BigEndian.PutUint32(c.id[4:], uint32(c.at))
	for v := first; v < min(last, first+int32(w.sc.Voters)); v++ {
		c.voters = append(c.voters, v)
	}
	if len(c.voters)%2 == 0 {
		c.voters = c.voters[:len(c.voters)-1]
	}
	w.cells = append(w.cells, c)
	at := &w.cells[c.at]
	w.apply(at, &ledger.Command{Genesis: &ledger.Genesis{Mesh: w.mesh, Cell: c.id, Epoch: 1, MaxSize: uint32(last - first)}}, 0)
	for i := first; i < last; i++ {
		p := &w.peers[i]
		w.apply(at, &ledger.Command{MemberAdd: &ledger.MemberAdd{Node: p.id, Operator: w.operatorOf(i), Direct: true, Version: "sim"}}, uint64(i))
	}
	return w.lead(at, first)
}

// lead begins a term: the desks of the new leader are empty but for what the
// ledger says.
func (w *World) lead(c *cell, leader int32) error {
	desk, err := policy.New(policy.Config{
		Policy: w.sc.Policy, Self: w.peers[leader].id, Cell: c.id, Term: uint64(c.term),
		Chance: w.seed.Stream(uint32(c.at), forLeader).From(uint64(c.term) << 32), Oracle: w, Chooser: w.chooser,
	})
	if err != nil {
		return err
	}
	c.leader, c.desk, c.leases, c.wakeAt, c.asked = leader, desk, lease.NewDesk(w.lease), 0, nil
	c.renewals = lease.NewRenewals[heldSlot](w.lease)
	c.pipes = make([]pipe, len(c.voters))
	c.quorum = w.majority(c)
	var held []lease.Held
	for _, n := range c.state.Nodes() {
		if len(n.Slots) > 0 {
			held = append(held, lease.Held{Node: n.Node, Epoch: n.Epoch})
		}
	}
	c.leases.Inherit(w.clock(leader), held)
	w.watchLeases(c)
	for lot := range c.state.Lots(0) {
		w.step(c, scheduler.Input{Lot: lotOf(&lot)})
	}
	return nil
}

// majority is the delay until a majority of the voters has what the leader has.
func (w *World) majority(c *cell) int64 {
	var back []int64
	for _, v := range c.voters {
		if v != c.leader && w.runs(v) && w.hear(c.leader, v) {
			back = append(back, w.rtt(c.leader, v))
		}
	}
	need := len(c.voters) / 2
	if len(back) < need {
		return -1
	}
	slices.Sort(back)
	if need == 0 {
		return 0
	}
	return back[need-1]
}

func (w *World) leads(i int32) bool { return w.cells[w.peers[i].cell].leader == i }

func lotOf(lot *ledger.Lot) *scheduler.Lot {
	return scheduler.Lot{
		Workload: lot.ID, Owner: lot.Owner, Wanted: lot.Wanted, Since: lot.Since, Avoid: lot.Faulted, Barred: lot.Barred,
	}.Of(lot.Spec, lot.Live)
}

// step runs the desk and carries out what it says.
func (w *World) step(c *cell, in scheduler.Input) {
	for _, out := range c.desk.Step(ms(w.now), in) {
		switch {
		case out.Call != nil:
			w.send(message{kind: msgCall, from: c.leader, to: indexOf(out.Call.Node), cell: c.at, body: out.Call})
		case out.Award != nil:
			w.award(c, out.Award)
		case out.Release != nil:
			w.release(c, out.Release.Node, out.Release.Auction)
		case out.Ask != nil:
			w.askSiblings(c, &out.Ask.Lot)
		case out.WakeAtMs > 0:
			w.wakeLater(c, nsAt(out.WakeAtMs))
		}
	}
	w.sendReleases(c)
	if w.chooser != nil {
		w.broken(c.desk)
	}
}

func (w *World) wakeLater(c *cell, at int64) {
	if at = max(at, w.now); c.wakeAt == 0 || at < c.wakeAt {
		c.wakeAt = at
		w.push(at, event{kind: wake, a: c.at})
	}
}

func (w *World) wake(c *cell) {
	if c.wakeAt != w.now || c.leader < 0 {
		return // another came before, or the term is over
	}
	if until, put := w.later(c, event{kind: wake, a: c.at}); put {
		c.wakeAt = until
		return
	}
	c.wakeAt = 0
	w.step(c, scheduler.Input{})
}

func (w *World) release(c *cell, node workload.PeerID, id workload.AuctionID) {
	if c.free[node] == nil {
		c.toFree = append(c.toFree, node)
	}
	c.free[node] = append(c.free[node], id)
}

// sendReleases sends one message to each node whose holds are not needed.
func (w *World) sendReleases(c *cell) {
	for _, node := range c.toFree {
		w.send(message{kind: msgRelease, from: c.leader, to: indexOf(node), cell: c.at, body: c.free[node]})
		delete(c.free, node)
	}
	c.toFree = c.toFree[:0]
}

// proposal is a command on its way through the log.
type proposal struct {
	cmd    ledger.Command
	term   int32
	load   int32
	from   int32 // whom to answer; -1 is nobody
	slot   int32
	gen    int32
	seq    uint32
	freed  uint64
	desk   *scheduler.Award // of an Award
	leader int32
}

// followers are the servers beside the leader: the other voters, and standbys as
// consensus/cell has them.
func (c *cell) followers() int {
	return min(len(c.voters)+rules.DefaultLimits().Standbys, int(c.last-c.first)) - 1
}

// propose sends a command through the log: it is committed when a majority has it
// on disk, in the order of proposing.
func (w *World) propose(c *cell, p proposal) {
	if c.quorum < 0 {
		return // no majority: the answer never comes
	}
	p.term, p.leader = c.term, c.leader
	i := w.proposals.keep(p)
	c.commits = max(c.commits, w.replicated(c))
	for range c.followers() {
		w.count(msgRaft)
	}
	w.push(c.commits, event{kind: commit, a: c.at, c: i})
}

// committed applies a proposal, unless the term in which it was made is over: its
// entry then never got a majority, and nobody was told that it did.
func (w *World) committed(c *cell, i int32) {
	if _, put := w.later(c, event{kind: commit, a: c.at, c: i}); put {
		return
	}
	p := w.proposals.take(i)
	if c.leader != p.leader || c.term != p.term {
		return
	}
	res := w.apply(c, &p.cmd, uint64(uint32(p.load))<<32|uint64(uint32(p.slot)))
	w.follow(c, &res)
	w.settle(c, &p, &res)
	w.compact(c)
}

// apply applies a command to the ledger and takes its head into the trace.
func (w *World) apply(c *cell, cmd *ledger.Command, about uint64) ledger.Result {
	cmd.Version, cmd.At = ledger.CommandVersion, ms(w.now)
	if c.leader >= 0 {
		cmd.Leader = w.peers[c.leader].id
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], about)
	binary.BigEndian.PutUint64(raw[8:], uint64(w.now))
	c.index++
	res := c.state.Apply(c.index, cmd, raw[:])
	w.mix(c.index)
	w.mix(uint64(res.Charged))
	w.earned(c, cmd, &res)
	return res
}

// follow tells the desk of every workload whose wants a command changed, and
// keeps account of those that ended.
func (w *World) follow(c *cell, res *ledger.Result) {
	for _, f := range res.Freed {
		if n, ok := c.state.Node(f.Node); !ok || len(n.Slots) == 0 {
			c.leases.Drop(f.Node)
		}
	}
	for _, id := range res.Ends {
		c.buried++
		w.loadEnded(c, w.loadOf(id))
	}
	if !res.ID.IsZero() {
		w.refresh(c, res.ID)
	}
	for _, lost := range res.Lost {
		w.refresh(c, lost.Workload)
	}
	for _, id := range res.Ready {
		w.refresh(c, id)
	}
	for _, id := range res.Forgot {
		w.forgot(w.loadOf(id))
	}
}

// refresh reads what a workload wants now and puts it on the desk.
func (w *World) refresh(c *cell, id workload.ID) {
	if want, ok := c.state.Lot(id); ok {
		w.step(c, scheduler.Input{Lot: lotOf(&want)})
	} else {
		w.step(c, scheduler.Input{Lot: &scheduler.Lot{Workload: id}})
	}
}

// compact has ended workloads shrink to tombs, by the production rule with the
// scenario's figures.
func (w *World) compact(c *cell) {
	if c.buried < w.sc.Cells.Keep/4+64 {
		return
	}
	c.buried = 0
	rule := &ledger.Compact{Keep: uint32(w.sc.Cells.Keep), Bytes: ledger.KeepBytes, For: ledger.KeepFor, AtOnce: w.sc.Cells.AtOnce / millisecond}
	if c.state.Compactable(ms(w.now), rule) > 0 {
		w.propose(c, proposal{cmd: ledger.Command{Compact: rule}, from: -1})
	}
}

// rejected counts what the ledger refused.
func (w *World) rejected(res *ledger.Result) bool {
	if res.Reject == nil {
		return false
	}
	w.rejects++
	if w.tracing != nil {
		w.note("the ledger refuses: %v", res.Reject)
	}
	return true
}

// name is how a cell is called in messages to people.
func (c *cell) name() string { return fmt.Sprintf("cell %d", c.at) }
