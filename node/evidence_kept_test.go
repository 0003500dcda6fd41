package node

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// TestLastCertificate finds a leader's certificate, whatever time the leader claims and
// whenever the certificate was good.
func TestLastCertificate(t *testing.T) {
	mesh, lead, cell := meshtest.NewAuthority(t), meshtest.Key(t), workload.CellID{4}
	quiet := slog.New(slog.DiscardHandler)
	b := newBook(rules(nil), quiet, newShelf(nil, quiet))
	first := mesh.Bundle(t, lead, "lead", time.Now().Add(-time.Hour)).Encode()
	last := mesh.Bundle(t, lead, "lead", time.Now().Add(time.Hour)).Encode()
	for i, c := range []*ledger.Command{
		{Genesis: &ledger.Genesis{Mesh: mesh.Mesh(), Cell: cell, Epoch: 1, MaxSize: 4}},
		{MemberAdd: &ledger.MemberAdd{Node: meshtest.IDOf(lead), Name: "lead"}, Certs: [][]byte{first, last}},
	} {
		c.Version, c.Term, c.Leader, c.At = ledger.CommandVersion, 2, meshtest.IDOf(lead), 1 // long before both
		raw, err := leader.SealCommand(nil, lead, cell, c)
		if err != nil {
			t.Fatal(err)
		}
		b.Apply(2, uint64(i+1), raw)
	}
	b.Read(func(s *ledger.State) {
		if got := lastCertificate(s, meshtest.IDOf(lead)); len(got) != 1 || !bytes.Equal(got[0], last) {
			t.Errorf("the leader's: %d certificates, the last one %v", len(got), len(got) > 0 && bytes.Equal(got[0], last))
		}
		if got := lastCertificate(s, meshtest.IDOf(mesh.Root)); len(got) > 0 {
			t.Error("a certificate of a node that has none")
		}
	})
}
