package unit

import (
	"context"
	"io"
	"sync"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// The messages are those of unitwire.
type (
	Whoami = unitwire.Whoami
	Notice = unitwire.Notice
	Cost   = unitwire.Cost
)

// Backend is what an attempt may know and do. The server calls it from many
// goroutines at once.
//
// A method returns a *Refusal for what is the program's fault; any other error
// is the node's, is logged, and answered with 500 and no details.
type Backend interface {
	// Whoami says who the attempt is; the server fills in Version.
	Whoami() Whoami
	// Inputs lists the inputs of the task, the spec's and its own.
	Inputs() []workload.Input
	// Publish stores content as the output name, a clean relative path, in
	// place of an earlier one, and shows it to the owner before it returns.
	// Reading content fails when it exceeds the server's bound; Publish must
	// then return that error, wrapped or not.
	Publish(ctx context.Context, name string, content io.Reader) (workload.Ref, error)
	// PublishFile is Publish with the content of from, a clean path relative
	// to the attempt's output folder, which the program writes to meanwhile.
	// An error that wraps fs.ErrNotExist says that there is no such file.
	PublishFile(ctx context.Context, name, from string) (workload.Ref, error)
	// Notice returns the latest notice (the server fills in LeftMs) and a
	// channel that is closed when there is a newer one. Board implements it.
	Notice() (Notice, <-chan struct{})
	// Cost returns what the attempt costs so far.
	Cost() Cost
}

// Refusal is an answer to a request that the program got wrong. Its text goes
// to the program.
type Refusal struct {
	Status  int // of HTTP, 400 to 499
	Message string
	Hint    string
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Board holds the notices of one attempt. The zero value has none. It is safe
// for concurrent use.
type Board struct {
	mu      sync.Mutex
	notice  Notice
	changed chan struct{}
}

// Post puts a newer notice up and wakes who waits for one. kind is one of
// unitwire's; deadlineMs is when the attempt will be killed, in ms since 1970,
// and 0 when that is not known.
func (b *Board) Post(kind, reason string, deadlineMs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notice = Notice{Seq: b.notice.Seq + 1, Kind: kind, Reason: reason, DeadlineMs: deadlineMs}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Notice returns the latest notice and a channel that the next Post closes.
func (b *Board) Notice() (Notice, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	n := b.notice
	if n.Kind == "" {
		n.Kind = unitwire.None
	}
	return n, b.changed
}
