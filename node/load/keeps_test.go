package load

import (
	"testing"

	"pgregory.net/rapid"
)

// TestSpareKeepsWhatAnIdleOwnerLeaves closes the loop without a machine: an owner
// who hums below the slack, with a hiccup of everything for one sample now and then,
// and spare work that takes all that is left of the threads lent to it. Beside that
// owner spare work gets at least 95 % of what is left, and when the owner wants all,
// nothing is lent any more within a second. What the kernel gives to whom is not
// tried here, nor is the grain of its clocks finer than the tick of /proc/stat.
func TestSpareKeepsWhatAnIdleOwnerLeaves(t *testing.T) {
	every := WhileLent.Milliseconds()
	const minute = 60_000
	rapid.Check(t, func(t *rapid.T) {
		rule := Rule{Config: Default()}
		threads := rapid.Int64Range(1, 16).Draw(t, "threads")
		room := min(Default().Slack-tick/every, 1000*threads) // the tick's error counts as others'
		hum := rapid.Int64Range(0, room)
		hiccup := rapid.SliceOfNDistinct(rapid.Int64Range(0, minute/every/8-1), 0, 6, rapid.ID[int64]).Draw(t, "hiccups")
		s := Sample{Threads: int(threads)}
		lent, left, got := int64(0), int64(0), int64(0)
		step := func(wanted int64) {
			used := min(1000*lent, 1000*threads-wanted) // permille of a thread, of spare work
			s.At += every
			s.Busy += every * (wanted + used)
			s.Own += every * used
			s.Spare += every * used
			seen := s
			seen.Busy = s.Busy / tick * tick
			left, got = left+1000*threads-wanted, got+used
			lent = int64(rule.Step(seen, nil).Idle)
		}
		for range Default().Calm / every {
			step(0)
		}
		left, got = 0, 0
		for i := range minute / every {
			wanted := hum.Draw(t, "hum")
			for _, at := range hiccup {
				if i == 8*at {
					wanted = 1000 * threads
				}
			}
			step(wanted)
		}
		if got*100 < left*95 {
			t.Fatalf("spare work got %d of the %d that were left", got, left)
		}
		began := s.At
		for lent > 0 {
			step(1000 * threads)
			if s.At-began > 1000 {
				t.Fatalf("%d threads are still lent after %d ms", lent, s.At-began)
			}
		}
	})
}
