package node

import (
	"bytes"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/notary"
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

// TestJunkHidesNoEvidence floods a log with what nobody signed, and then with what one
// leader signed: a later leader's bad entry is shown.
func TestJunkHidesNoEvidence(t *testing.T) {
	one, other := workload.PeerID{1}, workload.PeerID{2}
	var bad badEntries
	for i := range uint64(100) {
		bad.note(workload.PeerID{}, notary.Entry{Index: 1 + i})
		bad.note(one, notary.Entry{Index: 101 + i})
	}
	bad.note(other, notary.Entry{Index: 500})
	var at []uint64
	for _, e := range bad.shown() {
		at = append(at, e.Index)
	}
	if want := []uint64{101, 102, 103, 104, 500, 1, 2, 3, 4}; !slices.Equal(at, want) {
		t.Errorf("shown %v, want %v", at, want)
	}
	for i := range 100 { // a cell of many liars
		bad.note(workload.PeerID{3, byte(i)}, notary.Entry{Index: 600})
	}
	if n := len(bad.shown()); n != maxBadEntries {
		t.Errorf("%d shown, want %d", n, maxBadEntries)
	}
}

// TestJunkDropsNoRefusal has refusals of nobody's, then of one leader's, come in after
// another leader's: that one is remembered.
func TestJunkDropsNoRefusal(t *testing.T) {
	var r refusals
	index := uint64(0)
	note := func(by workload.PeerID) {
		index++
		r.note(&ledger.Command{Leader: by}, &ledger.Result{Index: index, Reject: &ledger.Reject{Code: ledger.DoesNotReplay}}, func() bool { return !by.IsZero() })
	}
	has := func(index uint64) bool {
		return slices.ContainsFunc(r, func(x api.Refusal) bool { return x.Index == index })
	}
	one, other := workload.PeerID{1}, workload.PeerID{2}
	note(workload.PeerID{})
	note(one)
	note(one)
	for range 2 * maxRefusals {
		note(workload.PeerID{})
	}
	if len(r) != maxRefusals || !has(1) || !has(2) || !has(3) || !has(index) {
		t.Errorf("after junk: %d, %+v", len(r), r[:4])
	}
	for range 2 * maxRefusals {
		note(other)
	}
	if len(r) != maxRefusals || !has(1) || !has(2) || !has(3) || !has(index) {
		t.Errorf("after another's: %d, %+v", len(r), r[:4])
	}
	for i := range 2 * maxRefusals { // each of another leader
		note(workload.PeerID{9, byte(i), byte(i >> 8)})
	}
	if len(r) != maxRefusals || !has(1) || !has(index) {
		t.Errorf("after many: %d, %+v", len(r), r[:4])
	}
}

// TestOtherHistory has a leader sign an entry over heads of this chain, and of others.
func TestOtherHistory(t *testing.T) {
	key, head := meshtest.Key(t), workload.Digest{7}
	by, chain := meshtest.IDOf(key), heads{{5, workload.Digest{5}}, {7, head}}
	for name, tt := range map[string]struct {
		seen *ledger.Seen
		tell bool
	}{
		"the same":            {&ledger.Seen{Index: 7, Head: head}, false},
		"another":             {&ledger.Seen{Index: 7, Head: workload.Digest{8}}, true},
		"another's index":     {&ledger.Seen{Index: 5, Head: head}, true},
		"before this chain":   {&ledger.Seen{Index: 2, Head: head}, false},
		"of a later entry":    {&ledger.Seen{Index: 9, Head: head}, true},
		"none, as at genesis": {nil, false},
	} {
		raw, err := leader.SealCommand(nil, key, workload.CellID{4}, &ledger.Command{Version: 1, Leader: by, Expire: &ledger.Expire{}, Seen: tt.seen})
		if err != nil {
			t.Fatal(err)
		}
		if got := otherHistory(chain, by, &notary.Entry{Index: 9, Data: raw}); len(got) > 0 != tt.tell {
			t.Errorf("%s: %q", name, got)
		}
	}
}
