package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// Program is what to run and what it sees.
type Program struct {
	Host   bool    // show /usr of this machine; always so when the shim is dynamically linked
	Root   *Root   // what / is; nil is an empty, read-only one
	User   *User   // who it is inside; nil is user and group 1000
	Mounts []Mount // beside Work and Out
	Work   string  // host folder seen as /work, writable; given to the group's user
	Out    string  // host folder seen as /out, writable; given to the group's user; "" is none
	// Runtime is set for a container runtime of this machine, which is trusted: as
	// user 0 of its user namespace it keeps every capability there, and it has no
	// filter and no rlimits. Root, Work, Out and Mounts are below RootAt, and its
	// own / is this machine's view.
	Runtime bool
	Role    string   // a role of the shim to run in place of Path
	Path    string   // the program inside
	Search  []string // folders in which a Path without a slash is looked up
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

// User is a user and a group by their numbers inside. Outside they are the group's.
type User struct{ UID, GID int }

// Mount shows a host file or folder at Target, an absolute clean path inside.
type Mount struct {
	Source string
	Target string
	Write  bool
	Device bool // a device file that stays usable; Target is below /dev
	Aside  bool // of a Runtime: at Target itself, and not below RootAt
}

// RootAt is where a Program's Runtime finds the Root.
const RootAt = inside.RootAt

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
	*born
	group *Group
	wait  func() (End, error)
	done  chan struct{} // closed when nothing of it is left
	give  func()        // gives its network namespace back, nil for one of its own

	uncounted         bool // no cgroup counts CPU time
	resident          atomic.Bool
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
// the sandbox's first process when the sandbox can already be killed and nothing
// of the program runs; its error keeps the program from running and is returned.
// Start returns when the program has been executed; a *NoExecError says that it
// could not be.
func (g *Group) Start(p Program, guard func(init *os.File) error) (*Proc, error) {
	b, err := g.host.launcher.take()
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	proc := &Proc{born: b, group: g, done: make(chan struct{}), uncounted: !g.counts.cpu}
	proc.wait = sync.OnceValues(proc.collect)
	g.live.Store(proc, nil)
	if guard != nil {
		err = guard(b.pidfd)
	}
	if err == nil {
		err = g.begin(proc, p)
	}
	if err != nil {
		proc.Kill()
		_, _ = proc.Wait()
		proc.Close()
		return nil, err
	}
	if limit := g.limits.Memory; limit > 0 && !g.counts.memory {
		go proc.watchResident(limit)
	}
	return proc, nil
}

// begin says to the sandbox what to run and waits until it is executed.
func (g *Group) begin(proc *Proc, p Program) error {
	var own []*os.File // only needed until they are sent
	cfg, err := g.config(proc, p, &own)
	defer func() { closeFiles(own) }()
	if err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	plan, fds, err := inside.ProgramPlan(cfg)
	if err == nil {
		err = plan.Send(proc.sock, fds)
	}
	if err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	s, err := inside.ReadStatus(proc.sock)
	if err != nil {
		return fmt.Errorf("start sandbox: it broke off: %w", err)
	}
	if s.Kind == inside.Started {
		return nil
	}
	err = plan.Err(s)
	if ne := (*inside.NoExecError)(nil); errors.As(err, &ne) {
		return &NoExecError{Errno: ne.Errno, Reason: ne.Error()}
	}
	return fmt.Errorf("start sandbox: %w", err)
}

// config describes what p and the group ask for.
func (g *Group) config(proc *Proc, p Program, own *[]*os.File) (*inside.Config, error) {
	cfg := &inside.Config{View: proc.view, Limits: g.insideLimits(), User: g.user(p.User), Path: p.Path, Search: p.Search, Args: p.Args, Env: p.Env, Dir: p.Dir}
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
	if cfg.Runtime = p.Runtime; p.Runtime { // it opens more, and maps more, than what it runs may
		cfg.Limits.FileSize, cfg.Limits.Files, cfg.Limits.Procs, cfg.Limits.Data = 0, 0, 0, 0
	}
	if err := g.addMounts(cfg, p, own); err != nil {
		return nil, err
	}
	if p.Root != nil {
		if err := g.prepareRoot(cfg, p.Root, own); err != nil {
			return nil, err
		}
	}
	if err := g.chooseView(cfg, proc, p.Host || p.Runtime || shim.Dynamic() && (p.Root == nil || p.Role != "")); err != nil {
		return nil, err
	}
	if err := g.addStreams(cfg, p); err != nil {
		return nil, err
	}
	for _, f := range g.procs {
		cfg.Cgroups = append(cfg.Cgroups, int(f.Fd()))
	}
	for _, f := range p.Keep {
		cfg.Keep = append(cfg.Keep, int(f.Fd()))
	}
	if net := g.host.nets.take(g.limits.Owner); net != nil {
		cfg.NetFD, proc.give = int(net.Fd()), func() { g.host.nets.give(g.limits.Owner, net) }
	}
	return cfg, nil
}

// chooseView takes what the launcher has built where it is what is asked for.
func (g *Group) chooseView(cfg *inside.Config, proc *Proc, host bool) (err error) {
	cfg.Built = proc.built && host && cfg.Root == nil && !slices.ContainsFunc(cfg.Mounts, func(m inside.Mount) bool { return !inside.Fits(m.Target) })
	if !host {
		cfg.View, err = inside.NewView(false)
	}
	return err
}

func (g *Group) addMounts(cfg *inside.Config, p Program, own *[]*os.File) error {
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
		im := inside.Mount{Source: m.Source, Target: m.Target, Write: m.Write, Device: m.Device, Aside: m.Aside}
		if g.host.root { // the sandbox cannot walk to the source any more
			fd, dir, err := inside.Detach(im)
			if err != nil {
				return fmt.Errorf("mount %q at %q: %w", m.Source, m.Target, err)
			}
			*own = append(*own, os.NewFile(uintptr(fd), m.Target))
			im.FD, im.Dir = fd, dir
		} else {
			info, err := os.Stat(m.Source)
			if err != nil {
				return fmt.Errorf("mount at %q: %w", m.Target, err)
			}
			im.Dir = info.IsDir()
		}
		cfg.Mounts = append(cfg.Mounts, im)
	}
	return nil
}

// addStreams connects the program's streams; as root the pipes are given to its
// user, so that it can open /dev/stdout.
func (g *Group) addStreams(cfg *inside.Config, p Program) error {
	for i, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f == nil {
			continue
		}
		if g.host.users.own() {
			if err := f.Chown(g.uid, g.uid); err != nil {
				return fmt.Errorf("stream: %w", err)
			}
		}
		cfg.Streams[i] = int(f.Fd())
	}
	return nil
}

// user is who the group's programs are.
func (g *Group) user(in *User) inside.User {
	own := g.host.users.own()
	u := inside.User{UID: g.uid, GID: g.uid, In: [2]int{inside.UID, inside.GID}, Drop: own}
	if in != nil {
		u.In = [2]int{in.UID, in.GID}
	}
	if !own {
		u.GID = os.Getegid()
	}
	return u
}

// Pidfd refers to the first process of the sandbox. It is open until Close.
func (p *Proc) Pidfd() *os.File { return p.pidfd }

// Terminate sends SIGTERM to the program.
func (p *Proc) Terminate() { _, _ = p.sock.Write([]byte{inside.Terminate}) }

// Kill ends everything in the sandbox at once.
func (p *Proc) Kill() {
	if p.uncounted {
		cpu, peak := treeUsage(p.pid)
		p.killCPU.Store(cpu)
		p.killPeak.Store(peak)
	}
	if raw, err := p.pidfd.SyscallConn(); err == nil { // it may be closed already
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	}
	_ = p.group.Thaw() // a frozen process dies when it thaws
}

// broken is the End of a sandbox that was killed as a whole.
func (p *Proc) broken() End {
	return End{Signal: syscall.SIGKILL, Broken: true, Resident: p.resident.Load(), CPUMs: p.killCPU.Load(), MaxRSS: p.killPeak.Load()}
}

// Wait returns how the program ended, once nothing of the sandbox is left. It
// may be called more than once.
func (p *Proc) Wait() (End, error) { return p.wait() }

func (p *Proc) collect() (End, error) {
	s, err := inside.ReadStatus(p.sock)
	p.group.live.Delete(p) // before its number can be another's
	reap(p.pid)            // its own end says nothing
	close(p.done)
	if p.give != nil {
		p.give()
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return p.broken(), nil
	case err != nil:
		return End{}, fmt.Errorf("sandbox: %w", err)
	case s.Kind != inside.Ended:
		return End{}, fmt.Errorf("sandbox: %w: kind %d", inside.ErrStatus, s.Kind)
	}
	ws := syscall.WaitStatus(s.Value)
	e := End{CPUMs: int64(s.CPUUs / 1000), MaxRSS: int64(s.MaxRSS), Code: ws.ExitStatus()}
	if ws.Signaled() {
		e.Code, e.Signal = 0, ws.Signal()
	}
	return e, nil
}

// Close releases the handles. The program must have been waited for.
func (p *Proc) Close() {
	p.sock.Close()
	p.pidfd.Close()
}
