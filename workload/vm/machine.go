package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// errBrokeOff is returned when a machine ended, or said what it must not.
var errBrokeOff = errors.New("it broke off")

// machine is a running QEMU. boot, ready and stop belong to one goroutine at a
// time; Terminate and Kill may come from any.
type machine struct {
	accel   accel
	proc    *sandbox.Proc
	sock    *os.File
	in      *frame.Reader
	out     *frame.Writer
	release func() // of the slot's guard
	booted  bool
	before  sandbox.Meter // of the group, when it started

	console, qemu tail           // the last words of the guest and of QEMU
	drained       sync.WaitGroup // of both

	mu      sync.Mutex
	running uint32 // the attempt that could be asked to end, 0 for none
}

// boot starts QEMU with its console drained and a channel to the guest's init.
func (m *machine) boot(g *sandbox.Group, p sandbox.Program, guard runner.Guard) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(fds[1]), "node")
	defer theirs.Close()
	if err := unix.SetNonblock(fds[0], true); err != nil { // polled, so that a goroutine waits for it and not a thread
		unix.Close(fds[0])
		return err
	}
	m.sock = os.NewFile(uintptr(fds[0]), "guest")
	m.in, m.out = frame.NewReader(m.sock), frame.NewWriter(m.sock)
	p.Keep = []*os.File{theirs}
	console, err := m.launch(g, p, guard)
	if err != nil {
		m.sock.Close()
		return err
	}
	m.drained.Go(func() { m.console.drain(console); console.Close() })
	return nil
}

// launch starts QEMU and returns its console.
func (m *machine) launch(g *sandbox.Group, p sandbox.Program, guard runner.Guard) (console *os.File, err error) {
	console, consoleW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer consoleW.Close()
	said, saidW, err := os.Pipe()
	if err != nil {
		console.Close()
		return nil, err
	}
	defer saidW.Close()
	p.Stdout, p.Stderr = consoleW, saidW
	m.release = func() {}
	m.proc, err = g.Start(p, func(init *os.File) error {
		if guard == nil {
			return nil
		}
		release, err := guard.Guard(runner.Proc{Pidfd: init, Cgroups: g.Cgroups()})
		if err == nil {
			m.release = release
		}
		return err
	})
	if err != nil {
		m.release()
		console.Close()
		said.Close()
		return nil, err
	}
	m.drained.Go(func() { m.qemu.drain(said); said.Close() })
	return console, nil
}

// ready waits until the guest's init is.
func (m *machine) ready(within time.Duration) error {
	if m.booted {
		return nil
	}
	late := time.AfterFunc(within, m.Kill)
	f, err := m.in.Next()
	switch {
	case !late.Stop():
		return fmt.Errorf("it was not ready within %s", within)
	case err != nil:
		return errBrokeOff
	case f.Type != frame.Ready:
		return fmt.Errorf("%w: type %d", frame.ErrFrame, f.Type)
	}
	m.booted = true
	return nil
}

// lastWords is why a stopped machine broke off, as far as it said.
func (m *machine) lastWords() string {
	if words := m.console.reason(); words != "" {
		return words
	}
	return m.qemu.reason()
}

// Terminate passes SIGTERM on to the command, or ends a machine that runs none.
func (m *machine) Terminate() {
	m.mu.Lock()
	id := m.running
	m.mu.Unlock()
	if id == 0 {
		m.Kill()
		return
	}
	go func() { _ = m.out.Send(guestwire.Terminate, id, nil) }() // a guest that does not listen is killed after its grace
}

// Kill ends the machine at once.
func (m *machine) Kill() { m.proc.Kill() }

// dead reports whether the machine's sandbox has ended.
func (m *machine) dead() bool {
	fds := []unix.PollFd{{Fd: int32(m.proc.Pidfd().Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// endFor is how long QEMU may take to end after its guest has.
const endFor = time.Second

// stop kills the machine, after patience if it has not ended by itself, and
// returns once nothing of it is left. Broken says that somebody else killed it.
func (m *machine) stop(patience time.Duration) sandbox.End {
	if m.sock != nil {
		m.sock.Close()
	}
	late := time.AfterFunc(patience, m.proc.Kill)
	e, err := m.proc.Wait()
	e.Broken = e.Broken && err == nil && late.Stop()
	m.release()
	m.release = func() {}
	m.drained.Wait()
	m.proc.Close()
	return e
}

func unixSignal(n int32) syscall.Signal {
	if n < 0 || n > 64 {
		return unix.SIGKILL
	}
	return syscall.Signal(n)
}

var _ io.Writer = (*tail)(nil)
