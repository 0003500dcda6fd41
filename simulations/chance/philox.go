package chance

import "math/bits"

// Philox4x32-10: multipliers, key increments and rounds.
const (
	mul0, mul1     = 0xD2511F53, 0xCD9E8D57
	weyl0, weyl1   = 0x9E3779B9, 0xBB67AE85
	rounds         = 10
	perCounter     = 2 // 64-bit numbers of one block
	unitBits       = 53
	unit           = 1.0 / (1 << unitBits)
	purposeOfSeeds = 0xFFFFFFFF
)

func philox(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range rounds {
		hi0, lo0 := bits.Mul32(mul0, ctr[0])
		hi1, lo1 := bits.Mul32(mul1, ctr[2])
		ctr = [4]uint32{hi1 ^ ctr[1] ^ key[0], lo1, hi0 ^ ctr[3] ^ key[1], lo0}
		key[0] += weyl0
		key[1] += weyl1
	}
	return ctr
}

// Seed is what a whole replication is drawn from.
type Seed uint64

// Replication returns the seed of the n-th independently sampled run.
func (s Seed) Replication(n int) Seed {
	st := s.Stream(uint32(n), purposeOfSeeds)
	return Seed(st.Uint64())
}

// Stream returns the stream of somebody (a peer, a client) for a purpose, from
// its beginning.
func (s Seed) Stream(who, purpose uint32) Stream { return Stream{seed: s, who: who, purpose: purpose} }

// Stream is an endless row of numbers. Copying it copies where it stands.
type Stream struct {
	seed         Seed
	who, purpose uint32
	n            uint64
	odd          uint64 // the block's second number
}

// From returns the stream from its n-th number on, for who wants numbers that do
// not depend on how many were drawn before.
func (s Stream) From(n uint64) Stream {
	s.n = n &^ (perCounter - 1)
	return s
}

// Uint64 returns the next number.
func (s *Stream) Uint64() uint64 {
	if s.n++; s.n%perCounter == 0 {
		return s.odd
	}
	block := (s.n - 1) / perCounter
	out := philox([4]uint32{uint32(block), uint32(block >> 32), s.who, s.purpose}, [2]uint32{uint32(s.seed), uint32(s.seed >> 32)})
	s.odd = uint64(out[2])<<32 | uint64(out[3])
	return uint64(out[0])<<32 | uint64(out[1])
}

// IntN returns a number from 0 to n-1; n must be positive. It is uniform but for
// one part in 2^64/n.
func (s *Stream) IntN(n int) int {
	hi, _ := bits.Mul64(s.Uint64(), uint64(n))
	return int(hi)
}

// Int64N is IntN of an int64.
func (s *Stream) Int64N(n int64) int64 {
	hi, _ := bits.Mul64(s.Uint64(), uint64(n))
	return int64(hi)
}

// Happens returns true with a chance in parts per million.
func (s *Stream) Happens(ppm int64) bool { return ppm > 0 && s.Int64N(1_000_000) < ppm }

// Float returns a number above 0 and at most 1.
func (s *Stream) Float() float64 { return float64(s.Uint64()>>(64-unitBits)+1) * unit }

// Exp returns an exponential number of mean 1.
func (s *Stream) Exp() float64 { return -Log(s.Float()) }

// Normal returns a standard normal number (Marsaglia and Bray's polar method).
func (s *Stream) Normal() float64 {
	for {
		x := float64(2*s.Float()) - 1
		y := float64(2*s.Float()) - 1
		if r := float64(x*x) + float64(y*y); r > 0 && r < 1 {
			return x * sqrt(float64(-2*Log(r))/r)
		}
	}
}

// Shuffle puts n things in a random order.
func (s *Stream) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, s.IntN(i+1))
	}
}
