// Package api is the local API of a node: HTTP with JSON bodies on a Unix
// socket, its server, its Go client and the types both speak. The socket's file
// mode is the access rule: who can open it acts as the node's owner.
package api

import (
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Workload is what is known of a workload.
type Workload struct {
	ID         workload.ID       `json:"id"`
	Name       string            `json:"name,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Owner      workload.PeerID   `json:"owner"`
	Phase      workload.Phase    `json:"phase"`
	Reason     string            `json:"reason,omitempty"` // why it ended, or why it waits
	Program    workload.Program  `json:"program"`
	Tasks      Counts            `json:"tasks"`
	Slots      []Slot            `json:"slots,omitempty"` // live ones
	Placed     []Placed          `json:"placed,omitempty"`
	Cost       int64             `json:"cost"` // micro-credits so far
	Retries    uint64            `json:"retries"`
	Lost       uint64            `json:"lost"` // attempts lost with their node
	Held       bool              `json:"held"` // survives its submitter: program and inputs lie on a majority of the voters
	Home       workload.PeerID   `json:"home"`
	Created    time.Time         `json:"created"`
	Ended      time.Time         `json:"ended,omitzero"`
	Version    uint64            `json:"version"`             // grows with every change; for Wait
	ExitCode   *int              `json:"exit_code,omitempty"` // of a workload of one task that ended
	ExitDetail string            `json:"exit_detail,omitempty"`
	Spec       *workload.Spec    `json:"spec,omitempty"`    // in inspect only
	Checked    *Checked          `json:"checked,omitempty"` // of one that is verified
}

// Counts are tasks by where they stand; they sum to Total.
type Counts struct {
	Total   uint32 `json:"total"`
	Open    uint32 `json:"open"`    // not taken by any slot
	Taken   uint32 `json:"taken"`   // taken by a slot: running or next
	Done    uint32 `json:"done"`    // ended with exit code 0
	Failed  uint32 `json:"failed"`  // ended otherwise, no retry left
	Retried uint32 `json:"retried"` // waiting for another attempt; part of Open
}

// Slot is a live slot of a workload.
type Slot struct {
	ID     workload.SlotID  `json:"id"`
	Node   workload.PeerID  `json:"node"`
	Name   string           `json:"name"`
	Rate   int64            `json:"rate"` // micro-credits per slot-second
	Ranges []workload.Range `json:"ranges,omitempty"`
}

// Placed sums what one node did for a workload, at which price.
type Placed struct {
	Node  workload.PeerID `json:"node"`
	Name  string          `json:"name"`
	Slots uint32          `json:"slots"`
	Tasks uint32          `json:"tasks"`
	Rate  int64           `json:"rate"` // latest
	Cost  int64           `json:"cost"`
}

// Task is one task of a workload and, when it ended, its result.
type Task struct {
	Index  uint32               `json:"index"`
	Name   string               `json:"name,omitempty"`
	Phase  workload.Phase       `json:"phase"`
	Node   workload.PeerID      `json:"node,omitzero"`
	On     string               `json:"on,omitempty"` // the node's name
	Result *workload.TaskResult `json:"result,omitempty"`
	// Published are the outputs that a running task has published so far.
	Published []workload.Output `json:"published,omitempty"`
}

// Why explains where a workload, or one task of it, stands and how it got there.
type Why struct {
	ID      workload.ID    `json:"id"`
	Phase   workload.Phase `json:"phase"`
	Task    *uint32        `json:"task,omitempty"`
	Summary string         `json:"summary"` // one sentence
	// Guarantee is what its nodes must prove and what its sealing comes to, in a
	// sentence; "" where the spec asks for neither.
	Guarantee string `json:"guarantee,omitempty"`

	Steps   []WhyStep   `json:"steps"`
	Pending *WhyAuction `json:"pending,omitempty"` // the last auction of a lot that still wants slots
	Votes   []WhyVote   `json:"votes,omitempty"`   // of a task of a workload that is verified
	Gone    *WhyGone    `json:"gone,omitempty"`    // what the cell no longer knows of this; nil when it knows all
}

// WhyGone is the part of a workload's story that is not kept. Its counts are of
// the whole workload, also where one task is asked for.
type WhyGone struct {
	Kept    int    `json:"kept_steps"` // of a workload, at most; 0 when none has gone
	Retries uint64 `json:"retries"`    // attempts that were tried again, and that no kept step tells of
	Results uint64 `json:"results"`    // of those that were tried again, whose results the ledger does not list
}

// WhyStep is one thing that happened.
type WhyStep struct {
	At      time.Time         `json:"at"`
	What    string            `json:"what"` // accepted, awarded, refused, expired, returned, retried, closed, stopped, ended
	Slot    workload.SlotID   `json:"slot,omitempty"`
	Node    workload.PeerID   `json:"node,omitzero"`
	Name    string            `json:"name,omitempty"`
	Detail  string            `json:"detail,omitempty"`
	Reasons []workload.Reason `json:"reasons,omitempty"`
	Auction *WhyAuction       `json:"auction,omitempty"`
}

// WhyAuction is one auction: every node asked or passed over, its bid or its
// typed reasons, and the clearing.
type WhyAuction struct {
	At       time.Time    `json:"at"`
	Wanted   uint32       `json:"wanted"`
	MaxPrice int64        `json:"max_price,omitempty"`
	Bids     []WhyBid     `json:"bids,omitempty"`
	Declines []WhyDecline `json:"declines,omitempty"`
	Sibling  bool         `json:"sibling,omitempty"` // nodes of other cells were asked too
	DHT      bool         `json:"dht,omitempty"`     // the DHT was asked for a rare class
}

// WhyBid is one bid and what became of it.
type WhyBid struct {
	Node   workload.PeerID `json:"node"`
	Name   string          `json:"name"`
	Slots  int             `json:"slots"`
	Ask    int64           `json:"ask"`            // of the first slot
	Score  int64           `json:"score"`          // ask plus risk, data and distance: what was compared
	Won    int             `json:"won"`            // slots
	Rate   int64           `json:"rate,omitempty"` // settled price of the first slot won
	Reason string          `json:"reason,omitempty"`

	RiskPPM int64 `json:"risk_ppm,omitempty"` // of the ask, added for the node's record
}

// WhyDecline is one node that did not bid.
type WhyDecline struct {
	Node    workload.PeerID   `json:"node"`
	Name    string            `json:"name"`
	Reasons []workload.Reason `json:"reasons"`
}

// Status is the mesh at a glance, as this node sees it.
type Status struct {
	Ready    bool                     `json:"ready"`
	Why      string                   `json:"why,omitempty"` // not ready
	Mesh     workload.MeshID          `json:"mesh"`
	Node     workload.PeerID          `json:"node"`
	Name     string                   `json:"name"`
	Version  string                   `json:"version"`
	Cells    []Cell                   `json:"cells"`
	Capacity CapacitySum              `json:"capacity"` // of the mesh, as far as this node knows
	Running  int                      `json:"running"`  // workloads of the home cell that have not ended
	Declared bool                     `json:"declared"` // nodes share a machine and offer a declared capacity
	Warnings []string                 `json:"warnings,omitempty"`
	Runs     []workload.Kind          `json:"runs"`               // kinds of programs, on this node
	RunsNot  map[workload.Kind]string `json:"runs_not,omitempty"` // why not
	Stats    map[string]any           `json:"stats,omitempty"`    // of each component
	Enforced []string                 `json:"enforced,omitempty"` // what holds CPUs on this node, in words
	Versions map[string]int           `json:"versions"`           // nodes by version
	Prices   map[string]int64         `json:"prices"`             // cheapest ask now: core, thread
}

// Cell is a cell as it is known.
type Cell struct {
	ID      workload.CellID   `json:"id"`
	Home    bool              `json:"home"` // this node is a member
	Epoch   uint64            `json:"epoch"`
	Term    uint64            `json:"term"`
	Leader  workload.PeerID   `json:"leader,omitzero"`
	Name    string            `json:"leader_name,omitempty"`
	Voters  []workload.PeerID `json:"voters,omitempty"`
	Standby []workload.PeerID `json:"standby,omitempty"`
	Members int               `json:"members"`
	Quorum  bool              `json:"quorum"` // a majority of the voters answers
	Free    workload.Capacity `json:"free"`
}

// CapacitySum is capacity in physical cores and hyperthreads.
type CapacitySum struct {
	Total workload.Capacity `json:"total"`
	Free  workload.Capacity `json:"free"`
}

// Node is a node as it is known.
type Node struct {
	ID        workload.PeerID  `json:"id"`
	Name      string           `json:"name"`
	Cell      workload.CellID  `json:"cell"`
	Self      bool             `json:"self"`
	Role      string           `json:"role"` // leader, voter, standby, member
	Alive     bool             `json:"alive"`
	Offer     *workload.Offer  `json:"offer,omitempty"` // its last one
	Machine   workload.Machine `json:"machine"`
	Addrs     []string         `json:"addrs,omitempty"`
	RTTMicros int64            `json:"rtt_us"`
	Found     string           `json:"found"`            // cell, digest or dht: how it is known
	Record    *Record          `json:"record,omitempty"` // nil while nothing is known of it
}

// Submitted answers a submission.
type Submitted struct {
	ID   workload.ID `json:"id"`
	Held bool        `json:"held"`
	Note string      `json:"note,omitempty"` // for the user: what the workload leans on
}

// Invitation is a fresh token.
type Invitation struct {
	Token   string    `json:"token"`
	Uses    int       `json:"uses"`
	Expires time.Time `json:"expires"`
}

// Error is the body of every answer that is not a success.
type Error struct {
	Kind    string `json:"kind"` // invalid, not-found, ambiguous, refused, unavailable, busy, too-large, unauthorized, exists, internal
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}
