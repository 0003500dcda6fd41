package collect_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/appraise"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/workload"
)

// bench is a machine with a chip, and somebody who asks it.
type bench struct {
	t       testing.TB
	chip    *attesttest.Chip
	maker   *attesttest.Maker
	cert    *x509.Certificate
	root    string
	machine *collect.Machine
	policy  attest.Policy
	known   map[attest.Pair]bool
	now     time.Time
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, chip: attesttest.NewChip(t), maker: attesttest.NewMaker(t, "Chips of Test"), root: t.TempDir(), known: map[attest.Pair]bool{}, now: time.Now()}
	b.cert = b.maker.Endorse(b.chip, time.Now().AddDate(1, 0, 0))
	b.policy = attest.Policy{TPMRoots: []*x509.Certificate{b.maker.Root}}
	b.machine = collect.New(b.chip.Files(b.root))
	return b
}

func binding() *attest.Binding {
	b := &attest.Binding{Version: attest.Version, Asker: workload.PeerID{1}, Node: workload.PeerID{2}, Channel: bytes.Repeat([]byte{3}, 32)}
	_, _ = rand.Read(b.Nonce[:])
	return b
}

func (b *bench) collect(bind *attest.Binding) *attest.Evidence {
	b.t.Helper()
	e, err := b.machine.Collect(b.t.Context(), workload.LevelTPM, bind)
	if err != nil {
		b.t.Fatal(err)
	}
	if e, err = attest.Decode(e.Encode()); err != nil { // as it crosses the mesh
		b.t.Fatal(err)
	}
	return e
}

// activate has the chip open a credential and remembers the pair.
func (b *bench) activate(e *attest.Evidence) {
	b.t.Helper()
	secret := []byte("a secret of thirty-two bytes....")
	credential, encrypted, err := tpm.Challenge(rand.Reader, e, secret)
	if err != nil {
		b.t.Fatal(err)
	}
	opened, err := b.machine.Activate(b.t.Context(), credential, encrypted)
	if err != nil || !bytes.Equal(opened, secret) {
		b.t.Fatalf("the chip opened %x, %v", opened, err)
	}
	pair, err := tpm.Pair(e)
	if err != nil {
		b.t.Fatal(err)
	}
	b.known[pair] = true
}

func (b *bench) appraise(e *attest.Evidence, bind *attest.Binding) *workload.Appraisal {
	return appraise.Appraise(e, &attest.Expect{Binding: bind, Policy: &b.policy, Now: b.now, Activated: func(p attest.Pair) bool { return b.known[p] }})
}

func wantProof(t *testing.T, a *workload.Appraisal) {
	t.Helper()
	if a.Level != workload.LevelTPM || len(a.Fails) > 0 {
		t.Fatalf("proved %s, fails %q", a.Level, a.Fails)
	}
}

func wantRefusal(t *testing.T, a *workload.Appraisal, says string) {
	t.Helper()
	if a.Level != workload.LevelNone || a.Status != workload.TierContraindicated {
		t.Fatalf("proved %s (%s), want a refusal that says %q", a.Level, a.Status, says)
	}
	if !slices.ContainsFunc(a.Fails, func(f string) bool { return strings.Contains(f, says) }) {
		t.Fatalf("fails %q, want one that says %q", a.Fails, says)
	}
}

// TestChip goes the whole path with a software TPM: keys, activation, a quote
// with both logs, and everything that must be refused of it.
func TestChip(t *testing.T) {
	b := newBench(t)
	b.chip.Boot(b.root, attesttest.Event{PCR: 0, Type: 8, Data: []byte("firmware")}, attesttest.Event{PCR: 4, Type: 0x80000003, Data: []byte("loader")}, attesttest.SecureBoot(true))
	ima := b.chip.NewIMA(b.root)
	ima.Measure("/usr/bin/perrin", []byte("ELF"))
	ima.Violate("/var/log/messages")

	bind := binding()
	e := b.collect(bind)
	wantRefusal(t, b.appraise(e, bind), "has not shown that the key which signed lies beside")
	b.activate(e)
	a := b.appraise(e, bind)
	wantProof(t, a)
	if a.Trust.Config != attest.ConfigSafe || a.Trust.Executables != attest.RuntimeUnknown || a.Trust.Hardware != attest.HardwareGenuine || a.Status != workload.TierWarning {
		t.Errorf("graded %+v as %s", a.Trust, a.Status)
	}
	if len(a.Measurements) != 16 || !slices.ContainsFunc(a.Notes, func(n string) bool { return strings.Contains(n, "Secure Boot is on") }) ||
		!slices.ContainsFunc(a.Notes, func(n string) bool { return strings.Contains(n, "measured 2 files, 1 of them") }) {
		t.Errorf("%d measurements, notes %q", len(a.Measurements), a.Notes)
	}

	t.Run("policy", func(t *testing.T) { b.policyOf(t, e, bind) })
	t.Run("replay and relay", func(t *testing.T) { b.relay(t, e, bind) })
	t.Run("logs", func(t *testing.T) { b.logs(t, e, bind) })
	t.Run("every byte", func(t *testing.T) { b.flip(t, e, bind) })
	t.Run("registers change", func(t *testing.T) { b.change(t, ima, a) })
	t.Run("another chip", func(t *testing.T) { b.otherChip(t, e, bind) })
}

func (b *bench) policyOf(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	was := *b
	defer func() { *b = was }()
	b.policy = attest.Policy{}
	wantRefusal(t, b.appraise(e, bind), "no TPM maker that is trusted here")
	b.policy = attest.Policy{TPMRoots: []*x509.Certificate{attesttest.NewMaker(t, "Chips of Test").Root}}
	wantRefusal(t, b.appraise(e, bind), "no TPM maker that is trusted here") // the same name is not the same key
	b.policy = attest.Policy{TPMKeys: []workload.Digest{workload.DigestOf(b.cert.RawSubjectPublicKeyInfo)}}
	wantProof(t, b.appraise(e, bind))
	b.policy = was.policy
	b.policy.Revoked = []*x509.RevocationList{b.maker.Revoke(b.cert.SerialNumber)}
	wantRefusal(t, b.appraise(e, bind), "the maker has revoked")
	b.policy.Revoked, b.policy.NeedRevocation = nil, true
	wantRefusal(t, b.appraise(e, bind), "no current revocation list")
	b.policy.Revoked = []*x509.RevocationList{b.maker.Revoke()}
	wantProof(t, b.appraise(e, bind))
	b.now = was.now.Add(48 * time.Hour)
	wantRefusal(t, b.appraise(e, bind), "no current revocation list")
	b.policy = was.policy
	for _, edge := range []struct {
		at    time.Time
		valid bool
	}{{b.cert.NotBefore.Add(-time.Second), false}, {b.cert.NotBefore, true}, {b.cert.NotAfter, true}, {b.cert.NotAfter.Add(time.Second), false}} {
		b.now = edge.at
		if a := b.appraise(e, bind); (a.Level == workload.LevelTPM) != edge.valid {
			t.Errorf("at %s: proved %s, %q", edge.at, a.Level, a.Fails)
		}
	}
}

// relay shows evidence that was made for one binding under every other.
func (b *bench) relay(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	for name, change := range map[string]func(*attest.Binding){
		"nonce":   func(x *attest.Binding) { x.Nonce[31] ^= 1 },
		"asker":   func(x *attest.Binding) { x.Asker[0] ^= 1 },
		"node":    func(x *attest.Binding) { x.Node[0] ^= 1 },
		"channel": func(x *attest.Binding) { x.Channel = nil },
		"sealing": func(x *attest.Binding) { x.Sealing = attest.SealingKey([]byte("another")) },
		"job":     func(x *attest.Binding) { x.Job.Random[3] = 1 },
		"award":   func(x *attest.Binding) { x.Award[0] = 1 },
	} {
		other := *bind
		change(&other)
		if a := b.appraise(e, &other); a.Level != workload.LevelNone || !strings.Contains(strings.Join(a.Fails, ";"), "made for another nonce") {
			t.Errorf("%s changed: proved %s, %q", name, a.Level, a.Fails)
		}
	}
}

func (b *bench) logs(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	bad := *e
	bad.BootLog = attesttest.BootLog(attesttest.SecureBoot(true))
	wantRefusal(t, b.appraise(&bad, bind), "the boot log does not lead to the quoted PCR 0")
	bad.BootLog = e.BootLog[:len(e.BootLog)-1]
	wantRefusal(t, b.appraise(&bad, bind), "not a well-formed crypto-agile log")
	bad.BootLog, bad.FileLog = e.BootLog, e.FileLog[:len(e.FileLog)/2]
	wantRefusal(t, b.appraise(&bad, bind), "IMA list")
	bad.FileLog = slices.Concat(e.FileLog, e.FileLog) // it grew after the quote
	wantProof(t, b.appraise(&bad, bind))
	bad.FileLog, bad.PCRs = e.FileLog, slices.Clone(e.PCRs)
	bad.PCRs[3] = attest.PCR{Index: 3, Value: make([]byte, 31)}
	wantRefusal(t, b.appraise(&bad, bind), "not those that were quoted")
}

// flip changes every byte of the envelope, and cuts it at every length: nothing
// of it may still prove anything, except where IMA's list says less.
func (b *bench) flip(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	whole := e.Encode()
	short := *e
	short.BootLog, short.FileLog = nil, nil
	raw := short.Encode()
	held := 0
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		got, err := attest.Decode(bad)
		if err != nil {
			continue
		}
		held++
		if a := b.appraise(got, bind); a.Level != workload.LevelNone {
			t.Errorf("byte %d of %d changed: still proves %s", i, len(raw), a.Level)
		}
	}
	for i := range raw {
		if got, err := attest.Decode(raw[:i]); err == nil {
			t.Errorf("cut at %d: decoded as %+v", i, got)
		}
	}
	if held == 0 || len(whole) <= len(raw) {
		t.Errorf("%d changed envelopes were appraised", held)
	}
}

func (b *bench) change(t *testing.T, ima *attesttest.IMA, before *workload.Appraisal) {
	require := workload.Require{Level: workload.LevelTPM, Measurements: []string{before.Measurements[10].String()}, MaxAge: 60_000}
	if err := before.Meet(&require, b.now.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	ima.Measure("/usr/bin/miner", []byte("bad"))
	bind := binding()
	a := b.appraise(b.collect(bind), bind)
	wantProof(t, a)
	if err := a.Meet(&require, b.now.UnixMilli()); err == nil || !strings.Contains(err.Error(), "its pcr10 is not one that is wanted") {
		t.Errorf("with a changed register: %v", err)
	}
	b.chip.Reboot()
	b.chip.Boot(b.root, attesttest.Event{PCR: 0, Type: 8, Data: []byte("firmware")})
	bind = binding()
	if a := b.appraise(b.collect(bind), bind); !strings.Contains(strings.Join(a.Fails, ";"), "IMA list does not lead") {
		t.Errorf("after a reboot the old list is taken: %s %q", a.Level, a.Fails)
	}
	b.chip.NewIMA(b.root).Measure("/usr/bin/perrin", []byte("ELF"))
	bind = binding()
	again := b.appraise(b.collect(bind), bind)
	wantProof(t, again) // the same keys: nothing needs to be activated again
	if again.Instance != before.Instance || slices.Equal(again.Notes, before.Notes) {
		t.Errorf("instance %s then %s, notes %q", before.Instance, again.Instance, again.Notes)
	}
}

// otherChip swaps keys and certificates between two genuine chips.
func (b *bench) otherChip(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	o := newBench(t)
	o.policy, o.maker = b.policy, b.maker
	other := o.collect(bind)
	bad := *e
	bad.Chain = other.Chain
	wantRefusal(t, b.appraise(&bad, bind), "no TPM maker")
	bad = *e
	bad.Key = other.Key
	wantRefusal(t, b.appraise(&bad, bind), "signature does not verify")
	credential, encrypted, err := tpm.Challenge(rand.Reader, &bad, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.machine.Activate(t.Context(), credential, encrypted); err == nil {
		t.Error("a chip opened a credential for another chip's key")
	}
}

// TestForgedFiles: on a machine with any kernel, root extends PCR 9 as a good kernel's
// start would and PCR 10 by a list of its own. No file counts as known by that.
func TestForgedFiles(t *testing.T) {
	b := newBench(t)
	pcr9, aggregate := make([]byte, 32), sha256.New()
	for _, data := range []string{"ima_policy=tcb", "initrd"} {
		sum := sha256.Sum256([]byte(data))
		b.chip.Extend(9, sum[:])
		sum = sha256.Sum256(append(pcr9, sum[:]...))
		pcr9 = sum[:]
	}
	b.policy.TPMFiles = map[workload.Digest]bool{sha256.Sum256([]byte("good")): true}
	b.policy.TPMMeasurements = []workload.Measurement{{Name: "pcr9", Value: pcr9}}
	b.chip.NewIMA(b.root).Measure("/bin/good", []byte("good"))
	bind := binding()
	e := b.collect(bind)
	b.activate(e)
	wantRefusal(t, b.appraise(e, bind), "does not begin with a boot_aggregate")

	b.chip.Reboot() // and now by a list that begins as it should
	for _, data := range []string{"ima_policy=tcb", "initrd"} {
		sum := sha256.Sum256([]byte(data))
		b.chip.Extend(9, sum[:])
	}
	for _, p := range b.collect(bind).PCRs[:10] {
		aggregate.Write(p.Value)
	}
	ima := b.chip.NewIMA(b.root)
	ima.Begin([32]byte(aggregate.Sum(nil)))
	ima.Measure("/bin/good", []byte("good"))
	bind = binding()
	a := b.appraise(b.collect(bind), bind)
	wantProof(t, a)
	if a.Trust.Executables != attest.RuntimeUnknown || !strings.Contains(strings.Join(a.Notes, ";"), "do not count as known") {
		t.Errorf("a list that root made up: %+v, %q", a.Trust, a.Notes)
	}
	b.policy.TPMMeasurements = append(b.policy.TPMMeasurements, workload.Measurement{Name: "pcr4", Value: make([]byte, 32)})
	if a := b.appraise(b.collect(bind), bind); a.Trust.Executables != attest.RuntimeUnknown {
		t.Errorf("by a register that nothing extended: %+v, %q", a.Trust, a.Notes)
	}
}

// TestBareChip shows a chip without a certificate: it counts where the operator
// has listed its key, and nowhere else.
func TestBareChip(t *testing.T) {
	b := &bench{t: t, chip: attesttest.NewChip(t), root: t.TempDir(), known: map[attest.Pair]bool{}, now: time.Now()}
	b.machine = collect.New(b.chip.Files(b.root))
	if !slices.Contains(b.machine.Kinds(), "tpm") {
		t.Fatalf("abilities: %+v", b.machine.Abilities())
	}
	bind := binding()
	e := b.collect(bind)
	b.activate(e)
	wantRefusal(t, b.appraise(e, bind), "has no certificate of a maker")
	b.policy.TPMKeys = []workload.Digest{sha256.Sum256(e.Item(tpm.EndorsementItem))}
	wantProof(t, b.appraise(e, bind))
}

func TestNothingThere(t *testing.T) {
	m := collect.New(collect.Files{Root: t.TempDir(), TPM: collect.Host().TPM})
	for _, a := range m.Abilities() {
		if !a.Can && a.Why == "" {
			t.Errorf("%s: no reason", a.Kind)
		}
	}
	if _, err := m.Collect(t.Context(), "magic", binding()); err == nil || !strings.Contains(err.Error(), "makes no evidence of kind") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkAppraise measures the appraisal of a quote, without the chip.
func BenchmarkAppraise(b *testing.B) {
	x := newBench(b)
	bind := binding()
	e := x.collect(bind)
	x.activate(e)
	for b.Loop() {
		if a := x.appraise(e, bind); a.Level != workload.LevelTPM {
			b.Fatal(a.Fails)
		}
	}
}
