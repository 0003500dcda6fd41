package attest

import (
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Values of the claims (draft-ietf-rats-ar4si, section 2.3).
const (
	CryptoFailed int8 = 99 // a signature does not verify

	InstanceKnown   int8 = 2
	InstanceUnknown int8 = 97
	ConfigSafe      int8 = 3
	ConfigUnsafe    int8 = 32
	ConfigRefused   int8 = 96
	BootKnown       int8 = 3 // what was launched is what somebody listed
	RuntimeKnown    int8 = 2 // so is all that ran since
	RuntimeUnknown  int8 = 33
	RuntimeRefused  int8 = 96
	HardwareGenuine int8 = 2
	HardwareFlawed  int8 = 32 // genuine, with flaws that its maker names
	HardwareRefused int8 = 96
	HardwareUnknown int8 = 97
	MemorySealed    int8 = 2 // encrypted, in a trusted execution environment
	MemoryIsolated  int8 = 32
	maxFails             = 16 // fails of one appraisal
	maxNotes             = 32
	maxMeasurements      = 64
)

// Expect is what a verifier holds evidence against.
type Expect struct {
	Binding *Binding
	Policy  *Policy
	Now     time.Time // certificates and collateral are judged at it
	// Activated says whether a TPM has opened a credential that was made for a pair.
	Activated func(Pair) bool
}

// Pair names an endorsement key and an attestation key of a TPM, which only the
// chip itself can show to belong together.
type Pair struct {
	Endorsement, Key workload.Digest
}

// Finding is an appraisal in the making. A verifier says what it found, and
// Fail what does not hold; with any failure no level is proved.
type Finding struct {
	workload.Appraisal
}

// Begin starts the appraisal of evidence against what is expected.
func Begin(e *Evidence, x *Expect) *Finding {
	f := &Finding{workload.Appraisal{
		Node: x.Binding.Node, By: x.Binding.Asker, Kind: e.Kind, Level: workload.LevelNone,
		Evidence: workload.DigestOf(e.Encode()), Binding: x.Binding.Digest(), At: x.Now.UnixMilli(), Channel: len(x.Binding.Channel) > 0,
	}}
	return f
}

// Fail notes a link that does not hold.
func (f *Finding) Fail(format string, args ...any) {
	if len(f.Fails) < maxFails {
		f.Fails = append(f.Fails, workload.Cut(fmt.Sprintf(format, args...), 300))
	}
}

// Note says something in plain words.
func (f *Finding) Note(format string, args ...any) {
	if len(f.Notes) < maxNotes {
		f.Notes = append(f.Notes, workload.Cut(fmt.Sprintf(format, args...), 300))
	}
}

// Measure notes a measurement.
func (f *Finding) Measure(name string, value []byte) {
	if len(f.Measurements) < maxMeasurements {
		f.Measurements = append(f.Measurements, workload.Measurement{Name: name, Value: slices.Clone(value)})
	}
}

// Valid notes until when something that the appraisal rests on is valid.
func (f *Finding) Valid(until time.Time) {
	if ms := until.UnixMilli(); f.Until == 0 || ms < f.Until {
		f.Until = ms
	}
}

// End closes the appraisal: the level is proved when nothing failed.
func (f *Finding) End() *workload.Appraisal {
	f.Status = f.Trust.Status()
	if len(f.Fails) > 0 {
		f.Status = workload.TierContraindicated
	} else if f.Status != workload.TierContraindicated {
		f.Level = f.Kind
	}
	return &f.Appraisal
}
