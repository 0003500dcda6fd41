package snp_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	recorded "github.com/google/go-sev-guest/verify/testdata"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/snp"
	"github.com/perrin-mesh/perrin/workload"
)

var now = attesttest.Epoch.AddDate(0, 6, 0)

func expect(at time.Time) *attest.Expect {
	return &attest.Expect{Policy: &attest.Policy{}, Now: at, Binding: &attest.Binding{Version: attest.Version, Nonce: [32]byte{1}, Asker: workload.PeerID{1}, Node: workload.PeerID{2}, Channel: bytes.Repeat([]byte{3}, 32)}}
}

func evidence(report, cert, list []byte) *attest.Evidence {
	e := &attest.Evidence{Version: attest.Version, Kind: workload.LevelSNP, Report: report, Chain: []attest.Blob{{Data: cert}}}
	if list != nil {
		e.Extra = []attest.Item{{Name: snp.ListItem, Data: list}}
	}
	return e
}

// machine is a made-up one whose evidence holds.
type machine struct {
	*attesttest.SEV
	fake snp.Fake
	list []byte
	x    *attest.Expect
}

func newMachine(t testing.TB, product string, cloud bool) *machine {
	m := &machine{SEV: attesttest.NewSEV(t, product+"-B0", cloud), x: expect(now)}
	m.list = m.Root.Revoke(now.Add(-time.Hour), now.Add(24*time.Hour))
	m.fake = snp.Fake{Product: product, Cloud: cloud, PEM: m.Makers()}
	return m
}

func (m *machine) evidence(change func([]byte)) *attest.Evidence {
	return evidence(m.Report(m.x.Binding.ReportData(), change), m.Cert.Raw, m.list)
}

func (m *machine) verify(e *attest.Evidence) *workload.Appraisal {
	return snp.VerifyOf(e, m.x, nil, m.fake)
}

func wantProof(t *testing.T, a *workload.Appraisal) {
	t.Helper()
	if a.Level != workload.LevelSNP || len(a.Fails) > 0 {
		t.Errorf("proved %s, fails %q", a.Level, a.Fails)
	}
}

func wantRefusal(t *testing.T, a *workload.Appraisal, says string) {
	t.Helper()
	if a.Level != workload.LevelNone || a.Status != workload.TierContraindicated || !strings.Contains(strings.Join(a.Fails, "; "), says) {
		t.Errorf("proved %s (%s), fails %q, want a refusal that says %q", a.Level, a.Status, a.Fails, says)
	}
}

// TestRecorded verifies a report of a real Milan machine, which go-sev-guest
// carries (Apache-2.0). All of it holds, but that its machine may be debugged.
func TestRecorded(t *testing.T) {
	x := expect(time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC))
	x.Policy.WithoutLists = true
	data := [64]byte{1, 2, 3, 4, 5}
	e := evidence(recorded.AttestationBytes, recorded.VcekBytes, nil)
	a := snp.VerifyOf(e, x, &data)
	if len(a.Fails) != 1 || !strings.Contains(a.Fails[0], "DEBUG") || a.Level != workload.LevelNone {
		t.Errorf("proved %s, fails %q", a.Level, a.Fails)
	}
	if a.TCB != "Milan, fmc 0, bootloader 2, tee 0, snp 5, microcode 68" || a.Trust.Hardware != attest.HardwareGenuine || a.Trust.Instance != attest.InstanceKnown || a.Trust.Config != attest.ConfigRefused {
		t.Errorf("%q, %+v", a.TCB, a.Trust)
	}
	if got := a.Measurements[0].String(); !strings.HasPrefix(got, "launch=b07af9620f3b839b4799") {
		t.Errorf("measured %s", got)
	}
	if until := time.UnixMilli(a.Until).UTC(); !until.Equal(time.Date(2029, 9, 24, 0, 55, 28, 0, time.UTC)) {
		t.Errorf("until %s", until)
	}
	wantRefusal(t, snp.Verify(e, x), "made for another nonce")
	x.Policy.WithoutLists = false
	wantRefusal(t, snp.VerifyOf(e, x, &data), "the revocation list of ARK-Milan: there is none")
	for at, says := range map[time.Time]string{
		time.Date(2022, 9, 24, 0, 55, 27, 0, time.UTC): "not valid before",
		time.Date(2029, 9, 24, 0, 55, 29, 0, time.UTC): `"SEV-VCEK" ended at`,
	} {
		x.Now = at
		wantRefusal(t, snp.VerifyOf(e, x, &data), says)
	}
}

// TestRecordedFlipped changes every byte of the real report and certificate: the
// link that fails is never the debug bit alone.
func TestRecordedFlipped(t *testing.T) {
	x := expect(time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC))
	x.Policy.WithoutLists = true
	data := [64]byte{1, 2, 3, 4, 5}
	check := func(what string, i int, report, cert []byte) {
		a := snp.VerifyOf(evidence(report, cert, nil), x, &data)
		if a.Trust.Hardware == attest.HardwareGenuine && a.Trust.Instance == attest.InstanceKnown {
			t.Errorf("%s, byte %d changed: still genuine, fails %q", what, i, a.Fails)
		}
	}
	step := 1
	if testing.Short() {
		step = 17
	}
	for i := 0; i < len(recorded.AttestationBytes); i += step {
		bad := bytes.Clone(recorded.AttestationBytes)
		bad[i] ^= 1 << (i % 8)
		check("report", i, bad, recorded.VcekBytes)
	}
	for i := 0; i < len(recorded.VcekBytes); i += step {
		bad := bytes.Clone(recorded.VcekBytes)
		bad[i] ^= 1 << (i % 8)
		check("certificate", i, recorded.AttestationBytes, bad)
	}
	for i := 0; i < len(recorded.AttestationBytes); i += step {
		wantRefusal(t, snp.VerifyOf(evidence(recorded.AttestationBytes[:i], recorded.VcekBytes, nil), x, &data), "an SEV-SNP report has 1184 bytes")
	}
	wantRefusal(t, snp.VerifyOf(evidence(append(bytes.Clone(recorded.AttestationBytes), 0), recorded.VcekBytes, nil), x, &data), "this one 1185")
}

// TestWhole shows evidence of made-up machines that holds, by a key of the chip
// and by one of a cloud, and how it is graded.
func TestWhole(t *testing.T) {
	for _, cloud := range []bool{false, true} {
		m := newMachine(t, "Genoa", cloud)
		a := m.verify(m.evidence(nil))
		wantProof(t, a)
		if a.Status != workload.TierWarning || a.Trust.Executables != attest.RuntimeUnknown || a.Trust.Runtime != attest.MemorySealed || a.Trust.Config != attest.ConfigSafe {
			t.Errorf("graded %+v as %s", a.Trust, a.Status)
		}
		if a.Until != now.Add(24*time.Hour).UnixMilli() || a.Instance != workload.DigestOf(m.Chip[:]) {
			t.Errorf("until %d, instance %s", a.Until, a.Instance.Short())
		}
		m.x.Policy.SNP.Measurements = a.Measurements[:1]
		if a = m.verify(m.evidence(nil)); a.Status != workload.TierAffirming {
			t.Errorf("with a measurement listed: %+v as %s", a.Trust, a.Status)
		}
	}
}

// TestFakeIsNoAMD holds that the verifier of production takes no maker but AMD.
func TestFakeIsNoAMD(t *testing.T) {
	m := newMachine(t, "Milan", false)
	e := m.evidence(nil)
	wantProof(t, m.verify(e))
	m.x.Policy = &attest.Policy{WithoutLists: true, TPMRoots: []*x509.Certificate{m.Root.Cert, m.Issuer.Cert}, TPMKeys: []workload.Digest{workload.DigestOf(m.Cert.RawSubjectPublicKeyInfo)}}
	wantRefusal(t, snp.Verify(e, m.x), "leads to no root of AMD")
}

// TestReplayAndRelay shows evidence under every other binding.
func TestReplayAndRelay(t *testing.T) {
	m := newMachine(t, "Milan", false)
	e := m.evidence(nil)
	was := *m.x.Binding
	for name, change := range map[string]func(*attest.Binding){
		"nonce":   func(b *attest.Binding) { b.Nonce[31] ^= 1 },
		"asker":   func(b *attest.Binding) { b.Asker[0] ^= 1 },
		"node":    func(b *attest.Binding) { b.Node[0] ^= 1 },
		"channel": func(b *attest.Binding) { b.Channel = nil },
		"sealing": func(b *attest.Binding) { b.Sealing = attest.SealingKey([]byte("another")) },
		"job":     func(b *attest.Binding) { b.Job.Random[3] = 1 },
		"award":   func(b *attest.Binding) { b.Award[0] = 1 },
	} {
		other := was
		change(&other)
		m.x.Binding = &other
		t.Run(name, func(t *testing.T) { wantRefusal(t, m.verify(e), "made for another nonce") })
	}
}

// TestRefused has a genuine machine say what may not be, each signed properly.
func TestRefused(t *testing.T) {
	m := newMachine(t, "Milan", false)
	for says, change := range map[string]func([]byte){
		"DEBUG bit":                               func(b []byte) { b[10] |= 8 },
		"MIGRATE_MA bit":                          func(b []byte) { b[10] |= 4 },
		"of privilege level 2 of the machine":     func(b []byte) { b[0x30] = 2 },
		"of version 1, this node reads 2 to 5":    func(b []byte) { b[0] = 1 },
		"of version 6":                            func(b []byte) { b[0] = 6 },
		"signed by algorithm 2":                   func(b []byte) { b[0x34] = 2 },
		"(signing key 7)":                         func(b []byte) { b[0x48] = 7 << 2 },
		"leads to no root":                        func(b []byte) { b[0x48] = 1 << 2 }, // a cloud's, it says
		"of another chip than the report names":   func(b []byte) { b[0x1a0] ^= 1 },
		"and the certificate of fmc 0, bootloade": func(b []byte) { b[0x187]++ },
	} {
		wantRefusal(t, m.verify(m.evidence(change)), says)
	}
	wantProof(t, m.verify(m.evidence(func(b []byte) { b[10] |= 1; b[0] = 5 })))
	bad := m.evidence(nil)
	bad.Report[len(bad.Report)-1] = 1
	wantRefusal(t, m.verify(bad), "bytes behind its signature")
}

// TestSwapped mixes what belongs to two machines.
func TestSwapped(t *testing.T) {
	m, o := newMachine(t, "Milan", false), newMachine(t, "Milan", false)
	e := m.evidence(nil)
	e.Chain = []attest.Blob{{Data: o.Cert.Raw}}
	wantRefusal(t, snp.VerifyOf(e, m.x, nil, m.fake, o.fake), "signature does not verify")
	e = m.evidence(nil)
	e.Extra[0].Data = o.list
	wantRefusal(t, m.verify(e), "the revocation list of ARK-Test: there is none") // the same name, another key
	e = m.evidence(nil)
	e.Chain[0].Data = m.Endorse("Genoa-B1", m.Chip[:]).Raw
	wantRefusal(t, m.verify(e), `of product "Genoa-B1", and signed by the key of milan`)
	e.Chain[0].Data = m.Endorse("Milan-B1", o.Chip[:]).Raw
	wantRefusal(t, m.verify(e), "of another chip than")
	e.Chain[0].Data = m.Endorse("Milan-B1", m.Chip[:4]).Raw
	wantRefusal(t, m.verify(e), "does not name its chip")
	e.Chain = append(e.Chain, attest.Blob{Data: m.Issuer.Cert.Raw})
	wantRefusal(t, m.verify(e), "want one certificate")
	e.Chain = []attest.Blob{{Data: m.Issuer.Cert.Raw}}
	wantRefusal(t, m.verify(e), "not of a P-384 key")
	m.Key = attesttest.NewKey(t, elliptic.P384())
	wantRefusal(t, m.verify(m.evidence(nil)), "signature does not verify") // a key of one's own under a genuine certificate
}

// TestLists goes over a revocation list's edges of time, and what it names.
func TestLists(t *testing.T) {
	m := newMachine(t, "Milan", false)
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	m.list = m.Root.Revoke(from, until)
	e := m.evidence(nil)
	for _, edge := range []struct {
		at   time.Time
		says string
	}{{from.Add(-time.Second), "is a clock wrong?"}, {from, ""}, {until, ""}, {until.Add(time.Second), "it ended at"}} {
		m.x.Now = edge.at
		if a := m.verify(e); (a.Level == workload.LevelSNP) != (edge.says == "") || !strings.Contains(strings.Join(a.Fails, ";"), edge.says) {
			t.Errorf("at %s: proved %s, fails %q", edge.at, a.Level, a.Fails)
		}
	}
	m.x.Now, m.x.Policy.CollateralAge = now, 30*time.Minute
	wantRefusal(t, m.verify(e), "older than collateral_age allows (30m0s)")
	m.x.Policy.CollateralAge = 2 * time.Hour
	wantProof(t, m.verify(e))
	m.list = m.Root.Revoke(from, until, m.Issuer.Cert)
	wantRefusal(t, m.verify(m.evidence(nil)), "has revoked certificate")
	ours, err := x509.ParseRevocationList(m.list)
	if err != nil {
		t.Fatal(err)
	}
	m.x.Policy.Revoked = []*x509.RevocationList{ours} // the operator knows more than what came along
	wantRefusal(t, m.verify(e), "has revoked certificate")
	m.x.Policy.Revoked, m.list = nil, []byte{0x30}
	wantRefusal(t, m.verify(m.evidence(nil)), `the revocation list "crl"`)
}

// TestPolicy holds a machine against what an operator asks for.
func TestPolicy(t *testing.T) {
	m := newMachine(t, "Milan", false)
	e := m.evidence(nil)
	p := &m.x.Policy.SNP
	p.MinTCB = map[string]attest.SNPTCB{"milan": {Bootloader: 3, SNP: 20, Microcode: 209}}
	wantProof(t, m.verify(e))
	p.MinTCB["milan"] = attest.SNPTCB{SNP: 21}
	wantRefusal(t, m.verify(e), "its firmware is too old: snp is 20, at least 21 is wanted")
	p.MinTCB = map[string]attest.SNPTCB{"genoa": {}}
	wantRefusal(t, m.verify(e), "it is a Milan, for which the policy (snp.min_tcb) names no least")
	p.MinTCB, p.MaxVMPL = nil, 2
	wantProof(t, m.verify(m.evidence(func(b []byte) { b[0x30] = 2 })))
	launch := m.verify(e).Measurements[0]
	p.Measurements = []workload.Measurement{{Name: "launch", Value: make([]byte, 48)}}
	wantRefusal(t, m.verify(e), "its launch is not one that the policy of this node lists")
	p.Measurements = append(p.Measurements, launch)
	wantProof(t, m.verify(e))
	p.Measurements = append(p.Measurements, workload.Measurement{Name: "host-data", Value: bytes.Repeat([]byte{9}, 32)})
	if a := m.verify(e); !slices.Equal(a.Fails, []string{"its host-data is not one that the policy of this node lists"}) {
		t.Errorf("fails %q", a.Fails)
	}
}

// TestTurin reads the firmware's versions and the short chip of a Turin.
func TestTurin(t *testing.T) {
	if got := fmt.Sprint(snp.TCBOf("turin", []byte{1, 2, 3, 4, 0, 0, 0, 5})); got != "fmc 1, bootloader 2, tee 3, snp 4, microcode 5" {
		t.Errorf("got %s", got)
	}
	m := newMachine(t, "Milan", false)
	m.Cert = m.Endorse("Milan-B0", m.Chip[:8])
	wantRefusal(t, m.verify(m.evidence(nil)), "of another chip") // not all of it is named
	wantProof(t, m.verify(m.evidence(func(b []byte) { clear(b[0x1a8:0x1e0]) })))
}

// TestMakersAreAMD reads the built-in roots by their names.
func TestMakersAreAMD(t *testing.T) {
	if got := strings.Join(snp.MakerNames(t), " "); got != "SEV-Milan<ARK-Milan SEV-VLEK-Milan<ARK-Milan SEV-Genoa<ARK-Genoa SEV-VLEK-Genoa<ARK-Genoa SEV-Turin<ARK-Turin SEV-VLEK-Turin<ARK-Turin" {
		t.Errorf("got %s", got)
	}
}

// FuzzVerify feeds junk to every parser: nothing may panic, nothing be proved.
func FuzzVerify(f *testing.F) {
	f.Add(recorded.AttestationBytes, recorded.VcekBytes, []byte{0x30})
	f.Add([]byte{}, []byte{}, []byte{})
	x := expect(now)
	f.Fuzz(func(t *testing.T, report, cert, list []byte) {
		if a := snp.Verify(evidence(report, cert, list), x); a.Level != workload.LevelNone || len(a.Fails) == 0 {
			t.Errorf("proved %s", a.Level)
		}
	})
}

// BenchmarkVerify measures the verification of a real report.
func BenchmarkVerify(b *testing.B) {
	x := expect(time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC))
	x.Policy.WithoutLists = true
	data := [64]byte{1, 2, 3, 4, 5}
	e := evidence(recorded.AttestationBytes, recorded.VcekBytes, nil)
	for b.Loop() {
		if a := snp.VerifyOf(e, x, &data); a.Trust.Hardware != attest.HardwareGenuine {
			b.Fatal(a.Fails)
		}
	}
}
