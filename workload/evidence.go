package workload

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Level is what a node has proved of its machine with evidence that somebody
// appraised. They are ordered: none, below tpm, below sgx, tdx and snp, which
// are each their own.
type Level string

// The levels. LevelNone is also written as nothing.
const (
	LevelNone Level = "none"
	LevelTPM  Level = "tpm" // a TPM 2.0 chip vouches for what was booted
	LevelSGX  Level = "sgx" // an Intel SGX enclave
	LevelTDX  Level = "tdx" // an Intel TDX virtual machine
	LevelSNP  Level = "snp" // an AMD SEV-SNP virtual machine
)

// Levels lists every level that evidence can prove, the lowest first.
var Levels = []Level{LevelTPM, LevelSGX, LevelTDX, LevelSNP}

func (l Level) rank() int {
	switch l {
	case LevelTPM:
		return 1
	case LevelSGX, LevelTDX, LevelSNP:
		return 2
	}
	return 0
}

// Meets reports whether a machine that proved l is good enough for who asks for
// want: it is the same, or want is a lower one.
func (l Level) Meets(want Level) bool { return l == want || l.rank() > want.rank() || want.rank() == 0 }

// Bounds of what can be required.
const (
	MaxRequired    = 16 // measurements of one spec
	MaxEvidenceAge = 24 * time.Hour
	// DefaultEvidenceAge is how old evidence may be where a spec says nothing.
	DefaultEvidenceAge = time.Hour
)

// Require is what an owner wants proved of each machine that runs its work.
type Require struct {
	Level Level `cbor:"1,keyasint" json:"level" max:"8"`
	// Measurements are NAME=HEX each. Of several with one name any will do, of
	// several names each must be met.
	Measurements []string `cbor:"2,keyasint,omitempty" json:"measurements,omitempty" max:"16"`
	// MaxAge is how old evidence may be when a slot is awarded, in ms; 0 wants
	// fresh evidence for each award, bound to it.
	MaxAge int64 `cbor:"3,keyasint" json:"max_age_ms"`
}

// String says in words what is required.
func (r *Require) String() string {
	text := string(r.Level)
	if len(r.Measurements) > 0 {
		text += " with " + strings.Join(r.Measurements, ", ")
	}
	if r.Fresh() {
		return text + " (fresh for each award)"
	}
	return text + " (evidence of at most " + (time.Duration(r.MaxAge) * time.Millisecond).String() + ")"
}

// Fresh reports whether each award needs evidence of its own.
func (r *Require) Fresh() bool { return r != nil && r.MaxAge == 0 }

// Key tells requirements apart: equal ones, and none, have equal keys.
func (r *Require) Key() string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s %d %q", r.Level, r.MaxAge, r.Measurements)
}

// Least is the level that is required; LevelNone is none.
func (r *Require) Least() Level {
	if r == nil {
		return LevelNone
	}
	return r.Level
}

// Validate returns an error that names the field that is wrong.
func (r *Require) Validate() error {
	switch {
	case r == nil:
		return nil
	case !slices.Contains(Levels, r.Level):
		return fmt.Errorf("require.level: want tpm, sgx, tdx or snp, got %.20q", r.Level)
	case len(r.Measurements) > MaxRequired:
		return fmt.Errorf("require.measurements: want at most %d, got %d", MaxRequired, len(r.Measurements))
	case r.MaxAge < 0 || r.MaxAge > MaxEvidenceAge.Milliseconds():
		return fmt.Errorf("require.max_age: want 0 (fresh for each award) to %s, got %s", MaxEvidenceAge, time.Duration(r.MaxAge)*time.Millisecond)
	}
	for _, text := range r.Measurements {
		if _, err := r.Level.ParseMeasurement(text); err != nil {
			return fmt.Errorf("require.measurements: %w", err)
		}
	}
	return nil
}

// measured are the names of what evidence of a level measures; a TPM's are pcr0
// to pcr15: whoever has root resets the others (mesh/attest/collect quotes none).
var measured = map[Level][]string{
	LevelSGX: {"mrenclave", "mrsigner"},
	LevelTDX: {"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig", "mrseam", "mrservicetd"},
	LevelSNP: {"launch", "host-data", "id-key", "author-key"},
}

// ParseMeasurement parses NAME=HEX, and refuses what evidence of the level has not.
func (l Level) ParseMeasurement(text string) (Measurement, error) {
	m, err := ParseMeasurement(text)
	if err == nil {
		err = l.shows(m.Name)
	}
	return m, err
}

// shows returns an error when evidence of a level measures nothing of that name:
// no node could ever meet it.
func (l Level) shows(name string) error {
	if l == LevelTPM {
		if n, err := strconv.ParseUint(strings.TrimPrefix(name, "pcr"), 10, 8); err != nil || n > 15 || name != fmt.Sprintf("pcr%d", n) {
			return fmt.Errorf("%.40q: a tpm shows pcr0 to pcr15", name)
		}
		return nil
	}
	if !slices.Contains(measured[l], name) {
		return fmt.Errorf("%.40q: %s shows %s", name, l, strings.Join(measured[l], ", "))
	}
	return nil
}

// Ability is whether a machine can make one kind of evidence.
type Ability struct {
	Kind Level  `cbor:"1,keyasint" json:"kind" max:"8"`
	Can  bool   `cbor:"2,keyasint" json:"can"`
	Why  string `cbor:"3,keyasint,omitempty" json:"why,omitempty" max:"300"` // why not
}

// Measurement is one thing that evidence says was loaded, by its digest, such
// as "pcr7" of a TPM, "mrenclave" of SGX, "mrtd" of TDX, "launch" of SEV-SNP.
type Measurement struct {
	Name  string `cbor:"1,keyasint" json:"name" max:"32"`
	Value []byte `cbor:"2,keyasint" json:"-" max:"64"`
}

// String returns NAME=HEX.
func (m Measurement) String() string { return m.Name + "=" + hex.EncodeToString(m.Value) }

// MarshalText returns NAME=HEX.
func (m Measurement) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses NAME=HEX.
func (m *Measurement) UnmarshalText(b []byte) error {
	v, err := ParseMeasurement(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// ParseMeasurement parses NAME=HEX, with 16 to 64 bytes of digest.
func ParseMeasurement(text string) (Measurement, error) {
	name, digits, ok := strings.Cut(text, "=")
	if !ok || name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
		return Measurement{}, fmt.Errorf("%.80q: want NAME=HEX, such as pcr7=9f86d0…", text)
	}
	value, err := hex.DecodeString(digits)
	if err != nil || len(value) < 16 || len(value) > 64 {
		return Measurement{}, fmt.Errorf("%.80q: want 16 to 64 bytes as hex digits behind the =", text)
	}
	return Measurement{Name: name, Value: value}, nil
}

// Trust is the graded result of an appraisal, a value for each claim of AR4SI
// (draft-ietf-rats-ar4si, section 2.3), as in an EAR (draft-ietf-rats-ear).
type Trust struct {
	Instance    int8 `cbor:"1,keyasint" json:"instance-identity"`
	Config      int8 `cbor:"2,keyasint" json:"configuration"`
	Executables int8 `cbor:"3,keyasint" json:"executables"`
	Files       int8 `cbor:"4,keyasint" json:"file-system"`
	Hardware    int8 `cbor:"5,keyasint" json:"hardware"`
	Runtime     int8 `cbor:"6,keyasint" json:"runtime-opaque"`
	Storage     int8 `cbor:"7,keyasint" json:"storage-opaque"`
	Sourced     int8 `cbor:"8,keyasint" json:"sourced-data"`
}

// Tier is what a value of Trust comes to.
type Tier string

// The tiers, the best first (draft-ietf-rats-ar4si, section 2.2).
const (
	TierNone            Tier = "none" // nothing is claimed
	TierAffirming       Tier = "affirming"
	TierWarning         Tier = "warning"
	TierContraindicated Tier = "contraindicated"
)

// TierOf returns the tier of one value. Values of nobody's making, -1 to 1, claim nothing.
func TierOf(v int8) Tier {
	switch {
	case v >= -1 && v <= 1:
		return TierNone
	case v >= 96 || v <= -97:
		return TierContraindicated
	case v >= 32 || v <= -33:
		return TierWarning
	}
	return TierAffirming
}

// Values are the claims in the order of the draft.
func (t *Trust) Values() [8]int8 {
	return [8]int8{t.Instance, t.Config, t.Executables, t.Files, t.Hardware, t.Runtime, t.Storage, t.Sourced}
}

// Status is the worst tier of all claims.
func (t *Trust) Status() Tier {
	order := []Tier{TierNone, TierAffirming, TierWarning, TierContraindicated}
	worst := 0
	for _, v := range t.Values() {
		worst = max(worst, slices.Index(order, TierOf(v)))
	}
	return order[worst]
}

// Appraisal is what somebody who looked at a node's evidence found. It is kept
// with awards and receipts; the evidence itself is known by its digest.
type Appraisal struct {
	Node     PeerID `cbor:"1,keyasint" json:"node"`
	By       PeerID `cbor:"2,keyasint" json:"by"`              // who appraised
	Kind     Level  `cbor:"3,keyasint" json:"kind" max:"8"`    // of the evidence
	Level    Level  `cbor:"4,keyasint" json:"level" max:"8"`   // what is proved: kind or none
	Trust    Trust  `cbor:"5,keyasint" json:"trust"`           // graded
	Status   Tier   `cbor:"6,keyasint" json:"status" max:"16"` // of trust
	Evidence Digest `cbor:"7,keyasint" json:"evidence"`        // of the envelope's bytes; zero when there was none
	Binding  Digest `cbor:"8,keyasint" json:"binding"`         // of what the evidence is bound to
	Instance Digest `cbor:"9,keyasint" json:"instance"`        // of the chip: its endorsement key, or its identifier

	Measurements []Measurement `cbor:"10,keyasint,omitempty" json:"measurements,omitempty" max:"64"`
	TCB          string        `cbor:"11,keyasint,omitempty" json:"tcb,omitempty" max:"128"`  // version and status of the platform's firmware
	Fails        []string      `cbor:"12,keyasint,omitempty" json:"fails,omitempty" max:"16"` // each link that fails, the first one first
	Notes        []string      `cbor:"13,keyasint,omitempty" json:"notes,omitempty" max:"32"` // in plain words
	At           int64         `cbor:"14,keyasint" json:"at_ms"`                              // when it was made and appraised: evidence answers a nonce
	Channel      bool          `cbor:"15,keyasint,omitempty" json:"channel,omitempty"`        // it is bound to the encrypted connection too
	Until        int64         `cbor:"16,keyasint,omitempty" json:"until_ms,omitempty"`       // when the collateral runs out; 0 is never
}

// ErrNotProved is returned when an appraisal does not meet what is required.
var ErrNotProved = errors.New("not proved")

// Meet returns nil when the appraisal meets what is required at the time now in
// ms, and otherwise an error that wraps ErrNotProved and says what is missing.
func (a *Appraisal) Meet(r *Require, now int64) error {
	switch {
	case r == nil:
		return nil
	case a == nil:
		return fmt.Errorf("%w: no evidence was appraised", ErrNotProved)
	case !a.Level.Meets(r.Level):
		return fmt.Errorf("%w: %s", ErrNotProved, a.lacks(r.Level))
	case a.Status == TierContraindicated:
		return fmt.Errorf("%w: the appraisal is %s", ErrNotProved, a.Status)
	case r.MaxAge > 0 && (now-a.At > r.MaxAge || a.At-now > r.MaxAge):
		return fmt.Errorf("%w: its evidence is %s old, at most %s is wanted", ErrNotProved,
			time.Duration(now-a.At)*time.Millisecond, time.Duration(r.MaxAge)*time.Millisecond)
	}
	return a.measured(r.Measurements)
}

func (a *Appraisal) lacks(want Level) string {
	switch {
	case len(a.Fails) > 0:
		return fmt.Sprintf("%s evidence is refused: %s", a.Kind, a.Fails[0])
	case a.Level.rank() == 0:
		return fmt.Sprintf("it has no %s", want)
	}
	return fmt.Sprintf("it proves %s, not %s", a.Level, want)
}

// measured looks for each required name, of whose values one must be there.
func (a *Appraisal) measured(want []string) error {
	met := map[string]bool{}
	for _, text := range want {
		m, err := ParseMeasurement(text)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotProved, err)
		}
		met[m.Name] = met[m.Name] || slices.ContainsFunc(a.Measurements, func(h Measurement) bool {
			return h.Name == m.Name && slices.Equal(h.Value, m.Value)
		})
	}
	for _, text := range want {
		if name, _, _ := strings.Cut(text, "="); !met[name] {
			return fmt.Errorf("%w: its %s is not one that is wanted", ErrNotProved, name)
		}
	}
	return nil
}
