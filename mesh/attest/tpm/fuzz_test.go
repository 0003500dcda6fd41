package tpm_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/workload"
)

// FuzzVerify feeds junk to every parser of a TPM's evidence: nothing may panic,
// and nothing may be proved without a maker.
func FuzzVerify(f *testing.F) {
	log := attesttest.BootLog(attesttest.SecureBoot(true), attesttest.Event{PCR: 4, Type: 0x80000003, Data: []byte("loader")})
	f.Add([]byte("\xffTCG\x80\x18"), []byte{0, 0x18, 0, 0x0b}, []byte{0, 0x23, 0, 0x0b}, log, []byte{10, 0, 0, 0}, []byte{0x30, 0})
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, report, sig, key, boot, files, cert []byte) {
		e := &attest.Evidence{Kind: workload.LevelTPM, Report: report, Signature: sig, Key: key, BootLog: boot, FileLog: files, Chain: []attest.Blob{{Data: cert}},
			PCRs: []attest.PCR{{Index: 10, Value: make([]byte, 32)}}}
		x := &attest.Expect{Binding: &attest.Binding{}, Policy: &attest.Policy{}, Now: time.Unix(1_800_000_000, 0), Activated: func(attest.Pair) bool { return true }}
		if a := tpm.Verify(e, x); a.Level != workload.LevelNone || len(a.Fails) == 0 {
			t.Errorf("proved %s", a.Level)
		}
		_, _ = tpm.ParseQuote(report)
		_, _ = tpm.ParsePublic(key)
		_, _ = tpm.ReplayBoot(boot)
		_, _ = tpm.ReplayFiles(files, make([]byte, sha256.Size))
	})
}

// TestBootLog replays a log by hand: StartupLocality, two events in a register,
// and each way in which it can be cut.
func TestBootLog(t *testing.T) {
	one, two := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	log := attesttest.BootLog(attesttest.Event{PCR: 0, Type: 3, Data: append([]byte("StartupLocality\x00"), 3)},
		attesttest.Event{PCR: 0, Type: 8, Data: []byte("one")}, attesttest.Event{PCR: 0, Type: 8, Data: []byte("two")}, attesttest.SecureBoot(false))
	b, err := tpm.ReplayBoot(log)
	if err != nil {
		t.Fatal(err)
	}
	want := [32]byte{31: 3}
	tpm.ExtendForLog(&want, one[:])
	tpm.ExtendForLog(&want, two[:])
	if b.PCR(0) != want || b.Events() != 4 || b.Secure() == nil || *b.Secure() {
		t.Errorf("got %x after %d events, want %x", b.PCR(0), b.Events(), want)
	}
	whole := 0
	for i := range log {
		if _, err := tpm.ReplayBoot(log[:i]); err == nil {
			whole++ // between two events
		}
	}
	if whole != 4 {
		t.Errorf("%d cuts read as a log, want the 4 between events", whole)
	}
}
