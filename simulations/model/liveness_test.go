package model

import (
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// TestWorkEndsOnceFaultsAreOver: what a cut held up ends within what is stated, and
// a time that nothing could keep is not kept.
func TestWorkEndsOnceFaultsAreOver(t *testing.T) {
	const cut = mesh + "cooldown: 1s\nfaults: [{at: 5s, for: 8s, cut: [west]}, {at: 6s, for: 5s, crash: leaders}]\n"
	for within, broken := range map[string]bool{"13s": false, "100ms": true} {
		w, err := New(parse(t, cut+"ends_within: "+within+"\n"), chance.Seed(3))
		if err != nil {
			t.Fatal(err)
		}
		for w.Step() {
		}
		var v *Violation
		if is := errors.As(w.Err(), &v) && v.Invariant == EndsInTime; is != broken || (w.Err() != nil) != broken {
			t.Errorf("within %s: %v", within, w.Err())
		}
	}
	// A fault that never ends excuses all.
	w := run(t, mesh+"faults: [{at: 5s, loss: 5%}]\nends_within: 100ms\n", 3)
	if w.Err() != nil {
		t.Error(w.Err())
	}
}

// TestASlotThatItsNodeForgotOpensAgain: a worker whose lease ran out and that takes
// other work of the cell leaves the old slot out of its renewals, and the leader
// undoes it. The fuzzer had found a workload that ended 259 s late.
func TestASlotThatItsNodeForgotOpensAgain(t *testing.T) {
	const forgot = `
duration: 273793ms
peers: 24
machines: [{cores: 2}]
workloads: [{poisson: 1/s, service: {exponential: 6s}, tasks: 3}]
network: {regions: [{}, {name: b}], rtt: [[2ms, 40ms], [40ms, 2ms]]}
faults:
  - {at: 5206ms, for: 1ms, crash: leaders}
  - {at: 2657ms, for: 3430ms, cut: [b]}
ends_within: 60s
`
	w, err := New(parse(t, forgot), chance.Seed(517790).Replication(0))
	if err != nil {
		t.Fatal(err)
	}
	for w.Step() {
	}
	if w.Err() != nil {
		t.Error(w.Err())
	}
}
