package dcap_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	_ "embed"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	recorded "github.com/google/go-tdx-guest/testing/testdata"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/workload"
)

var now = attesttest.Epoch.AddDate(0, 6, 0)

func expect(at time.Time) *attest.Expect {
	return &attest.Expect{Policy: &attest.Policy{}, Now: at, Binding: &attest.Binding{Version: attest.Version, Nonce: [32]byte{1}, Asker: workload.PeerID{1}, Node: workload.PeerID{2}, Channel: bytes.Repeat([]byte{3}, 32)}}
}

// machine is a made-up one whose evidence holds.
type machine struct {
	*attesttest.Intel
	version uint16
	x       *attest.Expect
	items   map[string][]byte
}

func newMachine(t testing.TB, version uint16) *machine {
	m := &machine{Intel: attesttest.NewIntel(t), version: version, x: expect(now), items: map[string][]byte{}}
	from, until := now.Add(-time.Hour), now.Add(24*time.Hour)
	id, qe := "TDX", "TD_QE"
	if version == 3 {
		id, qe = "SGX", "QE"
	}
	m.items[dcap.TCBItem] = m.Document("tcbInfo", attesttest.TCBInfo(id, from, until))
	m.items[dcap.IdentityItem] = m.Document("enclaveIdentity", attesttest.Identity(qe, from, until))
	m.items[dcap.SignerItem] = attesttest.PEM(m.TCBCert, m.Root.Cert)
	m.items[dcap.ListItem] = m.CA.Revoke(from, until)
	m.items[dcap.RootListItem] = m.Root.Revoke(from, until)
	return m
}

func (m *machine) kind() workload.Level {
	if m.version == 3 {
		return workload.LevelSGX
	}
	return workload.LevelTDX
}

func (m *machine) evidence(change func(*attesttest.Parts)) *attest.Evidence {
	return evidence(m.kind(), m.QuoteOf(m.version, m.x.Binding.ReportData(), change), m.items)
}

func evidence(kind workload.Level, quote []byte, items map[string][]byte) *attest.Evidence {
	e := &attest.Evidence{Version: attest.Version, Kind: kind, Report: quote}
	for _, name := range []string{dcap.TCBItem, dcap.IdentityItem, dcap.SignerItem, dcap.ListItem, dcap.RootListItem} {
		if items[name] != nil {
			e.Extra = append(e.Extra, attest.Item{Name: name, Data: items[name]})
		}
	}
	return e
}

func (m *machine) verify(e *attest.Evidence) *workload.Appraisal {
	return dcap.VerifyOf(e, m.x, nil, m.Root.Cert)
}

func wantProof(t *testing.T, a *workload.Appraisal, level workload.Level) {
	t.Helper()
	if a.Level != level || len(a.Fails) > 0 {
		t.Errorf("proved %s, fails %q", a.Level, a.Fails)
	}
}

func wantRefusal(t *testing.T, a *workload.Appraisal, says string) {
	t.Helper()
	if a.Level != workload.LevelNone || a.Status != workload.TierContraindicated || !strings.Contains(strings.Join(a.Fails, "; "), says) {
		t.Errorf("proved %s (%s), fails %q, want a refusal that says %q", a.Level, a.Status, a.Fails, says)
	}
}

//go:embed testdata/tcb-chain.pem
var signers []byte

var real = map[string][]byte{dcap.TCBItem: recorded.TcbInfoBody, dcap.IdentityItem: recorded.QeIdentityBody, dcap.SignerItem: signers, dcap.ListItem: recorded.PckCrlBody, dcap.RootListItem: recorded.RootCrlBody}

// realQuote is the recorded quote without the text that its keeper put behind it.
var realQuote = recorded.RawQuote[:636+int(binary.LittleEndian.Uint32(recorded.RawQuote[632:]))]

var realTime = time.Date(2023, 7, 1, 0, 0, 0, 0, time.UTC)

// realData is the report data of the recorded quote.
func realData() [64]byte { return [64]byte(realQuote[48+520:]) }

// TestRecorded verifies a quote of a real TDX machine with Intel's real documents,
// which go-tdx-guest carries (Apache-2.0). All links hold; only the machine's
// firmware is older than every version that Intel lists for it.
func TestRecorded(t *testing.T) {
	x, data := expect(realTime), realData()
	e := evidence(workload.LevelTDX, realQuote, real)
	a := dcap.VerifyOf(e, x, &data, nil)
	if !slices.Equal(a.Fails, []string{"its firmware is older than every version that Intel lists"}) || a.Trust.Instance != attest.InstanceKnown {
		t.Errorf("proved %s, fails %q, %+v", a.Level, a.Fails, a.Trust)
	}
	if len(a.Measurements) < 6 || a.Measurements[0].Name != "mrtd" || !bytes.Equal(a.Measurements[0].Value, realQuote[48+136:48+184]) {
		t.Errorf("measured %v", a.Measurements)
	}
	wantRefusal(t, dcap.Verify(e, x), "made for another nonce")
	wantRefusal(t, dcap.Verify(evidence(workload.LevelTDX, recorded.RawQuote, real), x), "bytes follow the quote")
	padded := evidence(workload.LevelTDX, append(bytes.Clone(realQuote), make([]byte, 100)...), real)
	if got := dcap.VerifyOf(padded, x, &data, nil); !slices.Equal(got.Fails, a.Fails) {
		t.Errorf("with zero bytes behind it: fails %q", got.Fails)
	}
	for at, says := range map[time.Time]string{
		time.Date(2023, 7, 8, 7, 27, 53, 0, time.UTC):    "the revocation list of Intel SGX PCK Platform CA", // ended first
		time.Date(2023, 6, 18, 8, 42, 57, 0, time.UTC):   "tcb-info: not current: it is of 2023-06-18",
		time.Date(2023, 6, 8, 7, 27, 51, 0, time.UTC):    "is a clock wrong?",
		time.Date(2053, 7, 1, 0, 0, 0, 0, time.UTC):      "ended at",
		time.Date(2018, 5, 20, 10, 45, 0, 0, time.UTC):   "is not valid before",
		time.Date(2023, 7, 18, 8, 42, 59, 0, time.UTC):   "not current",
		time.Date(2023, 7, 8, 7, 24, 59, 0, time.UTC):    "older than every version that Intel lists", // an edge from within
		time.Date(2024, 4, 2, 10, 22, 52, 0, time.UTC):   "not current",
		time.Date(2023, 6, 18, 8, 43, 0, 0, time.UTC):    "older than every version that Intel lists",
		time.Date(2049, 12, 31, 23, 59, 58, 0, time.UTC): "ended at",
	} {
		x.Now = at
		t.Run(at.Format(time.DateTime), func(t *testing.T) { wantRefusal(t, dcap.VerifyOf(e, x, &data, nil), says) })
	}
}

// TestRecordedFlipped changes every byte of the real quote: it is never genuine.
func TestRecordedFlipped(t *testing.T) {
	x, data := expect(realTime), realData()
	x.Policy.WithoutLists = true
	step := 1
	if testing.Short() {
		step = 29
	}
	for i := 0; i < len(realQuote); i += step {
		bad := bytes.Clone(realQuote)
		bad[i] ^= 1 << (i % 8)
		if a := dcap.VerifyOf(evidence(workload.LevelTDX, bad, nil), x, &data, nil); a.Trust.Instance == attest.InstanceKnown {
			t.Errorf("byte %d changed: still genuine, fails %q", i, a.Fails)
		}
		wantRefusal(t, dcap.VerifyOf(evidence(workload.LevelTDX, realQuote[:i], nil), x, &data, nil), "cut off")
	}
}

// TestFlippedDocuments changes every byte of what goes along, one at a time.
func TestFlippedDocuments(t *testing.T) {
	m := newMachine(t, 4)
	want := m.verify(m.evidence(nil))
	wantProof(t, want, workload.LevelTDX)
	quote := m.QuoteOf(4, m.x.Binding.ReportData(), nil)
	step := 7
	if testing.Short() {
		step = 41
	}
	for name, whole := range m.items {
		for i := 0; i < len(whole); i += step {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << (i % 8)
			items := map[string][]byte{}
			for k, v := range m.items {
				items[k] = v
			}
			items[name] = bad
			a := m.verify(evidence(workload.LevelTDX, quote, items))
			if a.Level != workload.LevelNone && !bytes.EqualFold(bad, whole) { // of letters, only the case
				t.Errorf("%s, byte %d changed to %q: still proves %s", name, i, bad[i], a.Level)
			}
		}
		items := map[string][]byte{}
		for k, v := range m.items {
			items[k] = v
		}
		delete(items, name)
		wantRefusal(t, m.verify(evidence(workload.LevelTDX, quote, items)), "not current")
	}
}

// TestWhole shows evidence of made-up machines that holds, of each version.
func TestWhole(t *testing.T) {
	for version, names := range map[uint16]string{3: "mrenclave mrsigner", 4: "mrtd rtmr0 rtmr1 rtmr2 rtmr3 mrseam", 5: "mrtd rtmr0 rtmr1 rtmr2 rtmr3 mrseam"} {
		m := newMachine(t, version)
		a := m.verify(m.evidence(nil))
		wantProof(t, a, m.kind())
		if a.Status != workload.TierWarning || a.Trust.Hardware != attest.HardwareGenuine || a.Trust.Executables != attest.RuntimeUnknown || a.Trust.Runtime != attest.MemorySealed || a.Trust.Config != attest.ConfigSafe {
			t.Errorf("graded %+v as %s", a.Trust, a.Status)
		}
		var got []string
		for _, x := range a.Measurements {
			got = append(got, x.Name)
		}
		if strings.Join(got, " ") != names || a.TCB != "Intel 50806f000000, UpToDate, quoting enclave UpToDate, evaluation 17" || a.Until != now.Add(24*time.Hour).UnixMilli() || a.Instance != workload.DigestOf(m.PPID) {
			t.Errorf("measured %q, %q, until %d", got, a.TCB, a.Until)
		}
		p := &m.x.Policy.TDX
		if version == 3 {
			p = &m.x.Policy.SGX
		}
		p.Measurements = a.Measurements[:2]
		if a = m.verify(m.evidence(nil)); a.Status != workload.TierAffirming {
			t.Errorf("with measurements listed: %+v as %s", a.Trust, a.Status)
		}
		p.MinEvaluation = 18
		wantRefusal(t, m.verify(m.evidence(nil)), fmt.Sprintf("of evaluation 17, at least 18 is wanted (%s.min_evaluation)", m.kind()))
		p.MinEvaluation, p.Measurements = 0, []workload.Measurement{{Name: a.Measurements[0].Name, Value: make([]byte, 32)}}
		wantRefusal(t, m.verify(m.evidence(nil)), "is not one that the policy of this node lists")
	}
}

// TestFakeIsNoIntel holds that the verifier of production takes no maker but Intel.
func TestFakeIsNoIntel(t *testing.T) {
	m := newMachine(t, 4)
	e := m.evidence(nil)
	wantProof(t, m.verify(e), workload.LevelTDX)
	m.x.Policy = &attest.Policy{WithoutLists: true, TPMRoots: []*x509.Certificate{m.Root.Cert, m.CA.Cert}, TPMKeys: []workload.Digest{workload.DigestOf(m.Cert.RawSubjectPublicKeyInfo)}}
	wantRefusal(t, dcap.Verify(e, m.x), "does not lead to the root of Intel")
	if got := dcap.RootName(); got != "Intel SGX Root CA" {
		t.Errorf("the root is %s", got)
	}
}

// TestReplayAndRelay shows evidence under every other binding.
func TestReplayAndRelay(t *testing.T) {
	for _, version := range []uint16{3, 4, 5} {
		m := newMachine(t, version)
		e := m.evidence(nil)
		was := *m.x.Binding
		for name, change := range map[string]func(*attest.Binding){
			"nonce": func(b *attest.Binding) { b.Nonce[31] ^= 1 }, "asker": func(b *attest.Binding) { b.Asker[0] ^= 1 }, "node": func(b *attest.Binding) { b.Node[0] ^= 1 },
			"channel": func(b *attest.Binding) { b.Channel = nil }, "sealing": func(b *attest.Binding) { b.Sealing = attest.SealingKey([]byte("another")) },
			"job": func(b *attest.Binding) { b.Job.Random[3] = 1 }, "award": func(b *attest.Binding) { b.Award[0] = 1 },
		} {
			other := was
			change(&other)
			m.x.Binding = &other
			t.Run(fmt.Sprint(version, name), func(t *testing.T) { wantRefusal(t, m.verify(e), "made for another nonce") })
		}
	}
}

// TestRefused has a genuine machine say what may not be, each signed properly.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		version uint16
		says    string
		change  func(*attesttest.Parts)
	}{
		{3, "enclave in debug mode", func(p *attesttest.Parts) { p.Body[48] |= 2 }},
		{4, "debugging attribute", func(p *attesttest.Parts) { p.Body[120] = 1 }},
		{5, "debugging attribute", func(p *attesttest.Parts) { p.Body[120] = 2 }},
		{5, "MIGRATABLE attribute", func(p *attesttest.Parts) { p.Body[123] |= 1 << 5 }},
		{4, "TDX module is not Intel's", func(p *attesttest.Parts) { p.Body[64] = 1 }},
		{5, "TDX module is not Intel's", func(p *attesttest.Parts) { p.Body[112] = 1 }},
		{5, "does not know version 2 of the TDX module", func(p *attesttest.Parts) { p.Body[1] = 2 }},
		{5, "its TDX module is OutOfDate", func(p *attesttest.Parts) { p.Body[0] = 3 }},
		{5, "its TDX module is older than every version", func(p *attesttest.Parts) { p.Body[0] = 1 }},
		{4, "its firmware is OutOfDate", func(p *attesttest.Parts) { p.Body[2] = 4 }},
		{4, "its firmware is older than every version", func(p *attesttest.Parts) { p.Body[2] = 2 }},
		{4, "not Intel's quoting enclave", func(p *attesttest.Parts) { p.QE[128] ^= 1 }},
		{3, "not Intel's quoting enclave", func(p *attesttest.Parts) { p.QE[256] = 2 }}, // that of TDX
		{3, "is it in debug mode?", func(p *attesttest.Parts) { p.QE[48] |= 2 }},
		{3, "is it in debug mode?", func(p *attesttest.Parts) { p.QE[16] = 1 }},
		{4, "its quoting enclave is OutOfDate", func(p *attesttest.Parts) { p.QE[258] = 7 }},
		{4, "the quoting enclave is older than every version", func(p *attesttest.Parts) { p.QE[258] = 5 }},
		{3, "of version 2, this node reads", func(p *attesttest.Parts) { p.Header[0] = 2 }},
		{4, "of version 6, this node reads", func(p *attesttest.Parts) { p.Header[0] = 6 }},
		{4, "of kind 0x0, this node reads 0x81", func(p *attesttest.Parts) { p.Header[4] = 0 }},
		{4, "by a key of kind 3", func(p *attesttest.Parts) { p.Header[2] = 3 }},
		{4, "not made by an enclave of Intel", func(p *attesttest.Parts) { p.Header[12] = 0 }},
		{5, "body is of kind 1 and 648 bytes", func(p *attesttest.Parts) { p.BodyKind = 1 }},
		{5, "body is of kind 2 and 648 bytes", func(p *attesttest.Parts) { p.BodyKind = 2 }},
		{4, "want 3 certificates in PEM and nothing else", func(p *attesttest.Parts) { p.Chain = append(p.Chain, p.Chain...) }},
		{4, "want 3 certificates in PEM and nothing else", func(p *attesttest.Parts) { p.Chain = append([]byte("hello\n"), p.Chain...) }},
		{4, "want 3 certificates in PEM and nothing else, got 0", func(p *attesttest.Parts) { p.Chain = nil }},
	} {
		m := newMachine(t, c.version)
		wantRefusal(t, m.verify(m.evidence(c.change)), c.says)
	}
	m := newMachine(t, 5) // as a 1.5 module makes it for version 1.0 of the body
	wantProof(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Body, p.BodyKind = p.Body[:584], 2 })), workload.LevelTDX)
}

// TestSwapped mixes keys, chains and documents of two machines, and of two kinds.
func TestSwapped(t *testing.T) {
	m, o := newMachine(t, 4), newMachine(t, 4)
	wantRefusal(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Tag = o.Key })), "is not signed by the machine's key")
	wantRefusal(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Chain = attesttest.PEM(o.Cert, o.CA.Cert, o.Root.Cert) })), "does not lead to the root")
	wantRefusal(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Chain = attesttest.PEM(o.Cert, o.CA.Cert, m.Root.Cert) })), "is not signed by the next one")
	wantRefusal(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Chain = attesttest.PEM(m.CA.Cert, m.Root.Cert, m.Root.Cert) })), "not of a key on P-256 that signs no certificates")
	wantRefusal(t, m.verify(m.evidence(func(p *attesttest.Parts) { p.Tag, p.Chain = m.TCB, attesttest.PEM(m.TCBCert, m.Root.Cert, m.Root.Cert) })), "has no SGX extension")
	swapped := m.evidence(nil)
	copy(swapped.Report[636:], m.QuoteOf(4, m.x.Binding.ReportData(), func(p *attesttest.Parts) { p.QuoteKey = attesttest.NewKey(t, elliptic.P256()) })[636:636+128])
	wantRefusal(t, m.verify(swapped), "does not name the key that signed the quote")

	sgx := newMachine(t, 3)
	for item, says := range map[string]string{
		dcap.TCBItem: "its signature does not verify", dcap.IdentityItem: "its signature does not verify", dcap.SignerItem: "does not lead to the root",
		dcap.ListItem: "the revocation list of PCK CA of Test: there is none", dcap.RootListItem: "the revocation list of SGX Root of Test: there is none",
	} {
		was := m.items[item]
		m.items[item] = sgx.items[item]
		wantRefusal(t, m.verify(m.evidence(nil)), says)
		m.items[item] = was
	}
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	for says, doc := range map[string]map[string]any{
		`tcb-info is of "SGX" version 3, want "TDX"`:                 attesttest.TCBInfo("SGX", from, until),
		"of machines 50806F000001-0000, and this is a 50806f000000-": other(attesttest.TCBInfo("TDX", from, until), "fmspc", "50806F000001"),
		"tcb-info is of \"TDX\" version 2":                           other(attesttest.TCBInfo("TDX", from, until), "version", 2),
		"a level that does not read":                                 other(attesttest.TCBInfo("TDX", from, until), "tcbLevels", []any{map[string]any{}}),
		"its firmware is Revoked":                                    other(attesttest.TCBInfo("TDX", from, until), "tcbLevels", []any{attesttest.Level(5, "Revoked")}),
		"tcb-info: json":                                             other(attesttest.TCBInfo("TDX", from, until), "tcbLevels", 1),
		"its TDX module is not Intel's":                              other(attesttest.TCBInfo("TDX", from, until), "tdxModule", map[string]any{}),
	} {
		m.items[dcap.TCBItem] = m.Document("tcbInfo", doc)
		wantRefusal(t, m.verify(m.evidence(nil)), says)
	}
	m.items[dcap.TCBItem] = m.Document("enclaveIdentity", attesttest.TCBInfo("TDX", from, until))
	wantRefusal(t, m.verify(m.evidence(nil)), "its signature does not verify")
	m = newMachine(t, 4)
	wrong := m.evidence(nil)
	wrong.Kind = workload.LevelSGX
	wantRefusal(t, m.verify(wrong), `the evidence says "sgx", and its quote is of tdx`)
}

func other(doc map[string]any, field string, value any) map[string]any {
	doc[field] = value
	return doc
}

// TestStatus holds what Intel says of a machine's firmware against the policy.
func TestStatus(t *testing.T) {
	m := newMachine(t, 4)
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	say := func(status string) *workload.Appraisal {
		m.items[dcap.TCBItem] = m.Document("tcbInfo", other(attesttest.TCBInfo("TDX", from, until), "tcbLevels", []any{attesttest.Level(5, status, "INTEL-SA-00615")}))
		return m.verify(m.evidence(nil))
	}
	for _, s := range attest.Statuses[1:4] {
		a := say(s)
		wantProof(t, a, workload.LevelTDX)
		if a.Trust.Hardware != attest.HardwareFlawed || a.Status != workload.TierWarning || !strings.Contains(a.TCB, s) || !strings.Contains(strings.Join(a.Notes, ";"), "INTEL-SA-00615") {
			t.Errorf("%s: graded %+v, %q, notes %q", s, a.Trust, a.TCB, a.Notes)
		}
	}
	wantRefusal(t, say("OutOfDate"), "its firmware is OutOfDate, and the policy takes UpToDate, SWHardeningNeeded")
	wantRefusal(t, say("Nonsense"), "its firmware is Nonsense")
	m.x.Policy.TDX.Status = []string{"OutOfDate", "UpToDate"}
	wantProof(t, say("OutOfDate"), workload.LevelTDX)
	wantRefusal(t, say("SWHardeningNeeded"), "(tdx.status)")
}

// TestDates goes over the edges in time of each document, and revocations.
func TestDates(t *testing.T) {
	m := newMachine(t, 4)
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	for _, item := range []string{dcap.TCBItem, dcap.IdentityItem, dcap.ListItem, dcap.RootListItem} {
		m := newMachine(t, 4)
		switch item {
		case dcap.TCBItem:
			m.items[item] = m.Document("tcbInfo", attesttest.TCBInfo("TDX", from, until))
		case dcap.IdentityItem:
			m.items[item] = m.Document("enclaveIdentity", attesttest.Identity("TD_QE", from, until))
		case dcap.ListItem:
			m.items[item] = m.CA.Revoke(from, until)
		case dcap.RootListItem:
			m.items[item] = m.Root.Revoke(from, until)
		}
		e := m.evidence(nil)
		for _, edge := range []struct {
			at   time.Time
			says string
		}{{from.Add(-time.Second), "is a clock wrong?"}, {from, ""}, {until, ""}, {until.Add(time.Second), "it ended at"}} {
			m.x.Now = edge.at
			if a := m.verify(e); (a.Level == workload.LevelTDX) != (edge.says == "") || !strings.Contains(strings.Join(a.Fails, ";"), edge.says) {
				t.Errorf("%s at %s: proved %s, fails %q", item, edge.at, a.Level, a.Fails)
			}
		}
		m.x.Now, m.x.Policy.CollateralAge = now, 30*time.Minute
		wantRefusal(t, m.verify(e), "older than collateral_age allows")
	}
	m.items[dcap.ListItem] = m.CA.Revoke(from, until, m.Cert)
	wantRefusal(t, m.verify(m.evidence(nil)), "has revoked certificate")
	m = newMachine(t, 4)
	m.items[dcap.RootListItem] = m.Root.Revoke(from, until, m.CA.Cert)
	wantRefusal(t, m.verify(m.evidence(nil)), "(PCK CA of Test)")
	m.items[dcap.RootListItem] = m.Root.Revoke(from, until, m.TCBCert)
	wantRefusal(t, m.verify(m.evidence(nil)), "(TCB Signing of Test)")
	delete(m.items, dcap.RootListItem)
	delete(m.items, dcap.ListItem)
	m.x.Policy.WithoutLists = true
	wantProof(t, m.verify(m.evidence(nil)), workload.LevelTDX)
	for at, says := range map[time.Time]string{attesttest.Epoch.Add(-time.Second): "is not valid before", m.Cert.NotAfter.Add(time.Second): "ended at"} {
		m.x.Now = at
		wantRefusal(t, m.verify(m.evidence(nil)), says)
	}
}

// FuzzVerify feeds junk to every parser: nothing may panic, nothing be proved.
func FuzzVerify(f *testing.F) {
	f.Add(realQuote, recorded.TcbInfoBody, recorded.QeIdentityBody, signers, recorded.PckCrlBody)
	f.Add([]byte{3, 0, 2}, []byte("{}"), []byte(`{"enclaveIdentity":{},"signature":"00"}`), []byte{}, []byte{0x30})
	x := expect(realTime)
	f.Fuzz(func(t *testing.T, quote, info, identity, chain, list []byte) {
		for _, kind := range []workload.Level{workload.LevelSGX, workload.LevelTDX} {
			e := evidence(kind, quote, map[string][]byte{dcap.TCBItem: info, dcap.IdentityItem: identity, dcap.SignerItem: chain, dcap.ListItem: list, dcap.RootListItem: recorded.RootCrlBody})
			if a := dcap.Verify(e, x); a.Level != workload.LevelNone || len(a.Fails) == 0 {
				t.Errorf("proved %s", a.Level)
			}
		}
	})
}

// BenchmarkVerify measures the verification of quotes with all that goes along.
func BenchmarkVerify(b *testing.B) {
	for _, version := range []uint16{3, 4, 5} {
		b.Run(fmt.Sprint("v", version), func(b *testing.B) {
			m := newMachine(b, version)
			e := m.evidence(nil)
			for b.Loop() {
				if a := m.verify(e); a.Level != m.kind() {
					b.Fatal(a.Fails)
				}
			}
		})
	}
	b.Run("recorded", func(b *testing.B) {
		x, data := expect(realTime), realData()
		e := evidence(workload.LevelTDX, realQuote, real)
		for b.Loop() {
			if a := dcap.VerifyOf(e, x, &data, nil); a.Trust.Instance != attest.InstanceKnown {
				b.Fatal(a.Fails)
			}
		}
	})
}
