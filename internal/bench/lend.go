package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing/fstest"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload"
)

// idleTime measures what an owner notices of spare work, and spare work of an owner,
// with a real node and real sandboxes: a spare task computes on each CPU; what it gets
// of the time that all others leave; and how soon all is given back when programs that
// are not the node's want every CPU.
//
// The node watches this machine. Where strangers use so much of it that nothing would
// be lent, it takes the machine for idle until the owner's programs begin, and believes
// the kernel from then on.
func idleTime(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	o := &owner{}
	defer o.leave()
	watched, err := o.machine(ctx, b)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.tmp, "lend")
	if err != nil {
		return err
	}
	backend, stop, err := nodeWatching(ctx, dir, watched)
	if err != nil {
		return err
	}
	defer stop()
	l := &lent{b: b, backend: backend, cpus: runtime.NumCPU(), owner: o}
	spec := shellTasks("spare", uint32(l.cpus), workload.Spare, "while :; do :; done # "+l.mark())
	spec.Timeout = time.Minute.Milliseconds()
	if _, err := backend.Submit(ctx, spec); err != nil {
		return err
	}
	if err := l.until(ctx, l.cpus); err != nil {
		return fmt.Errorf("nothing was lent: %w", err)
	}
	if err := l.keeps(ctx); err != nil {
		return err
	}
	return l.yields(ctx)
}

// lent is spare work that runs.
type lent struct {
	b       *bench
	backend api.Backend
	cpus    int
	owner   *owner
}

// mark is in the command line of the spare tasks and of nothing else.
func (l *lent) mark() string { return fmt.Sprintf("perrin-bench-lend-%d", os.Getpid()) }

// running is how many spare tasks have CPUs now.
func (l *lent) running(ctx context.Context) (n int, err error) {
	p, err := l.backend.Picture(ctx, "mix")
	if err != nil {
		return 0, err
	}
	for _, s := range p.Spare {
		if len(s.CPUs) > 0 {
			n++
		}
	}
	return n, nil
}

// until waits until so many spare tasks have CPUs.
func (l *lent) until(ctx context.Context, want int) error {
	for {
		n, err := l.running(ctx)
		if err != nil || n == want {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// used is the CPU time of the spare tasks.
func (l *lent) used() (sum time.Duration) {
	for _, pid := range pidsWith(l.mark()) {
		sum += cpuOf(pid)
	}
	return sum
}

// keeps is what spare work gets beside an owner who does nothing.
func (l *lent) keeps(ctx context.Context) error {
	before, spare := accountNow(), l.used()
	if err := pause(ctx, l.b.sizes.lendFor); err != nil {
		return err
	}
	got, now := float64(l.used()-spare)/float64(time.Second/ticks), accountNow()
	idle := float64((now.total - now.busy) - (before.total - before.busy))
	if all := float64(now.total - before.total); got+idle < all/10 {
		l.b.out.note("others leave %.0f %% of the machine: what spare work keeps beside an idle owner is not measured", 100*(got+idle)/all)
		return nil
	}
	l.b.out.add(atLeast(fmt.Sprintf("%d spare tasks beside an idle owner: of the CPU time that all others leave", l.cpus), "%", 100*got/max(got+idle, 1), 95).
		noting("they got %.0f %% of the machine", 100*got/max(float64(now.total-before.total), 1)))
	return nil
}

// yields has the owner's programs want every CPU for a while.
func (l *lent) yields(ctx context.Context) error {
	if err := l.owner.want(ctx, l.cpus); err != nil {
		return err
	}
	began, spare := time.Now(), l.used()
	if err := l.until(ctx, 0); err != nil {
		return fmt.Errorf("spare work went on beside the owner's: %w", err)
	}
	took := time.Since(began)
	if err := pause(ctx, max(0, time.Second-took)); err != nil {
		return err
	}
	beside, window := l.used()-spare, time.Since(began)
	l.b.out.add(atMost("the owner's programs want every CPU: until all spare tasks are paused", "ms", millis(took), 1000))
	l.b.out.add(atMost("the same: of the machine, spare tasks got in the first second", "%", 100*beside.Seconds()/(window.Seconds()*float64(l.cpus)), 5))
	l.owner.leave()
	began = time.Now()
	if !l.owner.strangers {
		if err := l.until(ctx, l.cpus); err != nil {
			return err
		}
		l.b.out.add(atMost("the same: until they all run again, once the owner's have ended", "ms", millis(time.Since(began)), 0))
	}
	return nil
}

// owner is whose machine it is: programs outside of every sandbox.
type owner struct {
	strangers bool // use so much of the machine that nothing would be lent
	programs  []*exec.Cmd
	began     chan struct{}
}

// machine is what the node watches; nil is the real one.
func (o *owner) machine(ctx context.Context, b *bench) (*load.Machine, error) {
	o.began = make(chan struct{})
	before := accountNow()
	if err := pause(ctx, b.sizes.lendFor); err != nil {
		return nil, err
	}
	others := before.others(accountNow())
	if others*float64(runtime.NumCPU()) < 20 { // a quarter of a thread is taken for none
		return nil, nil
	}
	o.strangers = true
	b.out.note("others use %.0f %% of the machine: the node takes it for idle until the owner's programs begin, and for as busy as it is from then on", others)
	m := load.Machine{Proc: statOf{o.began}, Used: func() (all, spare time.Duration) { return 0, 0 }}
	for i := range runtime.NumCPU() {
		m.CPUs = append(m.CPUs, i)
	}
	return &m, nil
}

// want starts programs of the owner's that compute until leave.
func (o *owner) want(ctx context.Context, count int) error {
	close(o.began)
	for range count {
		cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			return err
		}
		o.programs = append(o.programs, cmd)
	}
	return nil
}

func (o *owner) leave() {
	for _, cmd := range o.programs {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	o.programs = nil
}

// statOf is a /proc in which nothing is used before began is closed.
type statOf struct{ began chan struct{} }

// Open implements fs.FS.
func (s statOf) Open(name string) (fs.File, error) {
	if name != "stat" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	select {
	case <-s.began:
		return os.Open("/proc/stat")
	default:
	}
	text := ""
	for i := range runtime.NumCPU() {
		text += fmt.Sprintf("cpu%d 0 0 0 0 0 0 0 0 0 0\n", i)
	}
	return fstest.MapFS{"stat": {Data: []byte(text)}}.Open("stat")
}

// pidsWith lists the processes of which the command line has a word in it.
func pidsWith(word string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(raw), word) {
			var pid int
			if _, err := fmt.Sscanf(name, "/proc/%d/cmdline", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
