package worker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/unit"
)

// maxPublish bounds one published output in bytes.
const maxPublish = 1 << 30

// unitBackend answers the unit's own protocol for one attempt.
type unitBackend struct {
	a    *attempt
	task workload.Task
	unit.Board
	stop func() // of the server; nil until the program wants it

	mu        sync.Mutex
	published map[string]workload.Output
}

func newUnit(a *attempt, own workload.Task) *unitBackend {
	return &unitBackend{a: a, task: own, published: map[string]workload.Output{}}
}

// open serves the unit's protocol on a socket of the attempt's own. The runner
// calls it at most once, while the attempt runs.
func (b *unitBackend) open() (socket string, err error) {
	if err := os.MkdirAll(b.a.dir, 0o755); err != nil {
		return "", err
	}
	socket, b.stop, err = unit.ServeAttempt(b.a.dir, b, maxPublish, b.a.s.log)
	return socket, err
}

func (b *unitBackend) close() {
	if b.stop != nil {
		b.stop()
	}
}

// Whoami implements unit.Backend.
func (b *unitBackend) Whoami() unit.Whoami {
	s := b.a.s
	return unit.Whoami{
		Workload: s.key.Workload.String(), Name: s.work.Name, Task: b.a.task, Count: s.spec.Tasks.Count,
		Attempt: b.a.number, TaskName: b.task.Name, Node: s.w.cfg.Machine.Name,
		Class: string(s.spec.Resources.Class), CPUs: s.spec.Resources.CPUs, Memory: s.spec.Resources.Memory,
		DeadlineMs: b.a.began.UnixMilli() + s.spec.Timeout,
	}
}

// Inputs implements unit.Backend.
func (b *unitBackend) Inputs() []workload.Input { return b.a.inputs }

// Publish implements unit.Backend.
func (b *unitBackend) Publish(ctx context.Context, name string, content io.Reader) (workload.Ref, error) {
	b.mu.Lock()
	full := len(b.published) >= maxOutputs && b.published[name].Path == ""
	b.mu.Unlock()
	if full {
		return workload.Ref{}, &unit.Refusal{Status: 409, Message: "too many outputs", Hint: "publish fewer, larger files"}
	}
	plain := newSumming(content) // what the program is told of, also where another form is stored
	content, err := b.a.s.sealing(plain)
	if err != nil {
		return workload.Ref{}, err
	}
	ref, err := b.a.s.w.cfg.Blobs.PutPinned(ctx, resultOwner(b.a.s.key), content)
	if errors.Is(err, blob.ErrFull) {
		return ref, &unit.Refusal{Status: 413, Message: "the node has no room for it", Hint: "publish less, or ask for more disk"}
	}
	if err != nil {
		return ref, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published[name] = workload.Output{Path: name, Blob: ref}
	return plain.ref(), nil
}

// PublishFile implements unit.Backend.
func (b *unitBackend) PublishFile(ctx context.Context, name, from string) (workload.Ref, error) {
	if !filepath.IsLocal(from) {
		return workload.Ref{}, &unit.Refusal{Status: 400, Message: from + " is not below /out"}
	}
	root, dir := b.a.liveOut()
	f, err := runner.OpenOutput(root, filepath.Join(dir, from))
	if errors.Is(err, fs.ErrNotExist) {
		return workload.Ref{}, err
	}
	if err != nil {
		return workload.Ref{}, &unit.Refusal{Status: 400, Message: from + " is not a regular file below /out"}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return workload.Ref{}, err
	}
	if info.Size() > maxPublish {
		return workload.Ref{}, &unit.Refusal{Status: 413, Message: "the file is too large to publish"}
	}
	return b.Publish(ctx, name, io.LimitReader(f, maxPublish))
}

// liveOut returns where on this host the running program's /out lies.
func (a *attempt) liveOut() (root, dir string) {
	a.s.mu.Lock()
	session := a.s.session
	a.s.mu.Unlock()
	if e, ok := session.(runner.Elsewhere); ok {
		return e.LiveOut()
	}
	return filepath.Join(a.dir, "out"), "."
}

// Cost implements unit.Backend.
func (b *unitBackend) Cost() unit.Cost {
	ms := time.Since(b.a.began).Milliseconds()
	return unit.Cost{MicroCredits: pricing.Charge(b.a.s.rate, ms), Rate: b.a.s.rate, Seconds: ms / 1000}
}

// outputs returns what was published, which goes before a file of the same name.
func (b *unitBackend) outputs() map[string]workload.Output {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]workload.Output, len(b.published))
	for k, v := range b.published {
		out[k] = v
	}
	return out
}

// HandleLive lists what a task that runs here has published so far.
func (w *Worker) HandleLive(_ context.Context, from workload.PeerID, m *wire.LiveMsg) (*wire.Live, error) {
	a := w.find(m.Workload, m.Task)
	if a != nil && a.s.spec.Sealed() && from != a.s.home {
		return nil, wire.Errorf(wire.Unauthorized, "the work is sealed: only the node it was submitted on sees it")
	}
	if a == nil {
		return nil, wire.Errorf(wire.NotFound, "task %d does not run here now", m.Task)
	}
	if err := w.mayRead(from, m.Token, a.s); err != nil {
		return nil, err
	}
	return &wire.Live{Outputs: a.published()}, nil
}

// published returns what the attempt has published, by path.
func (a *attempt) published() []workload.Output {
	return slices.SortedFunc(maps.Values(a.unit.outputs()), func(x, y workload.Output) int { return strings.Compare(x.Path, y.Path) })
}

var noticeReason = map[string]string{
	"stop":    "the workload is stopped, or its node loses the slot",
	"drain":   "the node is drained: it takes no more work",
	"preempt": "the idle time that it ran on is needed: another node runs the task again",
}

// notify tells the program what is coming and how long it has.
func (a *attempt) notify(kind string, left time.Duration) {
	a.unit.Post(kind, noticeReason[kind], time.Now().Add(left).UnixMilli())
}

var _ unit.Backend = (*unitBackend)(nil)
