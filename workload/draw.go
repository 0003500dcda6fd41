package workload

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Draw is what an owner's node signs, with the owner's key, of the first result of a
// task that one node has run under VerifyBy.Adaptive. The signature itself decides
// whether others run it too (see Picks): nobody else can make it, so nobody knows
// how it comes out before the node has committed itself to a result.
type Draw struct {
	Workload ID     `cbor:"1,keyasint"` // whose task it is
	Task     uint32 `cbor:"2,keyasint"` // its number
	Result   Digest `cbor:"3,keyasint"` // that its node committed itself to: receipt.VoteOf
}

// The rule of adaptive replication is BOINC's, with its figure: a host is trusted
// after 10 valid results in a row, and of N such results in a row each further job
// is checked with a probability of 1/N
// (https://boinc.berkeley.edu/trac/wiki/AdaptiveReplication). MaxStreak bounds N.
const (
	TrustedAfter = 10
	MaxStreak    = 1000
)

// Picks reports whether a draw picks a task for a check, of a node whose results
// agreed with those of others streak times in a row. The first 8 bytes of the
// signature's SHA-256 are a fraction of 1, big-endian: below 1/streak it does.
func Picks(sig []byte, streak uint32) bool {
	if streak < TrustedAfter {
		return true
	}
	sum := sha256.Sum256(sig)
	return binary.BigEndian.Uint64(sum[:]) <= math.MaxUint64/uint64(streak)
}
