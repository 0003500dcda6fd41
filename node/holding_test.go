package node

import (
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

func TestHolding(t *testing.T) {
	voters := []workload.PeerID{{1}, {2}, {3}}
	first, second := workload.ID{Random: [16]byte{1}}, workload.ID{Random: [16]byte{2}}
	program, input := blob.RefOf([]byte("program")), blob.RefOf([]byte("input"))
	h := newHolding()
	holds := func(want []workload.ID, refs ...workload.Ref) {
		t.Helper()
		if got, ok := h.by(refs, voters); ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, ok, want)
		}
	}
	holds(nil, program)
	h.asked(first, []workload.Ref{program})
	h.acked(first, []workload.Ref{program}, voters[0])
	h.acked(first, []workload.Ref{program}, workload.PeerID{9}) // a voter no more
	holds(nil, program)
	h.acked(first, []workload.Ref{program}, voters[2])
	holds([]workload.ID{first}, program)
	holds(nil, program, input)
	h.asked(second, []workload.Ref{program, input}) // nothing is known on its behalf yet
	h.acked(first, []workload.Ref{program}, voters[1])
	holds(nil, program)
	for _, v := range voters[1:] {
		h.acked(second, []workload.Ref{program, input}, v)
	}
	holds([]workload.ID{second, second}, program, input)

	h.asked(first, make([]workload.Ref, maxHoldingOf+1))
	for i := range 2 * maxHolding {
		h.asked(first, []workload.Ref{{Size: int64(i)}})
	}
	if len(h.held) > maxHolding {
		t.Errorf("remembers %d blobs", len(h.held))
	}
}
