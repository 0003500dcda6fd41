package api

import (
	"context"
	"io"
	"math"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// UntilEnd makes Wait tell the end alone: no version is above it.
const UntilEnd = math.MaxUint64

// Backend is what the server serves: a node. Its methods may be called from
// any goroutine, return when ctx ends, and return errors that are *Error when
// the caller can do something about them.
type Backend interface {
	Status(ctx context.Context, stats bool) (*Status, error)
	// Nodes lists the nodes that are known; find is a placement condition that
	// is also put to the DHT, or empty.
	Nodes(ctx context.Context, find string) ([]Node, error)

	// Picture asks a node, by its name or the beginning of its identity, for its
	// cores and who holds them.
	Picture(ctx context.Context, node string) (*workload.Picture, error)

	// Attest asks a node, or with "" the daemon's own, for fresh evidence of its
	// machine and appraises it. That nothing is proved is no error.
	Attest(ctx context.Context, node string) (*Attest, error)

	// PutBlob stores content, which stays until it is used or a while has passed.
	PutBlob(ctx context.Context, r io.Reader) (workload.Ref, error)
	// OpenBlob fetches a blob from whoever has it.
	OpenBlob(ctx context.Context, ref workload.Ref) (io.ReadSeekCloser, error)

	// PutSealed is PutBlob for the content of sealed work: it is stored sealed, with
	// the key of this node's owner and the spec's salt.
	PutSealed(ctx context.Context, salt []byte, r io.Reader) (workload.Ref, error)
	// OpenOutput fetches a blob that a result of a workload names. Of sealed work
	// it gives the content, on its owner's node.
	OpenOutput(ctx context.Context, id workload.ID, ref workload.Ref) (io.ReadCloser, error)

	// Submit completes, signs and submits a spec. When it returns, the workload
	// is acknowledged: it survives any crash.
	Submit(ctx context.Context, spec workload.Spec) (*Submitted, error)
	// Resolve turns a whole ID, a unique prefix of one, or a name into an ID.
	Resolve(ctx context.Context, text string) (workload.ID, error)
	List(ctx context.Context, all bool, labels map[string]string) ([]Workload, error)
	Inspect(ctx context.Context, id workload.ID) (*Workload, error)
	// Wait returns when the workload's version is above since, it has ended, or
	// timeout has passed. With UntilEnd for since, changes before the end are
	// not told.
	Wait(ctx context.Context, id workload.ID, since uint64, timeout time.Duration) (*Workload, error)
	Tasks(ctx context.Context, id workload.ID, from, count uint32) ([]Task, error)
	Why(ctx context.Context, id workload.ID, task *uint32) (*Why, error)
	Stop(ctx context.Context, id workload.ID) error
	// Receipt makes the receipt of a workload that has ended: a file for receipt.Verify.
	Receipt(ctx context.Context, id workload.ID) ([]byte, error)
	// Audit has the voters of a cell, or with zero of the node's own, sign the heads of
	// their chains, and walks the chain where the node has the log.
	Audit(ctx context.Context, cell workload.CellID) (*Audit, error)

	// Attach connects to the one task of an interactive workload, or follows
	// any task's output: it blocks until the attempt ended for good, copying
	// the output from its beginning. stdin may be nil.
	Attach(ctx context.Context, id workload.ID, opt AttachOptions) error

	TrustBackend
	TokenBackend
	AccountBackend
	Invite(ctx context.Context, uses int, ttl time.Duration) (*Invitation, error)
	// Drain stops taking work, hands leadership over and waits for what runs.
	Drain(ctx context.Context) error
	// Metrics writes the Prometheus text format.
	Metrics(w io.Writer) error
	// Config returns the effective configuration: name, value, where it came from.
	Config() []Setting
}

// AttachOptions say which task to follow and where its streams go.
type AttachOptions struct {
	Task   uint32
	Follow bool // wait for more until the task has ended
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Setting is one effective configuration value.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // default, file, environment or flag
}

// Error makes *Error an error.
func (e *Error) Error() string { return e.Message }
