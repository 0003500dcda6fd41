package tpm_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/workload"
)

// machine opens the evidence of a machine that was booted once: firmware with four
// banks of registers, a kernel with IMA. Those called known (UEFI) and bios (SeaBIOS)
// ran what their policy lists; strange ran another program too, and read a file that was being written.
func machine(tb testing.TB, name string) (*attest.Evidence, *attest.Expect) {
	tb.Helper()
	return attesttest.Load(tb, filepath.Join("testdata", "machine", name+".json")).Open(tb)
}

func refused(t *testing.T, a *workload.Appraisal, says ...string) {
	t.Helper()
	if a.Level != workload.LevelNone || a.Status != workload.TierContraindicated {
		t.Fatalf("proved %s (%s), want a refusal that says %q", a.Level, a.Status, says)
	}
	all := strings.Join(a.Fails, "; ")
	for _, s := range says {
		if !strings.Contains(all, s) {
			t.Errorf("fails %q, want %q", a.Fails, s)
		}
	}
}

// listBoot has the policy list registers of the boot as evidence has them.
func listBoot(e *attest.Evidence, x *attest.Expect, pcrs ...uint8) {
	x.Policy.TPMMeasurements = nil
	for _, p := range e.PCRs {
		if slices.Contains(pcrs, p.Index) {
			x.Policy.TPMMeasurements = append(x.Policy.TPMMeasurements, workload.Measurement{Name: fmt.Sprintf("pcr%d", p.Index), Value: p.Value})
		}
	}
}

// TestBootedMachine appraises what machines showed, by several policies.
func TestBootedMachine(t *testing.T) {
	e, x := machine(t, "known")
	listBoot(e, x, 4, 9)
	a := tpm.Verify(e, x)
	if a.Level != workload.LevelTPM || len(a.Fails) > 0 || a.Trust.Executables != attest.RuntimeKnown || a.Trust.Config != attest.ConfigUnsafe {
		t.Errorf("proved %s, %+v, %q", a.Level, a.Trust, a.Fails)
	}
	for _, says := range []string{"24 events; Secure Boot is off", "IMA measured 2 files, all of which this node lists"} {
		if !strings.Contains(strings.Join(a.Notes, "; "), says) {
			t.Errorf("notes %q, want %q", a.Notes, says)
		}
	}
	all := x.Policy.TPMFiles
	for d := range all {
		x.Policy.TPMFiles = map[workload.Digest]bool{d: true}
		refused(t, tpm.Verify(e, x), "which this node does not list")
	}
	x.Policy.TPMFiles = nil
	x.Policy.TPMMeasurements = a.Measurements
	if a := tpm.Verify(e, x); a.Level != workload.LevelTPM || a.Trust.Executables != attest.RuntimeUnknown {
		t.Errorf("by its registers: proved %s, %+v, %q", a.Level, a.Trust, a.Fails)
	}
	x.Policy.TPMMeasurements = []workload.Measurement{{Name: "pcr4", Value: a.Measurements[9].Value}, {Name: "pcr7", Value: a.Measurements[7].Value}}
	if a := tpm.Verify(e, x); len(a.Fails) != 1 || !strings.Contains(a.Fails[0], "its pcr4 is not one that the policy") {
		t.Errorf("by another register: %q", a.Fails)
	}

	e, x = machine(t, "strange")
	refused(t, tpm.Verify(e, x), `IMA measured "/bin/stranger" (sha256 `, `it says "/data"`)
	x.Policy.TPMFiles = nil
	if a := tpm.Verify(e, x); a.Level != workload.LevelTPM || !strings.Contains(strings.Join(a.Notes, ";"), "IMA measured 6 files, 1 of them while") {
		t.Errorf("with no list of files: %q, %q", a.Fails, a.Notes)
	}
}

// TestBIOSMachine: a machine without Secure Boot, whose firmware ends its part by
// another separator, counts, and is graded as unsafe. Nothing shows which kernel it
// started, so that its list of files may be anybody's.
func TestBIOSMachine(t *testing.T) {
	e, x := machine(t, "bios")
	listBoot(e, x, 4, 9)
	a := tpm.Verify(e, x)
	if a.Level != workload.LevelTPM || len(a.Fails) > 0 || a.Trust.Executables != attest.RuntimeUnknown || a.Trust.Config != attest.ConfigUnsafe {
		t.Errorf("proved %s, %+v, %q", a.Level, a.Trust, a.Fails)
	}
	for _, says := range []string{"13 events; it does not say that Secure Boot is on", "do not count as known: nothing extended PCR 9"} {
		if !strings.Contains(strings.Join(a.Notes, ";"), says) {
			t.Errorf("notes %q, want %q", a.Notes, says)
		}
	}
}

// TestKnownFilesNeedTheBoot: a list of known files was made by a kernel with IMA only
// where the policy lists the registers of its start, and the firmware measured that.
func TestKnownFilesNeedTheBoot(t *testing.T) {
	e, x := machine(t, "known")
	pcrs := map[uint8][]byte{}
	for _, p := range e.PCRs {
		pcrs[p.Index] = p.Value
	}
	list, err := tpm.ReplayFiles(e.FileLog, pcrs[10])
	if err != nil {
		t.Fatal(err)
	}
	for says, listed := range map[string][]uint8{
		"": {4, 9}, "policy.yaml lists no pcr4": {9}, "policy.yaml lists no pcr9": {4, 7, 8},
	} {
		listBoot(e, x, listed...)
		a := tpm.VerifyFiles(x, list, pcrs)
		if known := a.Trust.Executables == attest.RuntimeKnown; len(a.Fails) > 0 || known != (says == "") || !strings.Contains(strings.Join(a.Notes, ";"), says) {
			t.Errorf("listing %v: %+v, %q, %q, want %q", listed, a.Trust, a.Fails, a.Notes, says)
		}
	}
	listBoot(e, x, 4, 9)
	boot := e.BootLog
	e.BootLog = nil
	if a := tpm.Verify(e, x); a.Trust.Executables != attest.RuntimeUnknown || a.Trust.Config != attest.ConfigUnsafe || !strings.Contains(strings.Join(a.Notes, ";"), "no boot log shows that UEFI firmware measured") {
		t.Errorf("without its boot log: %+v, %q", a.Trust, a.Notes)
	}
	e.BootLog = boot

	first := imaEntries(t, e.FileLog)[0]
	forged := e.FileLog[len(first):]
	if list, err = tpm.ReplayFiles(forged, tpm.ReplayedBy(forged)); err != nil {
		t.Fatal(err)
	}
	refused(t, tpm.VerifyFiles(x, list, pcrs), "does not begin with a boot_aggregate")
	forged = slices.Concat(forged, first)
	if list, err = tpm.ReplayFiles(forged, tpm.ReplayedBy(forged)); err != nil {
		t.Fatal(err)
	}
	refused(t, tpm.VerifyFiles(x, list, pcrs), "does not begin with a boot_aggregate")

	if list, err = tpm.ReplayFiles(e.FileLog, pcrs[10]); err != nil {
		t.Fatal(err)
	}
	pcrs[8] = pcrs[7]
	refused(t, tpm.VerifyFiles(x, list, pcrs), "does not begin with a boot_aggregate")
}

// TestKnownFilesByGRUB: where a boot loader measured its commands, they are listed too.
func TestKnownFilesByGRUB(t *testing.T) {
	e, x := machine(t, "known")
	pcrs, aggregate := map[uint8][]byte{}, sha256.New()
	for i := range e.PCRs {
		p := &e.PCRs[i]
		if p.Index == 8 {
			p.Value = bytes.Repeat([]byte{8}, 32)
		}
		if pcrs[p.Index] = p.Value; p.Index < 10 {
			aggregate.Write(p.Value)
		}
	}
	known := sha256.Sum256([]byte("known"))
	x.Policy.TPMFiles = map[workload.Digest]bool{known: true}
	log := slices.Concat(imaEntry("ima-ng", "sha256:", aggregate.Sum(nil), "boot_aggregate"), imaEntry("ima-ng", "sha256:", known[:], "/bin/known"))
	list, err := tpm.ReplayFiles(log, tpm.ReplayedBy(log))
	if err != nil {
		t.Fatal(err)
	}
	listBoot(e, x, 4, 9)
	if a := tpm.VerifyFiles(x, list, pcrs); a.Trust.Executables != attest.RuntimeUnknown || !strings.Contains(strings.Join(a.Notes, ";"), "lists no pcr8") {
		t.Errorf("without pcr8: %+v, %q, %q", a.Trust, a.Fails, a.Notes)
	}
	listBoot(e, x, 4, 8, 9)
	if a := tpm.VerifyFiles(x, list, pcrs); a.Trust.Executables != attest.RuntimeKnown || len(a.Fails) > 0 {
		t.Errorf("with pcr8: %+v, %q, %q", a.Trust, a.Fails, a.Notes)
	}
}

// TestFilesAreNeeded: who lists files takes no machine that does not show them.
func TestFilesAreNeeded(t *testing.T) {
	e, x := machine(t, "known")
	first := imaEntries(t, e.FileLog)[0]
	e.FileLog = nil
	refused(t, tpm.Verify(e, x), "no IMA list came along")
	e.FileLog = first
	refused(t, tpm.Verify(e, x), "the IMA list does not lead to the quoted PCR 10")

	b, err := tpm.ReplayFiles(first, tpm.ReplayedBy(first))
	if err != nil {
		t.Fatal(err)
	}
	pcrs := map[uint8][]byte{}
	for _, p := range e.PCRs {
		pcrs[p.Index] = p.Value
	}
	refused(t, tpm.VerifyFiles(x, b, pcrs), "IMA measured no file")
	refused(t, tpm.VerifyFiles(x, tpm.MeasuredBy("sha1"), pcrs), `IMA measured "/bin/x" (sha1 0102), and this node lists files by SHA-256; boot with ima_hash`)
	pcrs[4] = pcrs[5]
	refused(t, tpm.VerifyFiles(x, b, pcrs), `IMA measured "boot_aggregate"`)
}

// imaEntries cuts a list into its entries.
func imaEntries(t *testing.T, list []byte) (out [][]byte) {
	t.Helper()
	for len(list) > 0 {
		n := 24
		for range 2 {
			n += 4 + int(binary.LittleEndian.Uint32(list[n:]))
		}
		out = append(out, list[:n])
		list = list[n:]
	}
	return out
}

// TestEveryByteOfTheIMAList changes a machine's list in every byte, cuts it at every
// length, and leaves out, doubles and swaps its entries.
func TestEveryByteOfTheIMAList(t *testing.T) {
	e, x := machine(t, "strange")
	whole := e.FileLog
	x.Policy.TPMFiles = nil
	violation := bytes.Index(whole, []byte("/data")) // nothing measures what a violation's entry says
	entries := imaEntries(t, whole)
	var free int
	for i := range whole {
		e.FileLog = bytes.Clone(whole)
		e.FileLog[i] ^= 1 << (i % 8)
		if a := tpm.VerifyLogs(e, x); a.Level != workload.LevelNone {
			if free++; i < violation-60 || i > violation+20 {
				t.Errorf("byte %d of %d changed: still proves %s", i, len(whole), a.Level)
			}
		}
		e.FileLog = whole[:i]
		refused(t, tpm.VerifyLogs(e, x))
	}
	if free > 80 {
		t.Errorf("%d bytes of a violation's entry may be anything", free)
	}
	for i := range entries {
		for _, list := range [][][]byte{
			slices.Delete(slices.Clone(entries), i, i+1), slices.Insert(slices.Clone(entries), i, entries[i]),
			append(slices.Delete(slices.Clone(entries), i, i+1), entries[i]),
		} {
			e.FileLog = slices.Concat(list...)
			if bytes.HasPrefix(e.FileLog, whole) {
				continue // it only grew, or is the same
			}
			refused(t, tpm.VerifyLogs(e, x), "the IMA list does not lead to the quoted PCR 10")
		}
	}
}

// TestEveryByteOfTheBootLog: a changed byte of a machine's boot log is refused, or
// it is one that no register covers and no claim rests on.
func TestEveryByteOfTheBootLog(t *testing.T) {
	e, x := machine(t, "known")
	whole, want := e.BootLog, tpm.VerifyLogs(e, x)
	held := 0
	for i := range whole {
		e.BootLog = bytes.Clone(whole)
		e.BootLog[i] ^= 1 << (i % 8)
		a := tpm.VerifyLogs(e, x)
		if a.Level == workload.LevelNone {
			held++
			continue
		}
		if a.Trust != want.Trust {
			t.Errorf("byte %d of %d changed: %+v, %q", i, len(whole), a.Trust, a.Notes)
		}
	}
	if held < 24*32 {
		t.Errorf("%d of %d changed bytes are refused, want at least the digest of each event", held, len(whole))
	}
	for i := range whole {
		e.BootLog = whole[:i]
		refused(t, tpm.VerifyLogs(e, x))
	}
}

// BenchmarkMachine appraises a whole machine: keys, quote, boot log, IMA list, files.
func BenchmarkMachine(b *testing.B) {
	e, x := machine(b, "known")
	for b.Loop() {
		if a := tpm.Verify(e, x); a.Level != workload.LevelTPM {
			b.Fatal(a.Fails)
		}
	}
}

// TestIMATemplates reads lists of made-up entries: of templates that name the kind of
// digest, of a second kernel that took the first one's place, of an old kernel that
// extends by SHA-1, and of templates that are not read.
func TestIMATemplates(t *testing.T) {
	e, x := machine(t, "known")
	pcrs, aggregate := map[uint8][]byte{}, sha256.New()
	for _, p := range e.PCRs {
		if pcrs[p.Index] = p.Value; p.Index < 10 {
			aggregate.Write(p.Value)
		}
	}
	known := sha256.Sum256([]byte("known"))
	x.Policy.TPMFiles = map[workload.Digest]bool{known: true}
	file := imaEntry("ima-sig", "sha256:", known[:], "/bin/known")
	begin := imaEntry("ima-ng", "sha256:", aggregate.Sum(nil), "boot_aggregate")
	other := sha256.Sum256([]byte("other"))
	for name, c := range map[string]struct {
		list []byte
		says string // in the refusal, or ""
	}{
		"two kernels":              {slices.Concat(begin, file, begin, file), ""},
		"digests with their kind":  {slices.Concat(begin, imaEntry("ima-ngv2", "ima:sha256:", known[:], "/bin/known")), ""},
		"of the file system":       {slices.Concat(begin, imaEntry("ima-sigv2", "verity:sha256:", known[:], "/bin/known")), "this node lists files by SHA-256"},
		"a buffer":                 {slices.Concat(begin, file, imaEntry("ima-buf", "sha256:", other[:], "kernel_version")), `"kernel_version" (sha256 `},
		"another called aggregate": {slices.Concat(begin, file, imaEntry("ima-ng", "sha256:", other[:], "boot_aggregate")), `"boot_aggregate" (sha256 `},
		"no digest":                {slices.Concat(begin, file, imaEntry("ima-ng", "", nil, "")), `"" ( )`},
		"a name for a terminal":    {slices.Concat(begin, file, imaEntry("ima-ng", "sha256:", other[:], "/\x1b[2J")), `"/\x1b[2J"`},
	} {
		list, err := tpm.ReplayFiles(c.list, tpm.ReplayedBy(c.list))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a := tpm.VerifyFiles(x, list, pcrs)
		if all := strings.Join(a.Fails, "; "); (all == "") != (c.says == "") || !strings.Contains(all, c.says) {
			t.Errorf("%s: fails %q, want %q", name, a.Fails, c.says)
		}
	}
	old, short := [32]byte{}, make([]byte, 32)
	copy(short, begin[4:24])
	tpm.ExtendForLog(&old, short)
	copy(short, file[4:24])
	tpm.ExtendForLog(&old, short)
	list, err := tpm.ReplayFiles(slices.Concat(begin, file), old[:])
	if err != nil {
		t.Fatal(err)
	}
	refused(t, tpm.VerifyFiles(x, list, pcrs), "older than 5.8, measures files by SHA-1 alone")
	for template, says := range map[string]string{"ima": "boot with ima_template=ima-ng", "d-ng|n-ng": `in the template "d-ng|n-ng", which is not read`} {
		if _, err := tpm.ReplayFiles(imaEntry(template, "sha256:", known[:], "/x"), old[:]); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("template %s: %v, want %q", template, err, says)
		}
	}
}

// imaEntry is an entry of a list as the kernel writes it.
func imaEntry(template, algorithm string, digest []byte, name string) []byte {
	if algorithm != "" {
		digest, name = slices.Concat([]byte(algorithm), []byte{0}, digest), name+"\x00"
	}
	var data []byte
	for _, field := range [][]byte{digest, []byte(name)} {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(field))), field...)
	}
	sum := sha1.Sum(data)
	out := append([]byte{10, 0, 0, 0}, sum[:]...)
	for _, field := range [][]byte{[]byte(template), data} {
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(field))), field...)
	}
	return out
}
