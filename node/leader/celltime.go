package leader

import "sync"

// cellTime is what a leader stamps its commands with, in ms of the Unix epoch:
// the machine's clock, unless that is behind the ledger's time because a clock
// was set back, or that of an earlier leader was ahead. Then it goes on at half
// speed until the clock has caught up, so that time measured by it still passes.
// It never goes back.
type cellTime struct {
	mu   sync.Mutex
	last int64
	mono int64

	first  int64 // the term's first time; 0 before
	firstM int64 // by the monotonic clock
}

// begin takes the ledger's time over. mono is ms of a monotonic clock.
func (t *cellTime) begin(ledger, mono int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.mono, t.first = max(t.last, ledger), mono, 0
}

// now is the time when the machine's clock says wall.
func (t *cellTime) now(wall, mono int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	half := max(mono-t.mono, 0) / 2
	t.mono += 2 * half
	t.last = max(wall, t.last+half)
	if t.first == 0 {
		t.first, t.firstM = t.last, mono
	}
	return t.last
}

// patient is a time for what must not seem long ago because a clock was set
// forward: it is never later than now, and moves no faster than the monotonic
// clock. first is that of the term's beginning.
func (t *cellTime) patient(wall, mono int64) (now, first int64) {
	now = t.now(wall, mono)
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(now, t.first+mono-t.firstM), t.first
}

// stepMs is how much further a clock must have gone than time did to count as set.
const stepMs = 1000

// steady knows since when the cell's time goes no faster than time does.
type steady struct {
	mu    sync.Mutex
	begun bool
	ahead int64 // of the cell's time over the monotonic clock, the least since then
	since int64 // by the monotonic clock
}

// note takes both times, in ms, and returns for how long, in ms, the cell's time
// has not been set forward, as far as the calls of this term tell.
func (s *steady) note(cell, mono int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead := cell - mono
	if !s.begun || ahead > s.ahead+stepMs {
		s.begun, s.ahead, s.since = true, ahead, mono
	}
	s.ahead = min(s.ahead, ahead)
	return mono - s.since
}
