package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

func oneShare(t *testing.T, x byte) *seal.Share {
	t.Helper()
	s, err := seal.ParseShare(append([]byte{1}, bytes.Repeat([]byte{x}, seal.KeySize)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestVault holds that nobody replaces a share, and that a node that gives many
// pushes out its own and not another's.
func TestVault(t *testing.T) {
	var v vault
	defer v.close()
	job := func(n int) workload.ID { return workload.ID{Random: [16]byte{byte(n >> 8), byte(n), 1}} }
	public, b := make([]byte, seal.PublicSize), &seal.Binding{Workload: job(0), Share: true}
	modest, greedy := workload.PeerID{1}, workload.PeerID{2}
	first := oneShare(t, 1)
	if !v.put(job(0), modest, first) || v.put(job(0), greedy, oneShare(t, 2)) {
		t.Fatal("the first share is not kept, or another replaces it")
	}
	for i := 1; i <= maxShares+5; i++ {
		if !v.put(job(i), greedy, oneShare(t, 3)) {
			t.Fatalf("share %d is not kept", i)
		}
	}
	if len(v.shares) != maxShares || len(v.order) != maxShares {
		t.Errorf("%d shares are kept, %d in order, want %d", len(v.shares), len(v.order), maxShares)
	}
	if _, known, _ := v.wrap(public, b); !known {
		t.Error("the share of the modest node was pushed out")
	}
	if b.Workload = job(1); v.shares[job(1)] != nil || v.shares[job(maxShares+5)] == nil {
		t.Error("the greedy node's oldest share is still there, or its last is not")
	}
}

// sealedOne is a mesh of one node with a sealed workload that waits for a node
// which does not exist.
func sealedOne(t *testing.T) (*Node, *wire.UnsealMsg) {
	n := nullNode(t, "", nil)
	spec := workload.DefaultSpec()
	spec.Seal, spec.Where = &workload.Seal{Salt: seal.NewSalt()}, `zone == "nowhere"`
	ref, err := n.Backend().PutSealed(t.Context(), spec.Seal.Salt, bytes.NewReader(noop))
	if err != nil {
		t.Fatal(err)
	}
	spec.Program = workload.Program{Kind: workload.Wasm, Name: "noop.wasm", Blob: ref}
	sub, err := n.Backend().Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var signed workload.Signed
	n.currentCell().Read(func(s *ledger.State) {
		if v, ok := s.Workload(sub.ID); ok {
			signed = v.Signed
		}
	})
	r, err := seal.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	return n, &wire.UnsealMsg{Ref: wire.SlotRef{Workload: sub.ID, Slot: 1}, Spec: signed, Public: r.Public()}
}

// TestNoReleaseWithoutAnAward asks for the key of a workload in every way but the
// right one.
func TestNoReleaseWithoutAnAward(t *testing.T) {
	n, m := sealedOne(t)
	unseal := plugIn(n).unary[wire.ProtoUnseal]
	signed := func(change func(*workload.Spec)) workload.Signed {
		spec, err := n.sealedSpec(m.Ref.Workload, m.Spec)
		if err != nil {
			t.Fatal(err)
		}
		change(spec)
		return workload.Sign(workload.DomainSpec, wire.MustMarshal(spec), n.id.owner)
	}
	foreign := workload.CellID{9}
	ask := func(from workload.PeerID, m wire.UnsealMsg) error {
		_, err := unseal(context.WithoutCancel(t.Context()), from, wire.MustMarshal(&m))
		return err
	}
	for what, bad := range map[string]struct {
		from   workload.PeerID
		kind   wire.Kind
		change func(*wire.UnsealMsg)
	}{
		"no slot is awarded":           {n.self, wire.Refused, func(*wire.UnsealMsg) {}},
		"it is not admitted":           {workload.PeerID{9}, wire.Unauthorized, func(*wire.UnsealMsg) {}},
		"the spec is another one's":    {n.self, wire.Unauthorized, func(m *wire.UnsealMsg) { m.Ref.Workload.Random[0]++ }},
		"the spec's signature is none": {n.self, wire.Malformed, func(m *wire.UnsealMsg) { m.Spec.Sig = make([]byte, 64) }},
		"the cell is the asker's own":  {n.self, wire.Unauthorized, func(m *wire.UnsealMsg) { m.Ref.Workload = leader.IDOf(foreign, m.Spec) }},
		"it is of another mesh": {n.self, wire.Unauthorized, func(m *wire.UnsealMsg) {
			m.Spec = signed(func(s *workload.Spec) { s.Mesh[0]++ })
			m.Ref.Workload = leader.IDOf(m.Ref.Workload.Cell, m.Spec)
		}},
		"it is of a cell that this node is not in": {n.self, wire.Refused, func(m *wire.UnsealMsg) {
			m.Spec = signed(func(s *workload.Spec) { s.Seal.Cell = foreign })
			m.Ref.Workload = leader.IDOf(foreign, m.Spec)
		}},
	} {
		t.Run(what, func(t *testing.T) {
			changed := *m
			bad.change(&changed)
			if err := ask(bad.from, changed); !errors.Is(err, bad.kind) {
				t.Errorf("%v, want %s", err, bad.kind)
			}
		})
	}
}

// TestSharesComeFromTheSealersNode gives a helper shares of work whose owner is
// made up, as anybody can: the node that the spec names is the one that gives
// them, and what it gives counts as its own.
func TestSharesComeFromTheSealersNode(t *testing.T) {
	n := nullNode(t, "", nil)
	giver, other := workload.PeerID{1}, workload.PeerID{2}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	give := func(from workload.PeerID, cell workload.CellID) error {
		spec := workload.DefaultSpec()
		spec.Mesh, spec.Program = n.host.Mesh(), workload.Program{Kind: workload.Wasm}
		asked := sealedRequest(stranger, spec, cell, giver, n.self)
		_, err := n.handleShare(t.Context(), from, &wire.ShareMsg{ID: asked.Ref.Workload, Spec: asked.Spec, Share: append([]byte{1}, make([]byte, seal.KeySize)...)})
		return err
	}
	if err := give(other, n.homeCell()); !errors.Is(err, wire.Unauthorized) {
		t.Errorf("from another node: %v", err)
	}
	if err := give(giver, workload.CellID{9}); !errors.Is(err, wire.Refused) {
		t.Errorf("of work in another cell: %v", err)
	}
	if err := give(giver, n.homeCell()); err != nil {
		t.Fatal(err)
	}
	if n.vault.given[giver] != 1 || len(n.vault.given) != 1 {
		t.Errorf("given %v, want one by %s", n.vault.given, giver.Short())
	}
}
