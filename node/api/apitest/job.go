package apitest

import (
	"bytes"
	"context"
	"io"
	"path"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// job is one workload; its fields are guarded by the Fake's mu.
type job struct {
	fake    *Fake
	id      workload.ID
	spec    workload.Spec
	tasks   []workload.Task
	phase   workload.Phase
	why     string
	version uint64
	results []*workload.TaskResult
	streams []*streams
	retries uint64
	ctx     context.Context
	cancel  context.CancelFunc
}

// streams are one task's; out and err grow, in is what is attached.
type streams struct {
	out, err bytes.Buffer
	stdin    io.Reader
	attached chan struct{}
	ended    bool
}

func newJob(f *Fake, id workload.ID, spec workload.Spec, tasks []workload.Task) *job {
	j := &job{
		fake: f, id: id, spec: spec, tasks: tasks, phase: workload.Pending, version: 1,
		results: make([]*workload.TaskResult, len(tasks)),
	}
	for range tasks {
		j.streams = append(j.streams, &streams{attached: make(chan struct{})})
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

func (j *job) change(do func()) { j.fake.change(func() { do(); j.version++ }) }

func (j *job) programName() string {
	if j.spec.Program.Host != "" {
		return path.Base(j.spec.Program.Host)
	}
	return j.spec.Program.Name
}

// run waits for what After names, places the job and runs its tasks in order.
func (j *job) run() {
	program := j.fake.Programs[j.programName()]
	if !j.placeable() {
		<-j.ctx.Done()
	}
	for _, a := range j.spec.After {
		for {
			w, err := j.fake.Wait(j.ctx, a.Workload, 1<<62, time.Hour)
			if err != nil || w.Phase.Ended() {
				break
			}
		}
	}
	j.change(func() { j.phase = workload.Running })
	for i := range j.tasks {
		if j.ctx.Err() == nil {
			j.runTask(uint32(i), program)
		}
	}
	j.change(j.conclude)
}

func (j *job) placeable() bool {
	return j.fake.Programs[j.programName()] != nil && (j.spec.MaxPrice == 0 || j.spec.MaxPrice >= j.fake.Floor)
}

func (j *job) runTask(i uint32, program Program) {
	for attempt := uint32(1); ; attempt++ {
		res := j.attempt(i, program)
		res.Attempt = attempt
		if res.OK() || attempt > j.spec.Retries || j.ctx.Err() != nil {
			j.change(func() { j.results[i] = res; j.streams[i].ended = true })
			return
		}
		j.change(func() { j.retries++; j.streams[i].out.Reset(); j.streams[i].err.Reset() })
	}
}

func (j *job) attempt(i uint32, program Program) *workload.TaskResult {
	ctx, cancel := context.WithTimeout(j.ctx, time.Duration(j.spec.Timeout)*time.Millisecond)
	defer cancel()
	call := j.newCall(i)
	code := program(ctx, call)
	res := &workload.TaskResult{Index: i, Exit: workload.Exited, Code: int32(code), Wall: "namespaces",
		Usage: workload.Usage{WallMs: 10, CPUMs: 5, PeakMem: 1 << 20}, Started: Start.UnixMilli()}
	if j.ctx.Err() != nil {
		res.Exit = workload.StoppedExit
	} else if ctx.Err() != nil {
		res.Exit = workload.TimedOut
	}
	s := j.streams[i]
	res.Stdout, res.Stderr = j.keep(s.out.Bytes()), j.keep(s.err.Bytes())
	for name, data := range call.Output {
		st := j.keep(data)
		res.Outputs = append(res.Outputs, workload.Output{Path: name, Blob: st.Blob, Data: st.Data})
	}
	slices.SortFunc(res.Outputs, func(a, b workload.Output) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return res
}

// keep stores content as a worker does: what is small rides along and has no
// blob.
func (j *job) keep(b []byte) workload.Stream {
	if len(b) <= 64 {
		return workload.Stream{Data: bytes.Clone(b)}
	}
	ref, _ := j.fake.PutBlob(context.Background(), bytes.NewReader(b))
	return workload.Stream{Blob: ref}
}

func (j *job) newCall(i uint32) *Call {
	j.fake.mu.Lock()
	defer j.fake.mu.Unlock()
	c := &Call{
		Args: slices.Concat(j.spec.Args, j.tasks[i].Args), Env: j.spec.Env, Index: i, Spec: &j.spec, Release: j.fake.closed,
		Inputs: map[string][]byte{}, Output: map[string][]byte{}, Stdin: bytes.NewReader(j.fake.blobs[j.spec.Stdin.Digest]),
	}
	for _, in := range slices.Concat(j.spec.Inputs, j.tasks[i].Inputs) {
		c.Inputs[in.Path] = j.fake.blobs[in.Blob.Digest]
	}
	s := j.streams[i]
	if j.spec.Interactive {
		c.Stdin = &lateReader{s: s, ctx: j.ctx}
	}
	c.Stdout, c.Stderr = &sink{j, &s.out}, &sink{j, &s.err}
	return c
}

// lateReader reads from whoever attaches.
type lateReader struct {
	s   *streams
	ctx context.Context
}

func (l *lateReader) Read(p []byte) (int, error) {
	select {
	case <-l.s.attached:
		return l.s.stdin.Read(p)
	case <-l.ctx.Done():
		return 0, io.EOF
	}
}

type sink struct {
	j   *job
	buf *bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.j.fake.change(func() { s.buf.Write(p) })
	return len(p), nil
}

func (j *job) conclude() {
	j.phase = workload.Succeeded
	for _, r := range j.results {
		switch {
		case j.ctx.Err() != nil:
			j.phase, j.why = workload.Stopped, "stopped by its owner"
		case r != nil && !r.OK() && j.phase == workload.Succeeded:
			j.phase, j.why = workload.Failed, "a task failed"
		}
	}
	for _, s := range j.streams {
		s.ended = true
	}
}

func (j *job) attach(ctx context.Context, opt api.AttachOptions) error {
	f := j.fake
	f.mu.Lock()
	if opt.Task >= uint32(len(j.streams)) {
		f.mu.Unlock()
		return api.Errorf(api.NotFound, "workload %s has no task %d", j.id.Short(), opt.Task)
	}
	s := j.streams[opt.Task]
	if opt.Stdin != nil && s.stdin == nil {
		s.stdin = opt.Stdin
		close(s.attached)
	}
	f.mu.Unlock()
	for out, errs := 0, 0; ; {
		f.mu.Lock()
		more, moreErr := bytes.Clone(s.out.Bytes()[min(out, s.out.Len()):]), bytes.Clone(s.err.Bytes()[min(errs, s.err.Len()):])
		ended, changed := s.ended, f.changed
		f.mu.Unlock()
		if err := copyBoth(opt, more, moreErr); err != nil {
			return err
		}
		out, errs = out+len(more), errs+len(moreErr)
		if ended || !opt.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func copyBoth(opt api.AttachOptions, out, errs []byte) error {
	if len(out) > 0 && opt.Stdout != nil {
		if _, err := opt.Stdout.Write(out); err != nil {
			return err
		}
	}
	if len(errs) > 0 && opt.Stderr != nil {
		if _, err := opt.Stderr.Write(errs); err != nil {
			return err
		}
	}
	return nil
}
