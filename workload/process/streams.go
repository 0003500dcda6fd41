package process

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// pipes are a program's streams. The program never gets a file of the host: a
// terminal could be typed into and a log file truncated.
type pipes struct {
	in, out, err     *os.File // the program's ends, nil for none
	toIn             *os.File
	fromOut, fromErr *os.File
	wg               sync.WaitGroup // of the copies out
}

func openPipes(a runner.Attempt) (*pipes, error) {
	p := &pipes{}
	var err error
	if a.Stdin != nil {
		p.in, p.toIn, err = os.Pipe()
	}
	if err == nil {
		p.fromOut, p.out, err = os.Pipe()
	}
	if err == nil {
		p.fromErr, p.err, err = os.Pipe()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// copy moves the streams once the program has its ends.
func (p *pipes) copy(a runner.Attempt) {
	p.closeTheirs()
	if p.toIn != nil {
		go func(to *os.File) { // it may stay blocked in a.Stdin's Read
			_, _ = io.Copy(to, a.Stdin) // a program need not read its input
			to.Close()
		}(p.toIn)
		p.toIn = nil
	}
	p.wg.Add(2)
	go drain(&p.wg, a.Stdout, p.fromOut)
	go drain(&p.wg, a.Stderr, p.fromErr)
}

// drain copies to w until the program's end closes. When w fails, the rest is
// discarded so that the program does not wait for ever.
func drain(wg *sync.WaitGroup, w io.Writer, r *os.File) {
	defer wg.Done()
	if w != nil {
		// Hide what w can do: a ReaderFrom could splice from the program's pipe.
		_, _ = io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{r})
	}
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{r})
}

func (p *pipes) wait() { p.wg.Wait() }

func (p *pipes) closeTheirs() {
	for _, f := range []**os.File{&p.in, &p.out, &p.err} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

func (p *pipes) close() {
	p.closeTheirs()
	for _, f := range []*os.File{p.toIn, p.fromOut, p.fromErr} {
		if f != nil {
			f.Close()
		}
	}
}

// describe says what the sandbox runs and shows.
func (s *session) describe(a runner.Attempt, work string, p *pipes) (sandbox.Program, error) {
	prog := sandbox.Program{
		Host: s.view == nil, Work: work, Out: a.Out, Path: s.path, Env: runner.Environ(a, searchPath),
		Args:  append([]string{s.argv0()}, a.Args...),
		Stdin: p.in, Stdout: p.out, Stderr: p.err,
	}
	at := runner.WorkDir
	if s.view != nil {
		if err := s.show(a, work, &prog); err != nil {
			return prog, err
		}
		at = prog.Dir
	}
	if s.program != "" {
		prog.Mounts = append(prog.Mounts, sandbox.Mount{Source: s.program, Target: shippedPath})
	}
	for _, m := range a.Mounts {
		if err := runner.CheckTarget(m.Target); err != nil {
			return prog, err
		}
		prog.Mounts = append(prog.Mounts, sandbox.Mount{Source: m.Source, Target: path.Join(at, m.Target)})
	}
	if a.Unit == nil {
		return prog, nil
	}
	socket, err := a.Unit()
	if err != nil {
		return prog, fmt.Errorf("unit: %w", err)
	}
	prog.Mounts = append(prog.Mounts, sandbox.Mount{Source: socket, Target: runner.UnitSock})
	return prog, s.group.Chown(socket)
}

func (s *session) argv0() string {
	if s.program == "" {
		return s.path
	}
	if name := s.slot.Spec.Program.Name; name != "" {
		return filepath.Base(name)
	}
	return "program"
}
