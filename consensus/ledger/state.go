package ledger

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/perrin-mesh/perrin/workload"
)

// Rules are the parts of Apply that need what this package must not import:
// signatures over encodings, the clearing and the tariff. All are pure: the
// same input gives the same answer on every replica, for ever.
type Rules struct {
	// OpenSpec verifies the owner's signature (workload.DomainSpec), decodes the
	// spec and validates it. An error that wraps workload.ErrSignature rejects
	// the command as BadSignature, any other as BadSpec. Required.
	OpenSpec func(workload.Signed) (workload.Spec, error)
	// IDOf names the workload of a spec that a cell takes on. Without it any name will do.
	IDOf func(workload.CellID, workload.Signed) workload.ID
	// Replay verifies the bids' signatures, replays the clearing and returns an
	// error when it gives other slots than the award. Required.
	Replay func(*Award) error
	// Charge is the price in micro-credits of ms of a slot at rate micro-credits
	// per second. What it gives outside of 0 to 2^50 is moved inside. Required.
	Charge func(rate, ms int64) int64
	// OpenResult verifies the statement of the node that a Close comes from.
	// Without it the leader's check has to do.
	OpenResult func(c *Close, node workload.PeerID) error
	// ReadSpec decodes the payload of a spec that was accepted before, without
	// looking at its signature again. Without it OpenSpec does.
	ReadSpec func(payload []byte) (workload.Spec, error)
	// OpenToken verifies a token of a mesh for submitting, in the hand of a node at
	// a time in ms, and returns who pays and what its links bound. Without it a
	// workload under a token is rejected.
	OpenToken func(mesh workload.MeshID, token []workload.Signed, holder workload.PeerID, at int64) (payer workload.PeerID, links []workload.TokenLink, err error)
	// OpenBid decodes a bid that Replay has accepted, for Why. Without it Why
	// shows who bid, not what.
	OpenBid func(workload.Signed) (workload.Bid, error)
	// OpenProved verifies and decodes what a leader signed of a node's evidence.
	// Without it an award of a workload that requires some is taken as it is.
	OpenProved func(workload.Signed) (workload.Proved, error)
	// Countersigned returns an error unless a majority of voters have signed an award
	// of the cell. Without it an award of a workload that asks for it is taken as it is.
	Countersigned func(cell workload.CellID, a *Award) error
	// OpenQuota verifies that an operator of the mesh gave an order about an account of
	// the cell. Without it the leader's word has to do.
	OpenQuota func(mesh workload.MeshID, cell workload.CellID, c *Quota) error
	// OpenDraw verifies what an owner's node signed of a draw. Without it every task
	// is checked.
	OpenDraw func(owner workload.PeerID, d *workload.Draw, sig []byte) error
	// OpenCert verifies a node's chain of certificates, for receipts, but not its
	// time. Without it none are kept.
	OpenCert func(raw []byte) (Cert, error)
	// Proposed verifies that the leader that a command names has signed the entry.
	// Without it nobody looks at who proposed what.
	Proposed func(cell workload.CellID, c *Command, raw []byte) error
	// OpenSuccession verifies an operator's statement that one key of a node took the
	// place of another. Without it none has an effect.
	OpenSuccession func(mesh workload.MeshID, raw []byte) (old, node workload.PeerID, err error)
}

// State is the ledger of one cell. It is not safe for concurrent use; what a
// query returns stays valid and is never changed by a later Apply.
type State struct {
	rules Rules

	founded  bool
	mesh     workload.MeshID
	cell     workload.CellID
	epoch    uint64
	maxSize  int
	index    uint64
	head     workload.Digest
	time     int64
	nextSeq  uint64 // of the next workload
	nextEnd  uint64 // of the next workload that ends
	floor    uint64 // no forgotten node had a higher epoch
	applied  uint64
	rejects  map[Code]uint64
	members  map[workload.PeerID]*Member
	nodes    map[workload.PeerID]*node
	accounts map[workload.PeerID]*Account
	tokens   map[workload.Digest]*tokenUse
	loads    map[workload.ID]*load
	tombs    map[workload.ID]*Tomb
	certs    map[workload.PeerID][]Cert // in the order in which they were shown

	standings map[workload.PeerID][]Standing // by issuer

	// What follows is derived from the above.
	nonces  map[nonceKey]*load
	waiters map[workload.ID][]*load // in order of acceptance
	all     ordered[*load]          // by Seq
	lots    ordered[*load]          // by Seq: those that want slots
	ended   ordered[*load]          // by EndSeq
	graves  ordered[*Tomb]          // by EndSeq
	phases  map[workload.Phase]int
	live    int // workloads that have not ended
	slots   int
	bytes   int64 // weight of all workloads

	certCount int
	known     uint64                    // changes to who operates which node
	dues      map[workload.PeerID]int64 // micro-credits that accounts pay if results agree that are not judged yet
	looked    uint64                    // at replicas, for a node that might run them: what Apply takes long for
}

type nonceKey struct {
	owner workload.PeerID
	nonce [16]byte
}

// New returns an empty ledger, which accepts only Genesis.
func New(rules Rules) *State {
	return &State{
		rules:    rules,
		nextSeq:  1,
		rejects:  map[Code]uint64{},
		members:  map[workload.PeerID]*Member{},
		nodes:    map[workload.PeerID]*node{},
		accounts: map[workload.PeerID]*Account{},
		tokens:   map[workload.Digest]*tokenUse{},
		loads:    map[workload.ID]*load{},
		tombs:    map[workload.ID]*Tomb{},
		certs:    map[workload.PeerID][]Cert{},

		dues:      map[workload.PeerID]int64{},
		standings: map[workload.PeerID][]Standing{},
		nonces:    map[nonceKey]*load{},
		waiters:   map[workload.ID][]*load{},
		phases:    map[workload.Phase]int{},
	}
}

// entry is one command on its way through Apply.
type entry struct {
	index uint64
	at    int64
	res   Result
	certs [][]byte // that come with the command
}

// Apply applies the log's entry at index. raw is the entry's bytes, which the
// hash chain runs over; cmd is what they decode to, nil when they do not. A
// rejected command changes nothing but the hash chain and the counters of
// rejections. An index that was applied before changes nothing at all. The
// state keeps parts of cmd: the caller must not change it afterwards.
func (s *State) Apply(index uint64, cmd *Command, raw []byte) Result {
	return s.ApplyIn(0, index, cmd, raw)
}

// ApplyIn is Apply of an entry of a term of the log, in which what judges must have
// been proposed.
func (s *State) ApplyIn(term, index uint64, cmd *Command, raw []byte) Result {
	if index <= s.index {
		rej := rejectf(Replayed, "entry %d: the ledger is at %d", index, s.index)
		return Result{Index: index, At: s.time, Reject: rej}
	}
	s.chain(index, term, raw)
	e := &entry{index: index, at: s.time}
	rej := s.admissible(cmd)
	if rej == nil {
		rej = s.proposed(term, cmd, raw)
	}
	if rej == nil {
		e.at, e.certs = max(s.time, cmd.At), cmd.Certs
		rej = s.dispatch(e, cmd)
	}
	if rej != nil {
		s.rejects[rej.Code]++
		return Result{Index: index, At: s.time, Reject: rej, ID: e.res.ID, Phase: s.phaseOf(e.res.ID)}
	}
	s.certify(cmd.Certs)
	s.time = e.at
	s.applied++
	e.res.Index, e.res.At, e.res.Phase = index, e.at, s.phaseOf(e.res.ID)
	return e.res
}

// chain moves the head on.
func (s *State) chain(index, term uint64, raw []byte) {
	s.index, s.head = index, Next(s.head, index, term, raw)
}

// Next is the head of the hash chain after an entry: SHA-256(head || index || term ||
// raw), both numbers in 8 bytes, big-endian. The term is in it since a command may be
// refused for it: servers that have an entry in different terms have different heads.
func Next(head workload.Digest, index, term uint64, raw []byte) workload.Digest {
	h := sha256.New()
	h.Write(head[:])
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, index), term))
	h.Write(raw)
	return workload.Digest(h.Sum(nil))
}

func (s *State) phaseOf(id workload.ID) workload.Phase {
	if l := s.loads[id]; l != nil {
		return l.Phase
	}
	if t := s.tombs[id]; t != nil {
		return t.Phase
	}
	return ""
}

// admissible checks what all commands have in common.
func (s *State) admissible(c *Command) *Reject {
	switch {
	case c == nil:
		return rejectf(Malformed, "not a command")
	case c.Version > CommandVersion:
		return rejectf(NewerVersion, "version %d, this one knows up to %d", c.Version, CommandVersion)
	case c.Version == 0 || c.parts() != 1:
		return rejectf(Malformed, "version %d with %d commands in one", c.Version, c.parts())
	case c.Genesis == nil && !s.founded:
		return rejectf(NoGenesis, "the cell is not founded")
	}
	return nil
}

// parts returns how many of the pointers are set.
func (c *Command) parts() int {
	n := 0
	for _, set := range []bool{
		c.Genesis != nil, c.MemberAdd != nil, c.MemberRemove != nil, c.Accept != nil, c.Award != nil,
		c.Refuse != nil, c.Take != nil, c.Return != nil, c.Close != nil, c.Release != nil,
		c.Expire != nil, c.Stop != nil, c.Quota != nil, c.Compact != nil, c.Draw != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

func (s *State) dispatch(e *entry, c *Command) *Reject {
	switch {
	case c.Genesis != nil:
		return s.genesis(c.Genesis)
	case c.MemberAdd != nil:
		return s.memberAdd(e, c.MemberAdd)
	case c.MemberRemove != nil:
		return s.memberRemove(c.MemberRemove)
	case c.Accept != nil:
		return s.accept(e, c.Accept)
	case c.Award != nil:
		return s.award(e, c.Award, c.Leader)
	case c.Refuse != nil:
		return s.refuse(e, c.Refuse)
	case c.Take != nil:
		return s.take(e, c.Take)
	case c.Return != nil:
		return s.giveBack(e, c.Return)
	case c.Close != nil:
		return s.close(e, c.Close)
	case c.Release != nil:
		return s.release(e, c.Release)
	case c.Expire != nil:
		return s.expire(e, c.Expire)
	case c.Stop != nil:
		return s.stop(e, c.Stop)
	case c.Quota != nil:
		return s.quota(e, c.Quota)
	case c.Draw != nil:
		return s.draw(e, c.Draw)
	}
	return s.compact(e, c.Compact)
}

func (s *State) genesis(g *Genesis) *Reject {
	switch {
	case s.founded:
		return rejectf(Founded, "the cell is %s", s.cell)
	case g.Cell.IsZero() || g.MaxSize < 1 || g.MaxSize > MaxMembers:
		return rejectf(Malformed, "cell %s of up to %d members, want 1 to %d", g.Cell, g.MaxSize, MaxMembers)
	}
	s.founded, s.mesh, s.cell, s.epoch, s.maxSize = true, g.Mesh, g.Cell, g.Epoch, int(g.MaxSize)
	return nil
}
