package receipt

import (
	"encoding/json"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Result is how one attempt of a task ended: a workload.TaskResult whose
// contents are named by their digests.
type Result struct {
	Task      uint32         `json:"task"`
	Attempt   uint32         `json:"attempt"`
	Exit      workload.Exit  `json:"exit"`
	Code      int32          `json:"code"`
	Isolation string         `json:"isolation"`
	Started   int64          `json:"started_ms"`
	Usage     workload.Usage `json:"usage"`
	Stdout    workload.Ref   `json:"stdout"`
	Stderr    workload.Ref   `json:"stderr"`
	Outputs   []Output       `json:"outputs,omitempty"`
	Sealed    workload.Ref   `json:"sealed,omitzero"` // what else is sealed for the owner
}

// Output is one file that a task left.
type Output struct {
	Path string       `json:"path"`
	Blob workload.Ref `json:"blob"`
	Exec bool         `json:"exec,omitempty"`
}

// ResultOf names what r holds.
func ResultOf(r *workload.TaskResult) Result {
	out := Result{
		Task: r.Index, Attempt: r.Attempt, Exit: r.Exit, Code: r.Code, Isolation: r.Wall, Started: r.Started, Usage: r.Usage,
		Stdout: named(r.Stdout.Blob, r.Stdout.Data), Stderr: named(r.Stderr.Blob, r.Stderr.Data),
		Sealed: named(workload.Ref{}, r.Sealed),
	}
	for _, o := range r.Outputs {
		out.Outputs = append(out.Outputs, Output{Path: o.Path, Blob: named(o.Blob, o.Data), Exec: o.Exec})
	}
	return out
}

// ResultsOf names what the results of a segment hold.
func ResultsOf(s *workload.Segment) []Result {
	out := make([]Result, len(s.Results))
	for i := range s.Results {
		out[i] = ResultOf(&s.Results[i])
	}
	return out
}

// named is the name of content that rides along, unless it has one.
func named(ref workload.Ref, data []byte) workload.Ref {
	if !ref.IsZero() || len(data) == 0 {
		return ref
	}
	return workload.Ref{Digest: workload.DigestOf(data), Size: int64(len(data))}
}

// ok reports whether the program ended by itself with exit code 0.
func (r *Result) ok() bool { return r.Exit == workload.Exited && r.Code == 0 }

// RootOf is the root of the tree whose leaves are the JSON of each result, which
// a worker signs with its segment.
func RootOf(results []Result) workload.Digest {
	if workload.Unsigned() {
		return workload.Digest{}
	}
	return rootOfJSON(results)
}

func rootOfJSON[T any](list []T) workload.Digest {
	leaves := make([]workload.Digest, len(list))
	for i := range list {
		leaves[i] = leafOf(mustJSON(&list[i]))
	}
	return rootOf(leaves)
}

// mustJSON encodes types of this package, which always encode: their fields are
// numbers, texts, bytes and lists of such.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("receipt: encode %T: %v", v, err))
	}
	return b
}
