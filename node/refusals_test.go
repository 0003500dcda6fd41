package node

import (
	"crypto/ed25519"
	"log/slog"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// TestRefusalsAreRemembered applies a log by the rules of every replica. What a
// malicious leader put into it is remembered for the audit, by index; what lost a race
// is not.
func TestRefusalsAreRemembered(t *testing.T) {
	lead, other, cell := meshtest.Key(t), meshtest.Key(t), workload.CellID{4}
	quiet := slog.New(slog.DiscardHandler)
	b := newBook(rules(nil), quiet, newShelf(nil, quiet))
	index := uint64(0)
	apply := func(key ed25519.PrivateKey, c *ledger.Command) {
		t.Helper()
		c.Version, c.Term, c.Leader = ledger.CommandVersion, 2, meshtest.IDOf(lead)
		raw, err := leader.SealCommand(nil, key, cell, c)
		if err != nil {
			t.Fatal(err)
		}
		index++
		b.Apply(2, index, raw)
	}
	apply(lead, &ledger.Command{Genesis: &ledger.Genesis{Cell: cell, Epoch: 1, MaxSize: 4}})
	apply(lead, &ledger.Command{MemberAdd: &ledger.MemberAdd{Node: meshtest.IDOf(lead), Name: "lead"}})
	apply(lead, &ledger.Command{Expire: &ledger.Expire{Node: meshtest.IDOf(other), Epoch: 9}}) // a race
	apply(lead, &ledger.Command{Stop: &ledger.Stop{ID: workload.ID{Cell: cell}}})              // another
	if len(b.wrong) > 0 {
		t.Fatalf("an honest log: %+v", b.wrong)
	}
	apply(other, &ledger.Command{Expire: &ledger.Expire{Node: meshtest.IDOf(lead), Epoch: 1}}) // 5
	index++
	b.Apply(2, index, []byte("no command"))
	apply(lead, &ledger.Command{Accept: &ledger.Accept{ID: workload.ID{Cell: cell}, Spec: workload.Signed{By: meshtest.IDOf(other)}}})
	// Nobody has signed these, and they name an innocent one.
	put := func(raw []byte) {
		index++
		b.Apply(2, index, raw)
	}
	named := meshtest.IDOf(lead)
	put(wire.MustMarshal(&ledger.Command{Version: 1, Leader: named, Accept: &ledger.Accept{ID: workload.ID{Cell: cell}, Spec: workload.Signed{By: named}}}))
	two := ledger.Command{Version: 1, Leader: named, Award: &ledger.Award{}, Release: &ledger.Release{}}
	put(append(wire.MustMarshal(&two), make([]byte, ed25519.SignatureSize)...))
	apply(lead, &ledger.Command{Award: &ledger.Award{}, Release: &ledger.Release{}}) // 10: this one it did sign
	stranger, err := leader.SealCommand(nil, other, cell, &ledger.Command{Version: 1, Leader: meshtest.IDOf(other), Award: &ledger.Award{}, Release: &ledger.Release{}})
	if err != nil {
		t.Fatal(err)
	}
	put(stranger)
	want := []struct {
		index  uint64
		code   ledger.Code
		leader workload.PeerID
	}{{5, ledger.NotProposed, workload.PeerID{}}, {6, ledger.Malformed, workload.PeerID{}}, {7, ledger.BadSignature, workload.PeerID{}},
		{8, ledger.BadSignature, workload.PeerID{}}, {9, ledger.Malformed, workload.PeerID{}}, {10, ledger.Malformed, named}, {11, ledger.Malformed, workload.PeerID{}}}
	if len(b.wrong) != len(want) {
		t.Fatalf("remembered %+v", b.wrong)
	}
	for i, w := range want {
		if got := b.wrong[i]; got.Index != w.index || got.Code != string(w.code) || got.Leader != w.leader {
			t.Errorf("entry %d: %+v, want %s of %s", w.index, got, w.code, w.leader.Short())
		}
	}
	for range 2 * maxRefusals {
		index++
		b.Apply(2, index, []byte("no command"))
	}
	if len(b.wrong) != maxRefusals || b.wrong[0].Index != 5 || b.wrong[maxRefusals-1].Index != index {
		t.Errorf("%d remembered, from %d to %d", len(b.wrong), b.wrong[0].Index, b.wrong[len(b.wrong)-1].Index)
	}
}
