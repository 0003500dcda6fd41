package tpm

import (
	"crypto/sha256"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// Parsers for tests of the outside.
var (
	ParseQuote   = parseQuote
	ParsePublic  = parsePublic
	ReplayFiles  = replayFiles
	ReplayBoot   = replayBoot
	VerifyBoot   = verifyBoot
	ExtendForLog = extend
)

// Of a boot log that was replayed.
func (b *boot) PCR(i int) [32]byte { return b.pcrs[i] }
func (b *boot) Events() int        { return b.events }
func (b *boot) Secure() *bool      { return b.secure }

// ReplayedBy is the register that a whole IMA list leads to.
func ReplayedBy(list []byte) []byte {
	r, pcr := &reader{b: list, ok: true}, [32]byte{}
	for len(r.b) > 0 {
		_, _, data, err := readEntry(r)
		if err != nil {
			return nil
		}
		sum := sha256.Sum256(data)
		extend(&pcr, sum[:])
	}
	return pcr[:]
}

// VerifyFiles holds a list of what ran against a policy, after a boot by UEFI.
func VerifyFiles(x *attest.Expect, list *files, value map[uint8][]byte) *workload.Appraisal {
	f := attest.Begin(&attest.Evidence{Kind: workload.LevelTPM}, x)
	f.Trust.Executables = attest.RuntimeUnknown
	verifyFiles(f, list, x.Policy, value, &boot{secure: new(bool)})
	return f.End()
}

// VerifyLogs is what Verify does once the quote holds.
func VerifyLogs(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	f := attest.Begin(e, x)
	verifyLogs(f, e, x.Policy)
	return f.End()
}

// MeasuredBy is a list of one file, measured by a hash.
func MeasuredBy(algorithm string) *files {
	return &files{count: 1, entries: []entry{{algorithm: algorithm, digest: []byte{1, 2}, name: "/bin/x"}}}
}
