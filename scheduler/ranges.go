package scheduler

// MaxRange is the most tasks of one range.
const MaxRange = 64

const rangeMicros = 250_000

// RangeSize is how many tasks a slot may take next: about 250 ms of measured
// work, at most a share of what is left so that the last slot is not the slow
// one (guided self-scheduling, Polychronopoulos and Kuck, 1987), and 1 to MaxRange.
func RangeSize(left uint32, slots int, microsPerTask int64) uint32 {
	n := int64(1)
	if microsPerTask > 0 {
		n = rangeMicros / microsPerTask
	}
	n = min(n, int64(left)/int64(2*max(slots, 1)), MaxRange)
	return uint32(max(n, 1))
}
