package rehearsal

import (
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/packetnet"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// script is what happens to a mesh from outside: what the model drew.
type script struct {
	sc    *scenario.Scenario
	seed  chance.Seed  // of the replication
	world *model.World // whose draws it all is
	peers []model.Likeness
	work  []work
}

// work is one workload that comes.
type work struct {
	at       time.Duration
	home     int
	stream   int
	services []time.Duration // of each task, on a reference core
}

// write runs the model for a replication, counted from 0, and takes down what came.
func write(sc *scenario.Scenario, n int) (*script, error) {
	s := &script{sc: sc, seed: chance.Seed(sc.Seed).Replication(n)}
	w, err := model.New(Twin(sc), s.seed)
	if err != nil {
		return nil, err
	}
	s.world = w
	for i := range sc.Peers {
		s.peers = append(s.peers, w.Likeness(i))
	}
	for w.Step() {
	}
	if err := w.Err(); err != nil {
		return nil, err
	}
	streams := map[string]int{}
	for i := range sc.Workloads {
		streams[sc.Workloads[i].Name] = i
	}
	if len(streams) < len(sc.Workloads) {
		return nil, fmt.Errorf("two streams of workloads have one name")
	}
	for l := range w.Workloads() {
		one := work{at: time.Duration(l.Arrived), home: int(l.Home), stream: streams[l.Stream]}
		for t := range l.Tasks {
			one.services = append(one.services, time.Duration(w.TaskTime(l.Number, uint32(t))))
		}
		s.work = append(s.work, one)
	}
	return s, nil
}

// link is the path between two peers, as faults leave it.
func (p *play) link(from, to int) packetnet.Link {
	a, b := p.peers[from], p.peers[to]
	one := p.sc.Network.RTT[a.Region][b.Region]/2 + a.Access + b.Access
	out := packetnet.Link{
		Latency: time.Duration(one), Spread: time.Duration(one * p.sc.Network.Jitter / 1_000_000), Loss: float64(p.sc.Network.Loss) / million,
	}
	if w := p.storms.now.Load(); w != nil {
		out.Loss = min(out.Loss+max(w.loss[a.Region], w.loss[b.Region]), 0.9)
		out.Jitter = max(w.hold[a.Region], w.hold[b.Region])
	}
	return out
}
