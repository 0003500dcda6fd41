package vm

import (
	"sync"
	"time"
)

// tscKHz is how fast the time stamp counter counts, which a translated guest
// sees as its own. Told so, its kernel need not measure it against a timer that
// QEMU serves late on a busy machine: without, some boots hang there.
var tscKHz = sync.OnceValue(func() int64 {
	begin, from := pairTSC()
	time.Sleep(tscMeasure)
	end, to := pairTSC()
	return int64(float64(to-from) / float64(end.Sub(begin).Nanoseconds()) * 1e6)
})

// tscMeasure is long enough for one part in ten thousand.
const tscMeasure = 20 * time.Millisecond

// pairTSC reads clock and counter together: the pair that took the least of
// some, so that being put aside in between does not count.
func pairTSC() (at time.Time, counter uint64) {
	best := time.Hour
	for range 8 {
		began := time.Now()
		n := readTSC()
		if took := time.Since(began); took < best {
			best, at, counter = took, began.Add(took/2), n
		}
	}
	return at, counter
}
