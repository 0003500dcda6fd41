// Package lease holds the rules by which a slot never runs on two nodes at
// once. It is pure: time comes in as milliseconds of the caller's own monotonic
// clock, which must go on while the machine is suspended (CLOCK_BOOTTIME); the
// clocks of two nodes are never compared, and only their rates have to agree,
// to within RhoPPM each.
//
// The rules, with the part of the package that keeps each:
//
//  1. A worker counts a lease from when it sent the message that asked for it:
//     the RENEW (Worker.Renewed), or the BID for the first lease of an award
//     (Worker.Award). An award that arrives after that lease is refused. A bid is
//     good for one award: the caller forgets it with the first answer to one and
//     never answers the same call again, or a doubled call would revive an award
//     that was refused.
//  2. A leader grants TTL less the time since it last began a VerifyLeader that
//     succeeded (Config.Grant). So every lease ends at most TTL after a moment
//     at which no other leader had been elected, however long the leader slept
//     between then and the grant.
//  3. A leader gives a node up only when TTL x (1 + 2 rho) + guard have passed
//     since its last grant (Desk.Due): the first part covers clocks of different
//     rates, the guard how long it takes to kill an attempt. From then on it
//     grants the node nothing, and the node's slots reopen when EXPIRE(node,
//     epoch) is committed.
//  4. A new leader does not know what its predecessor granted, so it takes every
//     node that holds slots to have been granted a lease just now (Desk.Inherit).
//     Slots that were never awarded need no lease and no waiting.
//
// A randomised model in the tests runs these very types under partitions,
// drift, lost, late and doubled messages, frozen leaders and frozen workers. It
// finds no slot that runs twice, and finds many as soon as any rule is off.
// The rules follow Gray and Cheriton, "Leases" (1989), and Raft's read index.
package lease

import "fmt"

// Config is the lengths that the rules use. Worker and leader should agree on
// TTL; a worker never takes more than its own.
type Config struct {
	// TTL is the length of a lease in ms: 100 to 600,000. A worker renews every
	// third of it. Shorter notices a dead node sooner and survives a shorter
	// partition.
	TTL int64
	// RhoPPM is how much a clock may be fast or slow, in millionths: 0 to 100,000.
	RhoPPM int64
	// Guard is how long after its lease a killed attempt may still run, in ms:
	// 0 to 60,000.
	Guard int64

	off rules // rules that do not hold: only the model sets it
}

// rules is a set of rules to leave out.
type rules uint8

const (
	renewSent rules = 1 << iota // rule 1, for RENEW
	bidSent                     // rule 1, for the first lease
	bidOnce                     // rule 1: the caller's part, so only the model looks at it
	verified                    // rule 2
	waited                      // rule 3
	inherited                   // rule 4
)

// Default is a TTL of 9 s, clocks within 0.1 % and a guard of 1 s: a dead node
// is given up after 10.018 s.
func Default() Config { return Config{TTL: 9000, RhoPPM: 1000, Guard: 1000} }

// Validate returns an error that names the field and the range it must be in.
func (c Config) Validate() error {
	switch {
	case c.TTL < 100 || c.TTL > 600_000:
		return fmt.Errorf("lease.ttl: want 100 to 600000 ms, got %d", c.TTL)
	case c.RhoPPM < 0 || c.RhoPPM > 100_000:
		return fmt.Errorf("lease.rho: want 0 to 100000 millionths, got %d", c.RhoPPM)
	case c.Guard < 0 || c.Guard > 60_000:
		return fmt.Errorf("lease.guard: want 0 to 60000 ms, got %d", c.Guard)
	}
	return nil
}

// Renew returns the time between two RENEWs in ms.
func (c Config) Renew() int64 { return max(c.TTL/3, 1) }

// Grant returns the length of the lease that a leader may grant at now, if its
// last successful VerifyLeader began at start. It is at most TTL; 0 means that
// the leader has to verify first.
func (c Config) Grant(now, start int64) int64 {
	if c.off&verified != 0 {
		return c.TTL
	}
	return min(max(c.TTL-(now-start), 0), c.TTL)
}

// GiveUp returns how long after its last grant a node is given up, in ms.
func (c Config) GiveUp() int64 {
	if c.off&waited != 0 {
		return c.TTL
	}
	const million = 1_000_000
	return c.TTL + (2*c.TTL*c.RhoPPM+million-1)/million + c.Guard
}
