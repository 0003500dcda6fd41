package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// A voter has the others countersign the head of the chain while entries come: at the
// latest after so many entries, as seen at each look, or after so long. It keeps the last.
const (
	checkpointEvery  = time.Minute
	checkpointAfter  = 1024
	checkpointWithin = 5 * time.Minute
	maxCheckpoints   = 64
	maxCheckpointers = 16 // voters that have signed one
)

// fileCheckpoints lies in the keys folder: what voters signed is not in the log.
const fileCheckpoints = "checkpoints"

// countersignedHead is a head of the chain with the marks of a majority of the voters.
type countersignedHead struct {
	Index        uint64            `cbor:"1,keyasint"`
	At           int64             `cbor:"2,keyasint"` // ms of this node's clock
	Voters       uint32            `cbor:"3,keyasint"`
	Marks        []workload.Signed `cbor:"4,keyasint" max:"16"` // of wire.Mark
	Certificates [][]byte          `cbor:"5,keyasint" max:"16"`
	Others       []workload.Signed `cbor:"6,keyasint,omitempty" max:"16"` // marks of other heads at this entry
}

// checkpoints are the last ones of a cell, the oldest first.
type checkpoints struct {
	Cell workload.CellID     `cbor:"1,keyasint"`
	List []countersignedHead `cbor:"2,keyasint,omitempty" max:"64"`
}

// add keeps a checkpoint of a cell; those of another cell go.
func (c *checkpoints) add(cell workload.CellID, h countersignedHead) {
	if c.Cell != cell {
		*c = checkpoints{Cell: cell}
	}
	if len(c.List) == maxCheckpoints {
		c.List = slices.Delete(c.List, 0, 1)
	}
	c.List = append(c.List, h)
}

// notarized is what a node keeps of the checkpoints of its cell.
type notarized struct {
	mu   sync.Mutex // guards what follows
	last checkpoints
}

// of returns those of a cell.
func (k *notarized) of(cell workload.CellID) []countersignedHead {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last.Cell != cell {
		return nil
	}
	return slices.Clone(k.last.List)
}

// pace says when a checkpoint is due. It is not safe for concurrent use.
type pace struct {
	seen, done uint64 // the newest entry at the last look, and that of the last checkpoint
	at         time.Time
}

// due returns the entry to have countersigned now, when the newest is newest: the one
// that was the newest a look ago, which every voter that keeps up has applied.
func (p *pace) due(newest uint64, now time.Time) (index uint64, ok bool) {
	index, p.seen = p.seen, newest
	if p.at.IsZero() {
		p.at = now
	}
	if index <= p.done || index-p.done < checkpointAfter && now.Sub(p.at) < checkpointWithin {
		return 0, false
	}
	p.done, p.at = index, now
	return index, true
}

// keepCheckpoints has the chain countersigned while this node votes in its cell.
func (n *Node) keepCheckpoints(ctx context.Context) error {
	n.loadCheckpoints()
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	var p pace
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			c := n.currentCell()
			if c == nil || !slices.Contains(c.Voters(), n.self) {
				continue
			}
			c.mu.RLock()
			newest, _ := c.state.Head()
			c.mu.RUnlock()
			if index, ok := p.due(newest, now); ok {
				n.checkpoint(ctx, c, index)
			}
		}
	}
}

// checkpoint asks the voters for their marks at one entry and keeps those of a majority.
func (n *Node) checkpoint(ctx context.Context, c *cell, index uint64) {
	c.mu.RLock()
	head, known := c.heads.at(index)
	c.mu.RUnlock()
	voters := c.Voters()
	if !known || len(voters) > maxCheckpointers {
		return
	}
	h := countersignedHead{Index: index, At: time.Now().UnixMilli(), Voters: uint32(len(voters))}
	for _, a := range n.askMarks(ctx, c.id, voters, []uint64{index}) {
		chain, err := admission.OpenChain(a.answer.Certificates)
		if a.err != nil || err != nil || chain.Node != a.voter {
			continue
		}
		s, other := markAt(&a.answer, a.voter, c.id, index, head)
		switch {
		case other:
			n.log.Error("a voter signs another history of the cell: `perrin audit --save FILE` keeps the proof", "voter", a.voter.Short(), "entry", index)
			h.Others, h.Certificates = append(h.Others, *s), append(h.Certificates, a.answer.Certificates)
		case s != nil:
			h.Marks, h.Certificates = append(h.Marks, *s), append(h.Certificates, a.answer.Certificates)
		}
	}
	if len(h.Marks)*2 <= len(voters) {
		n.log.Debug("no majority of the voters signed the head of the chain", "entry", index, "signed", len(h.Marks))
		return
	}
	n.notarized.mu.Lock()
	defer n.notarized.mu.Unlock()
	n.notarized.last.add(c.id, h)
	if err := admission.WriteFile(n.id.dir, fileCheckpoints, wire.MustMarshal(&n.notarized.last)); err != nil {
		n.log.Warn("checkpoint not kept", "err", err)
	}
}

// markAt returns the mark of a voter for an entry when it is of this head; other when it
// signed another head there. What does not verify is none.
func markAt(answer *wire.AuditAnswer, voter workload.PeerID, cell workload.CellID, index uint64, head workload.Digest) (mark *workload.Signed, other bool) {
	for i := range answer.Marks {
		var m wire.Mark
		s := &answer.Marks[i]
		if s.By != voter || s.Verify(workload.DomainMark) != nil || wire.Unmarshal(s.Payload, &m) != nil {
			continue
		}
		if m.Cell == cell && m.Index == index {
			return s, m.Head != head
		}
	}
	return nil, false
}

// loadCheckpoints reads what was kept. A file that cannot be read holds nothing that
// the node needs.
func (n *Node) loadCheckpoints() {
	var last checkpoints
	raw, err := os.ReadFile(filepath.Join(n.id.dir, fileCheckpoints))
	if err == nil {
		err = wire.Unmarshal(raw, &last)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		n.log.Warn("the checkpoints that were kept cannot be read", "err", err)
		return
	}
	n.notarized.mu.Lock()
	defer n.notarized.mu.Unlock()
	n.notarized.last = last
}

// lastCheckpoint is what the API shows of the newest one; nil when there is none.
func lastCheckpoint(list []countersignedHead) *api.Checkpoint {
	if len(list) == 0 {
		return nil
	}
	h := list[len(list)-1]
	return &api.Checkpoint{Index: h.Index, At: time.UnixMilli(h.At), Signed: len(h.Marks), Voters: int(h.Voters), Kept: len(list)}
}
