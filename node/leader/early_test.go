package leader

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
)

// slowLog commits an ACCEPT when it is told to, and what was proposed meanwhile
// after it, as a log does.
type slowLog struct {
	*duelCellOf
	goOn   chan struct{}
	after  chan struct{} // closed when the ACCEPT is applied
	refuse bool
	fast   bool // what is proposed meanwhile comes before the ACCEPT
}

func (c *slowLog) Propose(ctx context.Context, cmd *ledger.Command) (ledger.Result, error) {
	if cmd.Accept == nil {
		if !c.fast {
			<-c.after
		}
		return c.duelCellOf.Propose(ctx, cmd)
	}
	<-c.goOn
	defer close(c.after)
	if c.refuse {
		return ledger.Result{Reject: &ledger.Reject{Code: ledger.OverQuota}}, nil
	}
	return c.duelCellOf.Propose(ctx, cmd)
}

// oneWorker bids for whatever it is called for, and takes what it wins.
type oneWorker struct {
	*duel
	mu    sync.Mutex
	heard []string
}

func (w *oneWorker) Call(_ context.Context, to workload.PeerID, proto string, req, resp any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, proto)
	if call, ok := req.(*wire.CallMsg); ok {
		bid := workload.Bid{Workload: call.Call.Workload, Auction: call.Call.Auction, Node: to, Asks: []int64{3}, HoldMs: 2000, HasMs: 9000}
		signed := workload.Sign(workload.DomainBid, wire.MustMarshal(bid), fuzzpeers.Key(asWorker))
		resp.(*wire.CallAnswer).Bid = &signed
	}
	return nil
}

func (w *oneWorker) count(proto string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.heard {
		if p == proto {
			n++
		}
	}
	return n
}

// TestCallsGoOutBeforeTheAcceptIsCommitted: the bid is there when the ACCEPT
// is committed, and the award follows it in the log, or is proposed once more when
// it came before. One that is refused leaves no lot behind, and the bidder is told.
func TestCallsGoOutBeforeTheAcceptIsCommitted(t *testing.T) {
	for how := range 4 {
		refuse, fast := how&1 != 0, how&2 != 0
		synctest.Test(t, func(t *testing.T) {
			cell := &slowLog{duelCellOf: &duelCellOf{state: ledger.New(duelRules(nil))}, goOn: make(chan struct{}), after: make(chan struct{}), refuse: refuse, fast: fast}
			for at, cmd := range []*ledger.Command{
				{Genesis: &ledger.Genesis{Mesh: duelMesh, Cell: duelCell, Epoch: 1, MaxSize: 8}},
				{MemberAdd: &ledger.MemberAdd{Node: fuzzpeers.ID(asWorker), Name: "worker"}},
			} {
				cmd.Version, cmd.At, cmd.Leader = ledger.CommandVersion, int64(at+1), fuzzpeers.ID(asLeader)
				if res, err := cell.duelCellOf.Propose(t.Context(), cmd); err != nil || res.Reject != nil {
					t.Fatal(err, res.Reject)
				}
			}
			worker, began := &oneWorker{duel: &duel{t: t}}, time.Now()
			ctx, stop := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer stop()
			l := New(ctx, Config{
				Self: fuzzpeers.ID(asLeader), Key: fuzzpeers.Key(asLeader), Memo: workload.NewMemo(), Mesh: duelMesh, Cell: cell, Caller: worker, Siblings: worker.duel, Store: worker.duel,
				Desk: scheduler.DefaultConfig(), Lease: lease.Default(), Log: slog.New(slog.DiscardHandler),
				Clock: func() time.Duration { return time.Since(began) },
			})
			go func() { _ = l.Run() }()
			offer := duelOffer()
			offer.Node = fuzzpeers.ID(asWorker)
			l.Offer(offer)
			answer := make(chan error, 1)
			go func() {
				_, err := l.HandleSubmit(ctx, fuzzpeers.ID(asHome), &wire.Submit{Spec: duelSpec('n', nil), Home: fuzzpeers.ID(asHome)})
				answer <- err
			}()
			synctest.Wait()
			if worker.count(wire.ProtoCall) != 1 || worker.count(wire.ProtoAward) != 0 {
				t.Errorf("while the ACCEPT is on its way the worker heard %q, want one call for bids", worker.heard)
			}
			close(cell.goOn)
			if err := <-answer; (err != nil) != refuse {
				t.Errorf("submit: %v", err)
			}
			time.Sleep(time.Second) // virtual time
			stats, err := ask(ctx, l, func(int64) scheduler.Stats { return l.desk.Stats() })
			if err != nil || stats.Lots != 0 {
				t.Errorf("%d lots are on the desk, %v", stats.Lots, err)
			}
			want := []string{wire.ProtoCall, wire.ProtoAward}
			if refuse {
				want = []string{wire.ProtoCall, wire.ProtoRelease}
			}
			if !slices.Equal(worker.heard, want) {
				t.Errorf("refused %t, overtaken %t: the worker heard %q, want %q", refuse, fast, worker.heard, want)
			}
		})
	}
}
