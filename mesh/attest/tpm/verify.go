package tpm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// Pair names the two keys of evidence: the digest of the endorsement key and the
// name of the attestation key. An asker remembers pairs that were activated.
func Pair(e *attest.Evidence) (attest.Pair, error) {
	k, err := parseEndorsement(e)
	if err != nil {
		return attest.Pair{}, err
	}
	ak, err := parsePublic(e.Key)
	if err != nil {
		return attest.Pair{}, err
	}
	return attest.Pair{Endorsement: k.digest, Key: workload.DigestOf(ak.name)}, nil
}

// Verify appraises evidence of a TPM.
func Verify(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	f := attest.Begin(e, x)
	verifyKeys(f, e, x)
	if verifyQuote(f, e, x) {
		verifyLogs(f, e, x.Policy)
	}
	f.Trust.Runtime = attest.MemoryIsolated // by the kernel only: who owns the machine can read it
	return f.End()
}

// verifyKeys follows the chain from a maker to the attestation key.
func verifyKeys(f *attest.Finding, e *attest.Evidence, x *attest.Expect) {
	k, err := parseEndorsement(e)
	if err != nil {
		f.Trust.Instance = attest.InstanceUnknown
		f.Fail("%v", err)
		return
	}
	f.Instance = k.digest
	until, how, err := k.trusted(x.Policy, x.Now)
	if err != nil {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
	} else {
		f.Trust.Hardware = attest.HardwareGenuine
		f.Valid(until)
		f.Note("the chip is genuine: %s", how)
	}
	pair, err := Pair(e)
	switch {
	case err != nil:
		f.Trust.Instance = attest.InstanceUnknown
		f.Fail("%v", err)
	case x.Activated == nil || !x.Activated(pair):
		f.Trust.Instance = attest.InstanceUnknown
		f.Fail("the chip has not shown that the key which signed lies beside its endorsement key")
	default:
		f.Trust.Instance = attest.InstanceKnown
	}
}

// verifyQuote checks what the chip signed; it reports whether the registers hold.
func verifyQuote(f *attest.Finding, e *attest.Evidence, x *attest.Expect) bool {
	ak, err := parsePublic(e.Key)
	if err != nil {
		return false // verifyKeys said so
	}
	if !ak.verify(e.Report, e.Signature) {
		f.Trust.Instance = attest.CryptoFailed
		f.Fail("the quote's signature does not verify")
		return false
	}
	q, err := parseQuote(e.Report)
	if err != nil {
		f.Fail("%v", err)
		return false
	}
	if want := x.Binding.Qualifying(); !bytes.Equal(q.extra, want[:]) {
		f.Fail("the quote was made for another nonce, peer, connection, key or award")
	}
	if !bytes.Equal(q.signer, ak.qualifiedName()) {
		f.Fail("the key that signed is not of the endorsement hierarchy")
	}
	if !q.covers(e.PCRs) {
		f.Fail("the registers that came along are not those that were quoted")
		return false
	}
	for _, p := range e.PCRs {
		f.Measure(fmt.Sprintf("pcr%d", p.Index), p.Value)
	}
	f.Holds(x.Policy.TPMMeasurements)
	f.TCB = fmt.Sprintf("TPM firmware %d.%d.%d.%d", q.firmware>>48, q.firmware>>32&0xffff, q.firmware>>16&0xffff, q.firmware&0xffff)
	f.Note("the machine was started %d times since its TPM was cleared, and resumed %d times since then", q.resets, q.restarts)
	return true
}

// verifyLogs replays what the machine says it booted and ran.
func verifyLogs(f *attest.Finding, e *attest.Evidence, p *attest.Policy) {
	value := map[uint8][]byte{}
	for _, p := range e.PCRs {
		value[p.Index] = p.Value
	}
	b := verifyBoot(f, e.BootLog, value)
	if e.FileLog == nil && len(p.TPMFiles) > 0 {
		f.Trust.Executables = attest.RuntimeRefused
		f.Fail("this node lists the files that may run, and no IMA list came along: IMA is off, or its list not readable or too long")
		return
	}
	if e.FileLog == nil {
		f.Note("no list of the files that were run came along (IMA is off, or not readable)")
		return
	}
	if value[10] == nil {
		f.Fail("an IMA list came along, but PCR 10 is not quoted")
		return
	}
	list, err := replayFiles(e.FileLog, value[10])
	if err != nil {
		f.Trust.Executables = attest.RuntimeRefused
		f.Fail("%v", err)
		return
	}
	f.Trust.Executables = attest.RuntimeUnknown
	if len(p.TPMFiles) > 0 {
		verifyFiles(f, list, p, value, b)
		return
	}
	f.Note("IMA measured %d files, %d of them while they were being written; none is held against a list of known ones", list.count, list.violations)
}

// maxNamed is how many unknown files an appraisal names.
const maxNamed = 5

// verifyFiles holds what ran against the list of known files. That the list is the
// kernel's, and not one that root made up, rests on the boot: see vouched.
func verifyFiles(f *attest.Finding, list *files, p *attest.Policy, value map[uint8][]byte, b *boot) {
	unknown, fine := list.unknown(p.TPMFiles, value)
	for i, e := range unknown {
		if i == maxNamed {
			f.Fail("%d more files that this node does not list", len(unknown)-i)
			break
		}
		f.Fail("%s", e.refused())
	}
	switch {
	case list.weak:
		f.Trust.Executables = attest.RuntimeRefused
		f.Fail("its kernel, older than 5.8, measures files by SHA-1 alone, in which whoever made one can hide another")
	case !list.begun(value):
		f.Trust.Executables = attest.RuntimeRefused
		f.Fail("the IMA list does not begin with a boot_aggregate of PCR 0 to 9, as the kernel of this boot would have begun it")
	case len(unknown) > 0:
		f.Trust.Executables = attest.RuntimeRefused
	case fine == 0:
		f.Trust.Executables = attest.RuntimeRefused
		f.Fail("IMA measured no file: its kernel was started without ima_policy=tcb, or a policy in its initial file system that measures programs")
	default:
		if why := vouched(p, value, b); why != "" { // RuntimeUnknown
			f.Note("IMA's list names %d files, all of which this node lists, and they do not count as known: %s", fine, why)
			return
		}
		f.Trust.Executables = attest.RuntimeKnown
		f.Note("IMA measured %d files, all of which this node lists", fine)
	}
}

// vouched says why it is not known that a kernel with IMA made a list, or returns "".
// Any kernel's root extends PCR 8 to 10 as it likes. So the policy must list who
// measured the rest, PCR 4, which the firmware extends before it starts that; and
// what a good loader or kernel measured into PCR 9, and where it uses it, PCR 8. A
// BIOS measures the boot sector alone into PCR 4, whatever kernel that then loads.
func vouched(p *attest.Policy, value map[uint8][]byte, b *boot) string {
	for _, i := range []uint8{4, 8, 9} {
		switch empty := len(bytes.Trim(value[i], "\x00")) == 0; {
		case empty && i != 8:
			return fmt.Sprintf("nothing extended PCR %d, in which the kernel's start is", i)
		case !empty && !slices.ContainsFunc(p.TPMMeasurements, func(m workload.Measurement) bool { return m.Name == fmt.Sprintf("pcr%d", i) }):
			return fmt.Sprintf("policy.yaml lists no pcr%d, so that any kernel may have made up the list", i)
		}
	}
	if b == nil || b.secure == nil {
		return "no boot log shows that UEFI firmware measured the kernel's start; a BIOS measures the boot sector alone"
	}
	return ""
}

// bootPCRs are those that firmware and boot loader extend.
const bootPCRs = 10

// verifyBoot returns what the boot log comes to, if it leads to the registers.
func verifyBoot(f *attest.Finding, log []byte, value map[uint8][]byte) *boot {
	if log == nil {
		f.Trust.Config = attest.ConfigUnsafe // as of a log that does not say that Secure Boot is on
		f.Note("no boot log came along: the registers can be compared, but not explained")
		return nil
	}
	b, err := replayBoot(log)
	if err != nil {
		f.Trust.Config = attest.ConfigRefused
		f.Fail("%v", err)
		return nil
	}
	for i := range uint8(bootPCRs) {
		switch v := value[i]; {
		case v == nil:
			f.Trust.Config = attest.ConfigRefused
			f.Fail("a boot log came along, but PCR %d is not quoted", i)
		case !bytes.Equal(v, b.pcrs[i][:]):
			f.Trust.Config = attest.ConfigRefused
			f.Fail("the boot log does not lead to the quoted PCR %d", i)
		}
	}
	switch {
	case f.Trust.Config == attest.ConfigRefused:
		return nil
	case b.secure == nil: // what a log leaves out must not be worth more than what it admits
		f.Trust.Config = attest.ConfigUnsafe
		f.Note("the boot log explains the registers, %d events; it does not say that Secure Boot is on", b.events)
	case *b.secure:
		f.Trust.Config = attest.ConfigSafe
		f.Note("the boot log explains the registers, %d events; Secure Boot is on", b.events)
	default:
		f.Trust.Config = attest.ConfigUnsafe
		f.Note("the boot log explains the registers, %d events; Secure Boot is off", b.events)
	}
	return b
}

// Covers reports whether the registers of evidence are those of its quote; one
// may have changed between the two.
func Covers(e *attest.Evidence) bool {
	q, err := parseQuote(e.Report)
	return err == nil && q.covers(e.PCRs)
}
