package node

import (
	"context"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
)

// keep is how many cores the machine's owner keeps: with SpareOnly all.
func (n *Node) keep(topo capacity.Topology) int {
	if n.cfg.SpareOnly {
		return len(topo.Cores)
	}
	return n.cfg.KeepCores
}

// watchLoad lends out what the machine's own programs leave, and no more. A
// machine that cannot be watched lends nothing.
func (n *Node) watchLoad(ctx context.Context) error {
	m := n.machine
	if m.used == nil {
		return nil // no machine of its own: what nobody was granted is idle
	}
	watched := load.Machine{Proc: os.DirFS("/proc"), CPUs: m.topo.CPUs(), Used: m.used, Quiet: n.cfg.Quiet.Hold, Groups: m.groups}
	if n.cfg.Watched != nil {
		watched = *n.cfg.Watched
	}
	watched.Lent = n.worker.Lending()
	slots := func() (out []load.Slot) {
		for _, s := range n.worker.Lent() {
			out = append(out, load.Slot{Key: s.Key, CPUs: s.CPUs, Paused: s.Paused})
		}
		return out
	}
	err := load.Watch(ctx, watched, slots, func(d load.Decision) {
		l := worker.Load{Idle: d.Idle, Others: d.Others, Evict: d.Evict, Quiet: d.Quiet}
		if m.topo.Declared {
			l.Others = 0 // others on the machine are likely nodes; what is declared is a promise
		}
		n.worker.SetLoad(l)
	})
	if err != nil {
		n.log.Warn("no idle time is lent", "err", err)
		n.worker.SetLoad(worker.Load{})
	}
	return nil
}

// usedTime is the CPU time of all sandboxes and of spare ones among them.
type usedTime func() (all, spare time.Duration)
