package api

import "github.com/perrin-mesh/perrin/workload"

// Checked sums up what the nodes agreed on that ran the tasks of a workload which
// its owner wants verified.
type Checked struct {
	By       string    `json:"by"`                 // "2of3"
	Accepted uint32    `json:"accepted"`           // tasks that ended with a result on which enough nodes agree
	Alike    uint32    `json:"alike,omitempty"`    // of those, tasks of which two of these nodes have one operator
	Alone    uint32    `json:"alone,omitempty"`    // of those accepted, tasks that a node with a record ran alone
	Doubtful uint32    `json:"doubtful,omitempty"` // of those, on nodes that returned another result than others for some other task
	Picked   uint32    `json:"picked,omitempty"`   // tasks of such nodes that were checked all the same
	Split    uint32    `json:"split,omitempty"`    // tasks that failed because too few agreed
	Differs  uint32    `json:"differs,omitempty"`
	Who      []Dissent `json:"who,omitempty"` // the first 16 whose results were not the accepted ones: they are not paid
}

// Dissent is one result that was not the accepted one.
type Dissent struct {
	Node workload.PeerID `json:"node"`
	Name string          `json:"name"`
	Task uint32          `json:"task"`
}

// WhyVote is the result that one node returned for a task. The verdict is empty
// while it is not known which one counts.
type WhyVote struct {
	Node    workload.PeerID `json:"node"`
	Name    string          `json:"name"`
	Verdict string          `json:"verdict,omitempty"` // agrees, differs, alone or unjudged
	Exit    workload.Exit   `json:"exit"`
	Code    int32           `json:"code"`
	Result  workload.Digest `json:"result"` // of all that counts in it
	Cost    int64           `json:"cost"`   // micro-credits

	Streak uint32 `json:"streak,omitempty"` // of a result that might stand alone: how many of its node's had agreed in a row
	Drawn  string `json:"drawn,omitempty"`  // picked, passed, or silent when the owner's node did not draw; empty while it has not
}

// Record is a node's reputation: what the cell's ledger remembers of it. Good and Bad
// are thousandths of a workload and fade by half in a week.
type Record struct {
	Good      int64 `json:"good"`
	Bad       int64 `json:"bad"`
	Issuers   int   `json:"issuers"`  // who paid for those workloads
	MeanPPM   int64 `json:"mean_ppm"` // expected share of its workloads that end well
	RiskPPM   int64 `json:"risk_ppm"` // added to the cost of its bids
	Probation bool  `json:"probation,omitempty"`
}
