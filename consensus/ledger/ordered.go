package ledger

import (
	"iter"
	"slices"
	"sort"
)

// ordered is a set in the order of its keys: a list of short sorted blocks, so
// that a change moves at most blockMax items whatever the size of the set.
type ordered[T any] struct {
	blocks [][]keyed[T]
	n      int
}

type keyed[T any] struct {
	key   uint64
	value T
}

const blockMax = 512

// block returns the position of the first block whose last key is not below key.
func (o *ordered[T]) block(key uint64) int {
	return sort.Search(len(o.blocks), func(i int) bool {
		b := o.blocks[i]
		return b[len(b)-1].key >= key
	})
}

func inBlock[T any](b []keyed[T], key uint64) int {
	return sort.Search(len(b), func(i int) bool { return b[i].key >= key })
}

// add puts value at key, which is not in the set.
func (o *ordered[T]) add(key uint64, value T) {
	o.n++
	i := o.block(key)
	if i == len(o.blocks) {
		if i == 0 || len(o.blocks[i-1]) == blockMax {
			o.blocks = append(o.blocks, []keyed[T]{{key, value}})
			return
		}
		i--
	}
	b := o.blocks[i]
	b = slices.Insert(b, inBlock(b, key), keyed[T]{key, value})
	o.blocks[i] = b
	if len(b) > blockMax {
		half := len(b) / 2
		o.blocks[i] = slices.Clone(b[:half])
		o.blocks = slices.Insert(o.blocks, i+1, slices.Clone(b[half:]))
	}
}

// remove takes key out if it is there.
func (o *ordered[T]) remove(key uint64) {
	i := o.block(key)
	if i == len(o.blocks) {
		return
	}
	b := o.blocks[i]
	j := inBlock(b, key)
	if b[j].key != key {
		return
	}
	o.n--
	o.blocks[i] = slices.Delete(b, j, j+1)
	if len(o.blocks[i]) == 0 {
		o.blocks = slices.Delete(o.blocks, i, i+1)
	}
}

// from yields the values whose keys are at least key, in ascending order. The
// set must not change meanwhile.
func (o *ordered[T]) from(key uint64) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := o.block(key); i < len(o.blocks); i++ {
			b := o.blocks[i]
			for j := inBlock(b, key); j < len(b); j++ {
				if !yield(b[j].value) {
					return
				}
			}
		}
	}
}
