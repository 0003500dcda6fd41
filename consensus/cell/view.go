package cell

import (
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Limits are the numbers that Plan goes by. Times are in ms.
type Limits struct {
	MaxVoters  int   // 1, 3, 5 or 7: a cell of 2 MaxVoters - 3 members gets that many
	Standbys   int   // nonvoters beside the voters
	Fresh      int64 // a server heard of within this counts as alive for a majority; a few heartbeats
	DeadAfter  int64 // a server silent for longer is replaced, if there is somebody
	EvictAfter int64 // a member silent for longer is put out
	Settle     int64 // a member must be up for this long before it becomes a server
}

// DefaultLimits returns five voters, two standbys, 3 s to be fresh, 15 s to be
// dead, an hour to be put out and 1 s to settle.
func DefaultLimits() Limits {
	return Limits{MaxVoters: 5, Standbys: 2, Fresh: 3_000, DeadAfter: 15_000, EvictAfter: 3_600_000, Settle: 1_000}
}

// Validate returns an error that names the first limit that is out of range.
func (l Limits) Validate() error {
	switch {
	case l.MaxVoters < 1 || l.MaxVoters > 7 || l.MaxVoters%2 == 0:
		return fmt.Errorf("max voters: want 1, 3, 5 or 7, got %d", l.MaxVoters)
	case l.Standbys < 0 || l.Standbys > 4:
		return fmt.Errorf("standbys: want 0 to 4, got %d", l.Standbys)
	case l.Fresh < 1 || l.DeadAfter < l.Fresh || l.EvictAfter < l.DeadAfter:
		return fmt.Errorf("want 1 <= fresh (%d) <= dead after (%d) <= evict after (%d)", l.Fresh, l.DeadAfter, l.EvictAfter)
	case l.Settle < 0:
		return fmt.Errorf("settle: want 0 or more, got %d", l.Settle)
	}
	return nil
}

// Voters returns how many voters a cell of so many members should have.
func (l Limits) Voters(members int) int {
	n := 1
	for v := 3; v <= l.MaxVoters && members >= max(v, 2*v-3); v += 2 {
		n = v
	}
	return n
}

// Server is one of the Raft configuration's.
type Server struct {
	ID       workload.PeerID
	Voter    bool
	Contact  int64 // when the leader sent what this one answered last; 0 is never
	CaughtUp bool  // its log is at most a few entries behind the leader's
	Copied   bool  // it holds every live segment and held blob that a voter must hold
}

// Member is one of the ledger's, with what the leader knows of it.
type Member struct {
	ID       workload.PeerID
	Up       int64 // since when it is up without a break
	Seen     int64 // when it was last heard of: an offer, a renewal, any message
	Direct   bool  // reachable by dialling
	RTT      int64 // from the leader, in us
	Operator workload.PeerID
	Network  string // what fails together: an address prefix or provider
	Zone     string // its label
	Draining bool   // it is going down: nothing new for it, and no vote
	Leaving  bool   // it wants out for good; it is draining too
	Settled  bool   // it holds no slot and no lease: an Expire or releases have been committed
}

// View is what the leader sees.
type View struct {
	Self    workload.PeerID // the leader
	Since   int64           // since when it leads: it knows of no longer silence than that
	Index   uint64          // of the latest configuration
	Pending bool            // that one is not committed yet
	Solo    bool            // the group still runs with the timing of a lone node
	Servers []Server
	Members []Member
	Limits  Limits
}

// Verb is what to do.
type Verb string

// The verbs. Retime, AddNonvoter, AddVoter, Demote, Remove and Transfer change the
// Raft group, at most one of them in a plan. Copy and Evict do not.
const (
	Retime      Verb = "retime"       // reopen the group with the timing of several machines
	AddNonvoter Verb = "add-nonvoter" // make Node a standby
	AddVoter    Verb = "add-voter"    // give the standby Node a vote
	Demote      Verb = "demote"       // make the voter Node a standby
	Remove      Verb = "remove"       // take Node out of the configuration; what it alone held must be copied again
	Transfer    Verb = "transfer"     // hand leadership to Node
	Copy        Verb = "copy"         // bring the standby Node every live segment and held blob; may be under way already
	Evict       Verb = "evict"        // take Node out of the ledger's members
)

// Action is one thing to do.
type Action struct {
	Verb Verb
	Node workload.PeerID // nobody for Retime
	Prev uint64          // for the verbs that change the configuration: do it only if this is still the latest
	Why  string
}

// changes reports whether the verb is one of which a plan has one at most.
func (v Verb) changes() bool { return v != Copy && v != Evict }
