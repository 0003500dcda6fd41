package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/workload"
)

func start(t testing.TB, n *meshtest.Node, cfg Config) *Gossip {
	t.Helper()
	g, err := New(n.Host, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func digest(n *meshtest.Node, cell byte, seq uint64) CellDigest {
	return CellDigest{
		Cell: workload.CellID{cell}, Leader: n.ID(), LeaderAddrs: n.Addrs(), Epoch: 1, Term: 2, Members: 5,
		FreeCores: 3, FreeThreads: 6, FreeMemory: 1 << 30, MinAskCore: 10, MinAskThread: 4,
		Kinds: []workload.Kind{workload.Wasm}, Arches: []string{"amd64"}, Labels: []string{"zone=attic"},
		Seq: seq, ExpiryMs: time.Now().Add(time.Minute).UnixMilli(),
	}
}

func TestDigestsReachCellsThatAreNotConnected(t *testing.T) {
	nodes := meshtest.Nodes(t, 5) // each is connected to n0 only
	all := make([]*Digests, len(nodes))
	for i, n := range nodes {
		ds, err := start(t, n, Config{}).JoinDigests("", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = ds
	}
	seq := uint64(0)
	meshtest.Eventually(t, "every board shows the cells of n1 and n4", func() bool {
		seq++
		for _, i := range []int{1, 4} {
			if err := all[i].Publish(context.Background(), digest(nodes[i], byte(i), seq), nodes[i].Key); err != nil {
				t.Fatal(err)
			}
		}
		for _, ds := range all {
			if len(ds.Board.List(time.Now())) != 2 {
				return false
			}
		}
		return true
	})
	got := all[2].Board.List(time.Now())[0]
	if got.Leader != nodes[1].ID() || got.FreeCores != 3 || got.Labels[0] != "zone=attic" {
		t.Errorf("n2 sees %+v", got)
	}
}

func TestBadMessagesGoNoFurther(t *testing.T) {
	nodes := meshtest.Nodes(t, 2)
	receiver, sender := start(t, nodes[0], Config{}), start(t, nodes[1], Config{})
	ds, err := receiver.JoinDigests("", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "the sender sees the subscriber", func() bool { return sender.Neighbours(ds.topic) == 1 })
	foreign := meshtest.NewAuthority(t)
	good := digest(nodes[1], 1, 1)
	late, other := good, good
	late.ExpiryMs = time.Now().Add(-time.Hour).UnixMilli()
	other.Leader = nodes[0].ID()
	must := func(d CellDigest) []byte {
		raw, err := SealDigest(d, nodes[1].Key, nodes[1].Bundle())
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	stranger, err := SealDigest(good, nodes[1].Key, foreign.Bundle(t, nodes[1].Key, "x", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	bad := [][]byte{[]byte("not cbor"), nil, must(late), must(other), stranger, bytes.Repeat([]byte{1}, MaxMessage)}
	for i, raw := range bad {
		if err := sender.Publish(context.Background(), ds.topic, raw); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	meshtest.Eventually(t, "the receiver has refused them all", func() bool {
		return receiver.Stats().Refused == uint64(len(bad))
	})
	if got := ds.Board.List(time.Now()); len(got) != 0 {
		t.Errorf("the board shows %+v", got)
	}
	err = sender.Publish(context.Background(), ds.topic, make([]byte, MaxMessage+1))
	if !errors.Is(err, ErrMessage) {
		t.Errorf("oversize: got %v, want %v", err, ErrMessage)
	}
}

func TestAuthorsAreThrottled(t *testing.T) {
	nodes := meshtest.Nodes(t, 2)
	receiver, sender := start(t, nodes[0], Config{Rate: 0.001, Burst: 3}), start(t, nodes[1], Config{})
	name, err := Topic(nodes[0].Mesh(), "news")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	stop, err := receiver.Subscribe(name, func(workload.PeerID, []byte) error { return nil },
		func(_ workload.PeerID, data []byte) { got <- string(data) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	meshtest.Eventually(t, "the sender sees the subscriber", func() bool { return sender.Neighbours(name) == 1 })
	for i := range 10 {
		if err := sender.Publish(context.Background(), name, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	meshtest.Eventually(t, "seven are over the rate", func() bool { return receiver.Stats().Throttled == 7 })
	for range 3 {
		<-got
	}
	if n := receiver.Stats().Received; n != 3 {
		t.Errorf("%d were delivered, want 3", n)
	}
}

func TestTopicNames(t *testing.T) {
	id := workload.MeshID{1}
	for _, name := range []string{"", "a b", "x\n", strings.Repeat("a", 65)} {
		if got, err := Topic(id, name); err == nil {
			t.Errorf("%q became %q", name, got)
		}
	}
	if _, err := DigestTopic(id, strings.Repeat("r", maxRegion+1)); err == nil {
		t.Error("a region that is too long is taken")
	}
	all, err := DigestTopic(id, "")
	if err != nil || all != "/perrin/010000000000/digest/all" {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestBoardKeepsTheNewestUntilItEnds(t *testing.T) {
	var b Board
	now := time.UnixMilli(1_000_000)
	d := func(epoch, term, seq uint64, ttl time.Duration) *CellDigest {
		return &CellDigest{Cell: workload.CellID{1}, Epoch: epoch, Term: term, Seq: seq, ExpiryMs: now.Add(ttl).UnixMilli()}
	}
	for i, step := range []struct {
		d    *CellDigest
		want bool
	}{
		{d(1, 1, 5, time.Minute), true},
		{d(1, 1, 5, time.Minute), false},
		{d(1, 1, 4, time.Minute), false},
		{d(1, 2, 1, time.Minute), true},
		{d(1, 1, 9, time.Minute), false},
		{d(2, 1, 1, time.Minute), true},
	} {
		if got := b.Add(step.d, now); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
	if n := len(b.List(now)); n != 1 {
		t.Errorf("%d digests, want 1", n)
	}
	if n := len(b.List(now.Add(2 * time.Minute))); n != 0 {
		t.Errorf("%d digests after their end, want 0", n)
	}
}

func FuzzOpenDigest(f *testing.F) {
	a := meshtest.NewAuthority(f)
	key := meshtest.Key(f)
	now := time.Now()
	d := CellDigest{Cell: workload.CellID{1}, Leader: meshtest.IDOf(key), Labels: []string{"a=b"}, ExpiryMs: now.Add(time.Minute).UnixMilli()}
	raw, err := SealDigest(d, key, a.Bundle(f, key, "n", now))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{0xa0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := OpenDigest(b, a.Mesh(), now)
		if err == nil && !bytes.Equal(b, raw) && got.Leader != meshtest.IDOf(key) {
			t.Errorf("a digest of %s was made up", got.Leader)
		}
	})
}
