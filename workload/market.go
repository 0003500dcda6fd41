package workload

import (
	"fmt"
	"slices"
)

// Machine is what a node says of itself that does not change while it runs.
type Machine struct {
	Name     string            `cbor:"1,keyasint" json:"name" max:"64"`
	Arch     string            `cbor:"2,keyasint" json:"arch" max:"16"`
	OS       string            `cbor:"3,keyasint" json:"os" max:"16"`
	Labels   map[string]string `cbor:"4,keyasint,omitempty" json:"labels,omitempty" max:"64"`
	Total    Capacity          `cbor:"5,keyasint" json:"total"`
	SMT      int32             `cbor:"6,keyasint" json:"smt"`                       // threads per core, 1 when off
	Kinds    []Kind            `cbor:"7,keyasint" json:"kinds" max:"8"`             // runners whose self-test passed
	Walls    []string          `cbor:"8,keyasint" json:"walls" max:"8"`             // isolation levels whose self-test passed
	Attests  []string          `cbor:"9,keyasint,omitempty" json:"attests" max:"8"` // kinds of evidence it can make
	Declared bool              `cbor:"10,keyasint" json:"declared"`                 // capacity was declared, not read from the machine
	Version  string            `cbor:"11,keyasint" json:"version" max:"64"`
	Speeds   []int64           `cbor:"12,keyasint,omitempty" json:"speeds,omitempty" max:"16"` // of its kinds of core, permille of the fastest; none when there is one
}

// Asks are prices in micro-credits per second.
type Asks struct {
	Core   int64 `cbor:"1,keyasint" json:"core"`                      // a physical core
	Thread int64 `cbor:"2,keyasint" json:"thread"`                    // a hyperthread
	Memory int64 `cbor:"3,keyasint" json:"memory"`                    // a GiB
	Spare  int64 `cbor:"4,keyasint,omitempty" json:"spare,omitempty"` // the idle time of a hyperthread
}

// Offer is a node's standing statement of free capacity and asks. It is soft
// state: a hint that saves a call, never a promise.
type Offer struct {
	Node    PeerID   `cbor:"1,keyasint" json:"node"`
	Cell    CellID   `cbor:"2,keyasint" json:"cell"`
	Seq     uint64   `cbor:"3,keyasint" json:"seq"` // grows; an older one is ignored
	Machine Machine  `cbor:"4,keyasint" json:"machine"`
	Free    Capacity `cbor:"5,keyasint" json:"free"`
	Asks    Asks     `cbor:"6,keyasint" json:"asks"`
	Drain   bool     `cbor:"7,keyasint" json:"draining"`
	ValidMs int64    `cbor:"8,keyasint" json:"valid_ms"` // from receipt
	Running int32    `cbor:"9,keyasint" json:"running"`  // attempts now
}

// Proves reports whether the machine says that it can make evidence that meets
// a level. What it proves is for those to see who ask it.
func (m *Machine) Proves(level Level) bool {
	return level.rank() == 0 || slices.ContainsFunc(m.Attests, func(kind string) bool { return Level(kind).Meets(level) })
}

// AuctionID names one call for bids and everything that answers it.
type AuctionID [16]byte

// Call is a call for bids.
type Call struct {
	Auction  AuctionID `cbor:"1,keyasint" json:"-"`
	Workload ID        `cbor:"2,keyasint" json:"workload"`
	Cell     CellID    `cbor:"3,keyasint" json:"cell"`
	Leader   PeerID    `cbor:"4,keyasint" json:"leader"`
	Owner    PeerID    `cbor:"5,keyasint" json:"owner"`
	Shape    Resources `cbor:"6,keyasint" json:"shape"`
	Kind     Kind      `cbor:"7,keyasint" json:"kind" max:"16"`
	Host     string    `cbor:"8,keyasint,omitempty" json:"host,omitempty" max:"4096"`
	Where    string    `cbor:"9,keyasint,omitempty" json:"where,omitempty" max:"1024"`
	Slots    uint32    `cbor:"10,keyasint" json:"slots"` // the most that are wanted
	MaxPrice int64     `cbor:"11,keyasint" json:"max_price"`
	Avoid    []PeerID  `cbor:"12,keyasint,omitempty" json:"avoid,omitempty" max:"128"`
}

// Bid answers a call: how many slots, at which asks, held until HoldMs after
// the bid was sent. Asks[i] is the price of the i-th slot in micro-credits per
// slot-second and never falls.
type Bid struct {
	Auction  AuctionID `cbor:"1,keyasint" json:"-"`
	Node     PeerID    `cbor:"2,keyasint" json:"node"`
	Asks     []int64   `cbor:"3,keyasint" json:"asks" max:"4096"`
	StartMs  int64     `cbor:"4,keyasint" json:"start_ms"` // earliest start after an award
	HoldMs   int64     `cbor:"5,keyasint" json:"hold_ms"`
	HasMs    int64     `cbor:"6,keyasint" json:"lease_ms"`                  // the first lease counts from when the bid was sent and lasts this long
	Data     int64     `cbor:"7,keyasint" json:"data"`                      // bytes the node would have to fetch
	Speed    int64     `cbor:"8,keyasint,omitempty" json:"speed,omitempty"` // of the slowest core in it, permille of the machine's fastest; 0 is 1000
	Workload ID        `cbor:"9,keyasint" json:"-"`                         // that was called for: a bid for one is none for another
}

// Code is why a node did not bid or the leader did not ask it. The list is
// closed; docs/protocol.md explains each.
type Code string

// The reasons.
const (
	NoCores        Code = "no-cores"
	NoThreads      Code = "no-threads"
	NoSpare        Code = "no-spare"
	NoMemory       Code = "no-memory"
	NoDisk         Code = "no-disk"
	NoSlots        Code = "no-slots"
	PriceAboveMax  Code = "price-above-max"
	WhereMismatch  Code = "where-mismatch"
	NoRunner       Code = "no-runner"
	ProgramMissing Code = "program-missing"
	Draining       Code = "draining"
	Avoided        Code = "avoided"
	NotReached     Code = "not-reached"
	NoAnswer       Code = "no-answer"
	OfferExpired   Code = "offer-expired"
	OverQuota      Code = "over-quota"
	HoldGone       Code = "hold-gone"
	LeaseTooLate   Code = "lease-too-late"
	StartFailed    Code = "start-failed"
	NotProved      Code = "not-proved"
	Busy           Code = "busy"
	Refused        Code = "refused"
	Outbid         Code = "outbid"
	NotCalled      Code = "not-called"
	RanBefore      Code = "ran-before"
)

// Reason is one typed cause with what was wanted and what there was.
type Reason struct {
	Code Code   `cbor:"1,keyasint" json:"code" max:"32"`
	Want int64  `cbor:"2,keyasint,omitempty" json:"want,omitempty"`
	Have int64  `cbor:"3,keyasint,omitempty" json:"have,omitempty"`
	Note string `cbor:"4,keyasint,omitempty" json:"note,omitempty" max:"256"`
}

// String returns the reason in a few words.
func (r Reason) String() string {
	s := string(r.Code)
	if r.Want != 0 || r.Have != 0 {
		s += fmt.Sprintf(" (wanted %d, has %d)", r.Want, r.Have)
	}
	if r.Note != "" {
		s += ": " + r.Note
	}
	return s
}

// Decline answers a call with reasons in place of a bid.
type Decline struct {
	Auction AuctionID `cbor:"1,keyasint" json:"-"`
	Node    PeerID    `cbor:"2,keyasint" json:"node"`
	Reasons []Reason  `cbor:"3,keyasint" json:"reasons" max:"16"`
}

// Score is what the leader adds to one bid, as integers, so that a clearing replays.
type Score struct {
	RTTMicros int64 `cbor:"1,keyasint" json:"rtt_us"`
	RiskPPM   int64 `cbor:"2,keyasint" json:"risk_ppm"` // expected share of work that fails
	DataPrice int64 `cbor:"3,keyasint" json:"data"`     // micro-credits per slot-second for data to move
}

// AwardSlot is one slot of an award.
type AwardSlot struct {
	Node PeerID `cbor:"1,keyasint" json:"node"`
	Rate int64  `cbor:"2,keyasint" json:"rate"` // settled price, micro-credits per slot-second
	Ask  int64  `cbor:"3,keyasint" json:"ask"`  // the node's own ask for this slot
}

// DeclineNote is a node that was asked, or passed over, and why it did not bid.
type DeclineNote struct {
	Node    PeerID   `cbor:"1,keyasint" json:"node"`
	Reasons []Reason `cbor:"2,keyasint" json:"reasons" max:"16"`
}
