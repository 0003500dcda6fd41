//go:build perrin_unsigned

package workload

import "sync/atomic"

// leftOut is whether signatures of scheduling are left out.
var leftOut atomic.Bool

// Unsigned reports whether this build leaves signatures of scheduling out just now.
func Unsigned() bool { return leftOut.Load() }

// LeaveUnsigned leaves the signatures of scheduling out, or makes them again: specs,
// offers, bids, awards, results and the log's commands are neither signed nor verified, and awards not
// cleared again. It exists in builds for internal/bench alone: cmd/perrin does not
// compile with their tag.
func LeaveUnsigned(out bool) { leftOut.Store(out) }

// unsigned is Unsigned for one domain.
func unsigned(d Domain) bool {
	switch d {
	case DomainSpec, DomainOffer, DomainBid, DomainAward, DomainResult, DomainCommand:
		return leftOut.Load()
	}
	return false
}
