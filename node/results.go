package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// Tasks implements api.Backend: where each task is, and the results of those
// that have ended.
func (g gateway) Tasks(ctx context.Context, id workload.ID, from, count uint32) ([]api.Task, error) {
	n := g.n
	var places []leader.Place
	if err := n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryPlaces, ID: id, From: from, Count: count}, &places); err != nil {
		return nil, err
	}
	segments, err := n.segments(ctx, id, from, uint32(len(places)))
	if err != nil {
		return nil, err
	}
	tasks := make([]api.Task, len(places))
	for i, p := range places {
		tasks[i] = api.Task{Index: p.Index, Phase: p.Phase, Node: p.Node, On: p.Name}
	}
	k, spec, err := n.sealOf(ctx, id)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	n.fillNames(ctx, spec, k, tasks)
	n.fillPublished(ctx, id, tasks)
	if err := n.fillResults(ctx, id, tasks, segments); err != nil {
		return nil, err
	}
	return tasks, n.revealTasks(k, tasks)
}

// fillNames names the tasks as their owner did. A table that is not to be had
// names none, nor does a sealed one without its key.
func (n *Node) fillNames(ctx context.Context, spec *workload.Spec, k *seal.Key, tasks []api.Task) {
	if spec == nil {
		return
	}
	if spec.Sealed() {
		if spec = n.revealSpec(ctx, spec, k); spec == nil {
			return
		}
	}
	table := spec.Tasks.Inline
	if ref := spec.Tasks.Table; !ref.IsZero() && n.Fetch(ctx, ref, n.everyone()) == nil {
		if k != nil {
			table, _ = worker.ReadTableSealed(n.blobs, spec.Tasks, k)
		} else {
			table, _ = worker.ReadTable(n.blobs, spec.Tasks)
		}
	}
	for i := range tasks {
		if at := int(tasks[i].Index); at < len(table) {
			tasks[i].Name = table[at].Name
		}
	}
}

// maxLive bounds the running tasks of one page that are asked what they have
// published.
const maxLive = 16

// fillPublished asks the workers of running tasks. One that does not answer
// soon has published nothing as far as we know.
func (n *Node) fillPublished(ctx context.Context, id workload.ID, tasks []api.Task) {
	token := n.tokenOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var asked sync.WaitGroup
	left := maxLive
	for i := range tasks {
		t := &tasks[i]
		if t.Phase != workload.Running || left == 0 {
			continue
		}
		left--
		asked.Go(func() {
			var live wire.Live
			if (caller{n}).Call(ctx, t.Node, wire.ProtoLive, &wire.LiveMsg{Workload: id, Task: t.Index, Token: token}, &live) == nil {
				t.Published = live.Outputs
			}
		})
	}
	asked.Wait()
}

// segments asks where the results of count tasks from one on lie.
func (n *Node) segments(ctx context.Context, id workload.ID, from, count uint32) (out []ledger.Segment, err error) {
	for {
		var page []ledger.Segment
		m := &wire.QueryMsg{Op: leader.QuerySegments, ID: id, Task: &from, Count: count, From: uint32(len(out))}
		if err := n.query(ctx, id.Cell, m, &page); err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < leader.SegmentPage {
			return out, nil
		}
	}
}

// segmentsAtOnce is how many segments are fetched at a time: on a long way each
// costs a round trip.
const segmentsAtOnce = 16

// fillResults reads the segments that hold the last result of any of the tasks.
func (n *Node) fillResults(ctx context.Context, id workload.ID, tasks []api.Task, segments []ledger.Segment) error {
	found := make([]*workload.Segment, len(segments))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(segmentsAtOnce)
	for i := range segments {
		if touches(&segments[i], tasks) {
			group.Go(func() (err error) { found[i], err = n.segment(ctx, &segments[i]); return err })
		}
	}
	if err := group.Wait(); err != nil {
		return &api.Error{Kind: "unavailable", Message: fmt.Sprintf("results of %s: %v", id.Short(), err)}
	}
	for _, segment := range found {
		if segment == nil {
			continue
		}
		for j := range segment.Results {
			place(tasks, &segment.Results[j])
		}
	}
	placeSplit(tasks, segments)
	return nil
}

// placeSplit takes out the result of a task on which no two nodes, or too few,
// agree: what one of them returned is none.
func placeSplit(tasks []api.Task, segments []ledger.Segment) {
	if len(tasks) == 0 {
		return
	}
	for i := range segments {
		for _, f := range segments[i].Failed {
			if at := int(f.Index) - int(tasks[0].Index); f.Exit == workload.NoAgreement && at >= 0 && at < len(tasks) {
				tasks[at].Result = &workload.TaskResult{
					Index: f.Index, Attempt: f.Attempt, Exit: workload.NoAgreement, Detail: "the nodes that ran it do not agree",
				}
			}
		}
	}
}

// touches reports whether a segment has the final result of one of the tasks,
// which are a run of indexes.
func touches(s *ledger.Segment, tasks []api.Task) bool {
	if len(tasks) == 0 {
		return false
	}
	low, high := tasks[0].Index, tasks[len(tasks)-1].Index
	for _, r := range s.Done {
		if r.From <= high && r.End() > low {
			return true
		}
	}
	for _, f := range s.Failed {
		if f.Index >= low && f.Index <= high {
			return true
		}
	}
	return false
}

func place(tasks []api.Task, r *workload.TaskResult) {
	i := int(r.Index) - int(tasks[0].Index)
	if i < 0 || i >= len(tasks) || !tasks[i].Phase.Ended() {
		return
	}
	if old := tasks[i].Result; old == nil || old.Attempt < r.Attempt {
		tasks[i].Result = r
	}
}

// segment fetches one segment from whoever holds it.
func (n *Node) segment(ctx context.Context, s *ledger.Segment) (*workload.Segment, error) {
	return worker.FetchSegment(ctx, n.blobs, n, s.Ref, append(n.everyone(), s.Node))
}

// errGone says that a task does not run where it was.
var errGone = errors.New("the task does not run there any more")

// Attach implements api.Backend: it follows a task from node to node until it
// has ended for good.
func (g gateway) Attach(ctx context.Context, id workload.ID, opt api.AttachOptions) error {
	f := &follower{n: g.n, id: id, opt: opt}
	since := uint64(0)
	wait := startingWait
	for {
		w, err := g.Inspect(ctx, id)
		if err != nil {
			return err
		}
		if w.Spec != nil && w.Spec.Sealed() && w.Owner != idOf(g.n.id.owner) {
			return errSealed()
		}
		task, err := g.taskPlace(ctx, id, opt.Task)
		if err != nil {
			return err
		}
		switch {
		case task.Phase.Ended():
			return f.finish(ctx)
		case w.Phase.Ended():
			return nil // the task never ran to an end
		case w.Spec != nil && w.Spec.VerifyBy != nil:
			// What a node prints counts once others print the same.
		case task.Phase == workload.Running:
			if err := f.follow(ctx, task.Node); err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
		if !opt.Follow {
			return nil
		}
		if since, err = g.settled(ctx, id, max(since, w.Version), wait); err != nil {
			return err
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// startingWait is how soon a task that is said to run is looked for again: its
// node may still be starting it, which changes no version.
const startingWait = 5 * time.Millisecond

// settled waits for the workload to move on.
func (g gateway) settled(ctx context.Context, id workload.ID, since uint64, wait time.Duration) (uint64, error) {
	w, err := g.Wait(ctx, id, since, wait)
	if err != nil {
		return 0, err
	}
	return w.Version, ctx.Err()
}

func (g gateway) taskPlace(ctx context.Context, id workload.ID, task uint32) (*leader.Place, error) {
	var places []leader.Place
	if err := g.n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryPlaces, ID: id, From: task, Count: 1}, &places); err != nil {
		return nil, err
	}
	if len(places) != 1 {
		return nil, &api.Error{Kind: "not-found", Message: fmt.Sprintf("workload %s has no task %d", id.Short(), task)}
	}
	return &places[0], nil
}

// follower copies a task's streams to its owner. What was shown of an attempt
// that was lost is not shown again by the next one, which is taken to print the
// same.
type follower struct {
	n   *Node
	id  workload.ID
	opt api.AttachOptions
	out int64 // bytes of stdout shown
	err int64

	stdin *stdinReplay // what the owner typed, for another attempt
	fed   bool         // an attempt has had it
}

// errFed says that the attempt takes no stdin a second time.
var errFed = errors.New("stdin is taken")

// follow attaches to the attempt that runs on a node, until it is over. One
// that had our stdin before the connection broke is only listened to.
func (f *follower) follow(ctx context.Context, node workload.PeerID) error {
	err := f.attach(ctx, node, f.opt.Stdin != nil)
	if errors.Is(err, errFed) {
		return f.attach(ctx, node, false)
	}
	return err
}

func (f *follower) attach(ctx context.Context, node workload.PeerID, feeds bool) error {
	s, err := f.n.host.OpenStream(ctx, node, wire.ProtoAttach)
	if err != nil {
		return errGone
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	msg := wire.AttachMsg{Workload: f.id, Task: f.opt.Task, Follow: f.opt.Follow, Stdin: feeds, Token: f.n.tokenOf(ctx)}
	raw := wire.MustMarshal(msg)
	if err := worker.WriteFrame(s, worker.FrameOpen, raw); err != nil {
		return errGone
	}
	if feeds {
		if f.stdin == nil {
			f.stdin = newStdinReplay(f.opt.Stdin)
		}
		done := make(chan struct{})
		defer close(done)
		go func() {
			if err := f.stdin.feed(s, done); errors.Is(err, errNotKept) {
				f.n.log.Warn("attach", "workload", f.id.Short(), "err", err)
				_ = s.Reset() // the program must not take the rest for the whole
			}
		}()
	}
	return f.copy(s)
}

// copy shows the frames of one attempt.
func (f *follower) copy(s mesh.Stream) error {
	buf := make([]byte, worker.MaxFrame)
	var out, err int64 // bytes of this attempt
	for {
		kind, data, rerr := worker.ReadFrame(s, buf)
		if rerr != nil {
			return errGone
		}
		f.fed = f.fed || kind != worker.FrameError
		switch kind {
		case worker.FrameStdout:
			rerr = show(f.opt.Stdout, data, &out, &f.out)
		case worker.FrameStderr:
			rerr = show(f.opt.Stderr, data, &err, &f.err)
		case worker.FrameEnd:
			return nil
		case worker.FrameError:
			e := wire.DecodeError(data)
			if e.Kind == wire.Exists && f.fed {
				return errFed
			}
			if e.Kind == wire.Unauthorized || e.Kind == wire.NotYours || e.Kind == wire.Refused {
				return apiError(e)
			}
			if e.Kind == wire.Exists {
				return &api.Error{Kind: "exists", Message: e.Detail}
			}
			return errGone
		}
		if rerr != nil {
			return rerr
		}
	}
}

// show writes what is beyond shown, and moves both counts.
func show(w io.Writer, data []byte, at, shown *int64) error {
	skip := min(max(*shown-*at, 0), int64(len(data)))
	*at += int64(len(data))
	*shown = max(*shown, *at)
	if w == nil || skip == int64(len(data)) {
		return nil
	}
	_, err := w.Write(data[skip:])
	return err
}

// finish shows what the task's result holds beyond what was shown live.
func (f *follower) finish(ctx context.Context) error {
	tasks, err := gateway{f.n}.Tasks(ctx, f.id, f.opt.Task, 1)
	if err != nil {
		return err
	}
	if len(tasks) == 0 || tasks[0].Result == nil {
		return nil
	}
	r := tasks[0].Result
	if err := f.rest(ctx, r.Stdout, tasks[0].Node, f.opt.Stdout, f.out); err != nil {
		return err
	}
	return f.rest(ctx, r.Stderr, tasks[0].Node, f.opt.Stderr, f.err)
}

func (f *follower) rest(ctx context.Context, s workload.Stream, node workload.PeerID, w io.Writer, shown int64) error {
	if w == nil {
		return nil
	}
	if s.Blob.IsZero() {
		_, err := w.Write(s.Data[min(shown, int64(len(s.Data))):])
		return err
	}
	if err := f.n.Fetch(ctx, s.Blob, append(f.n.everyone(), node)); err != nil {
		return apiError(err)
	}
	r, err := (gateway{f.n}).OpenOutput(ctx, f.id, s.Blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, shown); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = io.Copy(w, r)
	return err
}

// serveAttach serves a stream of an owner's node to what runs here.
func (n *Node) serveAttach(_ context.Context, from workload.PeerID, s mesh.Stream) {
	defer s.Close()
	buf := make([]byte, worker.MaxFrame)
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return
	}
	kind, data, err := worker.ReadFrame(s, buf)
	var m wire.AttachMsg
	if err != nil || kind != worker.FrameOpen || wire.Unmarshal(data, &m) != nil {
		_ = s.Reset()
		return
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	n.worker.HandleAttach(from, &m, s)
}
