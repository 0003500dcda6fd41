package leader

import (
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// A node that signs a vote for another result than the one it sends is refused.
func TestAVoteIsForTheResultThatCameWithIt(t *testing.T) {
	priv, self := key(t)
	segment := workload.Segment{Node: self, Slot: 3, Results: []workload.TaskResult{{Index: 4, Attempt: 1, Exit: workload.Exited, Stdout: workload.Stream{Data: []byte("lie")}}}}
	raw := wire.MustMarshal(segment)
	results := receipt.ResultsOf(&segment)
	truth := results[0]
	truth.Stdout = workload.Ref{Digest: workload.DigestOf([]byte("truth")), Size: 5}
	for vote, want := range map[workload.Digest]error{receipt.VoteOf(&results[0]): nil, receipt.VoteOf(&truth): wire.Malformed} {
		ref := wire.SlotRef{Slot: 3}
		st := wire.Statement{Ref: ref, Segment: blob.RefOf(raw), Results: receipt.RootOf(results), Vote: vote}
		m := &wire.CloseMsg{Ref: ref, Segment: raw, Sig: workload.Sign(workload.DomainResult, wire.MustMarshal(st), priv)}
		if _, _, got, err := openSegment(nil, self, m); !errors.Is(err, want) || err == nil && got != vote {
			t.Errorf("vote %s: %v, %v, want %v", vote.Short(), got, err, want)
		}
	}
}
