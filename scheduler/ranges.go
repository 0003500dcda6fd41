package scheduler

// MaxRange is the most tasks of one range.
const MaxRange = 64

// Measured work of one range, in us: at most, and at least even when little is
// left. A range of less work than the way to the leader and a commit cost would
// share nothing: the slot would be done with it before another slot had any.
const (
	rangeMicros = 250_000
	leastMicros = 5_000
)

// RangeSize is how many tasks a slot may take next: about 250 ms of measured
// work, at most a share of what is left so that the last slot is not the slow
// one (guided self-scheduling, Polychronopoulos and Kuck, 1987), but 5 ms of
// work at least, and 1 to MaxRange.
func RangeSize(left uint32, slots int, microsPerTask int64) uint32 {
	if microsPerTask <= 0 {
		return 1
	}
	share := int64(left) / int64(2*max(slots, 1))
	n := min(rangeMicros/microsPerTask, max(share, leastMicros/microsPerTask), int64(left), MaxRange)
	return uint32(max(n, 1))
}
