package collect_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest/machine"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

var rewrite = flag.Bool("rewrite", false, "record the booted machine's evidence anew for the tests of mesh/attest/tpm")

// computer is a bench whose chip is in a machine.
type computer struct {
	*bench
	m     *machine.Machine
	files map[string][]byte
}

// TestMachine boots a whole machine once: firmware that measures, a distribution's
// kernel with IMA, a software TPM, and this package's collector inside. Who asks it
// knows beforehand what it must have booted and may run.
func TestMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("a machine takes too long for a short run")
	}
	b := newBench(t)
	files := map[string][]byte{"/bin/known": machine.Program(0), "/bin/stranger": machine.Program(7)}
	c := &computer{b, machine.Boot(t, b.chip, machine.Config{Command: "ima_policy=tcb", Programs: files, Console: filepath.Join(t.TempDir(), "console")}), files}
	b.machine = collect.Of(c.m)
	b.policy.TPMFiles = map[workload.Digest]bool{workload.DigestOf(machine.Init(t)): true, workload.DigestOf(files["/bin/known"]): true}
	b.policy.TPMMeasurements = []workload.Measurement{{Name: "pcr9", Value: kernelRegister(c.m.Command, c.m.Initrd)}}

	bind := binding()
	e := b.collect(bind)
	wantRefusal(t, b.appraise(e, bind), "has not shown that the key which signed lies beside")
	b.activate(e)
	a := b.appraise(e, bind)
	wantProof(t, a)
	if a.Trust.Executables != attest.RuntimeUnknown {
		t.Errorf("by pcr9 alone, which any kernel's root extends: %+v", a.Trust)
	}
	b.policy.TPMMeasurements = append(b.policy.TPMMeasurements, workload.Measurement{Name: "pcr4", Value: e.PCRs[4].Value})
	a = b.appraise(e, bind)
	wantProof(t, a)
	if a.Trust.Executables != attest.RuntimeKnown || a.Trust.Config != attest.ConfigUnsafe || a.Status != workload.TierWarning {
		t.Errorf("graded %+v as %s, want known files and Secure Boot off", a.Trust, a.Status)
	}
	t.Run("another boot", func(t *testing.T) { c.otherBoot(t, e, bind) })
	t.Run("programs", c.programs)
	t.Run("another machine", func(t *testing.T) { c.otherMachine(t, e) })
	t.Run("a reboot", func(t *testing.T) { c.reboot(t, e, a) })
	if os.Getenv("PERRIN_TEST_FULL") != "" {
		t.Run("without IMA's policy", c.withoutPolicy)
		t.Run("by a BIOS", c.byBIOS)
	}
}

// kernelRegister is PCR 9 as the kernel's EFI stub extends it: by its command line,
// to which the firmware adds the initial file system's name, and by that.
func kernelRegister(command string, initrd []byte) []byte {
	var line []byte
	for _, u := range utf16.Encode([]rune(command + " initrd=initrd\x00")) {
		line = binary.LittleEndian.AppendUint16(line, u)
	}
	pcr := make([]byte, 32)
	for _, data := range [][]byte{line, initrd} {
		sum := sha256.Sum256(data)
		sum = sha256.Sum256(append(pcr, sum[:]...))
		pcr = sum[:]
	}
	return pcr
}

// otherBoot wants a boot that was not this one.
func (c *computer) otherBoot(t *testing.T, e *attest.Evidence, bind *attest.Binding) {
	was := c.policy
	defer func() { c.policy = was }()
	changed := bytes.Clone(c.m.Initrd)
	changed[len(changed)/2] ^= 1
	for name, pcr := range map[string][]byte{
		"command line": kernelRegister(c.m.Command+" init=/bin/sh", c.m.Initrd), "initial file system": kernelRegister(c.m.Command, changed),
	} {
		c.policy.TPMMeasurements = []workload.Measurement{{Name: "pcr9", Value: pcr}}
		a := c.appraise(e, bind)
		wantRefusal(t, a, "its pcr9 is not one that the policy of this node lists")
		if len(a.Fails) != 1 {
			t.Errorf("another %s: %q", name, a.Fails)
		}
	}
}

// programs runs one that is listed, one that is not, and what cannot be measured.
func (c *computer) programs(t *testing.T) {
	if err := c.m.Run("/bin/known"); err != nil {
		t.Fatal(err)
	}
	bind := binding()
	e := c.collect(bind)
	wantProof(t, c.appraise(e, bind))
	c.record(t, "known", e, bind)
	if err := c.m.Run("/bin/stranger"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Fatalf("the stranger ended with %v", err)
	}
	bind = binding()
	a := c.appraise(c.collect(bind), bind)
	wantRefusal(t, a, `IMA measured "/bin/stranger" (sha256 `)
	if len(a.Fails) != 1 {
		t.Errorf("fails %q, want the stranger alone", a.Fails)
	}
	if err := c.m.Violate("/data"); err != nil {
		t.Fatal(err)
	}
	bind = binding()
	e = c.collect(bind)
	wantRefusal(t, c.appraise(e, bind), `IMA could not measure a file that was being written, it says "/data"`)
	c.record(t, "strange", e, bind)
}

// record keeps evidence for tests without a machine.
func (c *computer) record(t *testing.T, name string, e *attest.Evidence, bind *attest.Binding) {
	if !*rewrite {
		return
	}
	r := &attesttest.Recorded{
		Note:     "made by TestMachine of mesh/attest/collect with -rewrite and PERRIN_TEST_FULL=1: QEMU, OVMF or SeaBIOS, Debian's cloud kernel, swtpm",
		Evidence: e.Encode(), Binding: wire.MustMarshal(bind), Root: c.maker.Root.Raw, At: c.now.UTC().Truncate(time.Second),
	}
	for d := range c.policy.TPMFiles {
		r.Files = append(r.Files, d)
	}
	slices.SortFunc(r.Files, func(a, b workload.Digest) int { return bytes.Compare(a[:], b[:]) })
	r.Save(t, filepath.Join("..", "tpm", "testdata", "machine", name+".json"))
}

// otherMachine has a genuine chip elsewhere sign for what this machine booted.
func (c *computer) otherMachine(t *testing.T, e *attest.Evidence) {
	o := newBench(t)
	o.policy, o.policy.TPMRoots = c.policy, []*x509.Certificate{o.maker.Root}
	bind := binding()
	its := o.collect(bind)
	o.activate(its)
	its.BootLog, its.FileLog = e.BootLog, e.FileLog
	a := o.appraise(its, bind)
	wantRefusal(t, a, "the boot log does not lead to the quoted PCR 0")
	wantRefusal(t, a, "the IMA list does not lead to the quoted PCR 10")
	its.PCRs = e.PCRs
	wantRefusal(t, o.appraise(its, bind), "not those that were quoted")
	e2 := *e
	e2.Chain, e2.Key = its.Chain, its.Key
	wantRefusal(t, o.appraise(&e2, bind), "signature does not verify")
}

// reboot takes the chip out of the machine, after which it has measured nothing.
func (c *computer) reboot(t *testing.T, e *attest.Evidence, before *workload.Appraisal) {
	c.m.Off()
	c.chip.Reboot()
	for path, log := range map[string][]byte{"tpm0/binary_bios_measurements": e.BootLog, "ima/binary_runtime_measurements": e.FileLog} {
		to := filepath.Join(c.root, "sys/kernel/security", path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.machine = collect.New(c.chip.Files(c.root))
	bind := binding()
	wantRefusal(t, c.appraise(e, bind), "made for another nonce")
	a := c.appraise(c.collect(bind), bind)
	wantRefusal(t, a, "the boot log does not lead to the quoted PCR 4")
	wantRefusal(t, a, "its pcr9 is not one that the policy of this node lists")
	if a.Instance != before.Instance || starts(a) != starts(before)+1 {
		t.Errorf("chip %s started %d times, then %s %d times", before.Instance, starts(before), a.Instance, starts(a))
	}
}

// withoutPolicy boots the same machine with a command line that has IMA measure
// nothing: its register tells, and so does its list.
func (c *computer) withoutPolicy(t *testing.T) {
	m := machine.Boot(t, c.chip, machine.Config{Programs: c.files, Console: filepath.Join(t.TempDir(), "console")})
	c.machine = collect.Of(m)
	bind := binding()
	e := c.collect(bind)
	a := c.appraise(e, bind)
	wantRefusal(t, a, "its pcr9 is not one that the policy of this node lists")
	wantRefusal(t, a, "IMA measured no file: its kernel was started without")
	c.policy.TPMMeasurements = []workload.Measurement{{Name: "pcr9", Value: kernelRegister(m.Command, m.Initrd)}}
	if a := c.appraise(e, bind); len(a.Fails) != 1 {
		t.Errorf("with its own register: %q", a.Fails)
	}
}

// byBIOS boots the machine by firmware that measures no kernel: it proves a TPM, and
// the register of the kernel shows nothing, so that they are not known.
func (c *computer) byBIOS(t *testing.T) {
	m := machine.Boot(t, c.chip, machine.Config{BIOS: true, Command: "ima_policy=tcb", Programs: c.files, Console: filepath.Join(t.TempDir(), "console")})
	c.machine = collect.Of(m)
	c.policy.TPMMeasurements = nil
	bind := binding()
	e := c.collect(bind)
	a := c.appraise(e, bind)
	wantProof(t, a)
	if a.Trust.Executables != attest.RuntimeUnknown {
		t.Errorf("of a kernel that nothing measured: %+v", a.Trust)
	}
	c.policy.TPMMeasurements = []workload.Measurement{{Name: "pcr9", Value: kernelRegister(m.Command, m.Initrd)}}
	wantRefusal(t, c.appraise(e, bind), "its pcr9 is not one that the policy of this node lists")
	c.record(t, "bios", e, bind)
}

// starts is how often a machine was started, as an appraisal says it.
func starts(a *workload.Appraisal) (n int) {
	for _, note := range a.Notes {
		if _, err := fmt.Sscanf(note, "the machine was started %d times", &n); err == nil {
			return n
		}
	}
	return -1
}
