package load

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How often the machine is looked at: while something is lent, and when nothing
// is. The first bounds how long the owner's programs share with spare work, less
// the time that it gives way by itself.
const (
	WhileLent = 250 * time.Millisecond
	WhileIdle = 2 * time.Second
)

// Machine is what is watched.
type Machine struct {
	Proc fs.FS // /proc
	CPUs []int // that the node may use
	// Used is the CPU time of sandboxes and of spare ones among them.
	Used func() (all, spare time.Duration)
	// Groups are the machine's cgroups of version 2; nil where there are none.
	Groups *Groups
	// Lent signals that something was lent; nil is never.
	Lent <-chan struct{}
	// Quiet reports whether the owner wants the machine alone; nil is never.
	Quiet func(now time.Time) bool
}

// Watch looks at the machine until ctx ends, and hands each decision to act. A
// machine that cannot be read lends nothing; act is then not called.
func Watch(ctx context.Context, m Machine, slots func() []Slot, act func(Decision)) error {
	rule := Rule{Config: Default()}
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-m.Lent:
		case <-ctx.Done():
			return nil
		}
		s, err := m.sample(begin)
		if err != nil {
			return fmt.Errorf("watch the machine's load: %w", err)
		}
		lent := slots()
		act(rule.Step(s, lent))
		next := WhileIdle
		if len(lent) > 0 || len(rule.demand) == 0 {
			next = WhileLent
		}
		timer.Reset(next)
	}
}

func (m *Machine) sample(begin time.Time) (Sample, error) {
	text, err := fs.ReadFile(m.Proc, "stat")
	if err != nil {
		return Sample{}, err
	}
	now := time.Now()
	all, spare := m.Used()
	daemon := ownTime()
	all, spare = all+daemon, spare+daemon
	s := Sample{At: now.Sub(begin).Milliseconds(), Threads: len(m.CPUs), Own: all.Microseconds(), Spare: spare.Microseconds()}
	if s.Busy, err = busy(string(text), m.CPUs); err != nil {
		return Sample{}, err
	}
	s.Memory, s.Disk = m.pressure("pressure/memory", "some"), m.pressure("pressure/io", "full")
	s.Waits = m.Groups.waits()
	s.Quiet = m.Quiet != nil && m.Quiet(now)
	return s, nil
}

// ownTime is the CPU time of this process, whose work for spare slots must not
// drive them away.
func ownTime() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// tick is the unit of /proc/stat (USER_HZ, 100 on every architecture that Go
// runs on under Linux), in us.
const tick = 10_000

// busy sums the time that CPUs were not idle, in us, from the text of /proc/stat:
// "cpu0 user nice system idle iowait irq softirq steal guest guest_nice". Time
// waiting for disks is idle; guest time is in user time already; stolen time is
// used by others, on the machine below.
func busy(text string, cpus []int) (int64, error) {
	want := make(map[string]bool, len(cpus))
	for _, c := range cpus {
		want["cpu"+strconv.Itoa(c)] = true
	}
	var sum int64
	found := false
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "cpu") {
			break // they come first
		}
		f := strings.Fields(line)
		if len(f) < 8 || !want[f[0]] {
			continue
		}
		found = true
		for i, v := range f[1:min(len(f), 9)] {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/tick-sum {
				return 0, fmt.Errorf("stat: %.80q", line)
			}
			if i != 3 && i != 4 {
				sum += n
			}
		}
	}
	if !found {
		return 0, fmt.Errorf("stat: no line of CPUs %v", cpus)
	}
	return sum * tick, nil
}

// pressure returns the permille of the last 10 s that a PSI file gives in the
// line that begins with kind ("some avg10=1.25 avg60=…"), 0 without one.
func (m *Machine) pressure(name, kind string) int64 {
	text, err := fs.ReadFile(m.Proc, name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != kind {
			continue
		}
		share, err := strconv.ParseFloat(strings.TrimPrefix(f[1], "avg10="), 64)
		if err != nil || !(share >= 0 && share <= 100) {
			return 0
		}
		return int64(share * 10)
	}
	return 0
}
