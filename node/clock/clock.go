// Package clock is the time that leases are counted in: milliseconds that go on
// while the machine is suspended, unlike Go's monotonic clock.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Source is the time since the machine was booted. It never goes back.
type Source func() time.Duration

// Clock counts from when it was made.
type Clock struct {
	boot Source
	zero time.Duration
}

// New returns a clock that starts now, at 1 ms. A nil source is the machine's
// own CLOCK_BOOTTIME; a simulation brings another.
func New(s Source) Clock {
	if s == nil {
		s = boot
	}
	return Clock{boot: s, zero: s() - time.Millisecond}
}

// Now returns ms since the clock was made. It never goes back.
func (c Clock) Now() int64 { return (c.boot() - c.zero).Milliseconds() }

// Boot turns a time on the clock into one since the machine was booted, as
// CLOCK_BOOTTIME counts.
func (c Clock) Boot(ms int64) time.Duration { return c.zero + time.Duration(ms)*time.Millisecond }

// boot reads CLOCK_BOOTTIME (clock_gettime(2)), which cannot fail on Linux
// since 2.6.39; a failure would read as 0, so leases would only end early.
func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
