package gauge

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// work is something to count the turns of. It returns a number only so that none
// of it is left out.
type work func(stop func() bool) (turns uint64, left uint64)

// batch is how many turns pass between two looks at the clock.
const batch = 1 << 14

// arithmetic is a chain of shifts (xorshift64, Marsaglia 2003).
func arithmetic(stop func() bool) (turns, x uint64) {
	for x = 88172645463325252; !stop(); turns += batch {
		for range batch {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
	}
	return turns, x
}

// chain is more than the caches of a core hold, in words of 4 bytes.
const chain = 4 << 20

// memory follows a chain through 16 MiB, each link known only when the one before
// has come.
func memory(stop func() bool) (turns, at uint64) {
	next := make([]uint32, chain)
	for i := range next { // a full period (Hull and Dobell, 1962), far jumps
		next[i] = uint32((uint64(i)*1_664_525 + 1_013_904_223) % chain)
	}
	for i := uint32(0); !stop(); turns += batch {
		for range batch {
			i = next[i]
		}
		at = uint64(i)
	}
	return turns, at
}

// run is the meter of this machine. Time that other programs had the CPU does not
// count.
func run(ctx context.Context, w work, cpus []int, d time.Duration) (float64, error) {
	rates := make([]float64, len(cpus))
	group, ctx := errgroup.WithContext(ctx)
	for i, cpu := range cpus {
		group.Go(func() (err error) {
			rates[i], err = runOn(ctx, w, cpu, d)
			return err
		})
	}
	err := group.Wait()
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum, err
}

func runOn(ctx context.Context, w work, cpu int, d time.Duration) (float64, error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its affinity
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return 0, fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	var end time.Time
	var began time.Duration
	turns, _ := w(func() bool {
		if end.IsZero() { // what the work prepares does not count
			began, end = threadTime(), time.Now().Add(d)
		}
		return time.Now().After(end) || ctx.Err() != nil
	})
	used := threadTime() - began
	if err := ctx.Err(); err != nil || used <= 0 {
		return 0, err
	}
	return float64(turns) / used.Seconds(), nil
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
