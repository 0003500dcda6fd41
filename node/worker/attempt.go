package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Bounds of what one attempt may produce.
const (
	MaxStream    = 1 << 30  // bytes of stdout, and of stderr, unless Config says otherwise
	maxOutputs   = 2048     // files
	inlineOutput = 16 << 10 // bytes of a stream or file that ride in the segment
	inlineAll    = 256 << 10
)

// errBadName is returned when an output file has a name that cannot be passed on.
var errBadName = errors.New("the name of an output file is over 1024 bytes or not UTF-8")

// attempt is one running try of one task: what attach and the unit's protocol
// look at.
type attempt struct {
	s      *slot
	task   uint32
	number uint32
	began  time.Time
	dir    string // made when something is put there
	stdout *spool
	stderr *spool
	stdin  *stdinPipe
	over   chan struct{} // closed when the result is known
	inputs []workload.Input
	unit   *unitBackend
}

// attempt runs one task and returns how it ended. It never fails: what goes
// wrong on this side is a NodeFault.
func (s *slot) attempt(task, number uint32) *workload.TaskResult {
	a := s.newAttempt(task, number)
	defer a.close()
	own, err := s.stage.task(task)
	if err != nil {
		return failure(task, number, err)
	}
	mounts, err := s.stage.mounts(own.Inputs)
	if err != nil {
		return failure(task, number, err)
	}
	defer s.stage.drop(own.Inputs)
	a.inputs = append(slices.Clone(s.work.Inputs), own.Inputs...)
	a.unit = newUnit(a, own)
	s.show(a)
	defer s.hide(a)
	outcome, err := a.run(own, append(slices.Clone(s.stage.shared), mounts...))
	if err != nil {
		return failure(task, number, err)
	}
	return a.result(outcome)
}

// failure is the result of a task that was not started. A program that no node
// could run has failed by itself, like one that a shell finds and cannot execute.
func failure(task, number uint32, err error) *workload.TaskResult {
	res := &workload.TaskResult{
		Index: task, Attempt: number, Exit: workload.NodeFault,
		Detail: workload.Cut(err.Error(), runner.MaxDetail), Started: time.Now().UnixMilli(),
	}
	if errors.Is(err, runner.ErrProgramInvalid) {
		res.Exit, res.Code = workload.Exited, notExecutable
	}
	return res
}

// notExecutable is the exit code of a program that is none.
const notExecutable = 126

func (s *slot) newAttempt(task, number uint32) *attempt {
	dir := filepath.Join(s.dir, fmt.Sprintf("t%d", task))
	a := &attempt{
		s: s, task: task, number: number, dir: dir, began: time.Now(), over: make(chan struct{}),
	}
	a.stdout, a.stderr = a.newStream("stdout"), a.newStream("stderr")
	if s.spec.Interactive {
		a.stdin = newStdinPipe()
	}
	return a
}

// newStream makes the spool of a stream, which ends the attempt when it takes no
// more: a program that prints for ever costs no more than the limit.
func (a *attempt) newStream(name string) *spool {
	sp := newSpool(filepath.Join(a.dir, name), a.s.w.cfg.Stream)
	sp.room = a.s.w.cfg.Disk
	sp.over = func() {
		a.s.mu.Lock()
		session := a.s.session
		a.s.mu.Unlock()
		if session != nil {
			session.Kill()
		}
	}
	return sp
}

func (s *slot) show(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[a.task] = a
}

func (s *slot) hide(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, a.task)
}

func (a *attempt) close() {
	close(a.over)
	a.stdout.close()
	a.stderr.close()
	if a.unit != nil {
		a.unit.close()
	}
	if a.stdin != nil {
		a.stdin.close()
	}
	if err := os.RemoveAll(a.dir); err != nil {
		a.s.log.Warn("remove attempt folder", "err", err)
	}
}

func (a *attempt) run(own workload.Task, mounts []runner.Mount) (runner.Outcome, error) {
	s := a.s
	stdin, closeStdin, err := a.input()
	if err != nil {
		return runner.Outcome{}, err
	}
	defer closeStdin()
	outcome, err := s.session.Run(s.ctx, runner.Attempt{
		Index: a.task, Number: a.number, Args: append(slices.Clone(s.work.Args), own.Args...), Env: environment(s.work.Env),
		Mounts: mounts, Out: filepath.Join(a.dir, "out"), Unit: a.unit.open, Stdin: stdin, Stdout: a.stdout, Stderr: a.stderr,
		Timeout: time.Duration(s.spec.Timeout) * time.Millisecond,
	})
	outcome, err = a.cut(outcome, err)
	a.stdout.finish()
	a.stderr.finish()
	return outcome, err
}

// cut says of a stream that took no more how it ended the attempt, in the
// outcome and in a last line on stderr.
func (a *attempt) cut(o runner.Outcome, err error) (runner.Outcome, error) {
	for i, sp := range []*spool{a.stdout, a.stderr} {
		name, why := []string{"stdout", "stderr"}[i], sp.refused()
		switch {
		case why == nil:
			continue
		case !errors.Is(why, errSpoolFull):
			return o, fmt.Errorf("%s: %w", name, why)
		}
		o.Exit, o.Code = workload.OutputTooBig, 0
		o.Detail = fmt.Sprintf("%s is cut at %d bytes, the most that is kept", name, sp.limit)
		return o, a.stderr.mark("\nperrin: " + o.Detail + "; the program was ended\n")
	}
	return o, err
}

func environment(env map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(k, "PERRIN_") {
			out = append(out, k+"="+env[k])
		}
	}
	return out
}

// input opens what the program reads from stdin.
func (a *attempt) input() (io.Reader, func(), error) {
	spec := a.s.work
	switch {
	case a.stdin != nil:
		return a.stdin, a.stdin.close, nil
	case spec.Stdin.IsZero():
		return nil, func() {}, nil
	}
	if err := a.s.stage.fetch(spec.Stdin); err != nil {
		return nil, nil, fmt.Errorf("stdin: %w", err)
	}
	r, err := a.s.w.cfg.Blobs.Open(spec.Stdin)
	if err != nil {
		return nil, nil, fmt.Errorf("stdin: %w", err)
	}
	return a.s.opened(r), func() { r.Close() }, nil
}

// result turns an outcome into what is reported: small streams and files ride
// along, the rest become blobs.
func (a *attempt) result(o runner.Outcome) *workload.TaskResult {
	r := &workload.TaskResult{
		Index: a.task, Attempt: a.number, Exit: o.Exit, Code: o.Code, Detail: workload.Cut(o.Detail, runner.MaxDetail),
		Usage: o.Usage, Wall: o.Wall, Started: a.began.UnixMilli(),
	}
	if !o.Started.IsZero() {
		r.Started = o.Started.UnixMilli()
	}
	room := inlineAll
	var err error
	if r.Stdout, err = a.stream(a.stdout, &room); err == nil {
		if r.Stderr, err = a.stream(a.stderr, &room); err == nil {
			r.Outputs, err = a.outputs(&room)
		}
	}
	if errors.Is(err, errBadName) {
		r.Exit, r.Detail, r.Outputs, err = workload.BadOutput, err.Error(), nil, nil
	}
	if errors.Is(err, runner.ErrTooManyOutputs) {
		r.Exit, r.Detail, err = workload.OutputTooBig, fmt.Sprintf("more than %d output files", maxOutputs), nil
	}
	if err != nil {
		return failure(a.task, a.number, fmt.Errorf("gather outputs: %w", err))
	}
	return r
}

func (a *attempt) stream(sp *spool, room *int) (workload.Stream, error) {
	data, ref, err := a.store(sp.reader(), sp.size, room)
	return workload.Stream{Data: data, Blob: ref}, err
}

// store returns small content itself, and the blob of anything larger.
func (a *attempt) store(r io.Reader, size int64, room *int) ([]byte, workload.Ref, error) {
	if size <= inlineOutput && int(size) <= *room {
		data, err := io.ReadAll(io.LimitReader(r, inlineOutput))
		*room -= len(data)
		return data, workload.Ref{}, err
	}
	r, err := a.s.sealing(r)
	if err != nil {
		return nil, workload.Ref{}, err
	}
	ref, err := a.s.w.cfg.Blobs.PutPinned(context.Background(), resultOwner(a.s.key), r)
	return nil, ref, err
}

func (a *attempt) outputs(room *int) ([]workload.Output, error) {
	dir := filepath.Join(a.dir, "out")
	files, err := runner.Outputs(dir, maxOutputs)
	if err != nil {
		return nil, err
	}
	published := a.unit.outputs()
	out := slices.SortedFunc(maps.Values(published), func(x, y workload.Output) int { return strings.Compare(x.Path, y.Path) })
	if len(out)+len(files) > maxOutputs {
		return nil, runner.ErrTooManyOutputs
	}
	for _, f := range files {
		if _, again := published[f.Path]; again {
			continue
		}
		if len(f.Path) > 1024 || !utf8.ValidString(f.Path) {
			return nil, fmt.Errorf("%w: %.100q", errBadName, f.Path)
		}
		o := workload.Output{Path: f.Path, Exec: f.Exec}
		if o.Data, o.Blob, err = a.storeFile(dir, f, room); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func (a *attempt) storeFile(dir string, f runner.OutputFile, room *int) ([]byte, workload.Ref, error) {
	file, err := runner.OpenOutput(dir, f.Path)
	if err != nil {
		return nil, workload.Ref{}, err
	}
	defer file.Close()
	return a.store(file, f.Size, room)
}

// stdinPipe carries an attached user's input to the program. Only the first to
// attach feeds it.
type stdinPipe struct {
	*io.PipeReader
	w    *io.PipeWriter
	once sync.Once
}

func newStdinPipe() *stdinPipe {
	r, w := io.Pipe()
	return &stdinPipe{PipeReader: r, w: w}
}

// claim returns the writing end to the first who asks, nil to others.
func (p *stdinPipe) claim() (w *io.PipeWriter) {
	p.once.Do(func() { w = p.w })
	return w
}

func (p *stdinPipe) close() {
	p.PipeReader.Close()
	p.w.Close()
}
