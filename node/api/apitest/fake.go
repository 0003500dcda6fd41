// Package apitest holds a Backend that needs no mesh, for tests of what stands
// above the local API, and the contract that every Backend keeps.
package apitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// Program stands for a program: it runs in the test's process and returns an
// exit code. It must return when ctx ends.
type Program func(ctx context.Context, c *Call) int

// Call is what a Program sees of its task.
type Call struct {
	Args   []string
	Env    map[string]string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Inputs map[string][]byte // content of the inputs by path; trees as their archive
	Output map[string][]byte // what the task leaves behind
	Index  uint32
	Spec   *workload.Spec
	// Release is closed by Fake.Close; what it waits for is not ended by a stop.
	Release <-chan struct{}
}

// Fake is an in-memory mesh of three nodes, "anna", "ben" and "carl", whose
// programs are Go functions. Its IDs and times are the same in every run.
type Fake struct {
	Programs map[string]Program // by base name
	Floor    int64              // the lowest ask of any node; a smaller MaxPrice stays pending

	mu       sync.Mutex
	notReady string
	single   bool
	changed  chan struct{}
	blobs    map[workload.Digest][]byte
	work     map[workload.ID]*job
	order    []workload.ID
	trust    trust
	revoked  map[string]bool // texts of tokens
	closed   chan struct{}
}

// New returns a mesh whose programs are programs.
func New(programs map[string]Program) *Fake {
	return &Fake{
		Programs: programs, Floor: 400, changed: make(chan struct{}), closed: make(chan struct{}),
		blobs: map[workload.Digest][]byte{}, work: map[workload.ID]*job{},
	}
}

// Start is the time that every fake mesh begins at.
var Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Peer returns the identity of a fake node.
func Peer(name string) workload.PeerID { return workload.PeerID(sha256.Sum256([]byte(name))) }

// NotReady makes status say why the mesh is not ready; "" is ready again.
func (f *Fake) NotReady(why string) { f.change(func() { f.notReady = why }) }

// OneVoter makes the cell one of two nodes, a voter and a standby.
func (f *Fake) OneVoter() { f.change(func() { f.single = true }) }

// Cell is the one cell of a fake mesh.
var Cell = workload.CellID{0xce, 0x11, 1, 2, 3, 4, 5, 6}

var nodeNames = []string{"anna", "ben", "carl"}

// change applies f and wakes everyone who waits.
func (f *Fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) get(id workload.ID) (*job, error) {
	j := f.work[id]
	if j == nil {
		return nil, api.Errorf(api.NotFound, "no workload %s", id).WithHint("perrin ps -a lists what there is")
	}
	return j, nil
}

// PutBlob implements api.Backend.
func (f *Fake) PutBlob(_ context.Context, r io.Reader) (workload.Ref, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return workload.Ref{}, fmt.Errorf("put blob: %w", err)
	}
	ref := workload.Ref{Digest: workload.DigestOf(b), Size: int64(len(b))}
	f.change(func() { f.blobs[ref.Digest] = b })
	return ref, nil
}

// PutSealed implements api.Backend: it only asks for a salt.
func (f *Fake) PutSealed(ctx context.Context, salt []byte, r io.Reader) (workload.Ref, error) {
	if len(salt) != 32 {
		return workload.Ref{}, api.Errorf(api.Invalid, "a salt of %d bytes, want 32", len(salt))
	}
	return f.PutBlob(ctx, r)
}

// OpenOutput implements api.Backend.
func (f *Fake) OpenOutput(ctx context.Context, id workload.ID, ref workload.Ref) (io.ReadCloser, error) {
	if _, err := f.Inspect(ctx, id); err != nil {
		return nil, err
	}
	return f.OpenBlob(ctx, ref)
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// OpenBlob implements api.Backend.
func (f *Fake) OpenBlob(_ context.Context, ref workload.Ref) (io.ReadSeekCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.blobs[ref.Digest]
	if !ok {
		return nil, api.Errorf(api.NotFound, "no node has blob %s", ref.Digest)
	}
	return nopCloser{bytes.NewReader(b)}, nil
}

// Blobs returns how many blobs were put.
func (f *Fake) Blobs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.blobs)
}

// Submit implements api.Backend.
func (f *Fake) Submit(_ context.Context, spec workload.Spec) (*api.Submitted, error) {
	if err := spec.Validate(); err != nil {
		return nil, api.Errorf(api.Invalid, "%s", err.Error())
	}
	tasks, err := f.expand(&spec)
	if err != nil {
		return nil, err
	}
	var j *job
	f.change(func() {
		j = newJob(f, f.nextID(), spec, tasks)
		f.work[j.id] = j
		f.order = append(f.order, j.id)
	})
	go j.run()
	return &api.Submitted{ID: j.id, Held: true}, nil
}

func (f *Fake) nextID() workload.ID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(len(f.order))))
	id := workload.ID{Cell: Cell}
	copy(id.Random[:], sum[:])
	return id
}

func (f *Fake) expand(spec *workload.Spec) ([]workload.Task, error) {
	if len(spec.Tasks.Inline) > 0 {
		return spec.Tasks.Inline, nil
	}
	if spec.Tasks.Table.IsZero() {
		return make([]workload.Task, spec.Tasks.Count), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var table workload.TaskTable
	if err := wire.Unmarshal(f.blobs[spec.Tasks.Table.Digest], &table); err != nil {
		return nil, api.Errorf(api.Invalid, "tasks.table: %s", err.Error())
	}
	return table.Tasks, nil
}

// Resolve implements api.Backend.
func (f *Fake) Resolve(_ context.Context, text string) (workload.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []workload.ID
	for _, id := range f.order {
		if strings.HasPrefix(id.String(), text) || f.work[id].spec.Name == text {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return workload.ID{}, api.Errorf(api.NotFound, "no workload is called %.60q", text).WithHint("perrin ps -a lists what there is")
	case 1:
		return found[0], nil
	}
	return workload.ID{}, api.Errorf(api.Ambiguous, "%.60q stands for %d workloads", text, len(found)).WithHint("give more of the ID")
}

// List implements api.Backend.
func (f *Fake) List(_ context.Context, all bool, labels map[string]string) ([]api.Workload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Workload
	for _, id := range f.order {
		j := f.work[id]
		if (all || !j.phase.Ended()) && hasLabels(j.spec.Labels, labels) {
			out = append(out, j.view(false))
		}
	}
	return out, nil
}

func hasLabels(have, want map[string]string) bool {
	for name, value := range want {
		if have[name] != value {
			return false
		}
	}
	return true
}

// Inspect implements api.Backend.
func (f *Fake) Inspect(_ context.Context, id workload.ID) (*api.Workload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.get(id)
	if err != nil {
		return nil, err
	}
	w := j.view(true)
	return &w, nil
}

// Wait implements api.Backend.
func (f *Fake) Wait(ctx context.Context, id workload.ID, since uint64, timeout time.Duration) (*api.Workload, error) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for expired := false; ; {
		f.mu.Lock()
		j, err := f.get(id)
		if err != nil {
			f.mu.Unlock()
			return nil, err
		}
		w, changed := j.view(false), f.changed
		f.mu.Unlock()
		if expired || w.Version > since || w.Phase.Ended() {
			return &w, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			expired = true
		case <-changed:
		}
	}
}

// Tasks implements api.Backend.
func (f *Fake) Tasks(_ context.Context, id workload.ID, from, count uint32) ([]api.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.get(id)
	if err != nil {
		return nil, err
	}
	var out []api.Task
	for i := from; i < uint32(len(j.tasks)) && uint32(len(out)) < count; i++ {
		out = append(out, j.task(i))
	}
	return out, nil
}

// Stop implements api.Backend.
func (f *Fake) Stop(_ context.Context, id workload.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.get(id)
	if err != nil {
		return err
	}
	j.cancel()
	return nil
}

// Attach implements api.Backend.
func (f *Fake) Attach(ctx context.Context, id workload.ID, opt api.AttachOptions) error {
	f.mu.Lock()
	j, err := f.get(id)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return j.attach(ctx, opt)
}

// Invite implements api.Backend.
func (f *Fake) Invite(_ context.Context, uses int, ttl time.Duration) (*api.Invitation, error) {
	if uses < 1 || ttl <= 0 {
		return nil, api.Errorf(api.Invalid, "uses and ttl: want more than 0, got %d and %s", uses, ttl)
	}
	return &api.Invitation{Token: "perrin1-token", Uses: uses, Expires: Start.Add(ttl)}, nil
}

// Drain implements api.Backend.
func (f *Fake) Drain(context.Context) error { return nil }

// Metrics implements api.Backend.
func (f *Fake) Metrics(w io.Writer) error {
	_, err := io.WriteString(w, "# TYPE perrin_up gauge\nperrin_up 1\n")
	return err
}

// Config implements api.Backend.
func (f *Fake) Config() []api.Setting {
	return []api.Setting{
		{Name: "data", Value: "/var/lib/perrin", Source: "default"},
		{Name: "name", Value: "anna", Source: "flag"},
	}
}

// Unfinished returns the IDs of workloads that have not ended.
func (f *Fake) Unfinished() []workload.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := maps.Clone(f.work)
	maps.DeleteFunc(left, func(_ workload.ID, j *job) bool { return j.phase.Ended() })
	return slices.SortedFunc(maps.Keys(left), func(a, b workload.ID) int { return strings.Compare(a.String(), b.String()) })
}

// Close stops every workload and lets go of those that a stop does not end.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.work {
		j.cancel()
	}
	close(f.closed)
}
