package history

import (
	"fmt"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// The checks that a Finding can come from.
const (
	CheckLinearizable = "linearizable" // no order of the operations explains the answers
	CheckSingleton    = "singleton"    // a task ran twice at once
	CheckOutcome      = "outcome"      // an acknowledged workload did not end as its spec says
	CheckFence        = "fence"        // a result counts that came from an attempt that was given up
	CheckJournal      = "journal"      // a supervisor's record makes no sense
)

// Finding is one violation.
type Finding struct {
	Check string
	What  string
}

// Job is a workload of a history and what its spec says about its end.
type Job struct {
	Key  string
	Home int // the member that submits and stops it
	Spec workload.Spec
	want workload.Phase
	code int

	mu    sync.Mutex
	id    workload.ID
	acked bool
	stops int // asked for, whatever the answer
}

// keyLabel is the label by which a client finds a workload whose ID it was not told.
const keyLabel = "history"

// newJob is a workload of the host's shell whose tasks print key.
func newJob(key string, home int, tasks uint32, script string) *Job {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: "sh", Host: "sh"}
	spec.Args = []string{"-c", script + "; echo " + key}
	spec.Resources.Memory = 32 << 20
	spec.Tasks.Count = tasks
	spec.Labels = map[string]string{keyLabel: key}
	return &Job{Key: key, Home: home, Spec: spec, want: workload.Succeeded}
}

// failing makes the job's only task end with an exit code.
func (j *Job) failing(code int) *Job {
	j.Spec.Args[1] = fmt.Sprintf("sleep 0.2; exit %d", code)
	j.want, j.code = workload.Failed, code
	return j
}

// where names the members that may run the job.
func (j *Job) where(members ...int) *Job {
	for i, m := range members {
		if i > 0 {
			j.Spec.Where += " || "
		}
		j.Spec.Where += "name==" + memberName(m)
	}
	return j
}

func memberName(i int) string { return fmt.Sprintf("node%d", i+1) }

// untilThen is a shell script that sleeps for one time before an instant and for
// another one after it: an attempt and its successor.
func untilThen(instant time.Time, before, after float64) string {
	return fmt.Sprintf(`if [ "$(date +%%s%%N)" -lt %d ]; then sleep %g; else sleep %g; fi`, instant.UnixNano(), before, after)
}

func (j *Job) acknowledged(id workload.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.id, j.acked = id, true
}

// named returns the job's ID once it is known.
func (j *Job) named() (id workload.ID, acked bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.id, j.acked
}

func (j *Job) stopAsked() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stops++
}

func (j *Job) stopped() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stops > 0
}

// judge compares an ended workload with what its spec says. Whether a stop was in
// time is the model's business.
func (j *Job) judge(w *api.Workload, tasks []api.Task) (found []Finding) {
	bad := func(check, format string, args ...any) {
		found = append(found, Finding{check, j.Key + " (" + w.ID.String() + "): " + fmt.Sprintf(format, args...)})
	}
	if w.Phase == workload.Stopped && j.stopped() {
		return nil
	}
	if w.Phase != j.want {
		bad(CheckOutcome, "it ended as %s (%s), its spec says %s", w.Phase, w.Reason, j.want)
		return found
	}
	if j.want == workload.Failed && (w.ExitCode == nil || *w.ExitCode != j.code) {
		bad(CheckOutcome, "exit code %v, its program's is %d", w.ExitCode, j.code)
	}
	if len(tasks) != int(j.Spec.Tasks.Count) {
		bad(CheckOutcome, "%d results of %d", len(tasks), j.Spec.Tasks.Count)
	}
	for i, t := range tasks {
		switch r := t.Result; {
		case r == nil || r.Index != uint32(i):
			bad(CheckOutcome, "task %d: no result of it: %+v", i, t)
		case j.want == workload.Succeeded && (!r.OK() || string(r.Stdout.Data) != j.Key+"\n"):
			bad(CheckOutcome, "task %d: %+v", i, r)
		case j.Spec.Tasks.Count == 1 && uint64(r.Attempt) != 1+w.Lost+w.Retries:
			bad(CheckFence, "the result of attempt %d counts, %d attempts were lost and %d tried again before", r.Attempt, w.Lost, w.Retries)
		}
	}
	return found
}
