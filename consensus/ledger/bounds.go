package ledger

import "github.com/perrin-mesh/perrin/workload"

// The bounds of a ledger. Apply keeps them on every replica alike.
const (
	MaxLive      = 100_000          // workloads that have not ended
	MaxKept      = 2 * MaxLive      // workloads in all; the leader compacts long before
	MaxBytes     = int64(192 << 20) // weight of all workloads, in about the bytes of a snapshot, up to which more are taken on
	MaxGrown     = int64(768 << 20) // weight at which no more tasks are given out: the results of those taken on have grown so far
	MaxPassed    = 65_536           // segments of a workload that can be given to one that comes after it
	MaxTombs     = 65_536           // compacted workloads that are remembered
	MaxCompact   = 1024             // workloads that one Compact ends
	MaxMembers   = 128              // of a cell
	MaxAccounts  = 1 << 17          // owners and nodes that ever traded
	MaxTakeRuns  = 64               // ranges that one Take or Award gives a slot
	MaxSlotRuns  = 4096             // ranges that a slot holds at once
	MaxFaults    = 16               // attempts of one task that nodes may fail before it counts as failed
	maxLooks     = 1 << 19          // at replicas of a workload that is verified, for nodes of one award
	MaxAhead     = int64(3_600_000) // ms that a spec may be signed after the ledger's time
	maxCharge    = int64(1) << 50   // micro-credits of one Close
	maxWall      = int64(1)<<53 - 1 // ms of one Close
	keptSig      = 1024             // bytes of a worker's statement that a segment keeps
	keptRetried  = 4096             // ranges of retried tasks that a workload's segments keep
	MaxCerts     = 16_384           // certificates that are kept for receipts
	keptAuctions = 4                // auctions of a workload that gave no slot, kept whole
	keptAwards   = 256              // auctions of a workload that gave slots, kept whole
	keptAwarded  = int64(1 << 20)   // bytes that those weigh
	keptUsed     = 16               // auctions of a workload whose award is known as applied
	keptSteps    = 64               // of a workload's trail
	maxTallies   = 1024             // nodes of a workload that are counted by name
	noLimit      = int64(-1)        // of an account
	firstFence   = uint64(1)        // the first generation and the first epoch
)

// The rule by which a leader has ended workloads compacted; see Compact.
const (
	KeepEnded  = 10_000                      // ended workloads that keep their record
	KeepBytes  = int64(64 << 20)             // weight of all workloads above which the oldest ended go
	KeepFor    = int64(7 * 24 * 3600 * 1000) // ms after its end at which one goes in any case
	KeepAtOnce = int64(60_000)               // ms after its end in which none goes, so that its owner gets the results
)

// Rule returns the Compact that holds the rule above.
func Rule() *Compact {
	return &Compact{Keep: KeepEnded, Bytes: KeepBytes, For: KeepFor, AtOnce: KeepAtOnce}
}

// What the parts of a workload weigh, in bytes: more than their encoding takes,
// so that MaxBytes bounds a snapshot.
const (
	weightLoad    = 640
	weightRun     = 24
	weightSlot    = 512
	weightTally   = 112
	weightSegment = 384
	weightRange   = 20
	weightFailed  = 40
	weightVote    = 112
	weightDrawn   = 96
	weightStep    = 160
	weightReason  = 64
	weightAuction = 160
	weightBid     = 176
	weightAward   = 64
	weightDecline = 64
	weightLink    = 128
)

// weigh brings the weight of l up to date. It costs the same whatever the size
// of l: what its trail and its segments weigh is counted as they come and go.
func (s *State) weigh(l *load) {
	runs := len(l.fresh.runs) + len(l.retry.runs) + len(l.done.runs) + len(l.failed.runs)
	w := weightLoad + int64(len(l.Signed.Payload)) + int64(runs)*weightRun + int64(len(l.slots))*weightSlot +
		int64(len(l.Tallies))*weightTally + l.parts
	if l.Token != nil {
		w += int64(1+len(l.Token.Links)) * weightLink
	}
	s.bytes += w - l.weight
	l.weight = w
}

// partsOf is what the trail and the segments of a record weigh.
func (r *Record) partsOf() int64 {
	var n int64
	for i := range r.Segments {
		n += r.Segments[i].weight()
	}
	for i := range r.Steps {
		n += r.Steps[i].weight()
	}
	for i := range r.Auctions {
		n += r.Auctions[i].weight()
	}
	return n
}

func (g *Segment) weight() int64 {
	n := int64(0)
	if g.Vote != nil {
		n = weightVote
		if d := g.Vote.Drawn; d != nil {
			n += weightDrawn + int64(len(d.Note))
		}
	}
	return n + weightSegment + int64(len(g.Done)+len(g.Retried))*weightRange + int64(len(g.Failed))*weightFailed +
		int64(len(g.Sig.Payload))
}

func (s *Step) weight() int64 {
	return weightStep + int64(len(s.Ranges))*weightRange + reasonsWeight(s.Reasons) + int64(len(s.Note))
}

func (a *Auction) weight() int64 {
	n := weightAuction + int64(len(a.Scores))*weightAward + int64(len(a.Slots))*weightAward
	for i := range a.Bids {
		n += weightBid + int64(len(a.Bids[i].Payload))
	}
	for _, list := range [][]workload.Signed{a.Proofs, a.Countersigned} {
		for i := range list {
			n += weightBid + int64(len(list[i].Payload))
		}
	}
	for i := range a.Declines {
		n += weightDecline + reasonsWeight(a.Declines[i].Reasons)
	}
	return n
}

func reasonsWeight(reasons []workload.Reason) int64 {
	n := int64(len(reasons)) * weightReason
	for i := range reasons {
		n += int64(len(reasons[i].Note))
	}
	return n
}
