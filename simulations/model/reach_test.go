package model

import (
	"math"
	"strings"
	"testing"
)

// apart is two cells whose peers are all next to each other, and work that is too
// much for the first: it is placed in the second.
const apart = `
duration: 60s
warmup: 10s
cooldown: 20s
peers: 40
cell_size: 20
voters: 3
network: {regions: [{name: one}], rtt: [[10ms]], access: 0, jitter: 0%, loss: 0%}
costs: {verify: 0s, sign: 0s, message: 0s, fsync: 1ms}
start: 20ms
machines: [{cores: 1}]
workloads: [{poisson: 10/s, service: 3s}]
`

func with(text, network string) string {
	return strings.Replace(text, "loss: 0%}", "loss: 0%, "+network+"}", 1)
}

// TestFirstContactWaits has a call to a node of another cell wait for two round trips,
// once.
func TestFirstContactWaits(t *testing.T) {
	w := world(t, with(apart, "connections: {keep: 2, voters: 3}"), 1)
	for range 2000 {
		w.Step()
	}
	const now, far = 1 << 40, 33
	at, via, ok := w.contact(5, far, now)
	if want := int64(now + 2*10*millisecond); at != want || via != -1 || !ok {
		t.Errorf("the first message leaves at %d, want %d", at, want)
	}
	if at, _, _ := w.contact(far, 5, now+millisecond); at != now+2*10*millisecond {
		t.Errorf("the other side waits until %d", at)
	}
	if at, _, _ := w.contact(5, far, now<<1); at != now<<1 {
		t.Errorf("a connection that stands is used at %d", at)
	}
	w.contact(5, 34, now)
	w.contact(5, 35, now)
	if len(w.reach.open[5]) != 2 || w.reach.use(far, 5) != nil {
		t.Errorf("it keeps %d connections, and the other end of the oldest is %v", len(w.reach.open[5]), w.reach.use(far, 5))
	}
	if at, _, _ := w.contact(5, 0, now); at != now {
		t.Errorf("a member waits for its voter until %d", at)
	}
	w.disconnect(5)
	if len(w.reach.open[5]) != 0 || w.reach.use(35, 5) != nil {
		t.Errorf("who left is still connected")
	}
}

// TestNAT has nobody dial who is behind one, but over a relay, and relays serve as
// often as holes are not punched.
func TestNAT(t *testing.T) {
	w := world(t, with(apart, "nat: {share: 100%}"), 1)
	if _, _, ok := w.contact(5, 33, 0); ok {
		t.Error("a node behind NAT was dialled")
	}
	if _, _, ok := w.contact(33, 1, 0); !ok {
		t.Error("a voter was not reached")
	}
	if _, via, ok := w.contact(1, 33, 0); !ok || via != -1 {
		t.Error("a node behind NAT is not reached over the connection that it opened")
	}
	w = world(t, with(apart, "nat: {share: 100%, relay: true, punched: 70%}"), 1)
	relayed, pairs := 0.0, 0.0
	for a := int32(3); a < 20; a++ {
		for b := int32(23); b < 40; b++ {
			if _, via, ok := w.contact(a, b, 0); !ok || via >= 0 && via != 20 {
				t.Fatalf("%d reaches %d over %d: %v", a, b, via, ok)
			} else if via >= 0 {
				relayed++
			}
			pairs++
		}
	}
	if share := relayed / pairs; math.Abs(share-0.3) > 0.08 {
		t.Errorf("%.0f %% of the pairs are relayed, want 30", 100*share)
	}
}

// TestReachCosts runs whole worlds: work that goes to another cell needs connections,
// calls are lost behind NAT, and none with relays.
func TestReachCosts(t *testing.T) {
	plain := figures(run(t, apart, 2))
	shook := figures(run(t, with(apart, "connections: {}"), 2))
	hidden := figures(run(t, with(apart, "nat: {share: 90%}"), 2))
	relayed := figures(run(t, with(apart, "nat: {share: 90%, relay: true, punched: 70%}"), 2))
	if !(shook["connections"] > 0) || !math.IsNaN(plain["connections"]) {
		t.Errorf("%v connections are opened, %v where everybody has one", shook["connections"], plain["connections"])
	}
	if hidden["lost_messages"] == 0 || relayed["lost_messages"] > 0 || hidden["success"] != 100 {
		t.Errorf("%v messages are lost behind NAT, %v with relays; %v %% succeed", hidden["lost_messages"], relayed["lost_messages"], hidden["success"])
	}
}

// TestGossipTakesTime has digests reach other cells late, and so sibling calls know
// less.
func TestGossipTakesTime(t *testing.T) {
	w := world(t, with(apart, "gossip: {degree: 2}"), 1)
	for w.Now() < 10*aSecond && w.Step() {
		c := &w.cells[0]
		if c.toldAt == 0 || c.said.round == 0 {
			continue
		}
		// 6 hops of 5 ms reach 40 peers at degree 2, but for those from a peer to itself
		if wait := c.toldAt - w.Now(); wait > 30*millisecond {
			t.Fatalf("a digest takes %d ns", wait)
		}
	}
	if f := figures(run(t, with(apart, "gossip: {degree: 2}"), 2)); f["success"] != 100 {
		t.Errorf("got %v", f)
	}
}

// TestDHT finds nodes of other cells when no sibling answers.
func TestDHT(t *testing.T) {
	count := func(text string) (found int) {
		w := world(t, text, 2)
		w.Watch(func(r *Record) {
			if r.Kind == "nodes-found" {
				found++
			}
		})
		for w.Step() {
		}
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if n := count(with(apart, "dht: true")); n == 0 {
		t.Error("nobody asked the DHT")
	}
	if n := count(apart); n != 0 {
		t.Errorf("%d look-ups that no scenario asked for", n)
	}
}
