package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of an audit: the marks that each voter is asked for, and how long.
const (
	maxMarks = 64
	auditFor = 5 * time.Second
)

// handleAudit signs heads of this server's chain. A head tells nothing of what is in
// the ledger.
func (n *Node) handleAudit(_ context.Context, _ workload.PeerID, m *wire.AuditMsg) (*wire.AuditAnswer, error) {
	c := n.currentCell()
	if c == nil || c.id != m.Cell || !slices.Contains(c.Voters(), n.self) {
		return nil, wire.Errorf(wire.Refused, "this node does not vote in cell %s", m.Cell)
	}
	return &wire.AuditAnswer{Marks: n.marks(m.Cell, m.At), Certificates: n.host.Shown(n.self)}, nil
}

// Audit implements api.Backend.
func (g gateway) Audit(ctx context.Context, cell workload.CellID) (*api.Audit, error) {
	n := g.n
	if cell == (workload.CellID{}) {
		cell = n.homeCell()
	}
	view, ok := n.viewFor(cell)
	if !ok {
		return nil, &api.Error{Kind: api.NotFound, Message: fmt.Sprintf("cell %s is not known here", cell), Hint: "`perrin status` names this node's cell"}
	}
	out := &api.Audit{Cell: cell, Root: n.id.bundle.Root, Voters: peersOf(view.Voters), Faults: []string{}, Refused: []api.Refusal{}, Silent: []workload.PeerID{}}
	proof := notary.Proof{Type: notary.ProofType, Cell: cell, Voters: peersOf(view.Voters)}
	at := n.walk(cell, out, &proof)
	n.gatherMarks(ctx, &proof, at, out)
	if len(at) == 0 { // no log here: compare what the voters said last
		n.gatherMarks(ctx, &proof, newest(&proof), out)
	}
	kept := n.notarized.of(cell)
	for _, h := range kept {
		proof.Marks = append(append(proof.Marks, h.Marks...), h.Others...)
		proof.Certificates = append(proof.Certificates, h.Certificates...)
	}
	out.Checkpoint = lastCheckpoint(kept)
	raw, err := json.Marshal(&proof)
	out.Proof = raw
	return out, err
}

// walk computes this server's chain from its log, replays the awards in it, and
// returns the entries that the voters are asked about.
func (n *Node) walk(cell workload.CellID, out *api.Audit, proof *notary.Proof) (at []uint64) {
	c := n.currentCell()
	if c == nil || c.id != cell {
		return nil
	}
	c.mu.RLock()
	chain := c.heads.last()
	out.Refused = append(out.Refused, c.wrong...)
	c.mu.RUnlock()
	if len(chain) == 0 {
		return nil
	}
	out.Walked, out.From, out.To = true, chain[0].index, chain[len(chain)-1].index
	var bad badEntries
	for i := 1; i < len(chain); i++ {
		term, data, err := c.group.Command(chain[i].index)
		if err != nil { // compacted: a snapshot stands for it
			out.From = chain[i].index
			continue
		}
		e := notary.Entry{Index: chain[i].index, Term: term, Before: chain[i-1].head, Data: data}
		if e.After() != chain[i].head {
			out.Faults = append(out.Faults, fmt.Sprintf("entry %d of this node's log does not give the head of the chain", e.Index))
		}
		out.Entries++
		award, err := notary.BadCommand(n.memo, cell, data)
		out.Awards += award
		by := n.knownSigner(cell, data)
		if !by.IsZero() && len(out.Faults) < maxFaults {
			out.Faults = append(out.Faults, otherHistory(chain, by, &e)...)
		}
		if spec, refused := n.refusedAward(out.Refused, data, e.Index); err == nil && refused {
			e.Spec, err = spec, errRefused
		}
		if err != nil {
			bad.note(by, e)
		}
	}
	for _, e := range bad.shown() {
		proof.Entries = append(proof.Entries, e)
		proof.Certificates = append(proof.Certificates, n.certificatesOf(e.Data)...)
		at = append(at, e.Index)
	}
	for step := max(1, len(chain)/(maxMarks-maxBadEntries)); len(chain) > 0; chain = chain[:max(0, len(chain)-step)] {
		if len(at) < maxMarks {
			at = append(at, chain[len(chain)-1].index)
		}
	}
	return at
}

// errRefused stands for what a replica said when it refused an entry.
var errRefused = errors.New("refused")

// refusedAward reports whether an entry is an award that this replica refused, and
// returns the owner's spec that it is to be held against, as far as that is kept.
func (n *Node) refusedAward(refused []api.Refusal, entry []byte, index uint64) (spec *workload.Signed, found bool) {
	if !slices.ContainsFunc(refused, func(r api.Refusal) bool { return r.Index == index }) {
		return nil, false
	}
	cmd, err := leader.OpenCommand(entry)
	if err != nil || cmd.Award == nil {
		return nil, false
	}
	n.book.Read(func(s *ledger.State) {
		if v, _, ok := s.Outline(cmd.Award.Workload); ok {
			spec = &v.Signed
		}
	})
	return spec, spec != nil
}

// certificatesOf are those of the leader that an entry names.
func (n *Node) certificatesOf(entry []byte) (out [][]byte) {
	cmd, err := leader.OpenCommand(entry)
	if err != nil {
		return nil
	}
	if raw := n.host.Shown(cmd.Leader); raw != nil {
		return [][]byte{raw}
	}
	n.book.Read(func(s *ledger.State) { out = lastCertificate(s, cmd.Leader) })
	return out
}

// lastCertificate is the last one of a node that a ledger has, of whatever time: an entry
// has its leader's word for when it was made.
func lastCertificate(s *ledger.State, who workload.PeerID) (out [][]byte) {
	for _, c := range s.Certs([]workload.PeerID{who}, math.MinInt64, math.MaxInt64) {
		out = [][]byte{c.Raw}
	}
	return out
}

// gatherMarks asks every voter for its marks at some entries.
func (n *Node) gatherMarks(ctx context.Context, proof *notary.Proof, at []uint64, out *api.Audit) {
	out.Silent = out.Silent[:0]
	for _, a := range n.askMarks(ctx, proof.Cell, proof.Voters, at) {
		if a.err != nil {
			out.Silent = append(out.Silent, a.voter)
			continue
		}
		proof.Marks = append(proof.Marks, a.answer.Marks...)
		proof.Certificates = append(proof.Certificates, a.answer.Certificates)
	}
}

// audited is what one voter answered.
type audited struct {
	voter  workload.PeerID
	answer wire.AuditAnswer
	err    error
}

// askMarks asks voters for their marks at some entries, all at once.
func (n *Node) askMarks(ctx context.Context, cell workload.CellID, voters []workload.PeerID, at []uint64) []audited {
	ctx, cancel := context.WithTimeout(ctx, auditFor)
	defer cancel()
	out := make([]audited, len(voters))
	var asked sync.WaitGroup
	for i, voter := range voters {
		asked.Go(func() {
			out[i].voter = voter
			out[i].err = (caller{n}).Call(ctx, voter, wire.ProtoAudit, &wire.AuditMsg{Cell: cell, At: at}, &out[i].answer)
		})
	}
	asked.Wait()
	return out
}

// newest are the entries of the marks of a proof.
func newest(p *notary.Proof) (at []uint64) {
	for _, s := range p.Marks[:min(len(p.Marks), maxMarks)] {
		var m wire.Mark
		if wire.Unmarshal(s.Payload, &m) == nil {
			at = append(at, m.Index)
		}
	}
	return at
}
