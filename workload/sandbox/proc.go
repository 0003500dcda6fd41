package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// Program is what to run and what it sees.
type Program struct {
	Host    bool     // show /usr of this machine; always so when the shim is dynamically linked
	Mounts  []Mount  // beside Work and Out
	Work    string   // host folder seen as /work, writable; given to the group's user
	Out     string   // host folder seen as /out, writable; given to the group's user; "" is none
	Role    string   // a role of the shim to run in place of Path
	Path    string   // the program inside
	Args    []string // with argv[0]; with Role, what follows the role
	Env     []string
	Dir     string // working directory inside; "" is /work
	TmpSize int64  // bytes of /tmp; 0 is the group's memory
	Disk    int64  // bytes of one file; 0 is the group's

	// Stdin, Stdout and Stderr must be pipes made for this program alone; nil
	// is /dev/null. Keep are inherited as 3, 4, …. All stay the caller's.
	Stdin, Stdout, Stderr *os.File
	Keep                  []*os.File
}

// Mount shows a host file or folder at Target, an absolute clean path inside.
type Mount struct {
	Source string
	Target string
	Write  bool
}

// NoExecError is returned when the sandbox stood but the program could not be
// executed in it: the program's own fault.
type NoExecError struct {
	Errno  syscall.Errno
	Reason string
}

// Error returns the reason.
func (e *NoExecError) Error() string { return e.Reason }

// Proc is one sandbox with one program in it. Its methods are safe for
// concurrent use.
type Proc struct {
	cmd     *exec.Cmd
	pidfd   *os.File
	control *os.File
	status  *os.File
	wait    func() (End, error)

	uncounted         bool // no cgroup counts CPU time
	killCPU, killPeak atomic.Int64
}

// End is how a program ended. Untrusted but for Signal.
type End struct {
	Code     int
	Signal   syscall.Signal // 0 when it exited by itself
	CPUMs    int64          // of the program and the children it waited for
	MaxRSS   int64          // bytes, of its largest process
	Resident bool           // killed for its memory where no cgroup could
	Broken   bool           // the whole sandbox was killed: by Kill, or from outside this process
}

// Start starts p in a sandbox of g. guard, when set, is called with a pidfd of
// the init when the sandbox can already be killed and nothing of the program
// runs; its error keeps the program from running and is returned. Start returns
// when the program has been executed; a *NoExecError says that it could not be.
func (g *Group) Start(p Program, guard func(init *os.File) error) (*Proc, error) {
	proc, cfg, release, err := g.launch(p)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	release() // or the end of the init would not be the end of its pipes
	if guard != nil {
		err = guard(proc.pidfd)
	}
	if err == nil {
		err = proc.begin(cfg)
	}
	if err != nil {
		proc.Kill()
		_, _ = proc.Wait()
		proc.Close()
		return nil, err
	}
	return proc, nil
}

// launch starts the init, which waits for its Config. release closes what only
// the init needs.
func (g *Group) launch(p Program) (proc *Proc, cfg *inside.Config, release func(), err error) {
	var files fileSet
	defer func() {
		if err != nil {
			files.close()
		}
	}()
	controlR, controlW, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	files.theirs(controlR)
	statusR, statusW, err := os.Pipe()
	if err != nil {
		controlW.Close()
		return nil, nil, nil, err
	}
	files.theirs(statusW)
	proc = &Proc{control: controlW, status: statusR, uncounted: !g.has(ctlCPUAcct)}
	if cfg, err = g.config(p, &files); err == nil {
		err = g.startInit(proc, p, &files)
	}
	if err != nil {
		proc.Close()
		return nil, nil, nil, err
	}
	proc.wait = sync.OnceValues(proc.collect)
	return proc, cfg, files.close, nil
}

// fileSet numbers the descriptors that a child gets from inside.ControlFD on.
type fileSet struct{ all, owned []*os.File }

// theirs adds a file that the child gets and this process then closes.
func (s *fileSet) theirs(f *os.File) int {
	s.owned = append(s.owned, f)
	return s.ours(f)
}

// ours adds a file that this process keeps.
func (s *fileSet) ours(f *os.File) int {
	s.all = append(s.all, f)
	return inside.ControlFD + len(s.all) - 1
}

func (s *fileSet) close() { closeFiles(s.owned) }

// config says to the init what p and the group ask for.
func (g *Group) config(p Program, files *fileSet) (*inside.Config, error) {
	cfg := &inside.Config{Host: p.Host || shim.Dynamic(), Limits: g.insideLimits(), Path: p.Path, Args: p.Args, Env: p.Env, Dir: p.Dir}
	if cfg.Dir == "" {
		cfg.Dir = "/work"
	}
	if p.Role != "" {
		cfg.Self, cfg.Args = true, append([]string{inside.ShimName, p.Role}, p.Args...)
	}
	if p.TmpSize > 0 {
		cfg.Limits.TmpSize = p.TmpSize
	}
	if p.Disk > 0 {
		cfg.Limits.FileSize = p.Disk
	}
	if err := g.addMounts(cfg, p, files); err != nil {
		return nil, err
	}
	procs, err := g.open()
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	for _, f := range procs {
		cfg.Cgroups = append(cfg.Cgroups, files.theirs(f))
	}
	for _, f := range p.Keep {
		cfg.Keep = append(cfg.Keep, files.ours(f))
	}
	return cfg, nil
}

func (g *Group) addMounts(cfg *inside.Config, p Program, files *fileSet) error {
	mounts := p.Mounts
	for _, m := range []Mount{{Source: p.Work, Target: "/work", Write: true}, {Source: p.Out, Target: "/out", Write: true}} {
		if m.Source == "" {
			continue
		}
		if err := g.Chown(m.Source); err != nil {
			return err
		}
		mounts = append(mounts[:len(mounts):len(mounts)], m)
	}
	for _, m := range mounts {
		im := inside.Mount{Source: m.Source, Target: m.Target, Write: m.Write}
		// The sandbox's user may not be able to walk to the source, root is.
		if os.Geteuid() == 0 {
			fd, dir, err := inside.Detach(im)
			if err != nil {
				return fmt.Errorf("mount %q at %q: %w", m.Source, m.Target, err)
			}
			im.FD, im.Dir = files.theirs(os.NewFile(uintptr(fd), m.Target)), dir
		}
		cfg.Mounts = append(cfg.Mounts, im)
	}
	return nil
}

// The init keeps what it needs to build the view and to drop the rest.
var initCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}

func (g *Group) startInit(proc *Proc, p Program, files *fileSet) error {
	cmd, err := shim.Command(inside.RoleInit)
	if err != nil {
		return err
	}
	if err := g.streams(cmd, p); err != nil {
		return err
	}
	if len(files.all) > shim.MaxFiles {
		return fmt.Errorf("%d mounts, at most %d", len(files.all), shim.MaxFiles)
	}
	pidfd := -1
	cmd.ExtraFiles, cmd.Dir = files.all, "/"
	own := g.host.users.own()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: namespaces, PidFD: &pidfd, Setsid: true, AmbientCaps: initCaps,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: inside.UID, HostID: g.uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: inside.GID, HostID: g.gid(), Size: 1}},
		GidMappingsEnableSetgroups: own,
		Credential:                 &syscall.Credential{Uid: inside.UID, Gid: inside.GID, NoSetGroups: !own},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	proc.cmd = cmd
	if pidfd < 0 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("%w: the kernel gives no pidfd", ErrUnavailable)
	}
	proc.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	return nil
}

func (g *Group) gid() int {
	if g.host.users.own() {
		return g.uid
	}
	return os.Getegid()
}

// streams connects the program's streams; as root the pipes are given to its
// user, so that it can open /dev/stdout.
func (g *Group) streams(cmd *exec.Cmd, p Program) error {
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f == nil || !g.host.users.own() {
			continue
		}
		if err := f.Chown(g.uid, g.uid); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
	}
	if p.Stdin != nil {
		cmd.Stdin = p.Stdin
	}
	if p.Stdout != nil {
		cmd.Stdout = p.Stdout
	}
	if p.Stderr != nil {
		cmd.Stderr = p.Stderr
	}
	return nil
}

// begin sends the Config and waits until the program has been executed.
func (p *Proc) begin(cfg *inside.Config) error {
	if err := inside.Write(p.control, cfg); err != nil {
		return fmt.Errorf("start sandbox: tell the init: %w", err)
	}
	var s inside.Status
	if err := inside.Read(p.status, &s); err != nil {
		return fmt.Errorf("start sandbox: the init broke off: %w", err)
	}
	switch {
	case s.NoExec != "":
		return &NoExecError{Errno: syscall.Errno(s.Errno), Reason: s.NoExec}
	case s.Error != "":
		return fmt.Errorf("start sandbox: %s", s.Error)
	}
	return nil
}

// Pidfd refers to the init. It is open until Close.
func (p *Proc) Pidfd() *os.File { return p.pidfd }

// Terminate sends SIGTERM to the program.
func (p *Proc) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// Kill ends everything in the sandbox at once.
func (p *Proc) Kill() {
	if p.uncounted {
		cpu, peak := treeUsage(p.cmd.Process.Pid)
		p.killCPU.Store(cpu)
		p.killPeak.Store(peak)
	}
	_ = p.cmd.Process.Kill()
}

// broken is the End of a sandbox that was killed as a whole.
func (p *Proc) broken() End {
	return End{Signal: syscall.SIGKILL, Broken: true, CPUMs: p.killCPU.Load(), MaxRSS: p.killPeak.Load()}
}

// Wait returns how the program ended, once nothing of the sandbox is left. It
// may be called more than once.
func (p *Proc) Wait() (End, error) { return p.wait() }

func (p *Proc) collect() (End, error) {
	var s inside.Status
	readErr := inside.Read(p.status, &s)
	_ = p.cmd.Wait() // the init's own end says nothing
	switch {
	case errors.Is(readErr, io.EOF):
		return p.broken(), nil
	case readErr != nil:
		return End{}, fmt.Errorf("sandbox: %w", readErr)
	case !s.Ended:
		return End{}, fmt.Errorf("sandbox: %s", s.Error)
	}
	return End{Code: s.Code, Signal: syscall.Signal(s.Signal), CPUMs: s.CPUMs, MaxRSS: s.MaxRSS, Resident: s.Resident}, nil
}

// Close releases the handles. The program must have been waited for.
func (p *Proc) Close() {
	for _, f := range []*os.File{p.control, p.status, p.pidfd} {
		if f != nil {
			f.Close()
		}
	}
}
