package notary

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// ProofType is what a proof file says that it is.
const ProofType = "https://github.com/perrin-mesh/perrin/audit/v1"

// Bounds of proof files: bytes of one, marks and entries of all that are read together.
const (
	MaxProof   = 64 << 20
	maxMarks   = 65_536
	maxEntries = 4096
)

// ErrProof is returned for what is no proof file.
var ErrProof = errors.New("not a proof file")

// Proof is what an audit keeps: signed marks, whole entries that are in question, and
// the certificates of who signed.
type Proof struct {
	Type         string            `json:"type"`
	Cell         workload.CellID   `json:"cell"`
	Voters       []workload.PeerID `json:"voters"` // as the one who audited knew them
	Marks        []workload.Signed `json:"marks"`  // of wire.Mark
	Entries      []Entry           `json:"entries,omitempty"`
	Certificates [][]byte          `json:"certificates"`
}

// Entry is an entry of a cell's log with the head of the chain before it.
type Entry struct {
	Index  uint64          `json:"index"`
	Term   uint64          `json:"term"`
	Before workload.Digest `json:"before"`
	Data   []byte          `json:"data"`
	// Spec is the owner's, of an award that does not do what it asks for.
	Spec *workload.Signed `json:"spec,omitempty"`
}

// After is the head of the chain after the entry, as ledger.State.Apply makes it.
func (e *Entry) After() workload.Digest {
	return ledger.Next(e.Before, e.Index, e.Term, e.Data)
}

// FindingKind is what an audit found.
type FindingKind string

// What is found. Equivocation is proved by the marks alone, and a bad award by the
// signature of the leader that proposed it. A fork proves that one of two voters is wrong.
const (
	Equivocation FindingKind = "equivocation" // one voter signed two heads at one entry
	Fork         FindingKind = "fork"         // two voters signed different heads at one entry
	BadAward     FindingKind = "bad-award"    // a leader signed an award that does not replay
	Unsigned     FindingKind = "unsigned"     // the log holds what nobody signed as its leader
	Gap          FindingKind = "gap"          // the log does not give the chain
	BadProof     FindingKind = "bad-proof"    // something in the proof does not verify
)

// Finding is one thing that is wrong, and who is to be asked about it.
type Finding struct {
	Kind   FindingKind       `json:"kind"`
	Index  uint64            `json:"index"`
	Nodes  []workload.PeerID `json:"nodes,omitempty"`
	Detail string            `json:"detail"`
}

// Checkpoint is an entry at which voters signed the same head.
type Checkpoint struct {
	Index  uint64            `json:"index"`
	Head   workload.Digest   `json:"head"`
	Signed []workload.PeerID `json:"signed"`
}

// Audited is what CheckProof found.
type Audited struct {
	Cell   workload.CellID `json:"cell"`
	Root   workload.PeerID `json:"root"`
	Voters int             `json:"voters"`
	// Claimed says that who the voters are is the proofs' own word, which nobody signed.
	Claimed     bool         `json:"voters_claimed"`
	Checkpoints []Checkpoint `json:"checkpoints"` // by index
	Findings    []Finding    `json:"findings"`
	// Doubted are those whose marks are in no checkpoint, since they are removed or denied
	// by the trust file: marks have no date.
	Doubted []Doubt `json:"doubted,omitempty"`
	// AsOf is when the trust file was written, if there is one and it says so, and AsOfBy
	// the node whose word that is.
	AsOf   *time.Time       `json:"trust_as_of,omitempty"`
	AsOfBy *workload.PeerID `json:"trust_as_of_by,omitempty"`

	// Outsiders have signed marks and are none of the voters: they make no checkpoint and
	// no fork. Disputes are those marks of theirs that differ from the voters'.
	Outsiders []workload.PeerID `json:"outsiders,omitempty"`
	Disputes  []Finding         `json:"disputes,omitempty"`

	voters    map[workload.PeerID]bool
	past      *admission.Past
	stood     map[workload.PeerID]bool // by one certificate or more
	certified map[workload.PeerID]bool // those of which a proof shows certificates of the mesh
}

// Doubt is a node that does not stand, and why.
type Doubt struct {
	Node workload.PeerID `json:"node"`
	Why  string          `json:"why"`
}

func (a *Audited) doubts(node workload.PeerID) bool {
	return slices.ContainsFunc(a.Doubted, func(d Doubt) bool { return d.Node == node })
}

// judgeNode holds a voter against the trust file, at its date. What it signed twice is
// held against it all the same. Of several certificates one that counts is enough: a key
// of a removed operator makes one for any node, and anybody puts it into a proof.
func (a *Audited) judgeNode(c *admission.Chain) {
	if a.past == nil || a.stood[c.Node] {
		return
	}
	at := a.past.Written
	if at.IsZero() {
		at = a.past.At
	}
	err := a.past.Stood(c.Node, c.Operator, at)
	switch {
	case err == nil:
		a.stood[c.Node] = true
		a.Doubted = slices.DeleteFunc(a.Doubted, func(d Doubt) bool { return d.Node == c.Node })
	case !a.doubts(c.Node):
		a.Doubted = append(a.Doubted, Doubt{c.Node, err.Error()})
	}
}

// Countersigned is the newest checkpoint that a majority of the voters signed; false
// when there is none.
func (a *Audited) Countersigned() (Checkpoint, bool) {
	for _, c := range slices.Backward(a.Checkpoints) {
		if len(c.Signed)*2 > a.Voters {
			return c, true
		}
	}
	return Checkpoint{}, false
}

// ReadProof decodes a proof file.
func ReadProof(raw []byte) (*Proof, error) {
	var p Proof
	if len(raw) > MaxProof {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrProof, len(raw), MaxProof)
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%w: %.200s", ErrProof, err.Error())
	}
	if p.Type != ProofType {
		return nil, fmt.Errorf("%w: type %.80q, want %q", ErrProof, p.Type, ProofType)
	}
	return &p, nil
}

// signedMark is a mark whose signature and signer's certificate hold.
type signedMark struct {
	wire.Mark
	by workload.PeerID
}

// CheckProof checks one or more proofs of one cell together: what a voter signed last
// week counts against what it signs today. root may be zero: then the proofs' own has
// to be one. The error says that they do not belong together.
//
// With what a trust file says, voters that were removed or denied by its date make no
// checkpoint and no fork; past may be nil. voters are those that who checks takes for the
// cell's; without, they are those that the proofs name.
func CheckProof(proofs []*Proof, root workload.PeerID, past *admission.Past, voters ...workload.PeerID) (*Audited, error) {
	a := &Audited{
		Claimed: len(voters) == 0, voters: map[workload.PeerID]bool{},
		Findings: []Finding{}, Root: root, past: past, stood: map[workload.PeerID]bool{}, certified: map[workload.PeerID]bool{},
	}
	if past != nil && !past.Written.IsZero() {
		a.AsOf, a.AsOfBy = &past.Written, &past.By
	}
	for _, v := range voters {
		a.voters[v] = true
	}
	var marks []signedMark
	entries := 0
	for i, p := range proofs {
		if i > 0 && p.Cell != a.Cell {
			return nil, fmt.Errorf("%w: of cells %s and %s", ErrProof, a.Cell, p.Cell)
		}
		a.Cell = p.Cell
		entries += len(p.Entries)
		if len(marks)+len(p.Marks) > maxMarks || entries > maxEntries {
			return nil, fmt.Errorf("%w: over %d marks or %d entries", ErrProof, maxMarks, maxEntries)
		}
		if a.Claimed {
			for _, v := range p.Voters {
				a.voters[v] = true
			}
		}
		marks = append(marks, a.open(p)...)
	}
	a.Voters = len(a.voters)
	a.compare(marks)
	for _, p := range proofs {
		for i := range p.Entries {
			a.judge(&p.Entries[i], marks)
		}
	}
	return a, nil
}

func (a *Audited) add(kind FindingKind, index uint64, nodes []workload.PeerID, format string, args ...any) {
	a.Findings = append(a.Findings, Finding{kind, index, nodes, fmt.Sprintf(format, args...)})
}

// open verifies the marks of a proof and who signed them.
func (a *Audited) open(p *Proof) (out []signedMark) {
	for i, raw := range p.Certificates {
		c, err := admission.OpenChain(raw)
		switch {
		case err != nil:
			a.add(BadProof, 0, nil, "certificate %d: %v", i, err)
		case !a.Root.IsZero() && c.Root != a.Root:
			a.add(BadProof, 0, nil, "certificate %d: its root is %s, not %s", i, c.Root, a.Root)
		default:
			a.Root, a.certified[c.Node] = c.Root, true
			a.judgeNode(&c)
		}
	}
	for i, s := range p.Marks {
		var m wire.Mark
		err := s.Verify(workload.DomainMark)
		if err == nil {
			err = wire.Unmarshal(s.Payload, &m)
		}
		switch {
		case err != nil:
			a.add(BadProof, 0, []workload.PeerID{s.By}, "mark %d: %v", i, err)
		case m.Cell != p.Cell:
			a.add(BadProof, m.Index, []workload.PeerID{s.By}, "mark %d: of another cell", i)
		case !a.certified[s.By]:
			a.add(BadProof, m.Index, []workload.PeerID{s.By}, "mark %d: no certificate of %s", i, s.By.Short())
		default:
			out = append(out, signedMark{m, s.By})
		}
	}
	return out
}

// compare finds who signed different heads at one entry.
func (a *Audited) compare(marks []signedMark) {
	slices.SortStableFunc(marks, func(x, y signedMark) int { return cmp.Compare(x.Index, y.Index) })
	for len(marks) > 0 {
		n := 1
		for n < len(marks) && marks[n].Index == marks[0].Index {
			n++
		}
		a.compareAt(marks[:n])
		marks = marks[n:]
	}
}

func (a *Audited) compareAt(marks []signedMark) {
	said := map[workload.PeerID]workload.Digest{}
	var heads []Checkpoint
	var others []signedMark
	for _, m := range marks {
		if before, ok := said[m.by]; ok && before != m.Head {
			a.add(Equivocation, m.Index, []workload.PeerID{m.by}, "%s signed %s and %s", m.by.Short(), before.Short(), m.Head.Short())
			continue
		} else if ok {
			continue
		}
		said[m.by] = m.Head
		if a.doubts(m.by) {
			continue
		}
		if !a.voters[m.by] {
			others = append(others, m)
			continue
		}
		i := slices.IndexFunc(heads, func(c Checkpoint) bool { return c.Head == m.Head })
		if i < 0 {
			heads, i = append(heads, Checkpoint{Index: m.Index, Head: m.Head}), len(heads)
		}
		heads[i].Signed = append(heads[i].Signed, m.by)
	}
	a.outside(others, heads)
	if len(heads) == 0 {
		return
	}
	for _, c := range heads[1:] {
		a.add(Fork, c.Index, slices.Concat(heads[0].Signed, c.Signed), "%d voters signed %s, %d signed %s",
			len(heads[0].Signed), heads[0].Head.Short(), len(c.Signed), c.Head.Short())
	}
	slices.SortStableFunc(heads, func(x, y Checkpoint) int { return cmp.Compare(len(y.Signed), len(x.Signed)) })
	a.Checkpoints = append(a.Checkpoints, heads[0])
}

// maxDisputes bounds the marks of outsiders that are told.
const maxDisputes = 16

// outside notes who has signed marks without a vote, and where none of the voters has
// signed the same.
func (a *Audited) outside(marks []signedMark, heads []Checkpoint) {
	for _, m := range marks {
		if !slices.Contains(a.Outsiders, m.by) {
			a.Outsiders = append(a.Outsiders, m.by)
		}
		same := slices.ContainsFunc(heads, func(c Checkpoint) bool { return c.Head == m.Head })
		if len(heads) > 0 && !same && len(a.Disputes) < maxDisputes {
			a.Disputes = append(a.Disputes, Finding{Fork, m.Index, []workload.PeerID{m.by}, fmt.Sprintf("signed %s, and no voter did", m.Head.Short())})
		}
	}
}

// judge says what is wrong with an entry. Who has signed it as its leader is proved
// wrong by that alone; that voters have it in their logs, by their marks.
func (a *Audited) judge(e *Entry, marks []signedMark) {
	signed := 0
	for _, m := range marks {
		if m.Index == e.Index && m.Head == e.After() && a.voters[m.by] {
			signed++
		}
	}
	_, err := BadCommand(nil, a.Cell, e.Data)
	if err == nil && e.Spec != nil {
		err = against(a.Cell, e)
	}
	who, known := SignerOf(nil, a.Cell, e.Data)
	switch {
	case err == nil:
		a.add(BadProof, e.Index, nil, "nothing is wrong with this entry")
	case !known:
		if signed == 0 {
			a.add(BadProof, e.Index, nil, "nobody has signed for this entry")
			return
		}
		a.add(Unsigned, e.Index, nil, "in the log that %d voters signed, and proves nothing against whom it names: %v", signed, err)
	case !a.certified[who] && signed == 0: // anybody makes a key, and signs with it
		a.add(BadProof, e.Index, []workload.PeerID{who}, "no certificate of %s, which signed the entry, and no voter has signed for it", who.Short())
	case !a.certified[who]: // a leader that leaves its own out of the log does not get away
		a.add(BadAward, e.Index, []workload.PeerID{who}, "signed by %s, a node whose certificate is not known here, in the log that %d voters signed: %v", who.Short(), signed, err)
	default:
		a.add(BadAward, e.Index, []workload.PeerID{who}, "signed by %s, in the log that %d voters signed: %v", who.Short(), signed, err)
	}
}

// against holds an award against its owner's spec, as every replica does.
func against(cell workload.CellID, e *Entry) error {
	c, err := leader.OpenCommand(e.Data)
	if err != nil || c.Award == nil || leader.IDOf(cell, *e.Spec) != c.Award.Workload {
		return nil // nothing that this spec says anything about
	}
	spec, err := leader.OpenSpec(nil, *e.Spec)
	if err != nil {
		return nil //nolint:nilerr // a bad spec is no fault of the award's
	}
	rules := ledger.Rules{
		Replay:     func(a *ledger.Award) error { return Replay(nil, a) },
		OpenProved: func(s workload.Signed) (workload.Proved, error) { return leader.OpenProved(nil, s) },
	}
	if rej := rules.Check(c.Leader, &spec, c.Award); rej != nil {
		return fmt.Errorf("award of %s: %w", c.Award.Workload.Short(), rej)
	}
	if spec.Countersign && len(c.Award.Slots) > 0 {
		if _, _, err := leader.Countersigned(nil, cell, leader.ClearingOf(c.Award), c.Award.Countersigned); err != nil {
			return fmt.Errorf("award of %s: %w", c.Award.Workload.Short(), err)
		}
	}
	return nil
}

// SignerOf is the leader that signed an entry of a cell; false when nobody has, as of a
// command that does not judge. memo may be nil.
func SignerOf(memo *workload.Memo, cell workload.CellID, data []byte) (workload.PeerID, bool) {
	c, err := leader.OpenCommand(data)
	if err != nil || !c.Judges() || leader.Proposed(memo, cell, c, data) != nil {
		return workload.PeerID{}, false
	}
	return c.Leader, true
}

// ErrUnsigned is returned for an entry that is no command, or that its leader has not
// signed: no replica applies it, and it proves nothing against that leader.
var ErrUnsigned = errors.New("not signed by the leader that it names")

// BadCommand returns how many awards a command of a cell holds, and why no honest leader
// proposes it: it is not signed, or an award that does not replay. memo may be nil.
func BadCommand(memo *workload.Memo, cell workload.CellID, data []byte) (awards int, err error) {
	c, err := leader.OpenCommand(data)
	if err == nil {
		err = leader.Proposed(memo, cell, c, data)
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrUnsigned, err)
	case c.Award == nil:
		return 0, nil
	}
	if err := Replay(memo, c.Award); err != nil {
		return 1, fmt.Errorf("award of %s: %w", c.Award.Workload.Short(), err)
	}
	return 1, nil
}

// Replay clears an award again, as every replica does before it applies it.
func Replay(memo *workload.Memo, a *ledger.Award) error {
	if workload.Unsigned() {
		return nil
	}
	open := func(s workload.Signed) (workload.Bid, error) { return leader.OpenBid(memo, s) }
	return scheduler.Replay(&scheduler.Award{
		Workload: a.Workload, Auction: a.Auction, Wanted: a.Wanted, MaxPrice: a.MaxPrice, Bids: a.Bids, Scores: a.Scores, Slots: a.Slots,
	}, open, scheduler.Clear)
}
