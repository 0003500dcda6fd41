package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// Bounds of a segment: results wait at most segmentWait for others to join.
const (
	segmentResults = 256
	segmentBytes   = 512 << 10
	segmentWait    = 100 * time.Millisecond
)

// report gathers a slot's results into segments and sends them, in order.
type report struct {
	s     *slot
	count int // results so far
	// unkept is set when results that only this node has are kept by nothing but
	// their pin. The sender's, until done.
	unkept bool

	batch []workload.TaskResult
	bytes int
	since time.Time
	send  chan []workload.TaskResult
	done  sync.WaitGroup
}

// newReport starts the sender, which ends with wait.
func newReport(s *slot) *report {
	r := &report{s: s, send: make(chan []workload.TaskResult, 2)}
	r.done.Go(r.sender)
	return r
}

// add takes a result and sends a segment when it is full or old. A slot that
// has nothing else to do flushes by itself.
func (r *report) add(result *workload.TaskResult) {
	if len(r.batch) == 0 {
		r.since = time.Now()
	}
	r.count++
	r.batch = append(r.batch, *result)
	r.bytes += inlineBytes(result) + 256
	if len(r.batch) >= segmentResults || r.s.spec.VerifyBy != nil || r.bytes >= segmentBytes || time.Since(r.since) >= segmentWait {
		r.flush()
	}
}

func inlineBytes(r *workload.TaskResult) int {
	n := len(r.Stdout.Data) + len(r.Stderr.Data) + len(r.Detail) + len(r.Sealed)
	for _, o := range r.Outputs {
		n += len(o.Data) + len(o.Path) + 64
	}
	return n
}

func (r *report) flush() {
	if len(r.batch) == 0 {
		return
	}
	select {
	case r.send <- r.batch:
	case <-r.s.ctx.Done():
	}
	r.batch, r.bytes = nil, 0
}

// wait returns when every segment was sent or cannot be.
func (r *report) wait() {
	close(r.send)
	r.done.Wait()
}

func (r *report) sender() {
	for batch := range r.send {
		if r.s.isLost() {
			continue
		}
		err := r.sendSegment(batch)
		if errors.Is(err, wire.Malformed) || errors.Is(err, wire.TooLarge) {
			err = r.sendSegment(unreportable(batch, err))
		}
		if err != nil {
			r.failed(err)
		}
	}
}

// unreportable stands in for results that the cell cannot take: running the
// tasks again would give the same.
func unreportable(batch []workload.TaskResult, why error) []workload.TaskResult {
	out := make([]workload.TaskResult, len(batch))
	for i, r := range batch {
		out[i] = workload.TaskResult{
			Index: r.Index, Attempt: r.Attempt, Exit: workload.BadOutput, Usage: r.Usage, Wall: r.Wall, Started: r.Started,
			Detail: workload.Cut("the result cannot be passed on: "+why.Error(), 512),
		}
	}
	return out
}

// failed ends the slot when the cell does not take its results: what it ran
// will be taken again elsewhere.
func (r *report) failed(err error) {
	if r.s.ctx.Err() != nil {
		return
	}
	r.s.lose("the cell did not take its results: " + err.Error())
}

// sendSegment sends one segment until the cell has taken it, the lease has run
// out, or the cell says that the slot is not this node's any more.
func (r *report) sendSegment(batch []workload.TaskResult) error {
	segment := workload.Segment{Workload: r.s.key.Workload, Slot: r.s.key.Slot, Node: r.s.w.cfg.Self, Results: batch}
	payload := wire.MustMarshal(segment)
	kept, ref, err := r.keep(&segment, payload)
	if err != nil {
		return err
	}
	results := receipt.ResultsOf(&segment)
	statement := wire.Statement{Ref: r.s.ref, Segment: ref, Results: receipt.RootOf(results)}
	if r.s.spec.VerifyBy != nil && len(results) == 1 {
		statement.Vote = receipt.VoteOf(&results[0])
	}
	msg := wire.CloseMsg{
		Ref: r.s.ref, Segment: payload, Sig: r.s.w.cfg.Memo.Sign(workload.DomainResult, wire.MustMarshal(statement), r.s.w.cfg.Key),
		Offer: r.s.freedSince(),
	}
	for {
		ctx, cancel := context.WithTimeout(r.s.ctx, 30*time.Second)
		var answer wire.Closed
		err = r.s.w.cfg.Leaders.CallLeader(ctx, r.s.cell, wire.ProtoClose, &msg, &answer)
		cancel()
		if err == nil {
			r.settle(kept, &answer)
		}
		if err == nil || final(err) || r.s.ctx.Err() != nil {
			return err
		}
		r.s.log.Warn("results not taken yet", "err", err)
	}
}

// keep pins what a segment refers to until the cell has answered, and the
// segment itself unless it rides in the ledger.
func (r *report) keep(segment *workload.Segment, payload []byte) (kept []workload.Ref, ref workload.Ref, err error) {
	owner, store := resultOwner(r.s.key), r.s.w.cfg.Blobs
	kept, ref = segment.Blobs(), blob.RefOf(payload)
	if len(payload) > ledger.SegmentInline {
		if _, err := store.PutBytesPinned(owner, payload); err != nil {
			return nil, ref, err
		}
		kept = append(kept, ref)
	}
	store.Pin(owner, kept...)
	return kept, ref, nil
}

// settle lets go of results that the voters hold, and keeps the others for as
// long as the workload is known.
func (r *report) settle(refs []workload.Ref, answer *wire.Closed) {
	w := r.s.w
	if answer.Over {
		r.s.mu.Lock()
		r.s.closed = true
		r.s.mu.Unlock()
	}
	if len(refs) == 0 {
		return
	}
	if !answer.Held {
		if err := w.cfg.Keep.Keep(r.s.key.Workload, refs); err != nil {
			r.s.log.Error("results may be evicted when the daemon restarts", "err", err)
			r.unkept = true
			return
		}
	}
	w.cfg.Blobs.UnpinRefs(resultOwner(r.s.key), refs...)
}

// final reports whether asking again cannot help.
func final(err error) bool {
	for _, kind := range []wire.Kind{wire.Refused, wire.NotFound, wire.Malformed, wire.Unauthorized, wire.Expired, wire.TooLarge} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// resultOwner names the pins on what a slot produced, until it has been reported:
// this node is where large outputs lie.
func resultOwner(k slotKey) string { return "result/" + keyText(k) }

// letGo releases what the slot produced and nobody was told of: results of a
// slot that was lost, outputs that were published twice.
func (s *slot) letGo() {
	if s.report.unkept {
		return
	}
	s.w.cfg.Blobs.Unpin(resultOwner(s.key))
}
