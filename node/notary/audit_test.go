package notary

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// history is the log of a cell as one voter tells it.
type history struct {
	entries []Entry
}

func (h *history) add(data []byte) {
	e := Entry{Index: 1, Data: data}
	if n := len(h.entries); n > 0 {
		e.Index, e.Before = h.entries[n-1].Index+1, h.entries[n-1].After()
	}
	h.entries = append(h.entries, e)
}

// awards is the log of a cell in which m's auction was awarded by its leader, the first
// node, as change leaves it.
func awards(m *made, change func(*ledger.Award)) *history {
	a := m.rec.Awards[0]
	award := &ledger.Award{
		Workload: m.rec.Workload, Auction: workload.AuctionID(a.Auction), Wanted: a.Wanted, MaxPrice: a.MaxPrice,
		Bids: slices.Clone(a.Bids), Scores: slices.Clone(a.Scores), Slots: slices.Clone(a.Slots), First: 1,
	}
	change(award)
	h := &history{}
	for _, c := range []*ledger.Command{
		{Version: 1, Leader: m.id(0), Genesis: &ledger.Genesis{Mesh: m.rec.Mesh, Cell: m.rec.Workload.Cell, Epoch: 1, MaxSize: 64}},
		{Version: 1, Leader: m.id(0), Accept: &ledger.Accept{Spec: m.rec.Spec, Home: m.id(0)}},
		{Version: 1, Leader: m.id(0), Award: award},
	} {
		h.add(m.sealed(0, c))
	}
	return h
}

// sealed is a command as node by signs it for the cell.
func (m *made) sealed(by int, c *ledger.Command) []byte {
	raw, err := leader.SealCommand(nil, m.nodes[by], m.rec.Workload.Cell, c)
	if err != nil {
		panic(err)
	}
	return raw
}

// proof has the voters sign each entry of a history, and shows the entries that an
// audit would.
func (m *made) proof(h *history, voters ...int) *Proof {
	p := &Proof{Type: ProofType, Cell: m.rec.Workload.Cell, Voters: m.rec.Voters, Certificates: m.certs}
	for i := range h.entries {
		e := &h.entries[i]
		mark := wire.MustMarshal(&wire.Mark{Cell: p.Cell, Index: e.Index, Head: e.After()})
		for _, v := range voters {
			p.Marks = append(p.Marks, workload.Sign(workload.DomainMark, mark, m.nodes[v]))
		}
		if _, err := BadCommand(nil, p.Cell, e.Data); err != nil {
			p.Entries = append(p.Entries, *e)
		}
	}
	return p
}

// audited checks proofs as files.
func audited(t *testing.T, root workload.PeerID, proofs ...*Proof) *Audited {
	t.Helper()
	var read []*Proof
	for _, p := range proofs {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadProof(raw)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, again)
	}
	a, err := CheckProof(read, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *Audited) kinds() (out []FindingKind) {
	for _, f := range a.Findings {
		out = append(out, f.Kind)
	}
	return out
}

// TestMaliciousLeader has a leader do what it must not: it is refused by every
// replica's replay, and its log entry, which the voters sign for, proves it.
func TestMaliciousLeader(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	for name, change := range map[string]func(*ledger.Award){
		"drops the bid that sets the price": func(a *ledger.Award) { a.Bids, a.Scores = a.Bids[:2], a.Scores[:2] },
		"forges a bid": func(a *ledger.Award) {
			forged := workload.Bid{Auction: a.Auction, Workload: a.Workload, Node: m.id(2), Asks: []int64{2_000_000}}
			a.Bids[2] = workload.Sign(workload.DomainBid, wire.MustMarshal(&forged), m.nodes[0])
		},
		"awards to a friend":    func(a *ledger.Award) { a.Slots[0].Node = m.id(2) },
		"pays a friend more":    func(a *ledger.Award) { a.Slots[0].Rate++ },
		"uses an old bid again": func(a *ledger.Award) { a.Auction[0]++ },
	} {
		a := audited(t, root, m.proof(awards(m, change), 0, 1, 2))
		if !slices.Equal(a.kinds(), []FindingKind{BadAward}) || a.Findings[0].Index != 3 || !slices.Equal(a.Findings[0].Nodes, []workload.PeerID{m.id(0)}) {
			t.Errorf("%s: %+v", name, a.Findings)
		}
	}
	honest := audited(t, root, m.proof(awards(m, func(*ledger.Award) {}), 0, 1, 2))
	c, ok := honest.Countersigned()
	if len(honest.Findings) > 0 || !ok || c.Index != 3 || len(c.Signed) != 3 {
		t.Errorf("an honest one: %+v, %+v", honest.Findings, c)
	}
}

// TestNobodyIsFramed has whoever forwards an entry claim that another one proposed it.
// The mark that it signs for its own tale proves nothing against that other one.
func TestNobodyIsFramed(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	bad := awards(m, func(a *ledger.Award) { a.Slots[0].Rate++ }).entries[2]
	signature := len(bad.Data) - ed25519.SignatureSize
	command, err := leader.OpenCommand(bad.Data)
	if err != nil {
		t.Fatal(err)
	}
	other := workload.CellID{9}
	elsewhere, err := leader.SealCommand(nil, m.nodes[0], other, command)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"without a signature":       bad.Data[:signature],
		"with a signature of zeros": append(slices.Clone(bad.Data[:signature]), make([]byte, ed25519.SignatureSize)...),
		"signed by the forwarder":   m.sealed(2, command),
		"of another cell":           elsewhere,
		"with another award's signature": append(slices.Clone(bad.Data[:signature]),
			awards(m, func(*ledger.Award) {}).entries[2].Data[signature:]...),
		"no command": []byte("nothing"),
	} {
		h := awards(m, func(*ledger.Award) {})
		h.entries = h.entries[:2]
		h.add(data)
		a := audited(t, root, m.proof(h, 2))
		if !slices.Equal(a.kinds(), []FindingKind{Unsigned}) || len(a.Findings[0].Nodes) > 0 {
			t.Errorf("%s: %+v", name, a.Findings)
		}
		if a = audited(t, root, m.proof(h)); !slices.Equal(a.kinds(), []FindingKind{BadProof}) {
			t.Errorf("%s, and no voter has it: %+v", name, a.Findings)
		}
	}
	// What the leader did sign is proof without anybody else's word.
	p := m.proof(awards(m, func(a *ledger.Award) { a.Slots[0].Rate++ }))
	if a := audited(t, root, p); !slices.Equal(a.kinds(), []FindingKind{BadAward}) || a.Findings[0].Nodes[0] != m.id(0) {
		t.Errorf("signed by its leader: %+v", a.Findings)
	}
}

// TestLeaderWithoutCertificate has a leader leave its certificate out of everything. What
// it signed convicts its key as soon as one voter has it in its log; a key of nobody's,
// which signed what is in no log, is told of nothing.
func TestLeaderWithoutCertificate(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	bad := awards(m, func(a *ledger.Award) { a.Slots[0].Rate++ })
	p := m.proof(bad, 1, 2)
	p.Certificates = m.certs[1:]
	a := audited(t, root, p)
	if !slices.Equal(a.kinds(), []FindingKind{BadAward}) || !slices.Equal(a.Findings[0].Nodes, []workload.PeerID{m.id(0)}) ||
		!strings.Contains(a.Findings[0].Detail, "a node whose certificate is not known here, in the log that 2 voters signed") {
		t.Errorf("in the log of two voters: %+v", a.Findings)
	}
	p = m.proof(bad)
	p.Certificates = m.certs[1:]
	if a := audited(t, root, p); !slices.Equal(a.kinds(), []FindingKind{BadProof}) {
		t.Errorf("in no log: %+v", a.Findings)
	}
}

// TestAwardAgainstItsOwner has a leader award what clears, and is not what the owner asks
// for: the owner's spec goes along as proof, and another's proves nothing.
func TestAwardAgainstItsOwner(t *testing.T) {
	m := make3(t, 4, 2, time.Now(), func(s *workload.Spec) { s.Countersign = true })
	root := meshtest.IDOf(m.mesh.Root)
	p := m.proof(awards(m, func(*ledger.Award) {}), 0, 1, 2)
	e := awards(m, func(*ledger.Award) {}).entries[2]
	e.Spec = &m.rec.Spec
	p.Entries = []Entry{e}
	if a := audited(t, root, p); !slices.Equal(a.kinds(), []FindingKind{BadAward}) || a.Findings[0].Nodes[0] != m.id(0) {
		t.Errorf("an award that nobody countersigned: %+v", a.Findings)
	}
	other := make3(t, 5, 2, time.Now())
	p.Entries[0].Spec = &other.rec.Spec
	if a := audited(t, root, p); !slices.Equal(a.kinds(), []FindingKind{BadProof}) {
		t.Errorf("with another workload's spec: %+v", a.Findings)
	}
	for name, change := range map[string]func(*ledger.Award){
		"over more slots than wanted": func(a *ledger.Award) { a.Wanted = 1 },
		"at another limit":            func(a *ledger.Award) { a.MaxPrice = 2_000_000 },
		"of ranges of no task":        func(a *ledger.Award) { a.First = 0 },
		"with a record that none has": func(a *ledger.Award) { a.Scores[2].RiskPPM = ledger.MaxStandingPPM + 1 },
		"with a record below none":    func(a *ledger.Award) { a.Scores[2].RiskPPM = -1 },
	} {
		plain := make3(t, 4, 2, time.Now())
		e := awards(plain, change).entries[2]
		e.Spec = &plain.rec.Spec
		p := plain.proof(awards(plain, change), 0, 1, 2)
		p.Entries = []Entry{e}
		if a := audited(t, meshtest.IDOf(plain.mesh.Root), p); !slices.Equal(a.kinds(), []FindingKind{BadAward}) {
			t.Errorf("%s: %+v", name, a.Findings)
		}
	}
}

// TestTwoHistories has voters show different pasts, at once and one after the other.
func TestTwoHistories(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	one := awards(m, func(*ledger.Award) {})
	other := awards(m, func(a *ledger.Award) { a.First = 2 })
	monday, tuesday := m.proof(one, 0, 1, 2), m.proof(other, 0)
	if a := audited(t, root, monday, tuesday); !slices.Contains(a.kinds(), Equivocation) || a.Findings[0].Nodes[0] != m.id(0) || a.Findings[0].Index != 3 {
		t.Errorf("a voter that rewrote history: %+v", a.Findings)
	}
	split := m.proof(one, 0, 1)
	split.Marks = append(split.Marks, m.proof(other, 2).Marks...)
	a := audited(t, root, split)
	if !slices.Equal(a.kinds(), []FindingKind{Fork}) || a.Findings[0].Index != 3 || len(a.Findings[0].Nodes) != 3 {
		t.Errorf("voters that tell two histories: %+v", a.Findings)
	}
	if c, ok := a.Countersigned(); !ok || len(c.Signed) != 2 {
		t.Errorf("the majority's: %+v", c)
	}
	if c, ok := audited(t, root, m.proof(one, 0)).Countersigned(); ok {
		t.Errorf("one of three voters is no majority: %+v", c)
	}
}

// TestOutsidersMakeNoMajority has members that are no voters sign marks: they count for
// nothing, and are told. Who signs two histories is named all the same.
func TestOutsidersMakeNoMajority(t *testing.T) {
	m := make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	one := awards(m, func(*ledger.Award) {})
	other := awards(m, func(a *ledger.Award) { a.First = 2 })
	check := func(p *Proof, voters ...workload.PeerID) *Audited {
		a, err := CheckProof([]*Proof{p}, root, nil, voters...)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	p := m.proof(one, 0, 1, 2)
	if a := check(p); !a.Claimed || a.Voters != 3 {
		t.Errorf("by the file's own word: %+v", a)
	}
	// The file names two that do not vote; the real ones are 0 and two others.
	a := check(p, m.id(0), meshtest.IDOf(m.owner), meshtest.IDOf(m.mesh.Root))
	if c, ok := a.Countersigned(); ok || a.Claimed || len(a.Outsiders) != 2 || len(a.Findings) > 0 {
		t.Errorf("two of three marks are of no voters: %+v, %+v", c, a)
	}
	p.Voters = []workload.PeerID{m.id(2)} // a file that makes its maker the only voter
	a = check(p, m.id(0), m.id(1), m.id(2))
	if c, ok := a.Countersigned(); !ok || len(c.Signed) != 3 {
		t.Errorf("the voters are named: %+v, %+v", c, a)
	}
	p = m.proof(one, 0, 1)
	p.Marks = append(p.Marks, m.proof(other, 2).Marks...)
	if a = check(p, m.id(0), m.id(1)); len(a.Findings) > 0 || len(a.Disputes) != 1 || a.Disputes[0].Index != 3 {
		t.Errorf("an outsider's history: %+v", a)
	}
	p.Marks = append(p.Marks, m.proof(one, 2).Marks...)
	if a = check(p, m.id(0), m.id(1)); !slices.Equal(a.kinds(), []FindingKind{Equivocation}) {
		t.Errorf("an outsider's two histories: %+v", a)
	}
}

// TestProofsProveThemselves changes what a proof needs.
func TestProofsProveThemselves(t *testing.T) {
	m, other := make3(t, 4, 2, time.Now()), make3(t, 4, 2, time.Now())
	root := meshtest.IDOf(m.mesh.Root)
	bad := func() *Proof { return m.proof(awards(m, func(a *ledger.Award) { a.Slots[0].Rate++ }), 0, 1, 2) }
	for name, change := range map[string]func(*Proof){
		"a mark's signature":       func(p *Proof) { p.Marks[0].Sig[3]++ },
		"a mark of another domain": func(p *Proof) { p.Marks[0] = workload.Sign(workload.DomainStop, p.Marks[0].Payload, m.nodes[0]) },
		"a mark of nobody":         func(p *Proof) { p.Marks[0] = workload.Sign(workload.DomainMark, p.Marks[0].Payload, m.owner) },
		"a mark of another cell":   func(p *Proof) { p.Cell[0]++ },
		"another mesh's chain":     func(p *Proof) { p.Certificates = other.certs },
		"an entry changed":         func(p *Proof) { p.Entries[0].Data[len(p.Entries[0].Data)-1]++ },
		"a signer of no mesh":      func(p *Proof) { p.Certificates = p.Certificates[1:] },
		"an innocent entry":        func(p *Proof) { p.Entries = awards(m, func(*ledger.Award) {}).entries[:1] },
	} {
		p := bad()
		change(p)
		if a := audited(t, root, p); !slices.Contains(a.kinds(), BadProof) {
			t.Errorf("%s: %+v", name, a.Findings)
		}
	}
	if _, err := CheckProof([]*Proof{bad(), {Type: ProofType}}, root, nil); !errors.Is(err, ErrProof) {
		t.Errorf("proofs of two cells: %v", err)
	}
	if _, err := ReadProof([]byte(`{"type":"receipt"}`)); !errors.Is(err, ErrProof) {
		t.Errorf("another file: %v", err)
	}
}

func FuzzReadProof(f *testing.F) {
	m := make3(f, 2, 1, time.Now())
	raw, err := json.Marshal(m.proof(awards(m, func(a *ledger.Award) { a.Slots[0].Rate++ }), 0, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(fmt.Appendf(nil, `{"type":%q}`, ProofType))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ReadProof(raw)
		if err != nil {
			return
		}
		if _, err := CheckProof([]*Proof{p}, workload.PeerID{}, nil); err != nil && !errors.Is(err, ErrProof) {
			t.Error(err)
		}
	})
}
