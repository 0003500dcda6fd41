package process

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// View is a root file system that the attempts of a session have in place of
// this machine's /usr, and how a program starts in it. What an attempt changes
// there is its own, counts as its disk and is gone with it.
type View struct {
	Root string // host folder, never changed
	// Command returns what to run for an attempt's arguments. Its error wraps
	// runner.ErrProgramInvalid and is the program's own.
	Command func(args []string) ([]string, error)
	// Environ returns the variables for an attempt's own ones, PATH included.
	Environ func(own []string) []string
	Dir     string // the working directory, in which inputs lie; "" is /work
	User    sandbox.User
	// Release is called once, when nothing uses Root any more.
	Release func()
}

// OpenView is Open for a slot whose programs lie in v. The slot's own program is
// not looked at. v is released on an error too.
func (r *Runner) OpenView(_ context.Context, slot runner.Slot, v View) (runner.Session, error) {
	s := &session{slot: slot, view: &v}
	if err := s.openGroup(r); err != nil {
		v.Release()
		return nil, err
	}
	return s, nil
}

// scratch is the folder beside work that takes what an attempt changes in its
// root, "" without one.
func (s *session) scratch(work string) string {
	if s.view == nil {
		return ""
	}
	return work + "-root"
}

// show fills in what of a program depends on its view.
func (s *session) show(a runner.Attempt, work string, prog *sandbox.Program) error {
	args, err := s.view.Command(a.Args)
	if err != nil {
		return err
	}
	a.Env = s.view.Environ(a.Env)
	prog.Root = &sandbox.Root{Lower: s.view.Root, Scratch: s.scratch(work)}
	prog.User, prog.Args, prog.Path = &s.view.User, args, args[0]
	prog.Env = runner.Environ(a, nil)
	if prog.Dir = s.view.Dir; prog.Dir == "" {
		prog.Dir = runner.WorkDir
	}
	for _, e := range a.Env {
		if list, ok := strings.CutPrefix(e, "PATH="); ok {
			prog.Search = filepath.SplitList(list)
		}
	}
	return nil
}
