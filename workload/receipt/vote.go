package receipt

import (
	"cmp"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// VoteOf names what a result says, so that those of several nodes can be compared.
// What counts is how the program ended, and of one that ended by itself or by a
// signal its exit code or signal, its stdout, and each output file's path, content
// and whether it may be executed. What it wrote to stderr does not count, nor its
// usage, its times and where it ran.
func VoteOf(r *Result) workload.Digest {
	said := struct {
		Domain  string        `json:"domain"`
		Exit    workload.Exit `json:"exit"`
		Code    int32         `json:"code"`
		Stdout  workload.Ref  `json:"stdout,omitzero"`
		Outputs []Output      `json:"outputs,omitempty"`
	}{Domain: "perrin/vote/v1", Exit: r.Exit}
	if r.Exit == workload.Exited || r.Exit == workload.Signaled {
		said.Code, said.Stdout = r.Code, r.Stdout
		said.Outputs = slices.SortedFunc(slices.Values(r.Outputs), func(a, b Output) int { return cmp.Compare(a.Path, b.Path) })
	}
	return workload.DigestOf(mustJSON(&said))
}
