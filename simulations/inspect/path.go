package inspect

import (
	"context"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/workload"
)

// longestLife bounds the events that are kept while a workload lives.
const longestLife = 20_000_000

// Step is one event.
type Step struct {
	Event    uint64 `json:"event"`
	Cause    uint64 `json:"cause"` // 0 is the beginning of the run
	AtNs     int64  `json:"at_ns"`
	Peer     int32  `json:"peer"` // -1 is none
	From     int32  `json:"from"`
	Cell     int32  `json:"cell"`
	Workload int32  `json:"workload"`
	Kind     string `json:"kind"`
	What     string `json:"what,omitempty"`
	Words    string `json:"words"`
	Note     string `json:"note,omitempty"`
}

// Path is what a workload waited for.
type Path struct {
	Replication int    `json:"replication"`
	Checked     bool   `json:"checked"`
	Number      int32  `json:"workload"`
	Stream      string `json:"stream"`
	Owner       int32  `json:"owner"`
	Home        int32  `json:"home"`
	HomeRegion  string `json:"home_region"`
	Cell        int32  `json:"cell"`
	Tasks       int    `json:"tasks"`
	ArrivedNs   int64  `json:"arrived_ns"`
	AckedNs     int64  `json:"acked_ns"` // 0 is not yet, as with the others
	PlacedNs    int64  `json:"placed_ns"`
	BeganNs     int64  `json:"began_ns"`
	EndedNs     int64  `json:"ended_ns"`
	Paid        int64  `json:"paid"`
	Phase       string `json:"phase"`

	// Steps are the events that had to happen one after another until it ended, or
	// until the last that was about it when it did not. Before Steps[0] nothing was
	// caused by its arrival: then it waited for something older.
	Steps []Step `json:"path"`
	// Others are the events about it that are not on the path.
	Others  []Step           `json:"others"`
	Regions map[int32]string `json:"regions"` // of the peers in Steps and Others
}

// ErrBusyLife is returned of a workload during whose life too much happened.
type ErrBusyLife struct{ Number int }

// Error says how much.
func (e *ErrBusyLife) Error() string {
	return fmt.Sprintf("workload %d lived for more than %d events, more than can be kept", e.Number, longestLife)
}

// recorder keeps the events of a workload's life.
type recorder struct {
	number int32
	first  uint64 // the event of its arrival; 0 is not yet
	last   uint64 // the last about it
	life   []Step // from first on
	over   bool
}

func (c *recorder) take(e *model.Record) {
	if c.over || c.first == 0 && e.Workload != c.number {
		return
	}
	if c.first == 0 {
		c.first = e.Number
	}
	c.life = append(c.life, Step{Event: e.Number, Cause: e.Cause, AtNs: e.At, Peer: e.Peer, From: e.From, Cell: e.Cell,
		Workload: e.Workload, Kind: e.Kind, What: e.What, Words: words(e), Note: e.Note})
	if e.Workload == c.number {
		c.last = e.Number
	}
}

// PathOf returns what a workload waited for from its arrival on.
func (r *Run) PathOf(ctx context.Context, number int) (*Path, error) {
	w, end, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	c := &recorder{number: int32(number)}
	if number >= 0 {
		w.Watch(c.take)
	}
	err = steps(ctx, w, func() bool {
		l, ok := w.Workload(number)
		return ok && (l.Ended > 0 || l.Forgotten) || len(c.life) > longestLife
	})
	switch {
	case err != nil:
		return nil, err
	case len(c.life) > longestLife:
		return nil, &ErrBusyLife{number}
	}
	c.over = true
	l, ok := w.Workload(number)
	if !ok {
		n := 0
		for range w.Workloads() {
			n++
		}
		return nil, &OutOfRange{fmt.Sprintf("workload %d", number), fmt.Sprintf("in replication %d there were %d, 0 to %d", r.Replication, n, n-1)}
	}
	p := &Path{
		Replication: r.Replication, Number: l.Number, Stream: l.Stream, Owner: l.Owner, Home: l.Home, Cell: l.Cell, Tasks: l.Tasks,
		ArrivedNs: l.Arrived, AckedNs: l.Acked, PlacedNs: l.Placed, BeganNs: l.Began, EndedNs: l.Ended, Paid: l.Paid, Phase: string(l.Phase),
		Regions: map[int32]string{},
	}
	if l.Forgotten {
		p.Phase = "forgotten: its submitter left before it had an ID"
	} else if l.Ended == 0 && l.Phase == workload.Pending {
		p.Phase = "has not ended"
	}
	p.follow(c)
	p.name(w)
	if r.Unchecked {
		return p, nil
	}
	p.Checked = true
	return p, r.check(ctx, w)
}

// follow goes back from the last event to its causes.
func (p *Path) follow(c *recorder) {
	on := map[uint64]bool{}
	for n := c.last; n >= c.first && n > 0; {
		s := c.life[n-c.first]
		on[n] = true
		p.Steps = append(p.Steps, s)
		n = s.Cause
	}
	slices.Reverse(p.Steps)
	for _, s := range c.life {
		if s.Workload == p.Number && !on[s.Event] && s.Event <= c.last {
			p.Others = append(p.Others, s)
		}
	}
}

// name notes where the peers are.
func (p *Path) name(w *model.World) {
	note := func(n int32) {
		if _, known := p.Regions[n]; known {
			return
		}
		if at, ok := w.Peer(int(n)); ok {
			p.Regions[n] = at.Region
		}
	}
	note(p.Home)
	p.HomeRegion = p.Regions[p.Home]
	for _, list := range [][]Step{p.Steps, p.Others} {
		for _, s := range list {
			note(s.Peer)
			note(s.From)
		}
	}
}
