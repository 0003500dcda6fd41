// Package watchdog is the supervisor's inside: a table of sandboxes with
// deadlines, and the small process around it that kills. It is linked into the
// shim. The daemon's side is runner.Supervisor.
package watchdog

import "slices"

// Instant is a point of the boot-time clock in nanoseconds (CLOCK_BOOTTIME),
// which goes on while the machine is suspended.
type Instant int64

// Table knows which sandboxes may live until when. It is pure: the caller
// brings the time. A key is a slot; it may have a deadline without a sandbox,
// and several sandboxes at once.
type Table struct {
	slots map[string]*slot
}

type slot struct {
	deadline Instant
	ids      []uint64 // of its live sandboxes
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{slots: map[string]*slot{}} }

// Grant sets the deadline of key, or moves it forward; it never moves back.
func (t *Table) Grant(key string, deadline Instant) {
	s := t.slots[key]
	if s == nil {
		s = &slot{}
		t.slots[key] = s
	}
	s.deadline = max(s.deadline, deadline)
}

// Add puts a sandbox under key. It reports false, and adds nothing, when key
// has no deadline or it has passed.
func (t *Table) Add(key string, id uint64, now Instant) bool {
	s := t.slots[key]
	if s == nil || s.deadline <= now {
		return false
	}
	s.ids = append(s.ids, id)
	return true
}

// Drop forgets one sandbox, which has ended by itself.
func (t *Table) Drop(key string, id uint64) {
	if s := t.slots[key]; s != nil {
		s.ids = slices.DeleteFunc(s.ids, func(i uint64) bool { return i == id })
	}
}

// Forget removes key and returns the sandboxes it still has, which the daemon
// no longer wants.
func (t *Table) Forget(key string) []uint64 {
	s := t.slots[key]
	delete(t.slots, key)
	if s == nil {
		return nil
	}
	return s.ids
}

// Due removes every key whose deadline has passed and returns them, sorted,
// with their sandboxes.
func (t *Table) Due(now Instant) []Expired {
	var out []Expired
	for key, s := range t.slots {
		if s.deadline <= now {
			out = append(out, Expired{key, s.ids})
		}
	}
	slices.SortFunc(out, func(a, b Expired) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	for _, e := range out {
		delete(t.slots, e.Key)
	}
	return out
}

// Expired is a slot whose lease has run out.
type Expired struct {
	Key string
	IDs []uint64
}

// Next returns the earliest deadline, false when there is none.
func (t *Table) Next() (Instant, bool) {
	var next Instant
	for _, s := range t.slots {
		if next == 0 || s.deadline < next {
			next = s.deadline
		}
	}
	return next, next != 0
}
