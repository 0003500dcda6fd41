package ledger

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// testSpec and what follows are the encodings of these tests: this package
// takes the real ones through its Rules.
type testSpec struct {
	workload.Spec
	Salt string
}

func testRules() Rules {
	return Rules{OpenSpec: openTestSpec, Replay: replayTest, Charge: func(rate, ms int64) int64 { return rate * ms / 1000 }, OpenBid: openTestBid, OpenDraw: openTestDraw}
}

func openTestSpec(signed workload.Signed) (workload.Spec, error) {
	if string(signed.Sig) == "forged" {
		return workload.Spec{}, fmt.Errorf("spec: %w", workload.ErrSignature)
	}
	var t testSpec
	if err := json.Unmarshal(signed.Payload, &t); err != nil {
		return workload.Spec{}, err
	}
	copy(t.Nonce[:], t.Salt)
	return t.Spec, t.Validate()
}

func openTestBid(signed workload.Signed) (workload.Bid, error) {
	var b workload.Bid
	return b, json.Unmarshal(signed.Payload, &b)
}

// replayTest stands for the clearing: nobody is paid less than its own ask.
func replayTest(c *Award) error {
	for i, sl := range c.Slots {
		if sl.Rate < sl.Ask {
			return fmt.Errorf("slot %d pays %d for an ask of %d", i, sl.Rate, sl.Ask)
		}
	}
	return nil
}

func peer(name string) workload.PeerID {
	var p workload.PeerID
	copy(p[:], name)
	return p
}

func named(b []byte) string { return strings.TrimRight(string(b), "\x00") }

func peerName(p workload.PeerID) string { return named(p[:]) }

var (
	testCell = workload.CellID{'c', 'e', 'l', 'l'}
	testMesh = workload.MeshID{'m', 'e', 's', 'h'}
)

func loadID(name string) workload.ID {
	id := workload.ID{Cell: testCell}
	copy(id.Random[:], name)
	return id
}

func loadName(id workload.ID) string { return named(id.Random[:]) }

// world is a ledger with the counter of its log.
type world struct {
	*State
	index uint64
	at    int64
}

func newWorld() *world { return &world{State: New(testRules())} }

// apply applies one command, built by set, 100 ms after the one before.
func (w *world) apply(set func(*Command)) Result {
	w.index++
	w.at += 100
	c := &Command{Version: CommandVersion, At: w.at, Leader: peer("leader")}
	set(c)
	return w.Apply(w.index, c, fmt.Appendf(nil, "entry %d", w.index))
}

func (w *world) found(t testing.TB, members ...string) {
	t.Helper()
	r := w.apply(func(c *Command) { c.Genesis = &Genesis{Mesh: testMesh, Cell: testCell, Epoch: 1, MaxSize: 128} })
	if r.Reject != nil {
		t.Fatal(r.Reject)
	}
	for _, m := range members {
		w.apply(func(c *Command) { c.MemberAdd = &MemberAdd{Node: peer(m), Name: m} })
	}
}

// signedSpec makes a statement of owner over the default spec as edit leaves it.
func signedSpec(owner, salt string, edit func(*workload.Spec)) workload.Signed {
	t := testSpec{Spec: workload.DefaultSpec(), Salt: salt}
	t.Mesh = testMesh
	t.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
	if edit != nil {
		edit(&t.Spec)
	}
	payload, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	return workload.Signed{Payload: payload, By: peer(owner), Sig: []byte("good")}
}

func (w *world) accept(name, owner string, edit func(*workload.Spec)) Result {
	signed := signedSpec(owner, name, edit)
	return w.apply(func(c *Command) { c.Accept = &Accept{ID: loadID(name), Spec: signed, Home: peer(owner)} })
}

// awardTo builds an award of one slot a node, all at one rate.
func awardTo(id workload.ID, auction uint32, first uint32, rate int64, nodes ...string) *Award {
	a := &Award{Workload: id, Wanted: uint32(len(nodes)), First: first}
	copy(a.Auction[:], fmt.Sprint("auction ", auction))
	seen := map[string]bool{}
	for _, n := range nodes {
		a.Slots = append(a.Slots, AwardSlot{Node: peer(n), Rate: rate, Ask: rate})
		if !seen[n] {
			a.addBid(n, rate)
		}
		seen[n] = true
	}
	return a
}

func (c *Award) addBid(node string, asks ...int64) {
	payload, err := json.Marshal(workload.Bid{Node: peer(node), Asks: asks})
	if err != nil {
		panic(err)
	}
	c.Bids = append(c.Bids, workload.Signed{Payload: payload, By: peer(node), Sig: []byte("good")})
	c.Scores = append(c.Scores, Score{RTTMicros: 1000})
}

func segmentRef(n uint64) workload.Ref {
	return workload.Ref{Digest: workload.DigestOf(fmt.Append(nil, n)), Size: 100}
}

// reencode sends a snapshot through an encoding and back.
func reencode(t testing.TB, snap *Snapshot) *Snapshot {
	t.Helper()
	var buf bytes.Buffer
	out := new(Snapshot)
	if err := errors.Join(gob.NewEncoder(&buf).Encode(snap), gob.NewDecoder(&buf).Decode(out)); err != nil {
		t.Fatal(err)
	}
	for i := range out.Records {
		out.Records[i].Spec = nil // it is no part of the encoding
	}
	return out
}
