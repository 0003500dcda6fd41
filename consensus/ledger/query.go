package ledger

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// View is a workload as `perrin inspect` shows it. Spec is shared and must not
// be changed.
type View struct {
	ID         workload.ID     `json:"id"`
	Seq        uint64          `json:"seq"`
	Owner      workload.PeerID `json:"owner"`
	Payer      workload.PeerID `json:"payer"` // the owner, or who made the token that it was submitted under
	Spec       *workload.Spec  `json:"spec"`
	Signed     workload.Signed `json:"-"`
	Phase      workload.Phase  `json:"phase"`
	Reason     string          `json:"reason,omitempty"`
	Held       bool            `json:"held"`
	Home       workload.PeerID `json:"home"`
	Generation uint64          `json:"generation"`
	Accepted   int64           `json:"accepted_ms"`
	Started    int64           `json:"started_ms,omitempty"`
	Ended      int64           `json:"ended_ms,omitempty"`
	Tasks      Counts          `json:"tasks"`
	Wanted     uint32          `json:"wanted"` // slots that it could use now
	Waiting    uint32          `json:"-"`      // runs of tasks that no slot has
	Slots      []Slot          `json:"slots,omitempty"`
	Nodes      []Tally         `json:"nodes,omitempty"`
	Waits      []workload.ID   `json:"waits_for,omitempty"`
	Segments   int             `json:"segments"`
	Cost       int64           `json:"cost"`
	Retries    uint64          `json:"retries"`
	Lost       uint64          `json:"lost"`
}

// Counts is how many tasks of a workload are where.
type Counts struct {
	Total  uint32 `json:"total"`
	Open   uint32 `json:"open"`
	Taken  uint32 `json:"taken"`
	Done   uint32 `json:"done"`
	Failed uint32 `json:"failed"`
}

func (l *load) counts() Counts {
	if l.verified() {
		return l.countReplicated()
	}
	return Counts{Total: l.total(), Open: l.open(), Taken: l.taken(), Done: l.done.n, Failed: l.failed.n}
}

// Workload returns a workload; false when it is not known.
func (s *State) Workload(id workload.ID) (View, bool) {
	l := s.loads[id]
	if l == nil {
		return View{}, false
	}
	return s.view(l), true
}

// Outline returns a workload without its Slots, Nodes and Waits, and how many
// slots it has: it costs the same whatever the workload's size.
func (s *State) Outline(id workload.ID) (v View, slots int, ok bool) {
	l := s.loads[id]
	if l == nil {
		return View{}, 0, false
	}
	return l.outline(), len(l.slots), true
}

// Grown reports why no task is given out, "" while tasks are.
func (s *State) Grown() string {
	if s.bytes > MaxGrown {
		return s.grown().Detail
	}
	return ""
}

// Phase returns where a workload stands; false when it is not known, or compacted.
func (s *State) Phase(id workload.ID) (workload.Phase, bool) {
	if l := s.loads[id]; l != nil {
		return l.Phase, true
	}
	return "", false
}

func (l *load) outline() View {
	return View{
		ID: l.ID, Seq: l.Seq, Owner: l.owner(), Payer: l.payer(), Spec: l.Spec, Signed: l.Signed, Phase: l.Phase, Reason: l.Reason,
		Held: l.Held, Home: l.Home, Generation: l.Generation, Accepted: l.Accepted, Started: l.Started, Ended: l.Ended,
		Tasks: l.counts(), Wanted: l.wanted(), Waiting: l.open(),
		Segments: len(l.Segments), Cost: l.Cost, Retries: l.Retries, Lost: l.LostTasks,
	}
}

func (s *State) view(l *load) View {
	v := l.outline()
	v.Nodes, v.Waits = slices.Clone(l.Tallies), s.waitsFor(l)
	for _, sl := range l.sortedSlots() {
		v.Slots = append(v.Slots, sl.record())
	}
	return v
}

func (sl *slot) record() Slot {
	r := sl.Slot
	r.Open = slices.Clone(sl.open.runs)
	return r
}

// Filter says which workloads List yields; the zero Filter yields all.
type Filter struct {
	After  uint64            // only those with a larger Seq
	Owner  workload.PeerID   // zero is anybody
	Phases []workload.Phase  // none is any
	Labels map[string]string // all of them
	Live   bool              // only those that have not ended
}

func (f *Filter) match(l *load) bool {
	for name, value := range f.Labels {
		if have, ok := l.Spec.Labels[name]; !ok || have != value {
			return false
		}
	}
	return (f.Owner.IsZero() || f.Owner == l.owner()) && !(f.Live && l.Phase.Ended()) &&
		(len(f.Phases) == 0 || slices.Contains(f.Phases, l.Phase))
}

// List yields the workloads that f lets through, in order of acceptance. The
// ledger must not change meanwhile.
func (s *State) List(f Filter) iter.Seq[View] {
	return func(yield func(View) bool) {
		for l := range s.all.from(f.After + 1) {
			if f.match(l) && !yield(s.view(l)) {
				return
			}
		}
	}
}

// Lot is a workload that wants slots. Spec is shared and must not be changed.
type Lot struct {
	ID      workload.ID
	Seq     uint64
	Owner   workload.PeerID
	Spec    *workload.Spec
	Wanted  uint32            // more slots it could use: min(max-parallel - Live, Open - idle slots)
	Open    uint32            // tasks that no slot has
	Live    uint32            // slots it has
	Since   int64             // when it was accepted
	Faulted []workload.PeerID // nodes that failed a task of it: better elsewhere, if there is an elsewhere
	Barred  []workload.PeerID // nodes that may run nothing of what is open, as they ran it before
}

// Prospect returns the lot that a workload will be once it is accepted at now;
// false when it waits for others first.
func Prospect(id workload.ID, owner workload.PeerID, spec *workload.Spec, now int64) (Lot, bool) {
	open := spec.Tasks.Count
	if spec.VerifyBy != nil {
		open *= spec.VerifyBy.Start()
	}
	return Lot{ID: id, Owner: owner, Spec: spec, Wanted: min(spec.Slots(), open), Open: open, Since: now}, len(spec.After) == 0
}

// Lots yields the workloads with a larger Seq than after that want slots, in
// order of acceptance: Lots(0) yields all. The ledger must not change meanwhile.
func (s *State) Lots(after uint64) iter.Seq[Lot] {
	return func(yield func(Lot) bool) {
		for l := range s.lots.from(after + 1) {
			if !yield(s.lot(l)) {
				return
			}
		}
	}
}

// Lot returns the workload as a lot; false when it wants no slot.
func (s *State) Lot(id workload.ID) (Lot, bool) {
	l := s.loads[id]
	if l == nil || !l.listed {
		return Lot{}, false
	}
	return s.lot(l), true
}

func (s *State) lot(l *load) Lot {
	lot := Lot{
		ID: l.ID, Seq: l.Seq, Owner: l.owner(), Spec: l.Spec, Wanted: l.wanted(), Open: l.open(),
		Live: uint32(len(l.slots)), Since: l.Accepted,
	}
	for i := range l.Tallies {
		if l.Tallies[i].Faults > 0 && !l.Tallies[i].Node.IsZero() {
			lot.Faulted = append(lot.Faulted, l.Tallies[i].Node)
		}
	}
	if l.verified() {
		var alike []workload.PeerID
		lot.Barred, alike = s.shunned(l)
		lot.Faulted = append(lot.Faulted, alike...)
	}
	return lot
}

// Slot returns a live slot; false when there is none.
func (s *State) Slot(id workload.ID, slotID workload.SlotID) (Slot, bool) {
	l := s.loads[id]
	if l == nil || l.slots[slotID] == nil {
		return Slot{}, false
	}
	return l.slots[slotID].record(), true
}

// Segments returns where the results of a workload lie, in order of closing.
func (s *State) Segments(id workload.ID) []Segment {
	if l := s.loads[id]; l != nil {
		return slices.Clone(l.Segments)
	}
	return nil
}

// ResultsOf returns where the results of count tasks from one on lie: the
// segments that have the final one of any, in order of closing, but for the first
// skip of them, and most at most.
func (s *State) ResultsOf(id workload.ID, from, count uint32, skip, most int) (out []Segment) {
	l := s.loads[id]
	if l == nil || count == 0 {
		return nil
	}
	end := uint64(from) + uint64(count)
	for i := range l.Segments {
		seg := &l.Segments[i]
		if len(out) == most {
			break
		}
		if !seg.closesAny(uint64(from), end) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		out = append(out, *seg)
	}
	return out
}

// closesAny reports whether a segment has the final result of a task of [from, end).
func (g *Segment) closesAny(from, end uint64) bool {
	return slices.ContainsFunc(g.Done, func(r workload.Range) bool { return uint64(r.From) < end && uint64(r.End()) > from }) ||
		slices.ContainsFunc(g.Failed, func(f FailedTask) bool { return uint64(f.Index) >= from && uint64(f.Index) < end })
}

// Auctions returns the last auctions of a workload as they were committed.
func (s *State) Auctions(id workload.ID) []Auction {
	if l := s.loads[id]; l != nil {
		return slices.Clone(l.Auctions)
	}
	return nil
}

// Lookup returns the workload that an owner's spec with this nonce was accepted as.
func (s *State) Lookup(owner workload.PeerID, nonce [16]byte) (workload.ID, bool) {
	l := s.nonces[nonceKey{owner, nonce}]
	if l == nil {
		return workload.ID{}, false
	}
	return l.ID, true
}

// NodeView is a node's lease with the cell.
type NodeView struct {
	Node   workload.PeerID `json:"node"`
	Member bool            `json:"member"`
	Epoch  uint64          `json:"epoch"`
	Slots  []SlotRef       `json:"slots,omitempty"` // by workload's acceptance and number
}

// Node returns a node's lease; false when the ledger has none.
func (s *State) Node(peer workload.PeerID) (NodeView, bool) {
	n := s.nodes[peer]
	if n == nil {
		return NodeView{}, false
	}
	v := NodeView{Node: peer, Member: s.members[peer] != nil, Epoch: n.epoch}
	for _, key := range n.sorted() {
		v.Slots = append(v.Slots, SlotRef{n.slots[key].ID, key.slot, peer})
	}
	return v, true
}

// Nodes returns every node's lease in the order of their keys.
func (s *State) Nodes() []NodeView {
	out := make([]NodeView, 0, len(s.nodes))
	for _, peer := range sortedPeers(maps.Keys(s.nodes)) {
		v, _ := s.Node(peer)
		out = append(out, v)
	}
	return out
}

func sortedPeers(peers iter.Seq[workload.PeerID]) []workload.PeerID {
	return slices.SortedFunc(peers, func(a, b workload.PeerID) int { return slices.Compare(a[:], b[:]) })
}

// Member returns a member; false when the node is none.
func (s *State) Member(peer workload.PeerID) (Member, bool) {
	m := s.members[peer]
	if m == nil {
		return Member{}, false
	}
	return *m, true
}

// Members returns the members in the order of their keys.
func (s *State) Members() []Member {
	out := make([]Member, 0, len(s.members))
	for _, peer := range sortedPeers(maps.Keys(s.members)) {
		out = append(out, *s.members[peer])
	}
	return out
}

// Account returns what peer spent and earned; an account that never traded is empty.
func (s *State) Account(peer workload.PeerID) Account {
	if a := s.accounts[peer]; a != nil {
		return *a
	}
	return Account{Peer: peer, Limit: noLimit, Forgot: -1}
}

// Accounts returns all accounts in the order of their keys.
func (s *State) Accounts() []Account {
	out := make([]Account, 0, len(s.accounts))
	for _, peer := range sortedPeers(maps.Keys(s.accounts)) {
		out = append(out, *s.accounts[peer])
	}
	return out
}

// Cell is what Genesis said; Founded is false before it.
type Cell struct {
	Founded bool            `json:"founded"`
	Mesh    workload.MeshID `json:"mesh"`
	Cell    workload.CellID `json:"cell"`
	Epoch   uint64          `json:"epoch"`
	MaxSize int             `json:"max_size"`
}

// Cell returns which cell's ledger this is.
func (s *State) Cell() Cell { return Cell{s.founded, s.mesh, s.cell, s.epoch, s.maxSize} }

// Head returns the last applied index and the hash chain's head at it.
func (s *State) Head() (index uint64, head workload.Digest) { return s.index, s.head }

// Time returns the ledger's time in ms: the largest At that was applied.
func (s *State) Time() int64 { return s.time }

// Stats counts what the ledger holds.
type Stats struct {
	Index    uint64                 `json:"index"`
	Head     workload.Digest        `json:"head"`    // hash of the chain at Index: replicas that agree have the same
	Applied  uint64                 `json:"applied"` // commands, rejected ones not counted
	Rejected []RejectCount          `json:"rejected,omitempty"`
	Phases   map[workload.Phase]int `json:"phases"` // workloads
	Lots     int                    `json:"lots"`
	Slots    int                    `json:"slots"`
	Members  int                    `json:"members"`
	Accounts int                    `json:"accounts"`
	Bytes    int64                  `json:"bytes"` // what the workloads weigh
	Tombs    int                    `json:"tombs"` // compacted workloads that are remembered
}

// RejectCount is how many commands were rejected for one reason.
type RejectCount struct {
	Code  Code   `cbor:"1,keyasint" json:"code" max:"32"`
	Count uint64 `cbor:"2,keyasint" json:"count"`
}

// Stats returns the counters.
func (s *State) Stats() Stats {
	phases := maps.Clone(s.phases)
	maps.DeleteFunc(phases, func(_ workload.Phase, n int) bool { return n == 0 })
	return Stats{
		Index: s.index, Head: s.head, Applied: s.applied, Rejected: s.rejectCounts(), Phases: phases, Lots: s.lots.n, Slots: s.slots,
		Members: len(s.members), Accounts: len(s.accounts), Bytes: s.bytes, Tombs: len(s.tombs),
	}
}

func (s *State) rejectCounts() []RejectCount {
	out := make([]RejectCount, 0, len(s.rejects))
	for code, n := range s.rejects {
		out = append(out, RejectCount{code, n})
	}
	slices.SortFunc(out, func(a, b RejectCount) int { return cmp.Compare(a.Code, b.Code) })
	return out
}
