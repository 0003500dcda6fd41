package directory

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/workload"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// identity is a node of the mesh whose root key is seeded(1).
func identity(t testing.TB, b byte) (ed25519.PrivateKey, admission.Bundle) {
	t.Helper()
	root, operator, key := meshtest.IDOf(seeded(1)), seeded(2), seeded(b)
	op, err := admission.IssueOperator(seeded(1), meshtest.IDOf(operator), "op", epoch)
	if err != nil {
		t.Fatal(err)
	}
	node, err := admission.IssueNode(operator, admission.MeshOf(root), meshtest.IDOf(key), "n", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return key, admission.Bundle{Root: root, Operator: op, Node: node}
}

var testMesh = admission.MeshOf(meshtest.IDOf(seeded(1)))

func sealed1(t testing.TB, v any, by byte) []byte {
	t.Helper()
	key, b := identity(t, by)
	raw, err := seal(v, key, b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func nodeRecord(by byte, seq uint64) NodeRecord {
	return NodeRecord{Peer: meshtest.IDOf(seeded(by)), Machine: machine("m", 4, nil), Addrs: []string{"/ip4/192.0.2.1/udp/1/quic-v1"},
		Seq: seq, Expires: epoch.Add(RecordTTL).UnixMilli()}
}

func cellRecord(by byte, epochNo, term, seq uint64) CellRecord {
	return CellRecord{Cell: workload.CellID{7}, Epoch: epochNo, Term: term, Seq: seq, Leader: meshtest.IDOf(seeded(by)),
		Voters: []Voter{{Peer: meshtest.IDOf(seeded(3))}, {Peer: meshtest.IDOf(seeded(4))}}, Expires: epoch.Add(RecordTTL).UnixMilli()}
}

func validators(now time.Time) (nodeValidator, cellValidator) {
	j := judge{testMesh, func() time.Time { return now }}
	return nodeValidator{j}, cellValidator{j}
}

func TestNodeRecordsAreJudged(t *testing.T) {
	v, _ := validators(epoch)
	good := nodeRecord(3, 1)
	key := nodeKey(good.Peer)
	if err := v.Validate(key, sealed1(t, good, 3)); err != nil {
		t.Fatalf("a good record: %v", err)
	}
	late, forever, addr, label := good, good, good, good
	late.Expires = epoch.Add(-time.Hour).UnixMilli()
	forever.Expires = epoch.Add(100 * time.Hour).UnixMilli()
	addr.Addrs = []string{strings.Repeat("a", maxAddrLen+1)}
	label.Machine.Labels = map[string]string{"k": strings.Repeat("v", maxLabelBytes+1)}
	many := good
	many.Addrs = make([]string, MaxAddrs+1)
	_, b := identity(t, 3)
	unsigned, err := seal(good, seeded(9), b)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key string
		raw []byte
	}{
		"of another node":             {key, sealed1(t, nodeRecord(4, 1), 4)},
		"signed by another node":      {key, sealed1(t, good, 4)},
		"signed by no certified key":  {key, unsigned},
		"ended":                       {key, sealed1(t, late, 3)},
		"that never ends":             {key, sealed1(t, forever, 3)},
		"with an address too long":    {key, sealed1(t, addr, 3)},
		"with a label too long":       {key, sealed1(t, label, 3)},
		"with too many addresses":     {key, sealed1(t, many, 3)},
		"that is a cell record":       {key, sealed1(t, cellRecord(3, 1, 1, 1), 3)},
		"that is too large":           {key, make([]byte, MaxRecord+1)},
		"that is nothing":             {key, nil},
		"under a key that is not one": {"/perrin-node/x", sealed1(t, good, 3)},
	} {
		if err := v.Validate(c.key, c.raw); !errors.Is(err, ErrRecord) {
			t.Errorf("a record %s: got %v, want %v", name, err, ErrRecord)
		}
	}
	big := good
	big.Machine.Labels = map[string]string{}
	for i := range 64 {
		big.Machine.Labels[fmt.Sprint(i)] = strings.Repeat("v", maxLabelBytes)
	}
	k, bundle := identity(t, 3)
	if _, err := seal(big, k, bundle); !errors.Is(err, ErrRecord) {
		t.Errorf("a record over %d bytes was made: %v", MaxRecord, err)
	}
}

func TestSelectPrefersEpochThenTermThenSeq(t *testing.T) {
	nodes, cells := validators(epoch)
	values := [][]byte{
		sealed1(t, cellRecord(3, 1, 9, 9), 3), []byte("junk"), sealed1(t, cellRecord(3, 2, 1, 1), 3),
		sealed1(t, cellRecord(4, 2, 2, 1), 4), sealed1(t, cellRecord(3, 2, 2, 5), 3), sealed1(t, cellRecord(3, 2, 2, 4), 3),
	}
	key := cellKey(workload.CellID{7})
	for n, want := range []int{0, 0, 2, 3, 4, 4} {
		if got, err := cells.Select(key, values[:n+1]); err != nil || got != want {
			t.Errorf("of the first %d: got %d, %v, want %d", n+1, got, err, want)
		}
	}
	if _, err := cells.Select(key, values[1:2]); !errors.Is(err, ErrRecord) {
		t.Errorf("of junk alone: got %v", err)
	}
	older, newer := sealed1(t, nodeRecord(3, 1), 3), sealed1(t, nodeRecord(3, 2), 3)
	if got, err := nodes.Select(nodeKey(meshtest.IDOf(seeded(3))), [][]byte{older, newer}); err != nil || got != 1 {
		t.Errorf("of two node records: got %d, %v, want 1", got, err)
	}
}

func TestClassesMeetTheirQueries(t *testing.T) {
	id := workload.PeerID{1}
	m := machine("m", 12, map[string]string{"gpu": "no", "zone": "attic"})
	m.Attests = []string{"tpm"}
	provided := map[Key]bool{}
	for _, k := range Keys(id, m, 4) {
		provided[k] = true
	}
	meets := func(q Query) bool {
		for _, k := range q.keys(4) {
			if provided[k] {
				return true
			}
		}
		return false
	}
	for _, q := range []Query{
		{}, {Arch: "amd64"}, {Kind: workload.Wasm}, {Wall: "namespaces", Arch: "amd64"}, {Attest: "tpm"},
		{Total: workload.Capacity{Cores: 8}}, {Total: workload.Capacity{Cores: 12}}, {Labels: map[string]string{"zone": "attic"}},
	} {
		if !meets(q) {
			t.Errorf("%+v does not meet a machine that fits", q)
		}
	}
	for _, q := range []Query{
		{Arch: "arm64"}, {Wall: "gvisor"}, {Attest: "snp"}, {Total: workload.Capacity{Cores: 16}}, {Labels: map[string]string{"zone": "cellar"}},
	} {
		if meets(q) {
			t.Errorf("%+v meets a machine that does not fit", q)
		}
	}
	r := &NodeRecord{Peer: id, Machine: m}
	if !(Query{Total: workload.Capacity{Cores: 12, Memory: 1 << 30}, Kind: workload.Wasm}).matches(r) || (Query{Total: workload.Capacity{Cores: 13}}).matches(r) ||
		(Query{Exclude: []workload.PeerID{id}}).matches(r) || (Query{Match: func(*NodeRecord) bool { return false }}).matches(r) {
		t.Error("a record is judged wrongly")
	}
	for cores, want := range map[int32]int{-1: 0, 0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 127: 6, 128: 7, 4096: 7} {
		if got := SizeOf(cores); got != want {
			t.Errorf("%d cores are of size %d, want %d", cores, got, want)
		}
	}
}

func TestStoreIsCapped(t *testing.T) {
	ctx := context.Background()
	c := newCapped(2)
	for _, k := range []string{"a", "b", "a"} {
		if err := c.Put(ctx, ds.NewKey(k), []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Put(ctx, ds.NewKey("c"), nil); err == nil {
		t.Error("a third entry of two was taken")
	}
	res, err := c.Query(ctx, dsq.Query{Prefix: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := res.Rest(); err != nil || len(all) != 2 {
		t.Errorf("got %d entries, %v", len(all), err)
	}
	if err := c.Delete(ctx, ds.NewKey("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, ds.NewKey("a")); !errors.Is(err, ds.ErrNotFound) {
		t.Errorf("a deleted entry: got %v", err)
	}
	if n, err := c.GetSize(ctx, ds.NewKey("b")); err != nil || n != 1 {
		t.Errorf("size of b: %d, %v", n, err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(sealed1(f, nodeRecord(3, 1), 3))
	f.Add(sealed1(f, cellRecord(3, 1, 1, 1), 3))
	f.Add([]byte{0xa0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := OpenNode(raw, testMesh, epoch); err == nil && r.Peer != meshtest.IDOf(seeded(3)) {
			t.Errorf("a node record of %s was made up", r.Peer)
		}
		if r, err := OpenCell(raw, testMesh, epoch); err == nil && r.Leader != meshtest.IDOf(seeded(3)) {
			t.Errorf("a cell record by %s was made up", r.Leader)
		}
	})
}
