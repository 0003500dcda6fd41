// Package unitwire is what both sides of the unit's own protocol share: the
// JSON messages of version 1, and the exchange of one request over a
// connection without an HTTP library, small enough for a wasm guest and for
// the process beside it that carries its calls.
//
// A guest of the wasm runner has no sockets. It calls the import
//
//	perrin.call(req_ptr, req_len, resp_ptr, resp_cap i32) i32
//
// with a request of the form "METHOD PATH\n" and the body, and gets a response
// of the form "STATUS\n" and the body. The result is the length of the
// response; a [NeedMin] or larger number negated when resp_cap is too small,
// which says how much is needed; or a small errno negated. [Exchange] and
// [Result] are the host's side of it.
package unitwire

// Version is the version of the protocol, the first part of every path.
const Version = 1

// Whoami answers GET /v1/whoami.
type Whoami struct {
	Version    int    `json:"version"`
	Workload   string `json:"workload"`            // its ID
	Name       string `json:"name,omitempty"`      // the workload's, as its owner gave it
	Task       uint32 `json:"task"`                // the index of this task, from 0
	Count      uint32 `json:"count"`               // tasks of the workload
	Attempt    uint32 `json:"attempt"`             // 1 for the first try
	TaskName   string `json:"task_name,omitempty"` // of this task: the input it was made for, as a rule
	Node       string `json:"node"`                // the name of the machine
	Class      string `json:"class"`               // of the CPUs granted: core or thread
	CPUs       int32  `json:"cpus"`                // cores or threads granted
	Memory     int64  `json:"memory"`              // bytes granted
	DeadlineMs int64  `json:"deadline_ms"`         // when the attempt is killed, in ms since 1970; 0 is never
}

// Input is one input of the task.
type Input struct {
	Path   string `json:"path"`   // below the working directory
	Kind   string `json:"kind"`   // file or tree
	Size   int64  `json:"size"`   // bytes; of a tree, of its archive
	Digest string `json:"digest"` // "sha256:" and 64 hex digits
}

// Inputs answers GET /v1/inputs.
type Inputs struct {
	Inputs []Input `json:"inputs"`
}

// Published answers POST /v1/publish.
type Published struct {
	Path   string `json:"path"` // of the output
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

// The kinds of notice.
const (
	None    = "none"    // nothing is going to happen
	Drain   = "drain"   // the node is being emptied; the task will be tried elsewhere
	Preempt = "preempt" // the CPUs are needed for something else
	Stop    = "stop"    // the owner stops the workload
)

// Notice answers GET /v1/notice.
type Notice struct {
	Seq        uint64 `json:"seq"`              // grows with each notice; 0 before the first
	Kind       string `json:"kind"`             // none, drain, preempt or stop
	Reason     string `json:"reason,omitempty"` // in a few words
	DeadlineMs int64  `json:"deadline_ms"`      // when the attempt is killed, in ms since 1970; 0 is not known
	LeftMs     int64  `json:"left_ms"`          // until then, when the answer was made
}

// Cost answers GET /v1/cost.
type Cost struct {
	MicroCredits int64 `json:"micro_credits"` // so far
	Rate         int64 `json:"rate"`          // micro-credits a second
	Seconds      int64 `json:"seconds"`       // so far, rounded down
}

// Error answers every request that fails.
type Error struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// Bounds of the protocol.
const (
	MaxPath     = 1024     // bytes of the path of an output
	MaxRequest  = 64 << 20 // bytes of a request of Exchange, its body included
	MaxResponse = 8 << 20  // bytes of any response
	MaxNotice   = 300      // seconds that GET /v1/notice waits at most
)
