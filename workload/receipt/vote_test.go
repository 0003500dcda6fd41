package receipt

import (
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestVoteOf: what counts in a result changes its vote, and nothing else does.
func TestVoteOf(t *testing.T) {
	ref := func(text string) workload.Ref { return named(workload.Ref{}, []byte(text)) }
	result := func(change func(*Result)) workload.Digest {
		r := Result{
			Task: 1, Attempt: 1, Exit: workload.Exited, Stdout: ref("out"), Stderr: ref("err"), Isolation: "wasm",
			Outputs: []Output{{Path: "a", Blob: ref("a")}, {Path: "b", Blob: ref("b")}},
		}
		change(&r)
		return VoteOf(&r)
	}
	base := result(func(*Result) {})
	for name, change := range map[string]func(*Result){
		"attempt": func(r *Result) { r.Attempt = 2 }, "stderr": func(r *Result) { r.Stderr = ref("at 10:01") },
		"usage": func(r *Result) { r.Usage.WallMs = 9 }, "start": func(r *Result) { r.Started = 9 },
		"order": func(r *Result) { r.Outputs = []Output{r.Outputs[1], r.Outputs[0]} },
	} {
		if result(change) != base {
			t.Errorf("%s counts", name)
		}
	}
	for name, change := range map[string]func(*Result){
		"exit code": func(r *Result) { r.Code = 1 }, "signal": func(r *Result) { r.Exit = workload.Signaled }, "stdout": func(r *Result) { r.Stdout = ref("") },
		"a file's content": func(r *Result) { r.Outputs[0].Blob = ref("c") }, "a file's name": func(r *Result) { r.Outputs[0].Path = "c" },
		"a file's mode": func(r *Result) { r.Outputs[0].Exec = true }, "a file less": func(r *Result) { r.Outputs = r.Outputs[:1] },
	} {
		if result(change) == base {
			t.Errorf("%s does not count", name)
		}
	}
	late := func(r *Result) { r.Exit = workload.TimedOut }
	if result(late) != result(func(r *Result) { late(r); r.Stdout = ref("o") }) {
		t.Error("what was printed until a timeout counts")
	}
}
