package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// holdOwner names the pins of a voter on behalf of a workload.
func holdOwner(id workload.ID) string { return holdPrefix + id.String() }

const holdPrefix = "hold/"

// peerSource fetches chunks from one peer.
type peerSource struct {
	n    *Node
	peer workload.PeerID
}

// Name implements blob.Source.
func (s peerSource) Name() string { return s.peer.Short() }

// Manifest implements blob.Source.
func (s peerSource) Manifest(ctx context.Context, ref workload.Ref) ([]byte, error) {
	return s.ask(ctx, ref, -1, make([]byte, blob.ManifestSize(ref.Size)))
}

// Chunk implements blob.Source.
func (s peerSource) Chunk(ctx context.Context, ref workload.Ref, i int, room []byte) ([]byte, error) {
	return s.ask(ctx, ref, i, room)
}

func (s peerSource) ask(ctx context.Context, ref workload.Ref, i int, room []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	data, err := s.n.host.CallInto(ctx, s.peer, wire.ProtoChunk, wire.MustMarshal(&wire.Chunk{Blob: ref, Index: int32(i)}), room)
	if errors.Is(err, wire.NotFound) {
		err = fmt.Errorf("%w: %w", blob.ErrNotFound, err)
	}
	return data, err
}

// Fetch implements worker.Fetcher: it brings a blob here from whoever of the
// holders has it.
func (n *Node) Fetch(ctx context.Context, ref workload.Ref, holders []workload.PeerID) error {
	if n.blobs.Has(ref) {
		return nil
	}
	var sources []blob.Source
	seen := map[workload.PeerID]bool{n.self: true}
	for _, p := range holders {
		if !seen[p] {
			seen[p] = true
			sources = append(sources, peerSource{n, p})
		}
	}
	return n.blobs.Fetch(ctx, ref, sources)
}

// handleChunk serves a chunk or, for index -1, the manifest of a blob.
func (n *Node) handleChunk(_ context.Context, _ workload.PeerID, req []byte) (data []byte, err error) {
	var m wire.Chunk
	if err := wire.Unmarshal(req, &m); err != nil {
		return nil, err
	}
	if m.Index < 0 {
		data, err = n.blobs.Manifest(m.Blob)
	} else {
		data, err = n.blobs.Chunk(m.Blob, int(m.Index))
	}
	if err != nil {
		return nil, wire.Errorf(wire.NotFound, "chunk %d of %s is not here", m.Index, m.Blob.Digest.Short())
	}
	return data, nil
}

// handleHold keeps blobs for a workload of the home cell, durably.
func (n *Node) handleHold(ctx context.Context, from workload.PeerID, m *wire.Hold) (*wire.Ack, error) {
	if m.Workload.Cell != n.homeCell() || !n.MayLead(m.Workload.Cell, from) {
		return nil, wire.Errorf(wire.Unauthorized, "only a voter of the cell asks to hold its blobs")
	}
	if err := n.room(); err != nil {
		return nil, err
	}
	owner := holdOwner(m.Workload)
	for _, in := range m.Inline {
		if _, err := n.blobs.PutBytesPinned(owner, in.Data); err != nil {
			return nil, n.notKept(err, wire.Refused)
		}
	}
	n.blobs.Pin(owner, m.Blobs...)
	for _, ref := range m.Blobs {
		if err := n.Fetch(ctx, ref, append(slices.Clone(m.Sources), from)); err != nil {
			return nil, n.notKept(fmt.Errorf("fetch %s: %w", ref.Digest.Short(), err), wire.Unavailable)
		}
	}
	if err := n.blobs.Sync(m.Blobs...); err != nil {
		return nil, n.notKept(err, wire.Refused)
	}
	return &wire.Ack{}, nil
}

// notKept says why a blob is not held here: the disk is full, or another kind.
func (n *Node) notKept(err error, kind wire.Kind) error {
	if errors.Is(err, blob.ErrFull) {
		kind = wire.NoSpace
	}
	return wire.Errorf(kind, "%s: %v", n.name, err)
}

// Replicate implements leader.Blobs: it returns when a majority of the voters
// has acknowledged the hold.
func (n *Node) Replicate(ctx context.Context, m *wire.Hold) error {
	c := n.currentCell()
	if c == nil {
		return errNoLeader
	}
	voters := c.Voters()
	m.Sources = append(slices.Clone(m.Sources), n.self)
	n.holding.asked(m.Workload, m.Blobs)
	answers := make(chan error, len(voters))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	var asked sync.WaitGroup
	for _, server := range c.group.Servers().Servers {
		asked.Go(func() {
			err := (caller{n}).Call(ctx, server.ID, wire.ProtoHold, m, &wire.Ack{})
			switch {
			case server.Suffrage == consensus.Voter:
				if err == nil {
					n.holding.acked(m.Workload, m.Blobs, server.ID)
				}
				answers <- err
			case err != nil: // a standby keeps up, and does not count
				n.missedHold(server.ID)
			}
		})
	}
	go func() { asked.Wait(); cancel() }() // the slower voters go on after the answer
	return majority(answers, len(voters))
}

// majority returns nil once more than half of n answers are, and the last error
// once that cannot be any more.
func majority(answers <-chan error, n int) error {
	acks, failed := 0, 0
	for {
		err := <-answers
		if err == nil {
			acks++
		} else {
			failed++
		}
		switch {
		case acks > n/2:
			return nil
		case failed >= n-n/2:
			return fmt.Errorf("not on a majority of the voters: %w", err)
		}
	}
}

// heldOf lists what a voter must hold for a workload: what it needs, its
// segments and, up to a bound, what they refer to, the latter from the given one on. A part that
// is not here yet is left out. It returns how many segments there are.
func (n *Node) heldOf(c *cell, id workload.ID, from int) (refs []workload.Ref, segments int) {
	var spec *workload.Spec
	var held []workload.Ref // segments all of whose outputs are held
	c.Read(func(s *ledger.State) {
		v, ok := s.Workload(id)
		if !ok {
			return
		}
		if v.Held && from == 0 {
			spec = v.Spec
		}
		segments = v.Segments
		for _, seg := range s.Segments(id)[min(from, v.Segments):] {
			refs = append(refs, seg.Ref)
			if seg.Held {
				held = append(held, seg.Ref)
			}
		}
	})
	for _, ref := range held {
		if segment, err := worker.FetchSegment(context.Background(), n.blobs, nowhere{}, ref, nil); err == nil {
			refs = append(refs, segment.Blobs()...)
		}
	}
	if spec != nil {
		refs = append(refs, n.needs(spec)...)
	}
	return refs, segments
}

// needs lists the blobs of a spec, with those of its table when that is here.
func (n *Node) needs(spec *workload.Spec) []workload.Ref {
	if spec.Sealed() {
		return append([]workload.Ref{spec.Seal.Body}, spec.Seal.Blobs...)
	}
	tasks := spec.Tasks.Inline
	if !spec.Tasks.Table.IsZero() && n.blobs.Has(spec.Tasks.Table) {
		tasks, _ = worker.ReadTable(n.blobs, spec.Tasks) // a table that does not read refers to nothing
	}
	return needsOf(spec, tasks)
}

// needsOf lists the blobs of a spec with those tasks.
func needsOf(spec *workload.Spec, tasks []workload.Task) []workload.Ref {
	var refs []workload.Ref
	add := func(r workload.Ref) {
		if !r.IsZero() {
			refs = append(refs, r)
		}
	}
	add(spec.Program.Blob)
	for _, l := range spec.Program.Layers {
		add(l)
	}
	for _, part := range spec.Program.Parts {
		add(part)
	}
	add(spec.Stdin)
	add(spec.Tasks.Table)
	for _, in := range spec.Inputs {
		add(in.Blob)
	}
	for i := range tasks {
		for _, in := range tasks[i].Inputs {
			add(in.Blob)
		}
	}
	return refs
}

// nowhere fetches nothing: only what is here counts.
type nowhere struct{}

// Fetch implements worker.Fetcher.
func (nowhere) Fetch(context.Context, workload.Ref, []workload.PeerID) error {
	return blob.ErrNotFound
}

// restorePins pins again what the ledger says this node holds, and lets the
// rest be evicted from then on.
func (n *Node) restorePins(c *cell) {
	var ids []workload.ID
	c.Read(func(s *ledger.State) {
		for v := range s.List(ledger.Filter{}) {
			ids = append(ids, v.ID)
		}
	})
	for _, id := range ids {
		refs, _ := n.heldOf(c, id, 0)
		n.blobs.Pin(holdOwner(id), refs...)
	}
	n.blobs.AllowEviction()
}
