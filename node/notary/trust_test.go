package notary

import (
	"bytes"
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
