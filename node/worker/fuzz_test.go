package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// FuzzWorker sends a worker messages made of arbitrary bytes: from a stranger,
// from the leader of its own cell, from one of another cell and from the home of
// what it runs. The leader answers its reports with anything. It never panics,
// answers at once, runs no task that a spec has not, writes nowhere but below
// its slots, and once it is closed all capacity is free and every session closed.
func FuzzWorker(f *testing.F) {
	shop := openShop(f)
	var all []fuzzpeers.Step
	for _, steps := range workerSteps(f, shop) {
		f.Add(fuzzpeers.Script(steps...))
		all = append(all, steps...)
	}
	f.Add(fuzzpeers.Script(all[:min(len(all), maxSteps)]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			b := openBench(t, shop)
			for _, s := range fuzzpeers.Read(data, peers, maxSteps) {
				b.take(s)
			}
			b.end()
		})
	})
}

// The peers that speak to the worker.
const (
	asStranger = iota
	asLeader
	asSibling // the leader of another cell
	asHome
	asSelf
	peers
)

var (
	ownerKey  = fuzzpeers.Key(100)
	homeCell  = workload.CellID{'c'}
	otherCell = workload.CellID{'o'}
)

// Besides the handlers there are these kinds of steps.
const (
	stepAnswer = iota // what the leader answers next
	stepTime          // so many ms pass
	stepAttach        // a stream, which begins with the length of an AttachMsg
	stepHandlers
)

const maxSteps = 16

// workerHandlers are the protocols that a worker serves.
func workerHandlers() []fuzzpeers.Handler[*Worker] {
	return []fuzzpeers.Handler[*Worker]{
		fuzzpeers.Handle(wire.ProtoCall, func(from int, m *wire.CallMsg) { m.Call.Leader = fuzzpeers.ID(from) }, (*Worker).HandleCall),
		fuzzpeers.Handle(wire.ProtoRelease, nil, (*Worker).HandleRelease),
		fuzzpeers.Handle(wire.ProtoAward, goodAward, (*Worker).HandleAward),
		fuzzpeers.Handle(wire.ProtoHalt, nil, (*Worker).HandleHalt),
		fuzzpeers.Handle(wire.ProtoLive, nil, (*Worker).HandleLive),
	}
}

func goodAward(from int, m *wire.SignedAward) {
	m.Award = workload.Sign(workload.DomainAward, m.Award.Payload, fuzzpeers.Key(from))
	m.Spec = workload.Sign(workload.DomainSpec, m.Spec.Payload, ownerKey)
}

// shop is what the workers of all runs share: a folder and a store of blobs.
type shop struct {
	dir                  string
	blobs                *blob.Store
	program, table, tree workload.Ref
	segment, evil        workload.Ref
}

func openShop(f testing.TB) *shop {
	f.Helper()
	s := &shop{dir: filepath.Join(f.TempDir(), "node")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		f.Fatal(err)
	}
	var err error
	if s.blobs, err = blob.Open(f.TempDir(), 1<<30, slog.New(slog.DiscardHandler)); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.blobs.Close() })
	put := func(b []byte) workload.Ref {
		ref, err := s.blobs.PutBytesPinned("shop", b)
		if err != nil {
			f.Fatal(err)
		}
		return ref
	}
	s.program = put([]byte("\x00asm"))
	s.table = put(wire.MustMarshal(workload.TaskTable{Tasks: []workload.Task{{Args: []string{"a"}}, {Name: "b"}}}))
	s.tree = put(tarOf(f))
	s.segment = put(wire.MustMarshal(workload.Segment{Results: []workload.TaskResult{{
		Exit: workload.Exited, Stdout: workload.Stream{Data: []byte("hi")}, Outputs: []workload.Output{{Path: "a/b", Data: []byte("x")}, {Path: "prog", Blob: s.program, Exec: true}},
	}}}))
	s.evil = put(wire.MustMarshal(workload.Segment{Results: []workload.TaskResult{{
		Index: 1, Exit: workload.Exited, Outputs: []workload.Output{{Path: "../../../../evil"}, {Path: "/"}, {Path: "a\x00b"}, {Path: "./stdout"}},
	}}}))
	return s
}

func tarOf(f testing.TB) []byte {
	f.Helper()
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("in a tree"), 0o644); err != nil {
		f.Fatal(err)
	}
	var out bytes.Buffer
	if err := blob.PackTree(f.Context(), dir, &out, blob.DefaultLimits()); err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}

// bench is a worker and all that it speaks to.
type bench struct {
	t      *testing.T
	shop   *shop
	w      *Worker
	alloc  *capacity.Allocator
	served []fuzzpeers.Handler[*Worker]

	mu      sync.Mutex
	answers [][]byte
	open    int // sessions
	streams sync.WaitGroup
}

func openBench(t *testing.T, shop *shop) *bench {
	b := &bench{t: t, shop: shop, served: workerHandlers()}
	var err error
	if b.alloc, err = capacity.New(capacity.Uniform(4, 2), capacity.Limits{Memory: 8 << 30, Disk: 64 << 30, Slots: 64}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	kinds := []workload.Kind{workload.Process, workload.Wasm}
	b.w, err = New(Config{
		Self: fuzzpeers.ID(asSelf), Key: fuzzpeers.Key(asSelf), Cell: func() workload.CellID { return homeCell }, Dir: filepath.Join(shop.dir, "slots"), Boot: 1,
		Machine: workload.Machine{Name: "n", Arch: "amd64", OS: "linux", SMT: 2, Total: b.alloc.Total(), Kinds: kinds, Labels: map[string]string{"zone": "z"}},
		Alloc:   b.alloc, Disk: func() int64 { return 64 << 30 }, Prices: pricing.Default(),
		Runners: map[workload.Kind]runner.Runner{workload.Process: actors{b, workload.Process}, workload.Wasm: actors{b, workload.Wasm}},
		Blobs:   shop.blobs, Fetch: b, Keep: b, Leaders: b, Supervisor: b, Lease: lease.Default(), Log: slog.New(slog.DiscardHandler),
		Clock: func() time.Duration { return time.Hour + time.Since(began) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.w.fresh = true
	return b
}

// Fetch implements Fetcher: nothing is to be had but what is here.
func (b *bench) Fetch(_ context.Context, ref workload.Ref, _ []workload.PeerID) error {
	if b.shop.blobs.Has(ref) {
		return nil
	}
	return blob.ErrNotFound
}

// Keep implements Keeper.
func (b *bench) Keep(workload.ID, []workload.Ref) error { return nil }

// Slot implements Supervisor.
func (b *bench) Slot(string) runner.Guard { return nil }

// Grant implements Supervisor.
func (b *bench) Grant(_ runner.Instant, ttl time.Duration, _ ...string) error {
	if limit := 24 * time.Hour * 31; ttl > limit {
		b.t.Errorf("slots may run for %s", ttl)
	}
	return nil
}

// Forget implements Supervisor.
func (b *bench) Forget(string) error { return nil }

// Voters implements Leaders.
func (b *bench) Voters(workload.CellID) []workload.PeerID { return nil }

// MayLead implements Leaders.
func (b *bench) MayLead(cell workload.CellID, peer workload.PeerID) bool {
	return cell == homeCell && peer == fuzzpeers.ID(asLeader) || cell == otherCell && peer == fuzzpeers.ID(asSibling)
}

// CallLeader implements Leaders: the next answer of the script is decoded as
// whatever was asked for; without one the leader says what ends the slot.
func (b *bench) CallLeader(ctx context.Context, _ workload.CellID, proto string, req, resp any) error {
	if err := wire.Unmarshal(wire.MustMarshal(req), req); err != nil {
		b.t.Errorf("%s: the worker's own request: %v", proto, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(b.answers) > 0 {
		answer := b.answers[0]
		b.answers = b.answers[1:]
		return wire.Unmarshal(answer, resp)
	}
	switch r := resp.(type) {
	case *wire.Taken:
		r.Over = true
	case *wire.Closed:
		r.Held = true
	case *wire.Renewed:
		r.GrantMs, r.Epoch = 9000, 1
	}
	return nil
}

// actors is a Runner whose attempts print, wait a little and end.
type actors struct {
	b    *bench
	kind workload.Kind
}

func (r actors) Kind() workload.Kind                   { return r.kind }
func (r actors) Probe(context.Context) (string, error) { return runner.WallNamespaces, nil }

func (r actors) Available(spec *workload.Spec) error {
	if spec.Program.Host != "" && spec.Program.Host != "true" {
		return runner.ErrProgramMissing
	}
	return nil
}

func (r actors) Open(_ context.Context, slot runner.Slot) (runner.Session, error) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.open++
	return &actor{b: r.b, spec: slot.Spec, end: make(chan struct{})}, nil
}

// actor is a session of an actors.
type actor struct {
	b    *bench
	spec *workload.Spec
	mu   sync.Mutex
	end  chan struct{} // closed when the running attempt is to end
	gone bool
}

// actFor is how long an attempt runs that nobody ends: a seed says so in a field
// that a worker does not look at.
func (s *actor) actFor() time.Duration {
	return 300*time.Millisecond + time.Duration(s.spec.Retries)*time.Second
}

// Run implements runner.Session.
func (s *actor) Run(ctx context.Context, a runner.Attempt) (runner.Outcome, error) {
	if a.Index >= s.spec.Tasks.Count || a.Number == 0 {
		s.b.t.Errorf("task %d of %d ran, attempt %d", a.Index, s.spec.Tasks.Count, a.Number)
	}
	for _, m := range a.Mounts {
		if !filepath.IsLocal(filepath.FromSlash(m.Target)) {
			s.b.t.Errorf("an input is shown at %q", m.Target)
		}
	}
	_, _ = io.WriteString(a.Stdout, "on stage\n")
	if err := os.MkdirAll(a.Out, 0o755); err != nil {
		return runner.Outcome{}, err
	}
	if err := os.WriteFile(filepath.Join(a.Out, "prop"), []byte("x"), 0o644); err != nil {
		return runner.Outcome{}, err
	}
	if a.Stdin != nil {
		go io.Copy(io.Discard, a.Stdin) //nolint:errcheck // it ends with the attempt
	}
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	out := runner.Outcome{Exit: workload.Exited, Wall: runner.WallNamespaces}
	select {
	case <-time.After(s.actFor()):
	case <-end:
		out.Exit = workload.StoppedExit
	case <-ctx.Done():
		out.Exit = workload.StoppedExit
	}
	return out, nil
}

// Interrupt implements runner.Session.
func (s *actor) Interrupt(time.Duration) { s.Kill() }

// Kill implements runner.Session.
func (s *actor) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.end)
	s.end = make(chan struct{})
}

// Close implements runner.Session.
func (s *actor) Close() error {
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.gone = true
		s.b.mu.Lock()
		s.b.open--
		s.b.mu.Unlock()
	}
	return nil
}

// Park implements runner.Reusable.
func (s *actor) Park(runner.Guard) ([]string, error) { return nil, nil }

// Reopen implements runner.Reusable.
func (s *actor) Reopen(slot runner.Slot) error { s.spec = slot.Spec; return nil }

func (b *bench) take(s fuzzpeers.Step) {
	switch kind := int(s.Kind) % (stepHandlers + len(b.served)); kind {
	case stepAnswer:
		b.mu.Lock()
		b.answers = append(b.answers, s.Body)
		b.mu.Unlock()
	case stepTime:
		time.Sleep(time.Duration(len(s.Body)%64) * 100 * time.Millisecond) // virtual time
	case stepAttach:
		b.attach(&s)
	default:
		h := &b.served[kind-stepHandlers]
		began := time.Now()
		_, err := h.Serve(b.w, b.t.Context(), &s)
		if took := time.Since(began); took > 0 {
			b.t.Errorf("%s took %s", h.Proto, took)
		}
		if err != nil && wire.FromError(err).Kind == wire.Internal {
			b.t.Errorf("%s failed by itself: %v", h.Proto, err)
		}
	}
	synctest.Wait()
}

// attach opens a stream, whose first byte is the length of an AttachMsg and
// whose rest is what the peer says on it.
func (b *bench) attach(s *fuzzpeers.Step) {
	if len(s.Body) == 0 {
		return
	}
	n := min(int(s.Body[0]), len(s.Body)-1)
	var m wire.AttachMsg
	if wire.Unmarshal(s.Body[1:1+n], &m) != nil {
		return
	}
	b.streams.Go(func() { b.w.HandleAttach(fuzzpeers.ID(int(s.From)), &m, &stream{in: bytes.NewReader(s.Body[1+n:])}) })
}

// stream is one end of a connection that takes everything.
type stream struct{ in io.Reader }

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return len(p), nil }

// end closes the worker and looks at what it leaves.
func (b *bench) end() {
	b.w.Close()
	b.streams.Wait()
	time.Sleep(HoldFor + 2*parkFor) // virtual time
	b.w.Offer(time.Second)          // drops the holds whose time is over
	if free, total := b.alloc.Available(), b.alloc.Total(); free != total {
		b.t.Errorf("%+v is free in the end, of %+v", free, total)
	}
	if st := b.w.Stats(); st.Slots != 0 || b.open != 0 {
		b.t.Errorf("%d slots and %d sessions are left", st.Slots, b.open)
	}
	err := filepath.WalkDir(b.shop.dir, func(path string, _ fs.DirEntry, err error) error {
		if path != b.shop.dir && path != filepath.Join(b.shop.dir, "slots") {
			b.t.Errorf("left behind: %s", strings.TrimPrefix(path, b.shop.dir))
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
}

// FuzzSegment writes the results of a segment made of arbitrary bytes into a
// folder, as a workload that comes after, and its owner, do. Nothing is written
// beside it.
func FuzzSegment(f *testing.F) {
	f.Add(wire.MustMarshal(workload.Segment{Results: []workload.TaskResult{{Stdout: workload.Stream{Data: []byte("x")}, Outputs: []workload.Output{{Path: "a/b", Exec: true}}}}}))
	f.Add(wire.MustMarshal(workload.Segment{Results: []workload.TaskResult{{Outputs: []workload.Output{{Path: "../../x"}, {Path: "/etc/x"}, {Path: ""}}}}}))
	f.Add(wire.MustMarshal(workload.Segment{Results: []workload.TaskResult{{Outputs: []workload.Output{{Path: "a"}, {Path: "a/b"}, {Path: "stdout"}, {Path: "b\x00"}}}}}))
	base := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s workload.Segment
		if wire.Unmarshal(raw, &s) != nil || len(s.Results) > 64 {
			return
		}
		dir := filepath.Join(base, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for i := range s.Results {
			_ = WriteResult(root, &s.Results[i], func(workload.Ref) (io.ReadCloser, error) { return nil, errors.New("not here") })
		}
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
			t.Errorf("%v was written beside the folder: %v", entries, err)
		}
	})
}
