package process

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// ownCPUs lists the CPUs that this test may use.
func ownCPUs(t *testing.T) (cpus []int) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// TestScheduling asserts from inside where a program of each class runs, on
// which memory, under which policy, and that it cannot leave it.
func TestScheduling(t *testing.T) {
	const normal, idle = 0, 5 // SCHED_OTHER, SCHED_IDLE
	cpus := ownCPUs(t)
	last := cpus[len(cpus)-1]
	for class, policy := range map[workload.Class]int{workload.Core: normal, workload.Spare: idle} {
		s := kit(t).Open(t, func(spec *workload.Spec, slot *runner.Slot) {
			spec.Resources.Class, slot.CPUs, slot.Nodes = class, []int{last}, []int{0}
		})
		want := fmt.Sprintf("cpus %d mems 0 policy %d left false\n", last, policy)
		if r := s.Do("sched").OK(t); r.Stdout != want {
			t.Errorf("%s: %s, want %s", class, r.Stdout, want)
		}
		if class == workload.Spare {
			leastSession(t, s)
		}
	}
}

// leastSession holds that a spare program's session has the least weight, where
// the kernel has such (sched(7), autogroup). It takes ten changes a second from
// all ordinary users together, so one start may have to do without.
func leastSession(t *testing.T, s *runnertest.Slot) {
	t.Helper()
	var said string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		said = s.Do("read", "/proc/self/autogroup").Stdout
		if !strings.Contains(said, " nice ") || strings.Contains(said, " nice 19") {
			return
		}
	}
	t.Errorf("spare work's session: %s", said)
}

// TestQuota: a fifth of a core for so long is that much CPU time, never more, and
// no less where nothing else wants the core.
func TestQuota(t *testing.T) {
	k := kit(t)
	if !k.Runner.(*Runner).host.Controls().Quota {
		t.Skip("cgroups are not writable here: no quota")
	}
	s := k.Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Quota = 200 })
	const tries = 20 // on a busy machine
	for i := range tries {
		r := s.Do("burn", "1500").OK(t)
		least, most := r.Usage.WallMs*18/100, r.Usage.WallMs*22/100+20
		switch {
		case r.Usage.CPUMs > most || r.Usage.CPUMs < least && i == tries-1:
			t.Errorf("used %d ms of CPU in %d ms with a limit of 20 %%", r.Usage.CPUMs, r.Usage.WallMs)
			return
		case r.Usage.CPUMs >= least:
			return
		}
	}
}

func TestMove(t *testing.T) {
	cpus := ownCPUs(t)
	if len(cpus) < 2 {
		t.Skip("one CPU")
	}
	for _, class := range []workload.Class{workload.Core, workload.Spare} {
		s := kit(t).Open(t, func(spec *workload.Spec, slot *runner.Slot) {
			spec.Resources.Class, slot.CPUs = class, cpus[:1]
		})
		a := s.Attempt("follow-cpus")
		var said strings.Builder
		a.Stdout = writer(func(b []byte) {
			said.Write(b)
			if said.String() == fmt.Sprintf("%d\n", cpus[0]) {
				if err := s.Session.(runner.Movable).Move(cpus[1:2], nil); err != nil {
					t.Errorf("%s: %v", class, err)
					s.Session.Kill()
				}
				return
			}
			s.Session.Kill()
		})
		s.Run(a)
		if want := fmt.Sprintf("%d\n%d\n", cpus[0], cpus[1]); said.String() != want {
			t.Errorf("%s: ran on %q, want %q", class, said.String(), want)
		}
		if r := s.Do("affinity").OK(t); r.Stdout != fmt.Sprintf("[%d]\n", cpus[1]) {
			t.Errorf("%s: the next attempt runs on %s", class, r.Stdout)
		}
	}
}

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// TestFreeze: what is paused uses no CPU while other work does, goes on
// afterwards, and can be killed.
func TestFreeze(t *testing.T) {
	k := kit(t)
	beside := k.Open(t, nil)
	s := k.Open(t, func(spec *workload.Spec, _ *runner.Slot) { spec.Resources.Class = workload.Spare })
	used := func() time.Duration {
		_, spare := k.Runner.(*Runner).host.Time()
		return spare
	}
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	pausable := s.Session.(runner.Movable)
	a := s.Attempt("spin")
	a.Stdout = runnertest.NewWhenReady(func() {
		must(pausable.Freeze())
		must(pausable.Freeze())
		before := used()
		beside.Do("burn", "150")
		if after := used(); after-before > 20*time.Millisecond {
			t.Errorf("it used %v while it was paused", after-before)
		}
		must(pausable.Thaw())
		before = used()
		for end := time.Now().Add(time.Minute); used()-before < 2*time.Millisecond; { // idle time is rare on a busy machine
			if time.Now().After(end) {
				t.Error("it does not go on")
				break
			}
			beside.Do("noop")
		}
		must(pausable.Freeze())
		s.Session.Kill()
	})
	if r := s.Run(a); r.Exit != workload.StoppedExit {
		t.Errorf("%+v", r.Outcome)
	}
	s.Do("exit", "3").Want(t, workload.Exited, 3)
}

// TestAPausedStartEnds: an attempt whose group was paused before it began can be
// stopped, by the session and by its context.
func TestAPausedStartEnds(t *testing.T) {
	k := kit(t)
	if !k.Runner.(*Runner).host.Controls().Freeze {
		t.Skip("cgroups are not writable here: what starts is not paused")
	}
	for name, stop := range map[string]func(s runner.Session, cancel func()){
		"kill":    func(s runner.Session, _ func()) { s.Kill() },
		"context": func(_ runner.Session, cancel func()) { cancel() },
	} {
		born := make(guarded, 1)
		s := k.Open(t, func(spec *workload.Spec, slot *runner.Slot) { spec.Resources.Class, slot.Guard = workload.Spare, born })
		if err := s.Session.(runner.Movable).Freeze(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan runner.Outcome, 1)
		go func() {
			out, err := s.Session.Run(ctx, s.Attempt("spin"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			ended <- out
		}()
		<-born
		stop(s.Session, cancel)
		if out := <-ended; out.Exit != workload.StoppedExit {
			t.Errorf("%s: %+v", name, out)
		}
		cancel()
	}
}

// guarded hears of each sandbox before anything runs in it.
type guarded chan struct{}

func (g guarded) Guard(runner.Proc) (func(), error) {
	g <- struct{}{}
	return func() {}, nil
}
