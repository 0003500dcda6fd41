package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// switchboard takes every protocol that a node serves, in place of a mesh host.
type switchboard struct {
	unary   map[string]mesh.Handler
	most    map[string]int
	streams map[string]mesh.StreamHandler
}

// Handle implements mesh.Server.
func (s *switchboard) Handle(proto string, maxReq int, fn mesh.Handler) {
	s.unary[proto], s.most[proto] = fn, maxReq
}

// HandleBulk implements mesh.Server.
func (s *switchboard) HandleBulk(proto string, maxReq int, fn mesh.Handler, _ func([]byte)) {
	s.Handle(proto, maxReq, fn)
}

// HandleStream implements mesh.Server.
func (s *switchboard) HandleStream(proto string, fn mesh.StreamHandler) { s.streams[proto] = fn }

func (s *switchboard) protocols() []string { return slices.Sorted(maps.Keys(s.unary)) }

func plugIn(n *Node) *switchboard {
	s := &switchboard{unary: map[string]mesh.Handler{}, most: map[string]int{}, streams: map[string]mesh.StreamHandler{}}
	n.serve(s)
	return s
}

func seededKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// realRequests has one sensible request or more of every protocol that a node
// serves: a seed for the fuzzer, and what TestEveryProtocolIsFuzzed counts.
func realRequests(n *Node) map[string][]any {
	owner := seededKey(1)
	spec := workload.DefaultSpec()
	spec.Mesh, spec.Where = n.host.Mesh(), `zone == "nowhere"`
	spec.Program = workload.Program{Kind: workload.Wasm, Name: "p", Blob: workload.Ref{Digest: workload.DigestOf([]byte("p")), Size: 1}}
	signed := workload.Sign(workload.DomainSpec, wire.MustMarshal(spec), owner)
	cell := n.homeCell()
	id := leader.IDOf(cell, signed)
	ref := wire.SlotRef{Workload: id, Slot: 1, Fence: workload.Fence{Generation: 1, Epoch: 1}}
	small := workload.Ref{Digest: workload.DigestOf([]byte("p")), Size: 1}
	call := workload.Call{Auction: workload.AuctionID{1}, Workload: id, Cell: cell, Leader: n.self, Shape: spec.Resources, Kind: workload.Wasm, Slots: 2}
	results := workload.Segment{Workload: id, Slot: 1, Node: n.self, Results: []workload.TaskResult{{Attempt: 1, Exit: workload.Exited}}}
	segment := wire.MustMarshal(results)
	offer := workload.Offer{Node: n.self, Cell: cell, Seq: 1, ValidMs: 1000, Machine: n.machine.about, Free: n.machine.about.Total}
	award := wire.AwardMsg{Cell: cell, Term: 1, Workload: id, Auction: call.Auction, GrantMs: 9000, Slots: []wire.Awarded{{Slot: 1, Ranges: []workload.Range{{Count: 1, Attempt: 1}}}}}
	bid := workload.Bid{Auction: call.Auction, Workload: id, Node: n.self, Asks: []int64{3}, HoldMs: 2000, HasMs: 9000}
	clearing := wire.Clearing{
		Workload: id, Auction: call.Auction, Wanted: 1, Bids: []workload.Signed{workload.Sign(workload.DomainBid, wire.MustMarshal(bid), n.id.key)},
		Scores: []workload.Score{{}}, Slots: scheduler.Clear(1, 0, []workload.Bid{bid}, []workload.Score{{}}),
	}
	return map[string][]any{
		wire.ProtoHold:    {wire.Hold{Workload: id, Blobs: []workload.Ref{small}, Inline: []wire.Inline{{Data: []byte("p")}}}, wire.Hold{Workload: id, Blobs: []workload.Ref{{Size: 9}}, Sources: []workload.PeerID{{3}}}},
		wire.ProtoWhole:   {wire.WholeMsg{Cell: cell, Index: 1}, wire.WholeMsg{Cell: cell, Index: 1 << 60}},
		wire.ProtoChunk:   {wire.Chunk{Blob: small}, wire.Chunk{Blob: small, Index: -1}},
		wire.ProtoOffer:   {wire.OfferMsg{Offer: workload.Sign(workload.DomainOffer, wire.MustMarshal(offer), n.id.key)}},
		wire.ProtoSuited:  {wire.SuitedMsg{Shape: spec.Resources, Kind: workload.Wasm, Wanted: 2, Where: `arch == "amd64"`}},
		wire.ProtoMember:  {wire.MemberMsg{Name: "n", Addrs: []string{"/ip4/127.0.0.1/udp/1/quic-v1"}, Version: "v", Cell: &cell}},
		wire.ProtoCall:    {wire.CallMsg{Call: call}},
		wire.ProtoRelease: {wire.ReleaseMsg{Auctions: []workload.AuctionID{call.Auction}}},
		wire.ProtoAward:   {wire.SignedAward{Award: workload.Sign(workload.DomainAward, wire.MustMarshal(award), n.id.key), Spec: signed}},
		wire.ProtoHalt:    {wire.HaltMsg{Slots: []wire.SlotRef{ref}, GraceMs: 10}},
		wire.ProtoLive:    {wire.LiveMsg{Workload: id}},
		wire.ProtoPicture: {wire.PictureMsg{}},
		wire.ProtoSubmit:  {wire.Submit{Spec: signed, Home: n.self, Blobs: []workload.Ref{small}, Inline: []wire.Inline{{Data: []byte("p")}}}},
		wire.ProtoTake:    {wire.TakeMsg{Ref: ref, Seq: 1}},
		wire.ProtoReturn:  {wire.ReturnMsg{Ref: ref, Ranges: []workload.Range{{Count: 1, Attempt: 1}}}},
		wire.ProtoClose: {wire.CloseMsg{Ref: ref, Segment: segment, Sig: workload.Sign(workload.DomainResult, wire.MustMarshal(wire.Statement{
			Ref: ref, Segment: blob.RefOf(segment), Results: receipt.RootOf(receipt.ResultsOf(&results))}), n.id.key)}},
		wire.ProtoDraw:        {wire.DrawMsg{Draw: workload.Draw{Workload: id}}},
		wire.ProtoQuota:       {wire.QuotaMsg{Order: workload.Sign(workload.DomainQuota, wire.MustMarshal(wire.QuotaOrder{Cell: cell, Limit: 5}), n.id.key)}},
		wire.ProtoCommitted:   {wire.DrawMsg{Draw: workload.Draw{Workload: id}}},
		wire.ProtoCountersign: {wire.CountersignMsg{Cell: cell, Spec: signed, Voters: []workload.PeerID{n.self}, Clearing: clearing}},

		wire.ProtoAudit:    {wire.AuditMsg{Cell: cell, At: []uint64{1, 2, 1 << 60}}},
		wire.ProtoWitness:  {wire.WitnessMsg{Workload: id, Voters: []workload.PeerID{n.self}, Statement: small.Digest}},
		wire.ProtoUnseal:   {wire.UnsealMsg{Ref: ref, Spec: signed, Public: make([]byte, seal.PublicSize)}, sealedRequest(owner, spec, cell, n.self, n.self)},
		wire.ProtoShare:    {wire.ShareMsg{Spec: signed, ID: id, Share: make([]byte, seal.ShareSize)}},
		wire.ProtoOperator: {wire.OperatorMsg{}, wire.OperatorMsg{Rotate: true}, wire.OperatorMsg{Cert: &signed}},

		wire.ProtoDone:  {wire.DoneMsg{Ref: ref}},
		wire.ProtoRenew: {wire.RenewMsg{Cell: cell, Slots: []wire.SlotRef{ref}}, wire.RenewMsg{Cell: cell, Disclaim: []wire.SlotRef{ref}}},
		wire.ProtoStop:  {wire.StopMsg{ID: id, Order: workload.Sign(workload.DomainStop, wire.MustMarshal(id), owner)}},
		wire.ProtoQuery: {wire.QueryMsg{Op: leader.QueryInspect, ID: id}, wire.QueryMsg{Op: leader.QueryList, All: true}, wire.QueryMsg{Op: leader.QueryWait, ID: id, Since: 1 << 60, TimeoutMs: 5}},
	}
}

// sealedRequest asks for the key of sealed work that no cell knows.
func sealedRequest(owner ed25519.PrivateKey, spec workload.Spec, cell workload.CellID, home, helper workload.PeerID) wire.UnsealMsg {
	body := workload.Ref{Digest: workload.DigestOf([]byte("sealed")), Size: 6}
	spec = spec.Public()
	spec.Seal = &workload.Seal{Salt: make([]byte, seal.SaltSize), Check: make([]byte, seal.CheckSize), Body: body, Need: 1, Helpers: []workload.PeerID{helper}, Cell: cell, Home: home}
	signed := workload.Sign(workload.DomainSpec, wire.MustMarshal(spec), owner)
	return wire.UnsealMsg{Ref: wire.SlotRef{Workload: leader.IDOf(cell, signed), Slot: 1}, Spec: signed, Public: make([]byte, seal.PublicSize)}
}

// TestEveryProtocolIsFuzzed fails when a node serves a protocol of which
// FuzzProtocols has no real request to begin with.
func TestEveryProtocolIsFuzzed(t *testing.T) {
	n := nullNode(t, "", nil)
	s, requests := plugIn(n), realRequests(n)
	for _, proto := range s.protocols() {
		if len(requests[proto]) == 0 {
			t.Errorf("%s has no request among realRequests", proto)
		}
		for _, m := range requests[proto] {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := s.unary[proto](ctx, n.self, wire.MustMarshal(m))
			cancel()
			if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.Malformed) {
				t.Errorf("%s: the request does not decode: %v", proto, err)
			}
		}
	}
	for proto := range s.streams {
		if proto != wire.ProtoRaft && proto != wire.ProtoAttach && proto != wire.ProtoAttest {
			t.Errorf("%s is a stream that FuzzStreams does not open", proto)
		}
	}
}

// fuzzedNode is a running mesh of one, for all inputs of a target. It lasts as
// long as the process.
func fuzzedNode(f *testing.F) *Node {
	f.Helper()
	data := f.TempDir()
	if _, err := Init(data, "one"); err != nil {
		f.Fatal(err)
	}
	n, err := New(f.Context(), Config{
		Data: data, Cores: 4, Memory: 8 << 30, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true,
		Runners: map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{""}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	select {
	case <-n.Ready():
	case err := <-done:
		f.Fatal(err)
	}
	return n
}

// How long a request may take that its sender waits fuzzWait for.
const (
	fuzzWait = 50 * time.Millisecond
	tooLong  = 10 * time.Second
)

// FuzzProtocols hands arbitrary bytes to every handler that a node registers:
// from a stranger, from a member and from the node itself, which leads its cell.
// Nothing panics, everything is answered in time and within a message's bounds,
// no failure is the node's own, and the ledger still holds together.
func FuzzProtocols(f *testing.F) {
	n := fuzzedNode(f)
	s := plugIn(n)
	protocols := s.protocols()
	member := workload.PeerIDOf(seededKey(2).Public().(ed25519.PublicKey))
	add := &ledger.Command{MemberAdd: &ledger.MemberAdd{Node: member, Name: "m"}}
	if _, err := n.proposeMember(f.Context(), n.currentCell(), add); err != nil {
		f.Fatal(err)
	}
	peers := []workload.PeerID{{9}, member, n.self}
	for proto, messages := range realRequests(n) {
		for from := range peers {
			for _, m := range messages {
				f.Add(uint8(slices.Index(protocols, proto)), uint8(from), wire.MustMarshal(m))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which, from uint8, raw []byte) {
		proto := protocols[int(which)%len(protocols)]
		if len(raw) > s.most[proto] {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), fuzzWait)
		defer cancel()
		began := time.Now()
		answer, err := s.unary[proto](ctx, peers[int(from)%len(peers)], raw)
		if took := time.Since(began); took > tooLong {
			t.Errorf("%s took %s", proto, took)
		}
		if e := (&wire.Error{}); err != nil && wire.FromError(err).Kind == wire.Internal && !errors.As(err, &e) {
			t.Errorf("%s failed by itself: %v", proto, err)
		}
		if len(answer) > maxAnswer {
			t.Errorf("%s answers with %d bytes", proto, len(answer))
		}
		holdsTogether(t, n)
	})
}

// holdsTogether restores a snapshot of the node's ledger.
func holdsTogether(t *testing.T, n *Node) {
	t.Helper()
	var before, after workload.Digest
	var raw bytes.Buffer
	n.book.Read(func(s *ledger.State) {
		before = s.Hash()
		if _, err := (snapshot{s: s.Snapshot()}).write(&raw); err != nil {
			t.Error(err)
		}
	})
	snap, err := readSnapshot(&raw)
	if err != nil {
		t.Fatal(err)
	}
	state, err := ledger.Restore(n.book.rules, snap)
	if err == nil {
		after = state.Hash()
	}
	if err != nil || before != after {
		t.Errorf("the ledger differs from its snapshot: %v", err)
	}
}

// fuzzStream is what a peer says on a stream and then closes.
type fuzzStream struct {
	net.Conn
	in io.Reader
}

func (s *fuzzStream) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *fuzzStream) Write(p []byte) (int, error)      { return len(p), nil }
func (s *fuzzStream) SetReadDeadline(time.Time) error  { return nil }
func (s *fuzzStream) SetWriteDeadline(time.Time) error { return nil }
func (s *fuzzStream) SetDeadline(time.Time) error      { return nil }
func (s *fuzzStream) CloseWrite() error                { return nil }
func (s *fuzzStream) Reset() error                     { return nil }
func (s *fuzzStream) Close() error                     { return nil }

// FuzzStreams opens the streams that a node serves and says arbitrary bytes. What
// comes after the name of a group is Raft's, and another target's.
func FuzzStreams(f *testing.F) {
	n := fuzzedNode(f)
	s := plugIn(n)
	protocols := slices.Sorted(maps.Keys(s.streams))
	group := groupName(n.homeCell())
	attach := wire.MustMarshal(wire.AttachMsg{Workload: workload.ID{Cell: n.homeCell()}, Follow: true, Stdin: true})
	var open bytes.Buffer
	if err := worker.WriteFrame(&open, worker.FrameOpen, attach); err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(slices.Index(protocols, wire.ProtoRaft)), append([]byte{byte(len(group))}, group...))
	f.Add(uint8(slices.Index(protocols, wire.ProtoRaft)), []byte{200, 'x'})
	f.Add(uint8(slices.Index(protocols, wire.ProtoAttach)), open.Bytes())
	ask := wire.MustMarshal(wire.AttestMsg{Kind: workload.LevelTPM})
	f.Add(uint8(slices.Index(protocols, wire.ProtoAttest)), append(binary.BigEndian.AppendUint32(nil, uint32(len(ask))), ask...))
	f.Fuzz(func(t *testing.T, which uint8, said []byte) {
		proto := protocols[int(which)%len(protocols)]
		ctx, cancel := context.WithTimeout(t.Context(), fuzzWait)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.streams[proto](ctx, workload.PeerID{9}, &fuzzStream{in: bytes.NewReader(said)})
		}()
		select {
		case <-done:
		case <-time.After(tooLong):
			t.Fatalf("%s: the stream is not let go", proto)
		}
	})
}

// FuzzSnapshotFile reads arbitrary bytes as the file of a snapshot. One that is
// taken is written again as it was read.
func FuzzSnapshotFile(f *testing.F) {
	b := newBook(ledger.Rules{
		OpenSpec: func(s workload.Signed) (spec workload.Spec, err error) { return spec, wire.Unmarshal(s.Payload, &spec) },
		Charge:   func(int64, int64) int64 { return 0 }, Replay: func(*ledger.Award) error { return nil },
	}, slog.New(slog.DiscardHandler), newShelf(nil, slog.New(slog.DiscardHandler)))
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Host: "true"}
	commands := []*ledger.Command{
		{Genesis: &ledger.Genesis{Cell: workload.CellID{1}, Epoch: 1, MaxSize: 4}},
		{MemberAdd: &ledger.MemberAdd{Node: workload.PeerID{1}, Name: "n"}},
		{Accept: &ledger.Accept{ID: workload.ID{Cell: workload.CellID{1}}, Spec: workload.Signed{Payload: wire.MustMarshal(spec)}}},
	}
	f.Add([]byte{0})
	for i, c := range commands {
		c.Version = ledger.CommandVersion
		entry, err := leader.SealCommand(nil, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), workload.CellID{1}, c)
		if err != nil {
			f.Fatal(err)
		}
		if res := b.Apply(1, uint64(i+1), entry).(ledger.Result); res.Reject != nil {
			f.Fatal(res.Reject)
		}
		var raw bytes.Buffer
		if _, err := (snapshot{s: b.state.Snapshot()}).write(&raw); err != nil {
			f.Fatal(err)
		}
		f.Add(raw.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		snap, err := readSnapshot(bytes.NewReader(raw))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if _, err := (snapshot{s: snap}).write(&again); err != nil {
			t.Fatal(err)
		}
		if _, err := readSnapshot(&again); err != nil {
			t.Errorf("taken once, refused again: %v", err)
		}
		_ = b.Restore(bytes.NewReader(raw)) // what does not hold together is an error
	})
}

// FuzzFolder starts from a data folder in which one file has arbitrary content:
// its identity is read, or the file is called damaged.
func FuzzFolder(f *testing.F) {
	base := f.TempDir()
	if _, err := Init(base, "one"); err != nil {
		f.Fatal(err)
	}
	dir := keysDir(base)
	good := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if good[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			f.Fatal(err)
		}
	}
	names := slices.Sorted(maps.Keys(good))
	for i, name := range names {
		f.Add(uint8(i), good[name])
	}
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		name := names[int(which)%len(names)]
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		id, _, err := loadIdentity(base)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, admission.ErrKeyFile) {
			t.Errorf("%s: %v, want it called damaged", name, err)
		}
		if err == nil && id.key == nil {
			t.Errorf("%s: an identity without a key", name)
		}
		for name, raw := range good { // also what reading has written
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzKept reads arbitrary bytes as what a node remembers of its blobs, and
// arbitrary text as the name of a pin.
func FuzzKept(f *testing.F) {
	id := workload.ID{Random: [16]byte{1}}
	f.Add(wire.MustMarshal(keptRefs{Blobs: []workload.Ref{{Size: 1}}}), keptOwner(keptInputs, id))
	f.Add([]byte{0xa0}, holdOwner(id))
	f.Fuzz(func(t *testing.T, raw []byte, owner string) {
		var entry keptRefs
		if wire.Unmarshal(raw, &entry) == nil && len(entry.Blobs) > 65536 {
			t.Errorf("%d blobs", len(entry.Blobs))
		}
		kept := true
		strays{owner: time.Unix(0, 0)}.sweep(time.Unix(1<<30, 0), []string{owner}, func(id workload.ID) bool {
			return strings.HasSuffix(owner, id.String())
		}, func(string) { kept = false })
		if id, err := workload.ParseID(strings.TrimPrefix(owner, holdPrefix)); err == nil && kept != strings.HasSuffix(owner, id.String()) {
			t.Errorf("%q: kept %t", owner, kept)
		}
	})
}
