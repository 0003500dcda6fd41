package queue

import "container/heap"

// oracle is what the ladder is held to and measured beside: a binary heap.
type oracle struct {
	items []Item[int]
	seq   uint64
}

func (o *oracle) Len() int           { return len(o.items) }
func (o *oracle) Less(i, j int) bool { return o.items[i].before(&o.items[j]) }
func (o *oracle) Swap(i, j int)      { o.items[i], o.items[j] = o.items[j], o.items[i] }
func (o *oracle) Push(x any)         { o.items = append(o.items, x.(Item[int])) }
func (o *oracle) Pop() any {
	last := o.items[len(o.items)-1]
	o.items = o.items[:len(o.items)-1]
	return last
}

func (o *oracle) push(at int64, v int) {
	o.seq++
	heap.Push(o, Item[int]{At: at, Seq: o.seq, Value: v})
}

func (o *oracle) pop() Item[int] { return heap.Pop(o).(Item[int]) }

// bare is a heap without interfaces, the fastest plain one: the benchmark's rival.
type bare struct {
	items []Item[event]
	seq   uint64
}

func (b *bare) push(at int64, v event) {
	b.seq++
	b.items = append(b.items, Item[event]{At: at, Seq: b.seq, Value: v})
	for i := len(b.items) - 1; i > 0; {
		up := (i - 1) / 2
		if b.items[up].before(&b.items[i]) {
			return
		}
		b.items[up], b.items[i] = b.items[i], b.items[up]
		i = up
	}
}

func (b *bare) pop() Item[event] {
	first, last := b.items[0], len(b.items)-1
	b.items[0] = b.items[last]
	b.items = b.items[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if b.items[c].before(&b.items[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		b.items[i], b.items[least] = b.items[least], b.items[i]
		i = least
	}
}
