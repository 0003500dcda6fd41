package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// launcher makes empty sandboxes: processes that are pid 1 of new namespaces,
// children of this process, and wait for what to do. It is one small process
// without Go's runtime, apart from this one, so that a sandbox costs one fork of
// few pages and shares no memory with the node. An empty sandbox holds nothing of
// anyone, and is used once. Its methods are safe for concurrent use.
type launcher struct {
	host bool // the view that the launcher has built: with /usr
	root bool // it may build one at all

	mu     sync.Mutex
	sock   *os.File // nil while it does not run
	pid    int
	view   *inside.View
	parked []*born
	closed bool
	wg     sync.WaitGroup // of refills
}

// born is an empty sandbox.
type born struct {
	pid   int
	pidfd *os.File
	sock  *os.File
	view  *inside.View
	built bool // it has the view as its root
}

// keepParked is how many empty sandboxes wait, so that the next program need
// not wait for its namespaces.
const keepParked = 2

var errLauncher = errors.New("the launcher of sandboxes is closed")

// take returns an empty sandbox, which is the caller's to use or to end.
func (l *launcher) take() (*born, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errLauncher
	}
	if err := l.fresh(); err != nil {
		return nil, err
	}
	if n := len(l.parked); n > 0 {
		b := l.parked[0]
		l.parked = append(l.parked[:0], l.parked[1:]...)
		l.refill()
		return b, nil
	}
	b, err := l.bear()
	if err != nil { // it may have been killed: once more
		l.stop()
		if err = l.fresh(); err == nil {
			b, err = l.bear()
		}
	}
	if err == nil {
		l.refill()
	}
	return b, err
}

// refill makes more in the background.
func (l *launcher) refill() {
	l.wg.Go(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed || l.sock == nil || len(l.parked) >= keepParked {
			return
		}
		if b, err := l.bear(); err == nil {
			l.parked = append(l.parked, b)
		}
	})
}

// fresh starts the launcher, unless it runs and its view is still the machine's.
func (l *launcher) fresh() error {
	view, err := inside.NewView(l.host)
	if err != nil {
		return err
	}
	if l.sock != nil && l.view.Same(view) {
		return nil
	}
	l.stop()
	l.view = view
	return l.start()
}

func (l *launcher) start() error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd, err := shim.Command(inside.RoleLaunch)
	if err != nil {
		ours.Close()
		return err
	}
	cmd.ExtraFiles, cmd.Dir = []*os.File{theirs}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !mayMount() {
		if err := confine(cmd.SysProcAttr); err != nil {
			ours.Close()
			return err
		}
	}
	if err := cmd.Run(); err != nil {
		ours.Close()
		return fmt.Errorf("%w: the launcher: %w", ErrUnavailable, err)
	}
	theirs.Close()
	l.sock = ours
	if err := l.prepare(); err != nil {
		l.stop()
		return fmt.Errorf("%w: the launcher: %w", ErrUnavailable, err)
	}
	return nil
}

// prepare hears who the launcher is, and has it build the view.
func (l *launcher) prepare() error {
	s, err := inside.ReadStatus(l.sock)
	if err != nil {
		return err
	}
	l.pid = int(s.Value)
	plan := inside.PlainPlan()
	if l.root {
		plan = inside.LaunchPlan(l.view)
	}
	if err := plan.Send(l.sock, nil); err != nil {
		return err
	}
	if s, err = inside.ReadStatus(l.sock); err == nil && s.Kind != inside.Ready {
		err = plan.Err(s)
	}
	return err
}

// bear has the launcher make an empty sandbox.
func (l *launcher) bear() (*born, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	err = inside.SendRights(l.sock, []byte{0}, []int{int(theirs.Fd())})
	theirs.Close()
	var s inside.Status
	if err == nil {
		s, err = inside.ReadStatus(l.sock)
	}
	if err == nil && s.Kind == inside.Failed {
		err = syscall.Errno(s.Value)
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("%w: new namespaces: %w", ErrUnavailable, err)
	}
	b := &born{pid: int(s.Value), sock: ours, view: l.view, built: l.root}
	fd, err := unix.PidfdOpen(b.pid, 0) // our child: nobody else waits for it, so the number is its own
	if err != nil {
		b.end()
		return nil, fmt.Errorf("%w: pidfd: %w", ErrUnavailable, err)
	}
	b.pidfd = os.NewFile(uintptr(fd), "pidfd")
	return b, nil
}

// end ends a sandbox that nothing runs in, and waits for it.
func (b *born) end() {
	b.sock.Close()
	_ = unix.Kill(b.pid, unix.SIGKILL) // ours until it is waited for
	reap(b.pid)
	if b.pidfd != nil {
		b.pidfd.Close()
	}
}

func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// stop ends the launcher and what it has made that nobody has taken.
func (l *launcher) stop() {
	for _, b := range l.parked {
		b.end()
	}
	l.parked = nil
	if l.sock == nil {
		return
	}
	l.sock.Close()
	l.sock = nil
	if l.pid > 0 {
		reap(l.pid)
	}
	l.pid = 0
}

func (l *launcher) close() {
	l.mu.Lock()
	l.closed = true
	l.stop()
	l.mu.Unlock()
	l.wg.Wait()
}

// socketPair returns two ends of a stream. Ours is polled, so that a goroutine
// waits for it and not a thread.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "sandbox"), os.NewFile(uintptr(fds[1]), "node"), nil
}

// mayMount reports whether this process may make mounts as it is; else it needs
// a user namespace to do so in.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// What the launcher needs in a user namespace of its own; the last for overlays,
// which prepare their files in a folder that is closed to everyone.
var launcherCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_DAC_OVERRIDE}

// confine puts the launcher into a user namespace of its own, in which all users
// that this process may map are themselves.
func confine(attr *syscall.SysProcAttr) error {
	attr.Cloneflags, attr.AmbientCaps = unix.CLONE_NEWUSER, launcherCaps
	uid, gid := os.Geteuid(), os.Getegid()
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
	if uid != 0 {
		return nil
	}
	var err error
	if attr.UidMappings, err = sameIDs("/proc/self/uid_map"); err == nil {
		attr.GidMappings, err = sameIDs("/proc/self/gid_map")
	}
	attr.GidMappingsEnableSetgroups = true
	return err
}

// sameIDs maps every ID of the file, in the format of user_namespaces(7), to itself.
func sameIDs(path string) ([]syscall.SysProcIDMap, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []syscall.SysProcIDMap
	for line := range strings.Lines(string(text)) {
		var first, host, n int
		if _, err := fmt.Sscan(line, &first, &host, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: n})
	}
	return out, nil
}
