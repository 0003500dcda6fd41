package model

import (
	"errors"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// TestClocksThatDrift: within what leases allow for nothing runs twice, whatever is
// cut; far beyond it something does, which the run sees.
func TestClocksThatDrift(t *testing.T) {
	const cut = `
duration: 60s
peers: 24
cell_size: 12
machines: [{cores: 2}]
network: {regions: [{name: a, share: 2}, {name: b}], rtt: [[2ms, 40ms], [40ms, 2ms]]}
workloads: [{clients: 20, tasks: 4, service: 30s}]
faults: [{at: 10s, for: 20s, cut: [b]}, {at: 35s, for: 20s, cut: [b]}]
`
	broken := func(drift string) (n int) {
		for seed := range uint64(6) {
			w, err := New(parse(t, cut+"drift: "+drift+"\n"), chance.Seed(seed))
			if err != nil {
				t.Fatal(err)
			}
			for w.Step() {
			}
			var v *Violation
			if errors.As(w.Err(), &v) && strings.Contains(v.Invariant, "twice") {
				n++
			} else if w.Err() != nil {
				t.Error(w.Err())
			}
		}
		return n
	}
	if n := broken("0.1%"); n != 0 {
		t.Errorf("clocks off by 0.1 %%: %d of 6 runs break", n)
	}
	if n := broken("40%"); n == 0 {
		t.Error("clocks off by 40 % break nothing: drift does not reach the leases")
	}
	w := world(t, cut+"drift: 40%\n", 1)
	for i := range w.peers {
		for _, shows := range []int64{2, 1000, 60_001} {
			w.now = w.whenClock(int32(i), shows)
			if got := w.clock(int32(i)); got < shows-2 || got > shows+2 {
				t.Errorf("a clock %d ppm fast shows %d ms when it should %d", w.peers[i].drift, got, shows)
			}
		}
	}
}
