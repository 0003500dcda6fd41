package inside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Plan is a list of system calls for the machine to make, one after another. It
// is made in the daemon, where errors can be worded and memory allocated, and
// run where neither can be done. The zero value is empty. A plan is for one
// goroutine.
type Plan struct {
	ops    []op
	data   []uint64
	fixups []uint64 // words of data that hold an offset in bytes and become an address
	slots  int
	labels []string // what each op is for
	// The ops that execute the program, one or the other: the first, and the
	// one after the last. 0 for none.
	exec, execEnd int
	wrong         error // what cannot be encoded
}

// op is one call, or one of the machine's own steps.
type op struct {
	nr    uint64
	kinds uint64 // four bits an argument
	save  uint64 // the slot that gets the result, plus one; 0 for none
	okay  uint64 // an errno that is not a failure, 0 for none; anyErrno
	skip  uint64 // how many ops to leave out after okay
	args  [6]uint64
}

// opWords is the size of an op in the machine's memory.
const opWords = 11

// anyErrno is an op whose failure does not matter.
const anyErrno = 1 << 16

// Steps that are not system calls.
const (
	stepFork     = 1<<16 + iota // args[0] is the op at which the parent goes on; the child goes on with the next
	stepPut32                   // the low half of word args[0] of data becomes the value of args[1]
	stepDefaults                // every signal at its default
	stepReport                  // send a Status of kind args[0]
	stepServe                   // answer the daemon on ControlFD until it is gone (launch.go)
	stepWatch                   // be pid 1 until the process of slot args[0] has ended
)

// arg is an argument: a number, an address of the plan's data, or what an
// earlier call returned.
type arg struct {
	kind, value uint64
}

const (
	kindNumber = iota
	kindData
	kindSlot
)

func num[T ~int | ~uint32 | ~uint64 | ~int64 | ~uintptr](v T) arg { return arg{kindNumber, uint64(v)} }

// here is the current directory, for calls that take a folder's descriptor.
var here = num(unix.AT_FDCWD)

// slot makes room for one result.
func (p *Plan) slot() arg {
	p.slots++
	return arg{kindSlot, uint64(p.slots - 1)}
}

// words puts words into the data, aligned, and returns their address.
func (p *Plan) words(w ...uint64) arg {
	at := len(p.data) * 8
	p.data = append(p.data, w...)
	return arg{kindData, uint64(at)}
}

// bytes puts b into the data.
func (p *Plan) bytes(b []byte) arg {
	at := p.words()
	for len(b) >= 8 {
		p.data = append(p.data, binary.NativeEndian.Uint64(b))
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		p.data = append(p.data, binary.NativeEndian.Uint64(last[:]))
	}
	return at
}

// str puts s into the data, as C wants it.
func (p *Plan) str(s string) arg {
	if strings.IndexByte(s, 0) >= 0 && p.wrong == nil {
		p.wrong = fmt.Errorf("%.40q has a zero byte in it, which no argument, variable or path can", s)
	}
	return p.bytes(append([]byte(s), 0))
}

// list puts an array of pointers to strings into the data, as execve wants it.
func (p *Plan) list(items []string) arg {
	ptrs := make([]uint64, 0, len(items)+1)
	for _, s := range items {
		ptrs = append(ptrs, p.str(s).value)
	}
	at := p.words(append(ptrs, 0)...)
	for i := range items {
		p.pointer(at, i)
	}
	return at
}

// pointer says that word i of the data at a holds an offset that must become an
// address.
func (p *Plan) pointer(a arg, i int) { p.fixups = append(p.fixups, a.value/8+uint64(i)) }

// do appends a call. what says in an error what it was for.
func (p *Plan) do(what string, nr int, args ...arg) *op {
	o := op{nr: uint64(nr)}
	for i, a := range args {
		o.kinds |= a.kind << (4 * i)
		o.args[i] = a.value
	}
	p.ops, p.labels = append(p.ops, o), append(p.labels, what)
	return &p.ops[len(p.ops)-1]
}

// get appends a call and returns the slot of its result.
func (p *Plan) get(what string, nr int, args ...arg) arg {
	s := p.slot()
	p.do(what, nr, args...).save = s.value + 1
	return s
}

// close closes the descriptor in s.
func (p *Plan) close(s arg) { p.do("close", unix.SYS_CLOSE, s) }

// errPlan is returned for a plan that the machine has no room for.
var errPlan = errors.New("too many mounts, arguments or variables for a sandbox")

// header of a plan on the wire, in words: descriptors, slots, ops, words of
// data, fixups. The slots of the descriptors come first.
const headerWords = 5

// encode returns the plan as the machine reads it. nfds descriptors come with it.
func (p *Plan) encode(nfds int) ([]byte, error) {
	if p.wrong != nil {
		return nil, p.wrong
	}
	n := headerWords + len(p.ops)*opWords + len(p.data) + len(p.fixups)
	if n+p.slots > memoryWords-scratchWords || nfds > p.slots {
		return nil, errPlan
	}
	b := make([]byte, 0, n*8)
	word := func(vs ...uint64) {
		for _, v := range vs {
			b = binary.NativeEndian.AppendUint64(b, v)
		}
	}
	word(uint64(nfds), uint64(p.slots), uint64(len(p.ops)), uint64(len(p.data)), uint64(len(p.fixups)))
	for i := range p.ops {
		o := &p.ops[i]
		word(o.nr, o.kinds, o.save, o.okay, o.skip)
		word(o.args[:]...)
	}
	word(p.data...)
	word(p.fixups...)
	return b, nil
}

// Status is what a machine reports.
type Status struct {
	Kind   uint64
	Op     uint64 // of Failed
	Value  uint64 // an errno of Failed, a wait status of Ended, a pid of Made
	CPUUs  uint64 // of Ended: of the program and what it waited for
	MaxRSS uint64 // of Ended: bytes, largest process
}

// Kinds of Status.
const (
	Failed  = 1 + iota // a call failed; nothing more comes
	Started            // the program has been executed
	Ended              // the program has ended
	Ready              // the launcher has its view and waits for requests
	Made               // the launcher has made a sandbox
)

const statusWords = 5

// ErrStatus is returned when a report is malformed.
var ErrStatus = errors.New("malformed sandbox report")

// ReadStatus receives one report. It returns io.EOF at a clean end.
func ReadStatus(r io.Reader) (Status, error) {
	var b [statusWords * 8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", ErrStatus, err)
		}
		return Status{}, err
	}
	at := func(i int) uint64 { return binary.NativeEndian.Uint64(b[i*8:]) }
	s := Status{Kind: at(0), Op: at(1), Value: at(2), CPUUs: at(3), MaxRSS: at(4)}
	if s.Kind < Failed || s.Kind > Made {
		return Status{}, fmt.Errorf("%w: kind %d", ErrStatus, s.Kind)
	}
	return s, nil
}

// NoExecError is a program that cannot be executed: its own fault.
type NoExecError struct {
	Errno syscall.Errno
	Path  string
}

func (e *NoExecError) Error() string {
	return fmt.Sprintf("cannot execute %.200q: %s", e.Path, e.Errno)
}

// Err says what a report of Failed means.
func (p *Plan) Err(s Status) error {
	errno := syscall.Errno(s.Value)
	if s.Op >= uint64(len(p.ops)) {
		return fmt.Errorf("%w: op %d", ErrStatus, s.Op)
	}
	if p.exec > 0 && s.Op >= uint64(p.exec) && s.Op < uint64(p.execEnd) {
		return &NoExecError{Errno: errno, Path: p.labels[s.Op]}
	}
	return fmt.Errorf("%s: %w", p.labels[s.Op], errno)
}

// maxRights is how many descriptors one message may carry (SCM_MAX_FD).
const maxRights = 253

// Send gives the plan and its descriptors to the machine at the other end of
// the socket sock.
func (p *Plan) Send(sock conn, fds []int) error {
	body, err := p.encode(len(fds))
	if err != nil {
		return err
	}
	if _, err := sock.Write(body[:headerWords*8]); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), maxRights)
		if err := SendRights(sock, []byte{0}, fds[:n]); err != nil {
			return err
		}
		fds = fds[n:]
	}
	_, err = sock.Write(body[headerWords*8:])
	return err
}

// conn is a stream socket; an *os.File of one is.
type conn interface {
	io.Writer
	SyscallConn() (syscall.RawConn, error)
}

// SendRights sends body, one packet or byte, along with fds.
func SendRights(sock conn, body []byte, fds []int) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), body, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, serr)
}
