// Package runner is the contract between a node and what runs a workload's
// attempts on it, and the node's side of the supervisor that ends attempts
// whose lease has run out.
//
// A Runner is one way to run programs (workload/process, workload/wasm). A node
// opens one Session for each slot it was awarded and runs the slot's attempts
// in it one after another. Everything that comes out of a session was written
// by a stranger's program: exit codes, streams and the files in an output
// folder are untrusted; read the latter through Outputs only.
package runner

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Sentinel errors.
var (
	// ErrProgramMissing is returned when this node does not have the host program that a spec names.
	ErrProgramMissing = errors.New("program missing")
	// ErrProgramInvalid is returned when a shipped program is not something the runner can run.
	ErrProgramInvalid = errors.New("program invalid")
	// ErrUnavailable is returned when the machine lacks what the runner needs for isolation.
	ErrUnavailable = errors.New("isolation unavailable")
	// ErrClosed is returned when a session or supervisor is used after its Close.
	ErrClosed = errors.New("closed")
	// ErrLeaseEnded is returned when an attempt may not start because its lease has run out.
	ErrLeaseEnded = errors.New("lease ended")
)

// Paths and names that every program finds, whatever its runner.
const (
	WorkDir  = "/work"             // the working directory: writable scratch, gone after the attempt
	OutDir   = "/out"              // the output folder
	TmpDir   = "/tmp"              // private, in memory, counts as the attempt's memory
	UnitSock = "/perrin/unit.sock" // the unit socket

	EnvOut  = "PERRIN_OUT"
	EnvUnit = "PERRIN_UNIT"
)

// Slot is what a session is opened for: one workload's slot on this node.
type Slot struct {
	Workload workload.ID
	Slot     workload.SlotID
	Owner    workload.PeerID // whose the workload is; zero when nobody says
	Spec     *workload.Spec

	// Program is the host path of the verified program file; "" when
	// Spec.Program.Host is named.
	// For an image it is the file with its record.
	Program string
	// Layer returns the host path of layer i of an image, once it is here and
	// verified. Open calls it from one goroutine at a time, and not once it has
	// returned. Nil for other programs.
	Layer func(i int) (path string, err error)
	// Parts are the host paths of Spec.Program.Parts.
	Parts []string
	// CPUs are the logical CPUs the allocator granted; empty is not pinned.
	CPUs []int
	// Nodes are the NUMA nodes that memory must come from; empty is any.
	Nodes []int
	// Dir is a private host folder of this slot, made by the caller and removed
	// by the caller (with sandbox.RemoveAll) after Close. The runner keeps its
	// scratch below it.
	Dir string
	// Private is set for a program that must leave nothing outside of Dir.
	Private bool
	// Guard, when set, is told of every sandbox before its program runs.
	Guard Guard
}

// Mount is a host file or folder that an attempt sees read-only at Target, a
// slash-separated clean path relative to the working directory. Symlinks in it
// are shown, never followed by the host. When the daemon runs as root, Source
// and what lies below it must be readable by others (0644, 0755): the program
// runs as a user of its own.
type Mount struct {
	Source string
	Target string
}

// Attempt is one try of one task.
type Attempt struct {
	Index  uint32
	Number uint32 // 1 for the first try
	Args   []string
	Env    []string // "NAME=value"; PERRIN_ names are the runner's
	Mounts []Mount

	// Out is the host path of the output folder, seen as /out: an empty folder,
	// or nothing yet. The runner makes it, unless nothing was left in it, and
	// changes its owner and mode as it needs.
	Out string
	// Unit returns the host path of a listening unix socket that speaks HTTP. It
	// is called at most once, from any goroutine, when the program first needs
	// the socket; the runner changes its mode so that the program can connect.
	// Nil is no socket.
	Unit func() (socket string, err error)

	// Stdin may be nil (empty). Its Read may be left blocked when the attempt
	// ends; the caller ends it. Stdout and Stderr may be nil (discarded) and
	// slow (the program waits); each is written by one goroutine, and neither
	// is written after Run has returned.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Timeout time.Duration // of the program's run; 0 is none
}

// Outcome is how an attempt ended.
type Outcome struct {
	Started time.Time // when the program itself began; zero when it did not
	Exit    workload.Exit
	Code    int32  // exit code or signal number
	Detail  string // at most MaxDetail bytes, from untrusted sources
	Usage   workload.Usage
	Wall    string // the isolation level it ran at
}

// MaxDetail bounds Outcome.Detail in bytes.
const MaxDetail = 1024

// Walls, the isolation levels of this version.
const (
	WallNamespaces = "namespaces"
	WallWasm       = "wasm"
	WallGVisor     = "gvisor"   // a kernel in user space, in namespaces
	WallMicroVM    = "microvm"  // a virtual machine on the hardware's own support
	WallEmulated   = "emulated" // a virtual machine on an emulated CPU, which is no wall by itself: as namespaces
)

// Runner runs programs of one kind. It is safe for concurrent use.
type Runner interface {
	// Kind names the programs it runs.
	Kind() workload.Kind
	// Probe runs a program that tests the isolation from inside, and returns
	// the level that held. The error wraps ErrUnavailable when there is none.
	Probe(ctx context.Context) (wall string, err error)
	// Available reports whether this node could run spec, without starting
	// anything: nil, or an error that wraps ErrProgramMissing. A shipped
	// program is always available.
	Available(spec *workload.Spec) error
	// Open prepares slot. The error wraps ErrProgramInvalid when the program is
	// to blame, ErrProgramMissing when the host lacks it; others are node faults.
	Open(ctx context.Context, slot Slot) (Session, error)
}

// Session runs the attempts of one slot, one after another: Run is never
// called twice at once. Interrupt, Kill and Close may be called at any time
// from any goroutine.
type Session interface {
	// Run runs one attempt to its end and returns how it ended. An error is a
	// node fault, never the program's failure. Cancelling ctx kills the attempt,
	// which then ends as StoppedExit. When Run returns, no process of the
	// attempt is left.
	Run(ctx context.Context, a Attempt) (Outcome, error)
	// Interrupt asks the running attempt to end (SIGTERM) and kills it after
	// grace. It returns at once. The attempt ends as StoppedExit. When none runs
	// it is the next one's: that may be about to begin.
	Interrupt(grace time.Duration)
	// Kill ends the running attempt at once (SIGKILL); it ends as StoppedExit.
	Kill()
	// Close kills what runs and removes everything the session made on the
	// host: cgroups, mounts, scratch. It is idempotent.
	Close() error
}

// Reusable is a Session that can serve another slot after its own: one of the
// same owner, with the same program, resources and CPUs.
type Reusable interface {
	Session
	// Park is called when the slot is over and no attempt runs. It lets go of the
	// slot's guard: what goes on running does nothing by itself, and ends with
	// this process. It returns the names in Slot.Dir that must stay; the caller
	// removes the others. On an error the session is to be closed.
	Park() (keep []string, err error)
	// Reopen makes a parked session the next slot's, which has the same Dir, and
	// puts it under that slot's guard.
	Reopen(slot Slot) error
}

// Movable is a Session whose programs can be moved and paused while they run.
// Its methods may be called at any time from any goroutine; after Close they do
// nothing or fail.
type Movable interface {
	Session
	// Move has it run on other CPUs, with memory from other NUMA nodes (none: as
	// before).
	Move(cpus, nodes []int) error
	// Freeze pauses what runs and keeps what is started from running; Thaw lets
	// it go on. Both are idempotent. Killing ends the pause.
	Freeze() error
	Thaw() error
}

// Elsewhere is a Session that shows its program another folder than Attempt.Out
// while an attempt runs, and moves the content at the end.
type Elsewhere interface {
	// LiveOut returns the path, below the host folder root, of what the running
	// attempt sees as /out. Both are the workload's to tamper with: open files
	// with OpenOutput(root, ...) only. It may be called from any goroutine.
	LiveOut() (root, path string)
}

// Proc is a handle on one sandbox: enough to kill all of it, for sure.
type Proc struct {
	// Pidfd refers to the init of the sandbox's pid namespace, whose death ends
	// every process inside. It stays the session's; duplicate it to keep it.
	Pidfd *os.File
	// Cgroups are the absolute folders of the sandbox's cgroups, empty where
	// cgroups cannot be written.
	Cgroups []string
}

// Guard is told of every sandbox that a session starts.
type Guard interface {
	// Guard is called when the sandbox stands and its program does not run yet.
	// An error keeps it from running; Run returns it.
	Guard(p Proc) (release func(), err error)
}
