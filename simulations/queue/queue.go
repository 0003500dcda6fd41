package queue

import (
	"cmp"
	"slices"
)

// Item is an event with its place in the order.
type Item[T any] struct {
	At    int64  // ns
	Seq   uint64 // of the Push: the earlier of two at one time comes first
	Value T
}

func (a *Item[T]) before(b *Item[T]) bool {
	return a.At < b.At || a.At == b.At && a.Seq < b.Seq
}

func order[T any](a, b Item[T]) int {
	if c := cmp.Compare(a.At, b.At); c != 0 {
		return c
	}
	return cmp.Compare(a.Seq, b.Seq)
}

const (
	small      = 48   // items of a bucket that are sorted rather than spread
	maxBuckets = 4096 // of one rung
	maxRungs   = 12   // below each other; beyond, a bucket is sorted whatever its size
	perBlock   = 4    // items beside each other in memory
)

// Queue holds events until their time. The zero Queue is empty and ready. It is
// not safe for concurrent use.
type Queue[T any] struct {
	seq    uint64
	n      int
	bottom []Item[T] // the latest first, so that the next is at the end
	rungs  []*rung
	spare  []*rung // emptied ones, for their memory
	top    []Item[T]
	from   int64 // the top begins here: what is earlier goes below
	least  int64 // of the top
	most   int64

	blocks []block[T] // what is in buckets; the first is none
	free   uint32     // the first block that is not in use, 0 is none
	bucket []Item[T]  // scratch of descend
}

// block is a few items of a bucket.
type block[T any] struct {
	items [perBlock]Item[T]
	next  uint32 // 0 is none
}

// bucket is a list of blocks, all full but the first.
type bucket struct {
	first uint32
	n     uint32 // items
}

// rung is a stretch of time cut into buckets of one width.
type rung struct {
	start   int64 // of the first bucket
	width   int64
	next    int // the first bucket that has not gone to the rung below or the bottom
	buckets []bucket
}

// edge is where the first bucket begins that still takes events.
func (r *rung) edge() int64 { return r.start + int64(r.next)*r.width }

// Len returns the number of events that wait.
func (q *Queue[T]) Len() int { return q.n }

// Push adds an event at a time and returns its sequence number. A time before
// the last Pop's is allowed: it comes next.
func (q *Queue[T]) Push(at int64, v T) uint64 {
	q.seq++
	q.n++
	it := Item[T]{At: at, Seq: q.seq, Value: v}
	switch {
	case at >= q.from:
		q.putTop(it)
	case !q.putRung(it):
		q.putBottom(it)
	}
	return q.seq
}

func (q *Queue[T]) putTop(it Item[T]) {
	if len(q.top) == 0 {
		q.least, q.most = it.At, it.At
	}
	q.least, q.most = min(q.least, it.At), max(q.most, it.At)
	q.top = append(q.top, it)
}

// putRung puts an item into the coarsest rung that has not passed its time. What
// lies behind the end of a rung and before the coarser one goes to its last bucket.
func (q *Queue[T]) putRung(it Item[T]) bool {
	for _, r := range q.rungs {
		if r.next < len(r.buckets) && it.At >= r.edge() {
			q.put(&r.buckets[min(int((it.At-r.start)/r.width), len(r.buckets)-1)], it)
			return true
		}
	}
	return false
}

// put adds an item to a bucket.
func (q *Queue[T]) put(b *bucket, it Item[T]) {
	at := b.n % perBlock
	if at == 0 {
		i := q.block()
		q.blocks[i].next, b.first = b.first, i
	}
	q.blocks[b.first].items[at] = it
	b.n++
}

// block returns a block that is not in use.
func (q *Queue[T]) block() uint32 {
	if i := q.free; i != 0 {
		q.free = q.blocks[i].next
		return i
	}
	if len(q.blocks) == 0 {
		q.blocks = append(q.blocks, block[T]{})
	}
	q.blocks = append(q.blocks, block[T]{})
	return uint32(len(q.blocks) - 1)
}

// empty takes all that is in a bucket and appends it to into.
func (q *Queue[T]) empty(b *bucket, into []Item[T]) []Item[T] {
	for n := (b.n+perBlock-1)%perBlock + 1; b.first != 0; n = perBlock {
		i := b.first
		l := &q.blocks[i]
		into = append(into, l.items[:n]...)
		clear(l.items[:n])
		b.first, l.next, q.free = l.next, q.free, i
	}
	b.n = 0
	return into
}

// putBottom inserts into the sorted part. A bottom that has grown large is
// spread over a rung again, or each insertion would move all of it.
func (q *Queue[T]) putBottom(it Item[T]) {
	if len(q.bottom) > 4*small && len(q.rungs) < maxRungs && q.bottom[0].At > q.bottom[len(q.bottom)-1].At {
		items := q.bottom
		q.bottom = nil
		q.spread(append(items, it))
		return
	}
	at, _ := slices.BinarySearchFunc(q.bottom, it, func(a, b Item[T]) int { return order(b, a) })
	q.bottom = slices.Insert(q.bottom, at, it)
}

// Next returns the time of the earliest event; false when there is none.
func (q *Queue[T]) Next() (at int64, ok bool) {
	if !q.fill() {
		return 0, false
	}
	return q.bottom[len(q.bottom)-1].At, true
}

// Peek returns the earliest event; there must be one.
func (q *Queue[T]) Peek() Item[T] {
	q.fill()
	return q.bottom[len(q.bottom)-1]
}

// Pop takes the earliest event; false when there is none.
func (q *Queue[T]) Pop() (it Item[T], ok bool) {
	if !q.fill() {
		return it, false
	}
	last := len(q.bottom) - 1
	it = q.bottom[last]
	q.bottom[last] = Item[T]{}
	q.bottom = q.bottom[:last]
	q.n--
	return it, true
}

// fill sees to it that the bottom has the earliest event.
func (q *Queue[T]) fill() bool {
	for len(q.bottom) == 0 {
		switch {
		case len(q.rungs) > 0:
			q.descend()
		case len(q.top) > 0:
			q.from = q.most + 1
			q.spread(q.top)
			clear(q.top)
			q.top = q.top[:0]
		default:
			return false
		}
	}
	return true
}

// descend takes the next bucket of the finest rung to the bottom, or to a finer
// rung when it is large.
func (q *Queue[T]) descend() {
	r := q.rungs[len(q.rungs)-1]
	for r.next < len(r.buckets) && r.buckets[r.next].n == 0 {
		r.next++
	}
	if r.next == len(r.buckets) {
		q.rungs = q.rungs[:len(q.rungs)-1]
		q.spare = append(q.spare, r)
		return
	}
	b := &r.buckets[r.next]
	r.next++
	if b.n > small && r.width > 1 && len(q.rungs) < maxRungs {
		q.bucket = q.empty(b, q.bucket[:0])
		q.spread(q.bucket)
		clear(q.bucket)
		return
	}
	q.bottom = q.empty(b, q.bottom)
	slices.SortFunc(q.bottom, func(a, b Item[T]) int { return order(b, a) })
}

// spread makes a rung of items, about two of them to a bucket. Items of one
// time, or few, go to the bottom, which must be empty.
func (q *Queue[T]) spread(items []Item[T]) {
	least, most := items[0].At, items[0].At
	for i := range items {
		least, most = min(least, items[i].At), max(most, items[i].At)
	}
	if least == most || len(items) <= small {
		q.bottom = append(q.bottom, items...)
		slices.SortFunc(q.bottom, func(a, b Item[T]) int { return order(b, a) })
		return
	}
	n := min(max(len(items)/2, 2), maxBuckets)
	width := (most-least)/int64(n) + 1
	r := q.rung(least, width, int((most-least)/width)+1)
	for _, it := range items {
		q.put(&r.buckets[(it.At-least)/width], it)
	}
	q.rungs = append(q.rungs, r)
}

// rung returns an empty one, with the memory of an earlier one if there is.
func (q *Queue[T]) rung(start, width int64, n int) *rung {
	r := &rung{}
	if last := len(q.spare) - 1; last >= 0 {
		r, q.spare = q.spare[last], q.spare[:last]
	}
	r.start, r.width, r.next = start, width, 0
	if cap(r.buckets) < n {
		r.buckets = make([]bucket, n)
	}
	r.buckets = r.buckets[:n]
	return r
}
