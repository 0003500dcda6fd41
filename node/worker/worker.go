package worker

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Leaders speaks to the leader of a cell, wherever it is: it finds it, follows
// redirects and retries until ctx ends.
type Leaders interface {
	CallLeader(ctx context.Context, cell workload.CellID, proto string, req, resp any) error
	// MayLead reports whether a peer may act as a cell's leader: it is one of
	// the voters that this node knows for the cell.
	MayLead(cell workload.CellID, peer workload.PeerID) bool
	// Voters are those that this node knows for the cell; none when it knows none.
	Voters(cell workload.CellID) []workload.PeerID
}

// Fetcher brings blobs to this node's store from whoever holds them.
type Fetcher interface {
	Fetch(ctx context.Context, ref workload.Ref, holders []workload.PeerID) error
}

// Keeper remembers outputs that only this node has.
type Keeper interface {
	Keep(id workload.ID, refs []workload.Ref) error
}

// Supervisor ends attempts at the end of their lease, from a process of its own.
type Supervisor interface {
	// Slot returns the guard of a slot's sandboxes. Grant lets slots run until
	// ttl after since; a slot without a grant runs nothing. Forget ends a slot.
	Slot(key string) runner.Guard
	Grant(since runner.Instant, ttl time.Duration, keys ...string) error
	Forget(key string) error
}

// Config is what a worker is made of. All fields are needed but Memo, Revoked and Clock.
type Config struct {
	Self workload.PeerID
	Key  ed25519.PrivateKey
	Memo *workload.Memo // of signatures; nil is none
	// Revoked returns why a token with some links counts no more; nil knows of none.
	Revoked    func(links []workload.TokenLink) error
	Cell       func() workload.CellID // the home cell
	Machine    workload.Machine
	Dir        string // private folder for slots; emptied at start
	Boot       uint64 // differs at every start
	Alloc      *capacity.Allocator
	Disk       func() int64 // bytes free for scratch
	Stream     int64        // bytes of stdout, and of stderr, that an attempt may print; 0 is MaxStream
	Prices     pricing.Config
	Quota      bool // CPU time can be bounded here
	Runners    map[workload.Kind]runner.Runner
	Blobs      *blob.Store
	Fetch      Fetcher
	Keep       Keeper
	Unseal     Unsealer // nil takes no sealed work
	Leaders    Leaders
	Supervisor Supervisor
	Lease      lease.Config
	Clock      clock.Source // what leases are counted by, and Supervisor counts by too; nil is the machine's
	Log        *slog.Logger
}

// HoldFor is how long a bid reserves capacity.
const HoldFor = 2 * time.Second

// Worker sells and runs. Its methods are safe for concurrent use.
type Worker struct {
	cfg   Config
	clock clock.Clock
	ctx   context.Context
	stop  context.CancelFunc
	group sync.WaitGroup

	changed chan struct{} // capacity or prices moved: an offer is due
	lends   chan struct{} // idle time was lent

	// tending is held while spare slots are moved, paused or ended. It is taken
	// before mu.
	tending sync.Mutex

	// mu guards all that follows.
	mu   sync.Mutex
	asks workload.Asks
	seq  uint64
	bids map[workload.AuctionID]*openBid
	// answered are the auctions that were bid in, until when (ms).
	answered map[workload.AuctionID]int64
	sweepAt  int64 // when answered is looked through next
	slots    map[slotKey]*slot
	ending   map[slotKey]*slot // run nothing any more, and the leader is being told
	fresh    bool              // the home cell was told that this daemon runs nothing of an earlier one's
	cells    map[workload.CellID]*cellLease
	terms    map[workload.CellID]uint64
	drain    bool
	quiet    bool                 // the machine's owner wants it alone
	others   int64                // permille of the machine that other programs use
	parking  map[*parked]struct{} // sessions that wait for another slot
	expiring sync.WaitGroup       // of them, those whose timer runs
	stats    Stats
}

// Stats counts what the worker did since it started.
type Stats struct {
	Calls    uint64 `json:"calls"`
	Bids     uint64 `json:"bids"`
	Declines uint64 `json:"declines"`
	Awards   uint64 `json:"awards"`
	Refusals uint64 `json:"refusals"`
	Tasks    uint64 `json:"tasks"`
	Failed   uint64 `json:"failed"`
	Faults   uint64 `json:"faults"` // attempts that this node could not run
	Lost     uint64 `json:"lost"`   // slots whose lease ended
	Slots    int    `json:"slots"`  // now
}

type slotKey = capacity.SlotKey

func keyText(k slotKey) string { return fmt.Sprintf("%s/%d", k.Workload, k.Slot) }

// New returns a worker that is ready for calls. Close stops it.
func New(cfg Config) (*Worker, error) {
	if err := prepareDir(cfg.Dir); err != nil {
		return nil, err
	}
	if err := dropMemory(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Stream == 0 {
		cfg.Stream = MaxStream
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Worker{
		cfg: cfg, clock: clock.New(cfg.Clock), ctx: ctx, stop: stop, changed: make(chan struct{}, 1), lends: make(chan struct{}, 1),
		bids: map[workload.AuctionID]*openBid{}, answered: map[workload.AuctionID]int64{}, slots: map[slotKey]*slot{},
		ending: map[slotKey]*slot{}, parking: map[*parked]struct{}{},
		cells: map[workload.CellID]*cellLease{}, terms: map[workload.CellID]uint64{},
	}
	w.price()
	return w, nil
}

// Close kills what runs and waits for it. Leases are left to run out.
func (w *Worker) Close() {
	w.stop()
	w.group.Wait()
	w.closeParking()
}

// Changed signals that Offer would say something new.
func (w *Worker) Changed() <-chan struct{} { return w.changed }

func (w *Worker) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// now is ms on the worker's own clock.
func (w *Worker) now() int64 { return w.clock.Now() }

// Offer returns the node's signed standing offer.
func (w *Worker) Offer(valid time.Duration) workload.Signed {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireHolds()
	w.price()
	w.seq++
	o := workload.Offer{
		Node: w.cfg.Self, Cell: w.cfg.Cell(), Seq: w.offerSeq(), Machine: w.cfg.Machine,
		Free: w.free(), Asks: w.asks, Drain: w.drain, ValidMs: valid.Milliseconds(), Running: int32(len(w.slots)),
	}
	return w.cfg.Memo.Sign(workload.DomainOffer, wire.MustMarshal(o), w.cfg.Key)
}

// offerSeq numbers the latest offer. The caller holds mu.
func (w *Worker) offerSeq() uint64 { return w.cfg.Boot<<20 + w.seq }

func (w *Worker) free() workload.Capacity {
	c := w.cfg.Alloc.Available()
	c.Disk = min(c.Disk, w.scratch())
	return c
}

// scratch is how many bytes of the disk a new task may have: what it prints goes
// to the same disk.
func (w *Worker) scratch() int64 { return max(0, w.cfg.Disk()-spoolReserve) }

// price moves the asks with the load, what is promised or what other programs
// use, at most a step at a time.
func (w *Worker) price() {
	w.asks = pricing.Asks(w.cfg.Prices, max(w.cfg.Alloc.Utilisation(), w.others), w.asks)
}

// Drain stops bidding; what runs goes on and is told of it.
func (w *Worker) Drain(left time.Duration) {
	w.mu.Lock()
	w.drain = true
	slots := w.list(func(*slot) bool { return true })
	w.mu.Unlock()
	for _, s := range slots {
		s.notify("drain", left)
	}
	w.poke()
}

func (w *Worker) draining() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drain
}

// Leave kills what runs and tells the cells that it is gone, so that they need
// not wait for the leases to run out. The worker takes no more work.
func (w *Worker) Leave(ctx context.Context) {
	w.mu.Lock()
	w.drain = true
	cells := map[workload.CellID]bool{}
	for _, s := range w.list(func(*slot) bool { return true }) {
		cells[s.cell] = true
	}
	for _, s := range w.ending {
		cells[s.cell] = true
	}
	w.mu.Unlock()
	w.Close()
	for id := range cells {
		if err := w.disclaim(ctx, id); err != nil {
			w.cfg.Log.Warn("a cell does not know that this node has left its work", "cell", id, "err", err)
		}
	}
}

// Idle waits until nothing runs here and all results are told.
func (w *Worker) Idle(ctx context.Context) error {
	for {
		w.mu.Lock()
		slots := slices.AppendSeq(w.list(func(*slot) bool { return true }), maps.Values(w.ending))
		w.mu.Unlock()
		if len(slots) == 0 {
			return nil
		}
		select {
		case <-slots[0].over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list returns the slots that match. The caller holds mu.
func (w *Worker) list(match func(*slot) bool) []*slot {
	var out []*slot
	for _, s := range w.slots {
		if match(s) {
			out = append(out, s)
		}
	}
	return out
}

// Stats returns the counters.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Slots = len(w.slots)
	return s
}

func (w *Worker) slotDir(k slotKey) string {
	return filepath.Join(w.cfg.Dir, fmt.Sprintf("%s-%d", k.Workload.Short(), k.Slot))
}
