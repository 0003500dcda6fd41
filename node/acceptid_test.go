package node

import (
	"log/slog"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// TestReplicasNameWorkloads holds that every replica knows which ID a spec has.
func TestReplicasNameWorkloads(t *testing.T) {
	lead, cell := meshtest.Key(t), workload.CellID{4}
	quiet := slog.New(slog.DiscardHandler)
	b := newBook(rules(nil), quiet, newShelf(nil, quiet))
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
	signed := workload.Sign(workload.DomainSpec, wire.MustMarshal(spec), lead)
	for i, x := range []struct {
		c    ledger.Command
		code ledger.Code
	}{
		{ledger.Command{Genesis: &ledger.Genesis{Cell: cell, Epoch: 1, MaxSize: 4}}, ""},
		{ledger.Command{Accept: &ledger.Accept{ID: workload.ID{Cell: cell, Random: [16]byte{1}}, Spec: signed}}, ledger.BadSpec},
		{ledger.Command{Accept: &ledger.Accept{ID: leader.IDOf(cell, signed), Spec: signed}}, ""},
	} {
		x.c.Version, x.c.Leader = ledger.CommandVersion, meshtest.IDOf(lead)
		raw, err := leader.SealCommand(nil, lead, cell, &x.c)
		if err != nil {
			t.Fatal(err)
		}
		code := ledger.Code("")
		if res := b.Apply(2, uint64(i+1), raw).(ledger.Result); res.Reject != nil {
			code = res.Reject.Code
		}
		if code != x.code {
			t.Errorf("entry %d: %q, want %q", i+1, code, x.code)
		}
	}
}
