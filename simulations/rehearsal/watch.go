package rehearsal

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/simulations/stack"
	"github.com/perrin-mesh/perrin/workload"
)

// watcher takes down what the cell's ledger comes to, when the first replica has
// applied it, which is the leader's.
type watcher struct {
	mu      sync.Mutex // guards the rest
	index   uint64     // of the last entry
	entries uint64
	awards  []awarded
	closes  []closed
	ends    map[workload.ID]ended

	expiries uint64 // nodes that were given up
}

type awarded struct {
	id        workload.ID
	at        time.Time
	rate, ask int64
}

type closed struct {
	id      workload.ID
	charged int64
	wallMs  int64
}

type ended struct {
	at    time.Time
	phase workload.Phase
}

func (w *watcher) applied(_ int, cmd *ledger.Command, res *ledger.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if res.Index <= w.index {
		return // another replica was first
	}
	w.index = res.Index
	w.entries++
	if res.Reject != nil {
		return
	}
	now := time.Now()
	switch {
	case cmd.Award != nil:
		for i, g := range res.Slots {
			w.awards = append(w.awards, awarded{cmd.Award.Workload, now, g.Rate, cmd.Award.Slots[i].Ask})
		}
	case cmd.Close != nil:
		w.closes = append(w.closes, closed{cmd.Close.Workload, res.Charged, cmd.Close.Usage.WallMs})
	case cmd.Expire != nil:
		w.expiries++
	}
	for _, id := range res.Ends {
		w.ends[id] = ended{now, res.Phase}
	}
}

// reading is what the counters of a mesh show at a time.
type reading struct {
	at              time.Time
	requests, bytes uint64
	entries         uint64
	cut             uint64 // packets lost to cuts and to machines that are away
}

func (w *watcher) read(m *stack.Mesh) reading {
	net := m.Net.Stats()
	r := reading{at: time.Now(), bytes: net.Bytes, cut: net.Cut}
	for _, x := range m.Machines {
		r.requests += x.Traffic()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.entries = w.entries
	return r
}

// argsOf carries the number of a workload of the script in its spec.
func argsOf(number int) []string { return []string{strconv.Itoa(number)} }

// numberOf is what argsOf put in.
func numberOf(args []string) (int, error) {
	if len(args) != 1 {
		return 0, errors.New("want the number of a workload")
	}
	return strconv.Atoi(args[0])
}
