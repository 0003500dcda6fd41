// Package load decides what of a machine may be lent out while its owner's own
// programs run on it. Rule is pure: samples in, decisions out, in ms of any clock.
// Watch (watch.go) reads the samples from the kernel and hands the decisions on.
//
// What is idle is what no program uses but spare work, which gives way to all
// others by itself (SCHED_IDLE, the least weight): so the CPU time that others
// used is the CPU time that they wanted. It goes by the busiest of the last few
// samples, so that the machine's owner is believed at once and idleness only
// after a while. Pressure (PSI) speaks for memory and disks, of which spare work
// takes its share at any priority; CPU pressure of the machine would be raised by
// spare work's own waiting. Where cgroups of version 2 tell how long the programs of
// each wait for a CPU, the longest wait of one that is not the node's counts as
// wanted too: programs that share a CPU use less than they want.
package load

import (
	"slices"
)

// Config is when the rule acts. Times are ms, the rest permille.
type Config struct {
	Slack    int64 // of a thread: others' use of the machine up to it counts as none
	Calm     int64 // idleness is believed when it has lasted so long
	Patience int64 // spare work that has been paused for so long goes elsewhere
	Memory   int64 // share of time that some program waits for memory, over which spare work goes
	Disk     int64 // share of time that all programs wait for a disk, over which spare work is paused
	Every    int64 // between two slots that go because of pressure: the first one's going takes time to be felt
}

// Default lets a machine hum at a quarter of a thread, which is what an idle
// desktop or server uses, and believes in idleness after 3 s.
func Default() Config {
	return Config{Slack: 250, Calm: 3000, Patience: 30_000, Memory: 100, Disk: 200, Every: 10_000}
}

// Sample is one look at the machine. Busy, Own and Spare only grow, but for
// Spare where nothing counts it.
type Sample struct {
	At      int64 // ms
	Threads int   // that the node may use
	Busy    int64 // us of CPU time on those threads, by all programs
	Own     int64 // us, by sandboxes, spare ones included, and by the daemon
	Spare   int64 // us, by spare sandboxes and the daemon
	Memory  int64 // permille of the last 10 s in which some program waited for memory; 0 where the kernel does not say
	Disk    int64 // permille in which all waited for a disk; likewise
	Quiet   bool  // the owner wants the machine alone now

	// Waits is how long some program of each other cgroup has waited for a CPU so
	// far, in us; nil where the kernel does not say.
	Waits map[string]int64
}

// Slot is a spare slot.
type Slot struct {
	Key    string
	CPUs   int32
	Paused bool
}

// Decision is what follows.
type Decision struct {
	Idle   int      // threads that may be lent
	Others int64    // permille of the machine that other programs than this node's use
	Evict  []string // spare slots that are to go
	Quiet  bool     // take nothing new
}

// Rule remembers what it needs of the samples. The zero value with a Config is
// ready.
type Rule struct {
	Config Config

	last    Sample
	seen    bool
	demand  []use            // of the last Config.Calm ms
	paused  map[string]int64 // since when
	evicted int64            // when a slot last went because of pressure
	begun   bool             // evicted is set
}

// use is what was used over one interval, in permille of a thread.
type use struct{ at, others, wanted int64 }

// Step takes a sample and the spare slots, the oldest first. Without a sample
// before it nothing is known yet: nothing is lent.
func (r *Rule) Step(s Sample, slots []Slot) Decision {
	d := Decision{Quiet: s.Quiet}
	if r.seen && s.At > r.last.At {
		r.remember(s)
	}
	r.last, r.seen = s, true
	if len(r.demand) == 0 {
		return d
	}
	d.Idle = r.idle(r.peak(), int64(s.Threads))
	if s.Threads > 0 {
		d.Others = min(1000, r.average()/int64(s.Threads))
	}
	if s.Disk >= r.Config.Disk && len(slots) > 0 {
		d.Idle = min(d.Idle, running(slots)-int(slots[len(slots)-1].CPUs))
	}
	if s.Quiet {
		d.Idle = 0
	}
	d.Idle = max(d.Idle, 0)
	d.Evict = r.evict(s, slots)
	return d
}

// remember adds what was used since the last sample.
func (r *Rule) remember(s Sample) {
	over := s.At - r.last.At // ms: us of CPU per ms is permille of a thread
	busy := max(s.Busy-r.last.Busy, 0) / over
	own, spare := max(s.Own-r.last.Own, 0)/over, max(s.Spare-r.last.Spare, 0)/over
	waited := min(longest(r.last.Waits, s.Waits)/over, 1000) // of one thread's worth: it says that some waited, not how many
	r.demand = append(r.demand, use{at: s.At, others: max(busy-own, 0), wanted: max(busy-spare, 0) + waited})
	r.demand = slices.DeleteFunc(r.demand, func(u use) bool { return u.at <= s.At-r.Config.Calm && u.at != s.At })
}

// peak is the most that others wanted for two samples on end: one alone may be a
// hiccup, which spare work gives way to by itself.
func (r *Rule) peak() (most int64) {
	last := r.demand[0].wanted
	for _, u := range r.demand[min(1, len(r.demand)-1):] {
		most = max(most, min(u.wanted, last))
		last = u.wanted
	}
	return most
}

// average is what others used, in permille of a thread.
func (r *Rule) average() int64 {
	var sum int64
	for _, u := range r.demand {
		sum += u.others
	}
	return sum / int64(len(r.demand))
}

// idle is how many whole threads are left when others want so many permille.
func (r *Rule) idle(wanted, threads int64) int {
	wanted = max(wanted-r.Config.Slack, 0)
	return int(threads - (wanted+999)/1000)
}

func running(slots []Slot) (cpus int) {
	for _, s := range slots {
		if !s.Paused {
			cpus += int(s.CPUs)
		}
	}
	return cpus
}

// evict names the slots that go: those that were paused for too long, all in
// quiet hours, and for memory, which pausing does not free, the youngest.
func (r *Rule) evict(s Sample, slots []Slot) []string {
	paused := make(map[string]int64, len(slots))
	var out []string
	for _, slot := range slots {
		since, known := r.paused[slot.Key]
		switch {
		case !slot.Paused:
		case !known:
			paused[slot.Key] = s.At
		case s.At-since >= r.Config.Patience:
			out = append(out, slot.Key)
			paused[slot.Key] = since
		default:
			paused[slot.Key] = since
		}
		if s.Quiet && (len(out) == 0 || out[len(out)-1] != slot.Key) {
			out = append(out, slot.Key)
		}
	}
	r.paused = paused
	if n := len(slots); n > 0 && s.Memory >= r.Config.Memory && !(r.begun && s.At-r.evicted < r.Config.Every) {
		r.evicted, r.begun = s.At, true
		if key := slots[n-1].Key; !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}
