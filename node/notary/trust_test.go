package notary

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// said is what the root and the operator of a made mesh have said.
func (m *made) said(t testing.TB, charter admission.Charter, denials ...admission.Denial) *TrustFile {
	t.Helper()
	operator := meshtest.IDOf(m.mesh.Operator)
	charter.Seq = 3
	charter.Operators = append(charter.Operators, admission.Operator{Key: operator, Node: m.id(0), Name: "node1", Since: 1})
	signed, err := admission.SignCharter(m.mesh.Root, charter, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := admission.Statements{Charter: &signed}
	for i, d := range denials {
		d.Version, d.Mesh, d.Seq = 1, m.mesh.Mesh(), uint64(i+1)
		s.Denials = append(s.Denials, admission.SignedDenial{Denial: workload.Sign(workload.DomainDeny, wire.MustMarshal(d), m.mesh.Operator), Operator: m.mesh.Cert})
	}
	return &TrustFile{Root: meshtest.IDOf(m.mesh.Root), Statements: wire.MustMarshal(&s)}
}

// TestRemovedAndDenied: whoever was removed or denied when it signed fails the link of
// certificates, and who was so before or after does not.
func TestRemovedAndDenied(t *testing.T) {
	now := time.Now()
	ms := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	m := make3(t, 2, 1, now)
	removed := func(from time.Duration) admission.Charter {
		return admission.Charter{Removed: []admission.Removed{{Key: meshtest.IDOf(m.mesh.Operator), Name: "old", From: ms(from)}}}
	}
	denied := func(at, until time.Duration) admission.Denial {
		d := admission.Denial{Peer: m.id(1), At: ms(at)}
		if until != 0 {
			d.Until = ms(until)
		}
		return d
	}
	lift := denied(-time.Minute, 0)
	lift.Lift = true
	for name, tt := range map[string]struct {
		charter admission.Charter
		denials []admission.Denial
		detail  string // "" holds
	}{
		"nothing":                    {},
		"operator removed before":    {removed(-time.Hour), nil, "counted no more from"},
		"operator removed afterward": {removed(time.Hour), nil, ""},
		"denied before":              {admission.Charter{}, []admission.Denial{denied(-time.Hour, 0)}, "node2: operator"},
		"denied until later":         {admission.Charter{}, []admission.Denial{denied(-time.Hour, time.Hour)}, "had denied it on"},
		"denied, and it was over":    {admission.Charter{}, []admission.Denial{denied(-time.Hour, -time.Minute)}, ""},
		"denied afterward":           {admission.Charter{}, []admission.Denial{denied(time.Hour, 0)}, ""},
		"denied, and lifted":         {admission.Charter{}, []admission.Denial{denied(-time.Hour, 0), lift}, ""},
	} {
		raw, err := m.said(t, tt.charter, tt.denials...).Encode()
		if err != nil {
			t.Fatal(err)
		}
		past, err := ReadTrust(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		opt := m.options()
		opt.Stood = func(node, operator workload.PeerID, at int64) error {
			return past.Stood(node, operator, time.UnixMilli(at))
		}
		l := link(t, verified(t, m.file().Encode(), opt), "certificates")
		switch {
		case tt.detail == "" && (l.Status != receipt.Holds || !strings.Contains(l.Detail, "none was removed or denied")):
			t.Errorf("%s: %+v", name, l)
		case tt.detail != "" && (l.Status != receipt.Fails || !strings.Contains(l.Detail, tt.detail)):
			t.Errorf("%s: %+v, want %q", name, l, tt.detail)
		}
	}
}

// TestTrustFilesProveThemselves: another root, a changed statement or another's
// signature is no trust file.
func TestTrustFilesProveThemselves(t *testing.T) {
	m, other := make3(t, 1, 1, time.Now()), make3(t, 1, 1, time.Now())
	f := m.said(t, admission.Charter{}, admission.Denial{Peer: m.id(2), At: time.Now().UnixMilli()})
	refused := func(name string, f *TrustFile) {
		t.Helper()
		raw, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTrust(raw); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
	refused("another root", &TrustFile{Root: meshtest.IDOf(other.mesh.Root), Statements: f.Statements})
	for _, at := range []int{len(f.Statements) / 4, len(f.Statements) / 2, len(f.Statements) - 10} {
		bad := bytes.Clone(f.Statements)
		bad[at] ^= 1
		refused("a byte changed", &TrustFile{Root: f.Root, Statements: bad})
	}
	refused("cut short", &TrustFile{Root: f.Root, Statements: f.Statements[:100]})
}

func FuzzReadTrust(f *testing.F) {
	m := make3(f, 1, 1, time.Now())
	raw, err := m.said(f, admission.Charter{}, admission.Denial{Peer: m.id(2), At: time.Now().UnixMilli()}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"type":"https://github.com/perrin-mesh/perrin/trust/v1","root":"","statements":"oA=="}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		past, err := ReadTrust(raw)
		if err == nil && past.Root.IsZero() && past.Charter > 0 {
			t.Error("a charter of no root")
		}
	})
}

// TestTrustFileHasADate: a node of the mesh says when it was written, and nobody else.
func TestTrustFileHasADate(t *testing.T) {
	now := time.Now()
	m, other := make3(t, 2, 1, now), make3(t, 1, 1, now)
	cert := func(m *made) []byte { return m.mesh.Bundle(t, m.nodes[0], "node1", now).Encode() }
	for name, tt := range map[string]struct {
		date func(f *TrustFile)
		bad  bool
	}{
		"none":                   {func(*TrustFile) {}, false},
		"a member's":             {func(f *TrustFile) { f.Date(m.nodes[0], cert(m), now) }, false},
		"another mesh's":         {func(f *TrustFile) { f.Date(other.nodes[0], cert(other), now) }, true},
		"with another's chain":   {func(f *TrustFile) { f.Date(m.nodes[1], cert(m), now) }, true},
		"moved":                  {func(f *TrustFile) { f.Date(m.nodes[0], cert(m), now); f.Written.At = now.Add(time.Hour) }, true},
		"without a certificate":  {func(f *TrustFile) { f.Date(m.nodes[0], nil, now) }, true},
		"long before it had one": {func(f *TrustFile) { f.Date(m.nodes[0], cert(m), now.Add(-100*24*time.Hour)) }, true},
	} {
		f := m.said(t, admission.Charter{})
		tt.date(f)
		raw, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		past, err := ReadTrust(raw)
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && past.Written.IsZero() != (f.Written == nil) {
			t.Errorf("%s: written at %s", name, past.Written)
		}
	}
}

// TestAuditLeavesOutWhoIsDenied: marks of a voter that is out are in no majority and make
// no fork; two histories that it signed are named all the same.
func TestAuditLeavesOutWhoIsDenied(t *testing.T) {
	now := time.Now()
	m := make3(t, 2, 1, now)
	f := m.said(t, admission.Charter{}, admission.Denial{Peer: m.id(2), At: now.Add(-time.Hour).UnixMilli()})
	past, err := admission.OpenPast(f.Root, f.Statements)
	if err != nil {
		t.Fatal(err)
	}
	past.Written = now
	mark := func(node int, head byte) workload.Signed {
		return workload.Sign(workload.DomainMark, wire.MustMarshal(wire.Mark{Index: 7, Head: workload.Digest{head}}), m.nodes[node])
	}
	for name, tt := range map[string]struct {
		marks  []workload.Signed
		past   *admission.Past
		kinds  []FindingKind
		signed int
	}{
		"without a trust file":      {[]workload.Signed{mark(0, 1), mark(2, 2)}, nil, []FindingKind{Fork}, 1},
		"its fork":                  {[]workload.Signed{mark(0, 1), mark(2, 2)}, past, nil, 1},
		"its mark":                  {[]workload.Signed{mark(0, 1), mark(2, 1)}, past, nil, 1},
		"alone":                     {[]workload.Signed{mark(2, 1)}, past, nil, 0},
		"its two histories":         {[]workload.Signed{mark(0, 1), mark(2, 2), mark(2, 3)}, past, []FindingKind{Equivocation}, 1},
		"two that are not put out":  {[]workload.Signed{mark(0, 1), mark(1, 1)}, past, nil, 2},
		"a fork of two that are in": {[]workload.Signed{mark(0, 1), mark(1, 2)}, past, []FindingKind{Fork}, 1},
	} {
		p := &Proof{Type: ProofType, Voters: []workload.PeerID{m.id(0), m.id(1), m.id(2)}, Marks: tt.marks}
		for i := range 3 {
			p.Certificates = append(p.Certificates, m.mesh.Bundle(t, m.nodes[i], "node", now).Encode())
		}
		a, err := CheckProof([]*Proof{p}, workload.PeerID{}, tt.past)
		if err != nil {
			t.Fatal(err)
		}
		signed := 0
		for _, c := range a.Checkpoints {
			signed += len(c.Signed)
		}
		if !slices.Equal(a.kinds(), tt.kinds) || signed != tt.signed || (len(a.Doubted) == 1) != (tt.past != nil) {
			t.Errorf("%s: %+v, %d signed, %v", name, a.Findings, signed, a.Doubted)
		}
	}
}

// TestOneCertificateOfARemovedOperatorHidesNoFork: a voter that another certificate stands
// for counts, in whatever order a proof shows the two.
func TestOneCertificateOfARemovedOperatorHidesNoFork(t *testing.T) {
	now := time.Now()
	m := make3(t, 2, 1, now)
	gone := meshtest.Key(t)
	cert, err := admission.IssueOperator(m.mesh.Root, meshtest.IDOf(gone), "gone", now)
	if err != nil {
		t.Fatal(err)
	}
	node, err := admission.IssueNode(gone, m.mesh.Mesh(), m.id(0), "node1", now)
	if err != nil {
		t.Fatal(err)
	}
	f := m.said(t, admission.Charter{Removed: []admission.Removed{{Key: meshtest.IDOf(gone), Name: "gone", From: now.Add(-time.Hour).UnixMilli()}}})
	past, err := admission.OpenPast(f.Root, f.Statements)
	if err != nil {
		t.Fatal(err)
	}
	made := admission.Bundle{Root: f.Root, Operator: cert, Node: node}.Encode()
	for name, tt := range map[string]struct {
		certs   [][]byte
		doubted int
		kinds   []FindingKind
	}{
		"made up first": {[][]byte{made, m.certs[0], m.certs[1]}, 0, []FindingKind{Fork}},
		"made up last":  {[][]byte{m.certs[0], m.certs[1], made}, 0, []FindingKind{Fork}},
		"no other":      {[][]byte{made, m.certs[1], made}, 1, nil},
	} {
		p := &Proof{Type: ProofType, Voters: []workload.PeerID{m.id(0), m.id(1)}, Certificates: tt.certs}
		for i := range 2 {
			p.Marks = append(p.Marks, workload.Sign(workload.DomainMark, wire.MustMarshal(wire.Mark{Index: 7, Head: workload.Digest{byte(i)}}), m.nodes[i]))
		}
		a, err := CheckProof([]*Proof{p}, workload.PeerID{}, past)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.kinds(), tt.kinds) || len(a.Doubted) != tt.doubted {
			t.Errorf("%s: %+v, doubted %+v", name, a.Findings, a.Doubted)
		}
	}
}

// TestDateIsOfANodeThatStands: a node that the file itself puts out dates no file.
func TestDateIsOfANodeThatStands(t *testing.T) {
	now := time.Now()
	m := make3(t, 2, 1, now)
	f := m.said(t, admission.Charter{}, admission.Denial{Peer: m.id(1), At: now.Add(-time.Hour).UnixMilli()})
	for by, bad := range []bool{false, true} {
		f.Date(m.nodes[by], m.certs[by], now)
		raw, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		past, err := ReadTrust(raw)
		if (err != nil) != bad || err == nil && past.By != m.id(by) {
			t.Errorf("node %d: %v", by, err)
		}
	}
}
