package rehearsal

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
)

const stormy = `
duration: 45s
replications: 1
cooldown: 22s
peers: 5
voters: 3
owners: 1
machines: [{cores: 4}]
network: {regions: [{name: here, share: 4}, {name: there}], rtt: [[4ms, 30ms], [30ms, 4ms]]}
workloads: [{poisson: 4/s, service: 1s}]
`

// TestAStorm plays a leader that crashes and a region that is cut off: what was
// acknowledged ends, late, and the network is whole again.
func TestAStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("too long for a short run: whole nodes")
	}
	s, err := write(parsed(t, stormy+"faults: [{at: 6s, for: 4s, crash: leaders}, {at: 15s, for: 3s, cut: [there]}, {at: 15s, for: 3s, loss: 3%}]\n"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var r *Result
	synctest.Test(t, func(t *testing.T) {
		if r, err = s.play(t.Context(), t.TempDir(), func(time.Duration) {}); err != nil {
			t.Fatal(err)
		}
	})
	f := func(name string) float64 { return valueOf(r.Figures, name) }
	if f("workloads") < 40 || f("success") < 80 || f("unfinished") != 0 {
		t.Errorf("%g workloads, %g %% succeed, %g are open", f("workloads"), f("success"), f("unfinished"))
	}
	if f("ack_p99") < 1000 || f("cut_packets") < 1 {
		t.Errorf("nobody waited for another leader: the slowest ID was back after %g ms, %g packets were lost to cuts", f("ack_p99"), f("cut_packets"))
	}
}

// skyless is a play with no mesh: what faults come to is to be seen in it.
func skyless(t *testing.T, more string) *play {
	t.Helper()
	s, err := write(parsed(t, strings.ReplaceAll(stormy, "45s", "25s")+more), 0)
	if err != nil {
		t.Fatal(err)
	}
	return &play{script: s}
}

// TestWhatACutParts wants both ways parted, or only what the regions send.
func TestWhatACutParts(t *testing.T) {
	p := skyless(t, "faults: [{at: 1s, cut: [there]}, {at: 1s, cut: [there], one_way: true}]\n")
	for i, want := range []struct{ out, in bool }{{true, true}, {true, false}} {
		c := p.cutOf(&p.sc.Faults[i])
		if c.parts(1, 0) != want.out || c.parts(0, 1) != want.in || c.parts(0, 0) || c.parts(1, 1) {
			t.Errorf("fault %d: parts %+v", i+1, c)
		}
	}
}

// TestWhatTheWeatherIs looks at links and tasks while faults last.
func TestWhatTheWeatherIs(t *testing.T) {
	p := skyless(t, "faults: [{at: 1s, slow: 3}, {at: 2s, slow: 2}]\n")
	p.storms.now.Store(&weather{active: []int{0, 1}, loss: []float64{0, 0.2}, hold: []time.Duration{0, time.Second}})
	if got := p.slowed(0, 2*time.Second); got != 6*time.Second {
		t.Errorf("2 s take %s under the worse of two faults", got)
	}
	in, out := -1, -1
	for i := range p.peers {
		if p.peers[i].Region == 1 {
			in = i
		} else {
			out = i
		}
	}
	if in < 0 || out < 0 {
		t.Fatalf("all peers are in one region: %+v", p.peers)
	}
	if l := p.link(in, out); l.Loss < 0.2 || l.Jitter != time.Second {
		t.Errorf("a link into the weather is %+v", l)
	}
	if l := p.link(out, out); l.Loss > 0.01 || l.Jitter != 0 {
		t.Errorf("a link beside the weather is %+v", l)
	}
}

// TestWhenThingsHappen wants beginnings and ends in order.
func TestWhenThingsHappen(t *testing.T) {
	p := skyless(t, "faults: [{at: 9s, for: 2s, loss: 2%}, {at: 3s, crash: peers}, {at: 4s, for: 1s, cut: [there]}]\nchurn: {departures: [{at: 10s, share: 50%, back: 2s}]}\n")
	want := []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second, 9 * time.Second, 10 * time.Second, 11 * time.Second}
	got := p.moments()
	if len(got) != len(want) {
		t.Fatalf("%d moments, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].at != want[i] {
			t.Errorf("moment %d is at %s, want %s", i, got[i].at, want[i])
		}
	}
	if !mortal(p.sc) || mortal(&scenario.Scenario{}) {
		t.Error("machines of a crash stay, or others leave")
	}
}
