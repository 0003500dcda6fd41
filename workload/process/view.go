package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/workload/gvisor"
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
	Mounts  []sandbox.Mount // beside the attempt's
	Dir     string          // the working directory, in which inputs lie; "" is /work
	User    sandbox.User
	GVisor  *gvisor.Runtime // runs them; nil is this machine's kernel
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
	prog.Mounts = append(prog.Mounts, s.view.Mounts...)
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

// wall is the level that the session's programs run at.
func (s *session) wall() string {
	if s.gvisor() != nil {
		return runner.WallGVisor
	}
	return runner.WallNamespaces
}

func (s *session) gvisor() *gvisor.Runtime {
	if s.view == nil {
		return nil
	}
	return s.view.GVisor
}

// overhead is what the session's cgroups hold beside its programs: bytes of memory
// and processes.
func (s *session) overhead() (memory, pids int64) {
	if s.gvisor() == nil {
		return 0, 0
	}
	return gvisor.Memory, gvisor.Pids
}

// bundle is the folder beside work of what gVisor is told, "" without it.
func (s *session) bundle(work string) string {
	if s.gvisor() == nil {
		return ""
	}
	return work + "-gvisor"
}

// wrap has gVisor run p where the view asks for it; nil is that it does not.
func (s *session) wrap(p *sandbox.Program, work string) (*gvisor.Start, error) {
	g := s.gvisor()
	if g == nil {
		return nil, nil
	}
	dir := s.bundle(work)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, fmt.Errorf("gvisor: %w", err)
	}
	start, err := g.Wrap(*p, dir, s.slot.Spec.Resources.Disk)
	if err != nil {
		return nil, err
	}
	*p = start.Program
	return start, nil
}
