// Package tsc measures how fast the processor's time stamp counter counts, which
// a machine that QEMU translates sees as its own. Told so by tsc_early_khz=, its
// kernel need not measure it against a timer that QEMU serves late on a busy
// machine: without, some boots hang there.
package tsc

import (
	"sync"
	"time"
)

// KHz returns the frequency in kHz. It measures for 20 ms when it is first
// called. It is safe for concurrent use.
func KHz() int64 { return khz() }

var khz = sync.OnceValue(func() int64 {
	begin, from := pair()
	time.Sleep(measure)
	end, to := pair()
	return int64(float64(to-from) / float64(end.Sub(begin).Nanoseconds()) * 1e6)
})

// measure is long enough for one part in ten thousand.
const measure = 20 * time.Millisecond

// pair reads clock and counter together: the pair that took the least of
// some, so that being put aside in between does not count.
func pair() (at time.Time, counter uint64) {
	best := time.Hour
	for range 8 {
		began := time.Now()
		n := read()
		if took := time.Since(began); took < best {
			best, at, counter = took, began.Add(took/2), n
		}
	}
	return at, counter
}
