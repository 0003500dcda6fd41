package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// SnapshotVersion is the version of the Snapshot that this package writes.
const SnapshotVersion = 3

// oldestSnapshot is the oldest version that this package restores: it had no
// certificates, and kept fewer auctions.
const oldestSnapshot = 2

// ErrSnapshot is returned when a snapshot is of a newer version or does not
// hold together.
var ErrSnapshot = errors.New("snapshot cannot be restored")

// Snapshot is a whole ledger. It shares no memory that Apply changes, so that
// it can be encoded while the ledger goes on.
type Snapshot struct {
	Version  uint16          `cbor:"1,keyasint"`
	Founded  bool            `cbor:"2,keyasint"`
	Mesh     workload.MeshID `cbor:"3,keyasint"`
	Cell     workload.CellID `cbor:"4,keyasint"`
	Epoch    uint64          `cbor:"5,keyasint"`
	MaxSize  uint32          `cbor:"6,keyasint"`
	Index    uint64          `cbor:"7,keyasint"`
	Head     workload.Digest `cbor:"8,keyasint"`
	Time     int64           `cbor:"9,keyasint"`
	NextSeq  uint64          `cbor:"10,keyasint"`
	NextEnd  uint64          `cbor:"11,keyasint"`
	Floor    uint64          `cbor:"12,keyasint"`
	Applied  uint64          `cbor:"13,keyasint"`
	Rejects  []RejectCount   `cbor:"14,keyasint,omitempty" max:"64"`
	Members  []Member        `cbor:"15,keyasint,omitempty" max:"128"`
	Leases   []Lease         `cbor:"16,keyasint,omitempty" max:"1048576"`
	Accounts []Account       `cbor:"17,keyasint,omitempty" max:"1048576"`
	Records  []Record        `cbor:"18,keyasint,omitempty" max:"200000"`
	Tombs    []Tomb          `cbor:"19,keyasint,omitempty" max:"65536"` // by EndSeq
	Certs    []Cert          `cbor:"20,keyasint,omitempty" max:"16384"` // by node, then as they were shown
	Tokens   []TokenUse      `cbor:"21,keyasint,omitempty" max:"65536"`

	Standings []Standing `cbor:"40,keyasint,omitempty" max:"262144"` // by node, then as they came
}

// Lease is a node's epoch in a snapshot. Its slots stand with their workloads.
type Lease struct {
	Node  workload.PeerID `cbor:"1,keyasint"`
	Epoch uint64          `cbor:"2,keyasint"`
}

// Snapshot returns the whole ledger. Equal ledgers give equal snapshots.
func (s *State) Snapshot() *Snapshot {
	snap := &Snapshot{
		Version: SnapshotVersion, Founded: s.founded, Mesh: s.mesh, Cell: s.cell, Epoch: s.epoch, MaxSize: uint32(s.maxSize),
		Index: s.index, Head: s.head, Time: s.time, NextSeq: s.nextSeq, NextEnd: s.nextEnd, Floor: s.floor,
		Applied: s.applied, Rejects: s.rejectCounts(), Members: s.Members(), Accounts: s.Accounts(),
		Tokens: s.tokenUses(), Standings: s.allStandings(), Records: make([]Record, 0, len(s.loads)),
	}
	for _, peer := range sortedPeers(maps.Keys(s.nodes)) {
		snap.Leases = append(snap.Leases, Lease{peer, s.nodes[peer].epoch})
	}
	for l := range s.all.from(0) {
		snap.Records = append(snap.Records, l.snapshot())
	}
	for t := range s.graves.from(0) {
		snap.Tombs = append(snap.Tombs, *t)
	}
	for _, node := range sortedPeers(maps.Keys(s.certs)) {
		snap.Certs = append(snap.Certs, s.certs[node]...)
	}
	return snap
}

func (l *load) snapshot() Record {
	r := l.Record
	r.Fresh, r.Retry = slices.Clone(l.fresh.runs), slices.Clone(l.retry.runs)
	r.Done, r.Failed = slices.Clone(l.done.runs), slices.Clone(l.failed.runs)
	r.Segments, r.Steps, r.Auctions = slices.Clone(l.Segments), slices.Clone(l.Steps), slices.Clone(l.Auctions)
	r.Used, r.Tallies = slices.Clone(l.Used), slices.Clone(l.Tallies)
	for _, sl := range l.sortedSlots() {
		r.Slots = append(r.Slots, sl.record())
	}
	return r
}

// Restore returns the ledger of a snapshot, which it keeps parts of. The error
// wraps ErrSnapshot.
func Restore(rules Rules, snap *Snapshot) (*State, error) {
	if snap.Version < oldestSnapshot || snap.Version > SnapshotVersion {
		return nil, fmt.Errorf("%w: version %d, this node reads %d to %d", ErrSnapshot, snap.Version, oldestSnapshot, SnapshotVersion)
	}
	s := New(rules)
	s.founded, s.mesh, s.cell, s.epoch, s.maxSize = snap.Founded, snap.Mesh, snap.Cell, snap.Epoch, int(snap.MaxSize)
	s.index, s.head, s.time, s.applied = snap.Index, snap.Head, snap.Time, snap.Applied
	s.nextSeq, s.nextEnd, s.floor = snap.NextSeq, snap.NextEnd, snap.Floor
	for _, r := range snap.Rejects {
		s.rejects[r.Code] = r.Count
	}
	for _, m := range snap.Members {
		s.members[m.Node] = &m
	}
	for _, a := range snap.Accounts {
		s.accounts[a.Peer] = &a
	}
	for _, c := range snap.Certs {
		s.certs[c.Node] = append(s.certs[c.Node], c)
	}
	s.certCount = len(snap.Certs)
	for _, u := range snap.Tokens {
		s.tokens[u.ID] = &tokenUse{TokenUse: u}
	}
	s.restoreStandings(snap.Standings)
	for _, lease := range snap.Leases {
		s.nodes[lease.Node] = &node{epoch: lease.Epoch, slots: map[slotKey]*load{}}
	}
	for peer := range s.members {
		if s.nodes[peer] == nil {
			return nil, fmt.Errorf("%w: a member has no lease", ErrSnapshot)
		}
	}
	if err := s.restoreRecords(snap.Records); err != nil {
		return nil, err
	}
	for _, t := range snap.Tombs {
		if s.loads[t.ID] != nil || s.tombs[t.ID] != nil || t.EndSeq >= s.nextEnd || !t.Phase.Ended() {
			return nil, fmt.Errorf("%w: the tomb of %s does not fit", ErrSnapshot, t.ID)
		}
		s.entomb(&t)
	}
	return s, nil
}

func (s *State) restoreRecords(records []Record) error {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	for i := range records {
		r := &records[i]
		if err := s.readSpec(r); err != nil {
			return fmt.Errorf("%w: workload %s: its spec: %w", ErrSnapshot, r.ID, err)
		}
		if s.loads[r.ID] != nil || r.Seq == 0 || r.Seq >= s.nextSeq || i > 0 && r.Seq == records[i-1].Seq {
			return fmt.Errorf("%w: workload %s, number %d, is incomplete or there twice", ErrSnapshot, r.ID, r.Seq)
		}
		if err := s.restoreRecord(r); err != nil {
			return fmt.Errorf("%w: workload %s: %w", ErrSnapshot, r.ID, err)
		}
	}
	return nil
}

// readSpec decodes the spec of a record, which a snapshot has in its signed
// form alone.
func (s *State) readSpec(r *Record) error {
	var spec workload.Spec
	var err error
	switch {
	case r.Spec != nil:
		return nil
	case s.rules.ReadSpec != nil:
		spec, err = s.rules.ReadSpec(r.Signed.Payload)
	default:
		spec, err = s.rules.OpenSpec(r.Signed)
	}
	r.Spec = &spec
	return err
}

func (s *State) restoreRecord(r *Record) error {
	l := &load{
		Record: *r, fresh: newRunSet(r.Fresh), retry: newRunSet(r.Retry), done: newRunSet(r.Done), failed: newRunSet(r.Failed),
		slots: make(map[workload.SlotID]*slot, len(r.Slots)),
	}
	tasks := uint64(l.fresh.n) + uint64(l.retry.n) + uint64(l.done.n) + uint64(l.failed.n)
	for _, record := range r.Slots {
		sl := &slot{Slot: record, open: newRunSet(record.Open)}
		sl.Open = nil
		n := s.nodes[sl.Node]
		if !inOrder(record.Open) {
			return fmt.Errorf("slot %d holds runs that are not in order", sl.ID)
		}
		if n == nil || l.slots[sl.ID] != nil || int(sl.Tally) >= len(l.Tallies) {
			return fmt.Errorf("slot %d has no node, no tally or is there twice", sl.ID)
		}
		l.slots[sl.ID] = sl
		n.slots[slotKey{l.Seq, sl.ID}] = l
		s.slots++
		l.mark(sl)
		tasks += uint64(sl.open.n)
	}
	l.Fresh, l.Retry, l.Done, l.Failed, l.Slots = nil, nil, nil, nil, nil
	l.parts = l.partsOf()
	if tasks != uint64(l.total()) && !l.verified() {
		return fmt.Errorf("%d tasks, the spec has %d", tasks, l.total())
	}
	if err := r.check(); err != nil {
		return err
	}
	if err := l.restorePolls(); err != nil {
		return err
	}
	for payer, due := range l.owed() {
		s.dues[payer] += due
	}
	if !l.Phase.Ended() {
		for _, id := range l.after() {
			if s.loads[id] == nil {
				return fmt.Errorf("it names %s, which is not there", id)
			}
		}
	}
	s.insert(l)
	s.relist(l)
	return nil
}

// check looks at what does not depend on other records.
func (r *Record) check() error {
	for i, runs := range [][]Run{r.Fresh, r.Retry, r.Done, r.Failed} {
		most := r.Spec.Tasks.Count
		if i < 2 {
			most *= r.Spec.Runs()
		}
		if !inOrder(runs) || len(runs) > 0 && runs[len(runs)-1].end() > most {
			return errors.New("runs that are not in order")
		}
	}
	for i := range r.Auctions {
		if a := &r.Auctions[i]; int(a.Granted) > len(a.Slots) || len(a.Scores) != len(a.Bids) {
			return fmt.Errorf("auction %x does not add up", a.ID)
		}
	}
	if !known(r.Phase) {
		return fmt.Errorf("phase %.20q", r.Phase)
	}
	return nil
}

// inOrder reports whether runs are disjoint and ascending.
func inOrder(runs []Run) bool {
	at := uint64(0)
	for _, r := range runs {
		if r.Count == 0 || uint64(r.From) < at {
			return false
		}
		at = uint64(r.From) + uint64(r.Count)
	}
	return at <= workload.MaxTasks
}

func known(p workload.Phase) bool {
	return p == workload.Waiting || p == workload.Pending || p == workload.Running || p.Ended()
}
