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
	for _, name := range []string{"known", "strange", "bios"} {
		e, _ := machine(f, name)
		f.Add(e.Report, e.Signature, e.Key, e.BootLog, e.FileLog, e.Chain[0].Data)
	}
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, report, sig, key, boot, files, cert []byte) {
		e := &attest.Evidence{Kind: workload.LevelTPM, Report: report, Signature: sig, Key: key, BootLog: boot, FileLog: files, Chain: []attest.Blob{{Data: cert}},
			PCRs: []attest.PCR{{Index: 10, Value: make([]byte, 32)}}}
		x := &attest.Expect{Binding: &attest.Binding{}, Policy: &attest.Policy{TPMFiles: map[workload.Digest]bool{{}: true}}, Now: time.Unix(1_800_000_000, 0), Activated: func(attest.Pair) bool { return true }}
		if a := tpm.Verify(e, x); a.Level != workload.LevelNone || len(a.Fails) == 0 {
			t.Errorf("proved %s", a.Level)
		}
		_, _ = tpm.ParseQuote(report)
		_, _ = tpm.ParsePublic(key)
		_, _ = tpm.ReplayBoot(boot)
		if list, err := tpm.ReplayFiles(files, tpm.ReplayedBy(files)); err == nil {
			if a := tpm.VerifyFiles(x, list, map[uint8][]byte{}); len(a.Fails) == 0 {
				t.Error("an empty list of files allows what ran")
			}
		}
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

// TestSecureBootIsTheFirmwaresWord: what the log says of Secure Boot counts only
// if the firmware said it, before its separator, and only the first time.
func TestSecureBootIsTheFirmwaresWord(t *testing.T) {
	on, off, end := attesttest.SecureBoot(true), attesttest.SecureBoot(false), attesttest.Separator(7)
	hidden := end
	hidden.Type = 8 // its type is not measured: whoever sends the log can change it
	vendors := attesttest.SecureBoot(true)
	vendors.Data[0] ^= 1
	yes, no := true, false
	for name, c := range map[string]struct {
		events []attesttest.Event
		want   *bool
	}{
		"on":                      {[]attesttest.Event{on, end}, &yes},
		"off, then on":            {[]attesttest.Event{off, on, end}, &no},
		"on after the separator":  {[]attesttest.Event{off, end, on}, &no},
		"only after":              {[]attesttest.Event{end, on}, nil},
		"after a hidden one":      {[]attesttest.Event{hidden, on}, nil},
		"a vendor's own variable": {[]attesttest.Event{vendors, end}, nil},
	} {
		b, err := tpm.ReplayBoot(attesttest.BootLog(c.events...))
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Secure(); (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: the log is read as saying %v", name, got)
		}
	}
}

// TestBootLogNeedsItsRegisters: a log is worth what the quote covers. Registers
// that whoever has root can reset (16 to 23) say nothing of the boot.
func TestBootLogNeedsItsRegisters(t *testing.T) {
	log := attesttest.BootLog(attesttest.SecureBoot(true), attesttest.Separator(7))
	b, err := tpm.ReplayBoot(log)
	if err != nil {
		t.Fatal(err)
	}
	grade := func(from, to int) (workload.Trust, []string) {
		value := map[uint8][]byte{}
		for i := from; i < to; i++ {
			pcr := b.PCR(i)
			value[uint8(i)] = pcr[:]
		}
		f := attest.Begin(&attest.Evidence{Kind: workload.LevelTPM}, &attest.Expect{Binding: &attest.Binding{}, Policy: &attest.Policy{}, Now: time.Unix(1_800_000_000, 0)})
		tpm.VerifyBoot(f, log, value)
		a := f.End()
		return a.Trust, a.Fails
	}
	if got, fails := grade(0, 16); got.Config != attest.ConfigSafe || len(fails) > 0 {
		t.Errorf("with the registers of the boot: %+v, %q", got, fails)
	}
	for _, span := range [][2]int{{16, 24}, {0, 9}, {1, 16}} {
		if got, fails := grade(span[0], span[1]); got.Config != attest.ConfigRefused || len(fails) == 0 {
			t.Errorf("with registers %v: %+v, %q", span, got, fails)
		}
	}
}
