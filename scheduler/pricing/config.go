// Package pricing turns a node's load into asks, and asks into what a slot
// costs. It is pure arithmetic on integers: the same input gives the same price
// on every node, for ever, and nothing overflows.
//
// Prices are micro-credits per second (a credit is a million of them), factors
// are permille. Every division rounds up, in the seller's favour, so that
// nothing that uses capacity is free. Rates end at MaxRate and charges at
// MaxCharge: results beyond are those bounds.
package pricing

import (
	"fmt"
	"math/bits"
)

// Where prices end.
const (
	MaxRate   = int64(1) << 40 // micro-credits per slot-second; the clearing ignores asks above
	MaxCharge = int64(1) << 50 // micro-credits of one charge
	MaxBase   = 1_000_000_000  // of Config.Base and Config.Memory
	MaxCurve  = 4096           // slots of one supply curve, as many as a bid holds
)

// Config is how a node sets its prices.
type Config struct {
	// Base is the ask for a physical core of an idle machine, in micro-credits
	// per second: 1 to MaxBase.
	Base int64
	// Memory is the ask for a GiB, in micro-credits per second: 0 to MaxBase.
	Memory int64
	// Slope is a in ask = base x (1 + a u^3), in permille: 0 to 100,000. The
	// last core of a machine asks (1 + a) times the first, so a greater slope
	// spreads work over more machines and leaves room on each.
	Slope int64
	// Evidence is what attestation adds, in permille: 0 to 10,000.
	Evidence int64
	// Step is how far an ask may move from one update to the next, in permille:
	// 1 to 1000. Small steps keep two nodes from undercutting each other in turns.
	Step int64
	// SMT is the speed-up of all threads of a core at once against one of them,
	// as measured, in permille: 1000 to 1000 x Width.
	SMT int64
	// Width is the threads of a core: 1 to 64. With 1, a thread is a core and
	// costs as much.
	Width int64
	// Lend is the ask for the idle time of a thread against that for the thread,
	// in permille: 1 to 1000. Its buyer gets it only as long as nobody else wants it.
	Lend int64
}

// Default is 1000 micro-credits a core-second (3.6 credits a core-hour), four
// times that on a full machine, 60 a GiB-second (cloud list prices have about
// that ratio), at most 10 % a step, two threads a core with a speed-up of 1.25,
// and idle time at a quarter of a thread (what clouds take off for instances that
// they may take back is 60 to 90 %).
func Default() Config {
	return Config{Base: 1000, Memory: 60, Slope: 3000, Step: 100, SMT: 1250, Width: 2, Lend: 250}
}

// Validate returns an error that names the field and the range it must be in.
func (c Config) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int64
	}{
		{"base", c.Base, 1, MaxBase}, {"memory", c.Memory, 0, MaxBase}, {"slope", c.Slope, 0, 100_000},
		{"evidence", c.Evidence, 0, 10_000}, {"step", c.Step, 1, 1000},
		{"width", c.Width, 1, 64}, {"smt", c.SMT, 1000, 1000 * max(c.Width, 1)}, {"lend", c.Lend, 1, 1000},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("pricing.%s: want %d to %d, got %d", f.name, f.min, f.max, f.value)
		}
	}
	return nil
}

// mulDiv returns a x b / c rounded up, at most limit. Negative a and b count as
// 0; c must be positive.
func mulDiv(a, b, c, limit int64) int64 {
	hi, lo := bits.Mul64(uint64(max(a, 0)), uint64(max(b, 0)))
	lo, carry := bits.Add64(lo, uint64(c-1), 0)
	hi += carry
	if hi >= uint64(c) {
		return limit
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(q, uint64(limit)))
}
