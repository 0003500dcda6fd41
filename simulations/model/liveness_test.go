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
