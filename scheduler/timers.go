package scheduler

import "container/heap"

// timer is something that is due at a time: exactly one of the three.
type timer struct {
	at      int64
	order   uint64 // of setting: breaks ties
	auction *auction
	class   *class
	lot     *lotState
}

// stands reports whether what it was set for is still to come. Timers are not
// taken back; those that no longer matter are dropped when they come up.
func (t *timer) stands() bool {
	switch {
	case t.auction != nil:
		return t.auction.closes == t.at
	case t.class != nil:
		return t.class.blocked && t.class.next == t.at
	}
	return t.lot.phase == resting && t.lot.next == t.at
}

// timers is a heap, the earliest first.
type timers []timer

func (h timers) Len() int      { return len(h) }
func (h timers) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h timers) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].order < h[j].order
}

// Push implements heap.Interface.
func (h *timers) Push(x any) { *h = append(*h, x.(timer)) }

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return t
}

func (d *Desk) set(t timer) {
	d.timed++
	t.order = d.timed
	heap.Push(&d.timers, t)
}

// next returns the earliest time at which something is due, or 0.
func (d *Desk) next() int64 {
	for len(d.timers) > 0 {
		if d.timers[0].stands() {
			return d.timers[0].at
		}
		heap.Pop(&d.timers)
	}
	return 0
}

// expire does what is due at now.
func (d *Desk) expire(now int64) []Output {
	var out []Output
	for at := d.next(); at > 0 && at <= now; at = d.next() {
		switch t := heap.Pop(&d.timers).(timer); {
		case t.auction != nil && t.auction.closed:
			d.forget(t.auction)
		case t.auction != nil:
			out = append(out, d.close(now, t.auction, true)...)
		case t.class != nil:
			d.unblock(t.class)
		default:
			d.enqueue(t.lot)
		}
	}
	return out
}
