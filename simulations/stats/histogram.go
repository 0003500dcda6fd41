package stats

import (
	"math"
	"math/bits"
)

// subBits is how finely each power of two is cut: into 128 buckets, so that a
// quantile is at most 0.8 % too high (as in HdrHistogram).
const subBits = 7

// Histogram counts values of 0 and more. Small ones are exact; of others it keeps
// the bucket. It needs at most 58 KB, whatever is added. The zero Histogram is
// empty and ready.
type Histogram struct {
	counts []uint32
	n      uint64
	sum    float64
	least  int64
	most   int64
}

func bucketOf(v int64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(uint64(v)) - subBits - 1
	return (shift+1)<<subBits + int(v>>shift) - 1<<subBits
}

// topOf is the largest value of a bucket.
func topOf(bucket int) int64 {
	if bucket < 1<<subBits {
		return int64(bucket)
	}
	shift := bucket>>subBits - 1
	return (int64(bucket&(1<<subBits-1))+1<<subBits+1)<<shift - 1
}

// Add counts a value; a negative one counts as 0.
func (h *Histogram) Add(v int64) {
	v = max(v, 0)
	b := bucketOf(v)
	if b >= len(h.counts) {
		h.counts = append(h.counts, make([]uint32, b+1-len(h.counts))...)
	}
	h.counts[b]++
	if h.n == 0 {
		h.least = v
	}
	h.least, h.most = min(h.least, v), max(h.most, v)
	h.n++
	h.sum += float64(v)
}

// N returns how many values were added.
func (h *Histogram) N() uint64 { return h.n }

// Mean returns the mean; NaN of none.
func (h *Histogram) Mean() float64 {
	if h.n == 0 {
		return math.NaN()
	}
	return h.sum / float64(h.n)
}

// Quantile returns the value that a share q of all are at most; NaN of none.
func (h *Histogram) Quantile(q float64) float64 {
	if h.n == 0 {
		return math.NaN()
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(h.n)))
	var seen uint64
	for b, c := range h.counts {
		if seen += uint64(c); seen >= max(rank, 1) {
			return float64(min(max(topOf(b), h.least), h.most))
		}
	}
	return float64(h.most)
}
