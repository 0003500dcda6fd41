package queue

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestAgainstAHeap pushes and pops at random, in bursts of one time, far ahead
// and in the past, and wants what a heap gives.
func TestAgainstAHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[int]
		var o oracle
		now := int64(0)
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			spread := rapid.SampledFrom([]int64{1, 10, 1000, 1_000_000, 1 << 45}).Draw(t, "spread")
			for range rapid.IntRange(0, 300).Draw(t, "pushes") {
				at := now + rapid.Int64Range(-3, spread).Draw(t, "at")
				q.Push(at, step)
				o.push(at, step)
			}
			for range rapid.IntRange(0, 300).Draw(t, "pops") {
				now = popBoth(t, &q, &o, now)
			}
		}
		for o.Len() > 0 {
			popBoth(t, &q, &o, 0)
		}
		if _, ok := q.Pop(); ok {
			t.Fatal("the queue has more than the heap")
		}
	})
}

func popBoth(t *rapid.T, q *Queue[int], o *oracle, now int64) int64 {
	next, any := q.Next()
	got, ok := q.Pop()
	if o.Len() == 0 {
		if ok || any {
			t.Fatalf("the queue gives %v, the heap is empty", got)
		}
		return now
	}
	want := o.pop()
	if !ok || got != want || next != want.At || q.Len() != o.Len() {
		t.Fatalf("got %v (next %d, %d left), want %v (%d left)", got, next, q.Len(), want, o.Len())
	}
	return want.At
}

// event is of the size that the model's are.
type event [4]int32

// mixed is the delay of the i-th event of a mixed load: most messages of some
// milliseconds, some timers of seconds, a burst at one time.
func mixed(i uint64) int64 {
	h := (i + 1) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	switch h & 15 {
	case 0:
		return int64(h>>8) % 9_000_000_000
	case 1, 2:
		return 50_000_000
	}
	return 200_000 + int64(h>>8)%80_000_000
}

// BenchmarkMixed is one push and one pop of a queue that holds as many events
// as named; events/s is what a bare event loop would do.
func BenchmarkMixed(b *testing.B) {
	for _, held := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("ladder/%d", held), func(b *testing.B) {
			var q Queue[event]
			for i := range held {
				q.Push(mixed(uint64(i)), event{})
			}
			b.ResetTimer()
			for i := range b.N {
				it, _ := q.Pop()
				q.Push(it.At+mixed(uint64(i)), it.Value)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(fmt.Sprintf("heap/%d", held), func(b *testing.B) {
			var q bare
			for i := range held {
				q.push(mixed(uint64(i)), event{})
			}
			b.ResetTimer()
			for i := range b.N {
				it := q.pop()
				q.push(it.At+mixed(uint64(i)), it.Value)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
