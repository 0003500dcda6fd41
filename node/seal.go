package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// contentKey derives the key of a workload that this node's owner has sealed.
func (n *Node) contentKey(salt []byte) (*seal.Key, error) {
	secret := n.id.owner.Seed()
	defer clear(secret)
	return seal.Derive(secret, salt)
}

// sealedSpec opens the owner's spec that somebody shows, of a sealed workload. It
// is one for this mesh and for the cell that the ID names: the owner signed both,
// or anybody could have a cell of his own say that a slot of it is his.
func (n *Node) sealedSpec(id workload.ID, signed workload.Signed) (*workload.Spec, error) {
	spec, err := leader.OpenSpec(n.memo, signed)
	switch {
	case err != nil:
		return nil, wire.Errorf(wire.Malformed, "spec: %v", err)
	case leader.IDOf(id.Cell, signed) != id:
		return nil, wire.Errorf(wire.Unauthorized, "the spec is not that of workload %s", id.Short())
	case !spec.Sealed():
		return nil, wire.Errorf(wire.Refused, "workload %s is not sealed", id.Short())
	case spec.Mesh != n.host.Mesh():
		return nil, wire.Errorf(wire.Unauthorized, "the spec was signed for another mesh")
	case id.Cell != spec.Seal.Cell:
		return nil, wire.Errorf(wire.Unauthorized, "the spec was signed for cell %s, not for %s", spec.Seal.Cell, id.Cell)
	}
	return &spec, nil
}

// handleUnseal releases a key, or a share of it, to the node that holds a slot
// of the workload now: its award is committed, its certificate stands, and it
// has proved what the spec asks for.
func (n *Node) handleUnseal(ctx context.Context, from workload.PeerID, m *wire.UnsealMsg) (*wire.Unsealed, error) {
	spec, err := n.sealedSpec(m.Ref.Workload, m.Spec)
	if err != nil {
		return nil, err
	}
	id, ok := n.host.Admitted(from) // until its certificate ends, with the leeway for clocks
	if !ok {
		return nil, wire.Errorf(wire.Unauthorized, "node %s has no certificate that stands", from.Short())
	}
	if err := n.awarded(ctx, from, m.Ref); err != nil {
		return nil, err
	}
	if err := n.proved(ctx, from, spec, m); err != nil {
		return nil, err
	}
	owns := n.self == spec.Seal.Home && m.Spec.By == idOf(n.id.owner) // the same owner's other nodes may be helpers
	b := bindingOf(m.Ref, n.self, from, !owns)
	wrapped, err := n.release(spec, m.Public, b, owns)
	if err != nil {
		return nil, err
	}
	n.log.Info("key of sealed work released", "workload", m.Ref.Workload.Short(), "slot", m.Ref.Slot, "to", id.Name)
	return &wire.Unsealed{Wrapped: wrapped}, nil
}

func bindingOf(ref wire.SlotRef, from, to workload.PeerID, share bool) *seal.Binding {
	return &seal.Binding{Workload: ref.Workload, Slot: ref.Slot, Fence: ref.Fence, From: from, To: to, Share: share}
}

// proved has a node prove what the spec requires, to this node and now: evidence
// for this workload that is bound to the public key the content key would be
// wrapped to. What its cell's leader has found of it does not count here.
func (n *Node) proved(ctx context.Context, node workload.PeerID, spec *workload.Spec, m *wire.UnsealMsg) error {
	if spec.Require == nil {
		return nil
	}
	sealing := attest.SealingKey(m.Public)
	p, err := n.attestor.Ask(ctx, node, attestor.Question{Kind: spec.Require.Level, Job: m.Ref.Workload, Sealing: sealing})
	switch {
	case errors.Is(err, attestor.ErrPolicy):
		return wire.Errorf(wire.Refused, "no evidence is appraised on node %s: %v", n.name, err)
	case err != nil:
		return wire.Errorf(wire.Unavailable, "%v", err)
	}
	now := time.Now().UnixMilli()
	if err := p.Appraisal.Meet(spec.Require, now); err != nil {
		return wire.Errorf(wire.Unauthorized, "node %s did not convince node %s: %v", node.Short(), n.name, err)
	}
	if p.Binding.Sealing != sealing {
		return wire.Errorf(wire.Unauthorized, "the evidence of node %s is not for the key it wants the content key wrapped to", node.Short())
	}
	return nil
}

// awarded asks the workload's cell whether a slot is committed to a node. It has
// to be this node's cell: who leads another it knows from digests and records
// that any member can publish.
func (n *Node) awarded(ctx context.Context, node workload.PeerID, ref wire.SlotRef) error {
	switch home := n.homeCell(); {
	case home.IsZero():
		return wire.Errorf(wire.Unavailable, "node %s has not found its cell yet", n.name)
	case ref.Workload.Cell != home:
		return wire.Errorf(wire.Refused, "node %s is in cell %s and cannot tell who holds a slot in cell %s", n.name, home, ref.Workload.Cell)
	}
	var slot leader.Holder
	m := &wire.QueryMsg{Op: leader.QueryHolder, ID: ref.Workload, From: uint32(ref.Slot)}
	if err := n.query(ctx, ref.Workload.Cell, m, &slot); err != nil {
		if kind := api.KindOf(err); kind == api.NotFound {
			return wire.Errorf(wire.Refused, "slot %d of %s is not awarded", ref.Slot, ref.Workload.Short())
		}
		return wire.Errorf(wire.Unavailable, "the cell does not say who holds the slot: %v", err)
	}
	if slot.Node != node || slot.Fence != ref.Fence {
		return wire.Errorf(wire.Refused, "slot %d of %s is not node %s's", ref.Slot, ref.Workload.Short(), node.Short())
	}
	return nil
}

func (n *Node) release(spec *workload.Spec, public []byte, b *seal.Binding, owns bool) ([]byte, error) {
	if !owns {
		wrapped, known, err := n.vault.wrap(public, b)
		if !known {
			return nil, wire.Errorf(wire.NotFound, "this node keeps no share of %s: it was restarted, or never was a helper", b.Workload.Short())
		}
		return wrapped, err
	}
	k, err := n.contentKey(spec.Seal.Salt)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if !k.Is(spec.Seal.Check) {
		return nil, wire.Errorf(wire.Refused, "%s was sealed with another key than this node's owner has", b.Workload.Short())
	}
	wrapped, err := k.Wrap(public, b)
	if err != nil {
		return nil, wire.Errorf(wire.Malformed, "%v", err)
	}
	return wrapped, nil
}

// PutSealed implements api.Backend: content is sealed on its way to the store,
// and never lies there in the clear.
func (g gateway) PutSealed(ctx context.Context, salt []byte, r io.Reader) (workload.Ref, error) {
	k, err := g.n.contentKey(salt)
	if err != nil {
		return workload.Ref{}, &api.Error{Kind: api.Invalid, Message: err.Error()}
	}
	defer k.Close()
	sealed, err := seal.Encrypt(r, k, worker.SealedContent)
	if err != nil {
		return workload.Ref{}, err
	}
	return g.PutBlob(ctx, sealed)
}

// hideSpec turns a spec whose contents are sealed into its public form for a
// cell, whose body is stored. The caller closes the key, which is nil for other specs.
func (n *Node) hideSpec(spec *workload.Spec, cell workload.CellID) (*seal.Key, error) {
	if spec.Seal == nil {
		return nil, nil
	}
	k, err := n.contentKey(spec.Seal.Salt)
	if err != nil {
		return nil, &api.Error{Kind: api.Invalid, Message: err.Error()}
	}
	public, body, err := worker.HideSpec(spec, k)
	if err == nil {
		public.Seal.Cell, public.Seal.Home = cell, n.self
		public.Seal.Blobs, err = n.sealedNeeds(spec, k)
	}
	if err == nil {
		public.Seal.Body, err = n.blobs.PutPinned(context.Background(), uploadOwner(time.Since(n.start), 0), bytes.NewReader(body))
	}
	if err == nil {
		*spec = public
		err = spec.Validate()
	}
	if err != nil {
		k.Close()
		return nil, &api.Error{Kind: api.Invalid, Message: err.Error()}
	}
	return k, nil
}

// sealedNeeds lists the contents that a spec names which is about to be sealed.
func (n *Node) sealedNeeds(spec *workload.Spec, k *seal.Key) ([]workload.Ref, error) {
	tasks := spec.Tasks.Inline
	if !spec.Tasks.Table.IsZero() {
		var err error
		if tasks, err = worker.ReadTableSealed(n.blobs, spec.Tasks, k); err != nil {
			return nil, err
		}
	}
	seen := map[workload.Ref]bool{}
	var refs []workload.Ref
	for _, r := range needsOf(spec, tasks) {
		if !seen[r] {
			seen[r] = true
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// sealOf returns the key of a sealed workload of this node's owner. It is nil
// for work that is not sealed, and for another owner's.
func (n *Node) sealOf(ctx context.Context, id workload.ID) (k *seal.Key, spec *workload.Spec, err error) {
	w, err := (gateway{n}).Inspect(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if w.Spec == nil || !w.Spec.Sealed() || w.Owner != idOf(n.id.owner) {
		return nil, w.Spec, nil
	}
	if k, err = n.contentKey(w.Spec.Seal.Salt); err != nil {
		return nil, w.Spec, err
	}
	if !k.Is(w.Spec.Seal.Check) {
		k.Close()
		return nil, w.Spec, nil
	}
	return k, w.Spec, nil
}

// revealSpec opens the sealed part of a spec, or returns nil.
func (n *Node) revealSpec(ctx context.Context, spec *workload.Spec, k *seal.Key) *workload.Spec {
	if k == nil || n.Fetch(ctx, spec.Seal.Body, n.everyone()) != nil {
		return nil
	}
	body, err := n.blobs.ReadAll(spec.Seal.Body, workload.MaxSealBody)
	if err != nil {
		return nil
	}
	full, err := worker.RevealSpec(spec, body, k)
	if err != nil {
		return nil
	}
	return full
}

// revealTasks opens the results of sealed work where this node's owner is its.
func (n *Node) revealTasks(k *seal.Key, tasks []api.Task) error {
	for i := range tasks {
		r := tasks[i].Result
		if r == nil || len(r.Sealed) == 0 {
			continue
		}
		if k == nil {
			r.Sealed, r.Outputs, r.Stdout, r.Stderr = nil, nil, workload.Stream{}, workload.Stream{}
			r.Detail = "sealed: only its owner's node reads what it left"
			continue
		}
		if err := worker.RevealResult(r, k); err != nil {
			return &api.Error{Kind: api.Internal, Message: fmt.Sprintf("result of task %d: %v", r.Index, err), Hint: "the node that ran it sealed it wrongly, or it was changed since"}
		}
	}
	return nil
}

// OpenOutput implements api.Backend: a blob that a result names, opened where the
// work is sealed and this node's owner is its.
func (g gateway) OpenOutput(ctx context.Context, id workload.ID, ref workload.Ref) (io.ReadCloser, error) {
	k, spec, err := g.n.sealOf(ctx, id)
	if err != nil {
		return nil, err
	}
	blob, err := g.OpenBlob(ctx, ref)
	switch {
	case err != nil || spec == nil || !spec.Sealed():
		k.Close()
		return blob, err
	case k == nil:
		return nil, errors.Join(errSealed(), blob.Close())
	}
	return &unsealed{seal.Decrypt(blob, k, worker.SealedContent), blob, k}, nil
}

// errSealed is what another node than the owner's says of what sealed work left.
func errSealed() error {
	return &api.Error{Kind: api.Unauthorized, Message: "the work is sealed: only its owner's node reads what it left", Hint: "ask on the node it was submitted on"}
}

// unsealed is an opened output.
type unsealed struct {
	io.Reader
	blob io.Closer
	key  *seal.Key
}

// Close implements io.Closer.
func (u *unsealed) Close() error { u.key.Close(); return u.blob.Close() }
