package workload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// VerifyBy has each task run on several nodes: its result counts once Agree of
// them, of at most Of, returned the same one.
type VerifyBy struct {
	Agree uint32 `cbor:"1,keyasint" json:"agree"` // nodes that must return the same: at least 2, and more than half of Of
	Of    uint32 `cbor:"2,keyasint" json:"of"`    // nodes that run a task at most, the spec's retries not counted

	// Adaptive is about nodes whose results agreed with others TrustedAfter times in a row.
	Adaptive bool `cbor:"3,keyasint,omitempty" json:"adaptive,omitempty"` // such a node runs a task alone, unless a draw picks it for a check
}

// DefaultAdaptive is what "adaptive" means alone.
const DefaultAdaptive = "2of3"

// Bounds of a VerifyBy, and of a workload that has one: each task is at most
// Of+Retries runs, of which the ledger keeps every one.
const (
	MaxVerifyOf      = 9
	MaxVerifyTasks   = 10_000
	MaxVerifyRetries = 9
)

// ParseVerifyBy reads "2of3", "adaptive:2of3", and "adaptive", which is the same.
func ParseVerifyBy(text string) (*VerifyBy, error) {
	kOfN, adaptive := strings.CutPrefix(text, "adaptive:")
	if text == "adaptive" {
		kOfN, adaptive = DefaultAdaptive, true
	}
	agree, of, ok := strings.Cut(kOfN, "of")
	k, err1 := strconv.ParseUint(agree, 10, 8)
	n, err2 := strconv.ParseUint(of, 10, 8)
	if !ok || err1 != nil || err2 != nil {
		return nil, fmt.Errorf("verify-by: %.40q: want KofN, such as 2of3: a result counts when K of at most N nodes return the same; adaptive:KofN lets nodes with a record run most tasks alone", text)
	}
	v := &VerifyBy{Agree: uint32(k), Of: uint32(n), Adaptive: adaptive}
	return v, v.Validate()
}

// Validate returns an error that names the field. More than half must agree, so
// that no two results can.
func (v *VerifyBy) Validate() error {
	switch {
	case v == nil:
	case v.Of > MaxVerifyOf:
		return fmt.Errorf("verify-by: %s: want at most %d nodes", v, MaxVerifyOf)
	case v.Agree > v.Of:
		return fmt.Errorf("verify-by: %s: more are to agree than run it; want KofN with K at most N", v)
	case v.Agree < 2:
		return fmt.Errorf("verify-by: %s: want at least 2 that agree", v)
	case 2*v.Agree <= v.Of:
		return fmt.Errorf("verify-by: %s: more than half must agree, or two results could", v)
	}
	return nil
}

// String returns "2of3" or "adaptive:2of3", "" of nil.
func (v *VerifyBy) String() string {
	switch {
	case v == nil:
		return ""
	case v.Adaptive:
		return fmt.Sprintf("adaptive:%dof%d", v.Agree, v.Of)
	}
	return fmt.Sprintf("%dof%d", v.Agree, v.Of)
}

// Start is how many nodes a task is given to at first.
func (v *VerifyBy) Start() uint32 {
	if v.Adaptive {
		return 1
	}
	return v.Agree
}

// Runs is how many nodes run a task of the workload at most: one that is not
// verified counts as 1.
func (s *Spec) Runs() uint32 {
	if s.VerifyBy == nil {
		return 1
	}
	return s.VerifyBy.Of + s.Retries
}

// validateVerify refuses what cannot run several times and be compared.
func (s *Spec) validateVerify() error {
	switch {
	case s.VerifyBy == nil:
		return nil
	case s.Interactive:
		return errors.New("verify-by: an interactive program gets its stdin once, so no second node could run it: leave interactive or verify-by out")
	case s.Seal != nil: // also before its content is sealed
		return errors.New("verify-by: outputs of sealed work are encrypted anew by each node, so that no two are alike: leave seal or verify-by out")
	case s.Tasks.Count > MaxVerifyTasks:
		return fmt.Errorf("verify-by: want at most %d tasks, got %d", MaxVerifyTasks, s.Tasks.Count)
	case s.Retries > MaxVerifyRetries:
		return fmt.Errorf("retries: with verify-by want at most %d more nodes, got %d", MaxVerifyRetries, s.Retries)
	}
	return s.VerifyBy.Validate()
}
