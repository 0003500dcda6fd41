package leader

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
)

// Cell is the replicated ledger as the leader uses it.
type Cell interface {
	ID() workload.CellID
	Term() uint64
	// Propose commits a command and returns what applying it did. An error that
	// is a wire.Kind says whether to ask elsewhere; a rejection is in the result.
	Propose(ctx context.Context, cmd *ledger.Command) (ledger.Result, error)
	// Read lets f look at the ledger. f must not keep what it sees.
	Read(f func(*ledger.State))
	// VerifyLeader returns nil when a majority has confirmed this leader in a round
	// that began after the call.
	VerifyLeader(ctx context.Context) error
	Voters() []workload.PeerID
}

// Caller sends one request to a peer and decodes the answer.
type Caller interface {
	Call(ctx context.Context, to workload.PeerID, proto string, req, resp any) error
	RTT(peer workload.PeerID) time.Duration
	// Name is the name in the certificate of a connected peer, or "".
	Name(peer workload.PeerID) string
}

// Siblings finds nodes outside of the cell that fit a lot.
type Siblings interface {
	Suited(ctx context.Context, lot *scheduler.Lot) (offers []workload.Offer, dht bool)
}

// Prover has a node prove what a workload requires of it. It returns what does,
// to be signed and kept with the award; an error that wraps workload.ErrNotProved when there is
// none, and says why; any other when it is not known yet.
type Prover interface {
	Prove(ctx context.Context, node workload.PeerID, job workload.ID, auction workload.AuctionID, r *workload.Require) (*workload.Proved, error)
}

// Config is what a leader is made of.
type Config struct {
	Self workload.PeerID
	Key  ed25519.PrivateKey
	Memo *workload.Memo // of signatures; nil is none
	// Revoked returns why a token with some links counts no more; nil knows of none.
	Revoked  func(links []workload.TokenLink) error
	Mesh     workload.MeshID
	Cell     Cell
	Caller   Caller
	Siblings Siblings
	Prover   Prover // nil proves nothing
	Store    Blobs
	Desk     scheduler.Config
	Lease    lease.Config
	Clock    clock.Source // what leases are counted by; nil is the machine's
	// Shown returns the encoded certificates that a node showed last, nil when none
	// are known. Without it the ledger gets none.
	Shown func(workload.PeerID) []byte
	// Operates reports whether a node is an operator's, and IsOperator whether a key is.
	Operates, IsOperator func(workload.PeerID) bool
	Log                  *slog.Logger
}

// Leader leads a cell for one term. Its Handle methods are safe for concurrent
// use; Run must be running.
type Leader struct {
	cfg      Config
	term     uint64
	start    time.Time
	clock    clock.Clock
	events   chan func(now int64) // run by the owner
	needed   chan struct{}        // somebody will want a lease soon
	drawing  drawQueue
	leased   atomic.Bool  // leases are out
	verified atomic.Int64 // when the last verification that succeeded began
	ctx      context.Context
	group    sync.WaitGroup

	// owned by Run's goroutine
	desk    *scheduler.Desk
	leases  *lease.Desk
	wakeAt  int64
	hungry  []hungry // who waits for a first slot, as of the last look
	lookAt  int64
	pending map[workload.PeerID][]workload.AuctionID // releases to send

	watchMu  sync.Mutex
	versions map[workload.ID]uint64 // log index of the last change, of those that changed in this term
	watchers map[workload.ID]chan struct{}
	first    uint64 // log index at which the term began

	renewing sync.Mutex // guards renewals
	renewals *lease.Renewals[wire.SlotRef]
	time     cellTime
	steady   steady

	accepting unsettled

	statsMu sync.Mutex
	stats   Stats
}

// Stats counts what the leader did in its term.
type Stats struct {
	Submitted uint64 `json:"submitted"`
	Calls     uint64 `json:"calls"`
	Awards    uint64 `json:"awards"`
	Refused   uint64 `json:"refused"`
	Takes     uint64 `json:"takes"`
	Closes    uint64 `json:"closes"`
	Expired   uint64 `json:"expired"`
}

// maxEvents is what waits for the owner at once; who brings more waits too.
const maxEvents = 1024

// New returns a leader for a term that begins now. ctx ends with the term.
func New(ctx context.Context, cfg Config) *Leader {
	term := cfg.Cell.Term()
	return &Leader{
		cfg: cfg, term: term, start: time.Now(), clock: clock.New(cfg.Clock), ctx: ctx, events: make(chan func(int64), maxEvents), needed: make(chan struct{}, 1),
		desk:     scheduler.NewDesk(cfg.Desk, cfg.Self, cfg.Cell.ID(), term),
		leases:   lease.NewDesk(cfg.Lease),
		renewals: lease.NewRenewals[wire.SlotRef](cfg.Lease),
		pending:  map[workload.PeerID][]workload.AuctionID{},
		versions: map[workload.ID]uint64{}, watchers: map[workload.ID]chan struct{}{},
	}
}

// now is ms since the term began, the clock of both desks.
func (l *Leader) now() int64 { return l.clock.Now() }

// cellNow is the cell's time in ms of the Unix epoch.
func (l *Leader) cellNow() int64 { return l.time.now(time.Now().UnixMilli(), l.now()) }

// releaseEvery is how long releases of losing holds wait to share a message.
const releaseEvery = 5 * time.Millisecond

// Run owns the desks until ctx ends.
func (l *Leader) Run() error {
	defer l.group.Wait()
	l.inherit()
	l.group.Go(l.keepVerified)
	tick := time.NewTimer(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return nil
		case f := <-l.events:
			f(l.now())
		case <-tick.C:
		}
		l.drainEvents()
		l.step(scheduler.Input{})
		l.expire()
		if out := l.leases.Len() > 0; l.leased.Swap(out) != out && out {
			l.need()
		}
		l.lookAround(l.now())
		tick.Reset(l.nextWake())
	}
}

// drainEvents takes what else is waiting, so that one pass serves many.
func (l *Leader) drainEvents() {
	for range cap(l.events) {
		select {
		case f := <-l.events:
			f(l.now())
		default:
			return
		}
	}
}

func (l *Leader) nextWake() time.Duration {
	wait := verifyEvery
	if l.leases.Len() == 0 {
		wait = time.Second
	}
	if l.wakeAt > 0 {
		wait = min(wait, time.Duration(max(l.wakeAt-l.now(), 1))*time.Millisecond)
	}
	if len(l.pending) > 0 {
		wait = min(wait, releaseEvery)
	}
	return wait
}

// post hands f to the owner. It drops f when the term is over.
func (l *Leader) post(f func(now int64)) {
	select {
	case l.events <- f:
	case <-l.ctx.Done():
	}
}

// feed hands an input to the desk.
func (l *Leader) feed(in scheduler.Input) { l.post(func(int64) { l.step(in) }) }

// inherit reads from the ledger what the term begins with: every lot that wants
// slots, and every lease that may still be out, at its full length.
func (l *Leader) inherit() {
	var lots []ledger.Lot
	var holders []lease.Held
	l.cfg.Cell.Read(func(s *ledger.State) {
		l.time.begin(s.Time(), l.now())
		lots = slices.Collect(s.Lots(0))
		l.begin(s.Head())
		for _, n := range s.Nodes() {
			if len(n.Slots) > 0 {
				holders = append(holders, lease.Held{Node: n.Node, Epoch: n.Epoch})
			}
		}
	})
	l.leases.Inherit(l.now(), holders)
	for _, lot := range lots {
		l.step(scheduler.Input{Lot: deskLot(lot)})
	}
	l.inheritDraws()
}

// step runs the desk and carries out what it says.
func (l *Leader) step(in scheduler.Input) {
	l.wakeAt = 0
	for _, out := range l.desk.Step(l.now(), in) {
		switch {
		case out.Call != nil:
			l.need()
			l.group.Go(func() { l.call(out.Call) })
		case out.Award != nil:
			l.group.Go(func() { l.award(out.Award) })
		case out.Release != nil:
			l.pending[out.Release.Node] = append(l.pending[out.Release.Node], out.Release.Auction)
		case out.Ask != nil:
			l.group.Go(func() { l.askSiblings(&out.Ask.Lot) })
		case out.WakeAtMs > 0:
			l.wakeAt = out.WakeAtMs
		}
	}
	l.sendReleases()
}

func (l *Leader) sendReleases() {
	for node, auctions := range l.pending {
		delete(l.pending, node)
		for part := range slices.Chunk(auctions, maxReleased) {
			l.group.Go(func() { l.release(node, part) })
		}
	}
}

// maxReleased is how many holds one message releases.
const maxReleased = 1024

func (l *Leader) release(node workload.PeerID, auctions []workload.AuctionID) {
	ctx, cancel := context.WithTimeout(l.ctx, 2*time.Second)
	defer cancel()
	msg := wire.ReleaseMsg{Auctions: auctions}
	if err := l.cfg.Caller.Call(ctx, node, wire.ProtoRelease, &msg, &wire.Ack{}); err != nil {
		l.cfg.Log.Debug("release not told; the hold runs out by itself", "node", node.Short(), "err", err)
	}
}

// propose stamps and commits a command; a rejection becomes a wire error. The
// command goes on when ctx ends, and what it did is followed all the same: only
// the caller does not hear of it.
func (l *Leader) propose(ctx context.Context, cmd *ledger.Command) (ledger.Result, error) {
	cmd.Version, cmd.At, cmd.Leader = ledger.CommandVersion, l.cellNow(), l.cfg.Self
	type outcome struct {
		res ledger.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		res, err := l.cfg.Cell.Propose(l.ctx, cmd)
		if err == nil {
			l.follow(&res)
		}
		done <- outcome{res, err}
	}()
	select {
	case o := <-done:
		if o.err == nil && o.res.Reject != nil {
			o.err = wire.Errorf(rejectKind(o.res.Reject.Code), "%s", o.res.Reject.Error())
		}
		return o.res, o.err
	case <-ctx.Done():
		return ledger.Result{}, wire.Errorf(wire.Unavailable, "not committed in time; it may be later")
	}
}

// follow tells the desk of every workload whose wants a command changed.
func (l *Leader) follow(res *ledger.Result) {
	l.draw(res.Undrawn)
	ids := append([]workload.ID{}, res.Ready...)
	if !res.ID.IsZero() {
		ids = append(ids, res.ID)
	}
	for _, lost := range res.Lost {
		ids = append(ids, lost.Workload)
	}
	ids = append(ids, res.Ends...)
	l.forget(res.Forgot)
	for _, freed := range res.Freed {
		l.idle(freed.Node)
	}
	for _, id := range ids {
		l.changed(id, res.Index)
		l.refresh(id)
	}
}

// refresh reads what a workload wants now and puts it on the desk.
func (l *Leader) refresh(id workload.ID) {
	l.post(func(int64) {
		lot, known := scheduler.Lot{Workload: id}, false
		l.cfg.Cell.Read(func(s *ledger.State) {
			if want, ok := s.Lot(id); ok {
				lot = *deskLot(want)
			}
			_, known = s.Phase(id)
		})
		if !known && l.accepting.of(id) != nil {
			return // what early put on the desk stays
		}
		l.step(scheduler.Input{Lot: &lot})
	})
}

func deskLot(lot ledger.Lot) *scheduler.Lot {
	return scheduler.Lot{
		Workload: lot.ID, Owner: lot.Owner, Wanted: lot.Wanted, Since: lot.Since, Avoid: lot.Faulted, Barred: lot.Barred,
	}.Of(lot.Spec, lot.Live)
}

func rejectKind(code ledger.Code) wire.Kind {
	switch code {
	case ledger.UnknownWorkload, ledger.UnknownSlot, ledger.UnknownNode:
		return wire.NotFound
	case ledger.BadSignature:
		return wire.Unauthorized
	case ledger.StaleTerm:
		return wire.NotLeader
	case ledger.StaleFence:
		return wire.Expired
	case ledger.Malformed, ledger.BadSpec, ledger.TooMuchPassed:
		return wire.Malformed
	case ledger.Full:
		return wire.Full
	}
	return wire.Refused
}

// How often a majority confirms the leader: while leases are out, and for
// verifyAfter after somebody has asked for something that leads to one.
const (
	verifyEvery = 250 * time.Millisecond
	verifyAfter = 2 * time.Second
)

// keepVerified confirms with a majority that this node still leads: no lease is
// granted on an old word. An idle leader asks nobody.
func (l *Leader) keepVerified() {
	every := time.NewTicker(verifyEvery)
	defer every.Stop()
	until := time.Now().Add(verifyAfter)
	for {
		if time.Now().After(until) && !l.leased.Load() {
			select {
			case <-l.needed:
				until = time.Now().Add(verifyAfter)
			case <-l.ctx.Done():
				return
			}
		}
		l.verify()
		select {
		case <-every.C:
		case <-l.needed:
			until = time.Now().Add(verifyAfter)
			<-every.C
		case <-l.ctx.Done():
			return
		}
	}
}

// verify lets a majority confirm the leader, for leases to be granted on.
func (l *Leader) verify() {
	begin := l.now()
	if err := l.confirm(l.ctx); err != nil {
		return
	}
	l.verified.Store(begin)
	l.post(func(int64) { l.leases.Verified(begin) })
}

// freshen verifies unless that was done a moment ago: a first lease counts from
// the bid and must not be short because the leader was idle before it.
func (l *Leader) freshen() {
	if l.now()-l.verified.Load() > 2*verifyEvery.Milliseconds() {
		l.verify()
	}
}

// need makes sure that a majority confirms the leader while a lot is auctioned.
func (l *Leader) need() {
	select {
	case l.needed <- struct{}{}:
	default:
	}
}

// confirmWithin bounds how long a majority may take to confirm a leader.
const confirmWithin = 2 * time.Second

// confirm returns nil when a majority has confirmed, in a round that began after
// the call, that this leader leads in its term. A leader that was suspended may
// long have a successor and not know; what the ledger says after confirm, or that
// something was not there before it, is no older than the call.
func (l *Leader) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmWithin)
	defer cancel()
	if err := l.cfg.Cell.VerifyLeader(ctx); err != nil {
		return err
	}
	if l.ctx.Err() != nil || l.cfg.Cell.Term() != l.term {
		return wire.Errorf(wire.NotLeader, "the term is over")
	}
	return nil
}

// Offer posts a member's offer on the book.
func (l *Leader) Offer(o workload.Offer) {
	rtt := l.cfg.Caller.RTT(o.Node).Microseconds()
	l.feed(scheduler.Input{Offer: &scheduler.OfferIn{Offer: o, RTTMicros: rtt, RiskPPM: l.risk(o.Node)}})
}

// Gone takes a node off the book.
func (l *Leader) Gone(node workload.PeerID) { l.feed(scheduler.Input{Gone: &node}) }

// ask runs f on the owner's goroutine and returns what it does. After an error f
// may still run, so it must write to nothing of the caller's.
func ask[T any](ctx context.Context, l *Leader, f func(now int64) T) (answer T, err error) {
	done := make(chan T, 1)
	l.post(func(now int64) { done <- f(now) })
	select {
	case answer = <-done:
		return answer, nil
	case <-ctx.Done():
		return answer, ctx.Err()
	case <-l.ctx.Done():
		return answer, fmt.Errorf("leader: %w", wire.NotLeader)
	}
}

// Offers returns the offers that stand.
func (l *Leader) Offers(ctx context.Context) ([]workload.Offer, error) {
	return ask(ctx, l, l.desk.Offers)
}

// Stats returns the counters of the term.
func (l *Leader) Stats() Stats {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	return l.stats
}

func (l *Leader) count(f func(*Stats)) {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	f(&l.stats)
}

// patient retries f, with a growing pause, until it succeeds, fails for good or
// ctx ends.
func patient(ctx context.Context, f func() error, final func(error) bool) error {
	pause := 20 * time.Millisecond
	for {
		err := f()
		if err == nil || final(err) {
			return err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
