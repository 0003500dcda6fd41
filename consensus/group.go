package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// Group is one server of one Raft group. Its methods may be called concurrently.
type Group struct {
	cfg     Config
	log     *slog.Logger
	machine *machine
	members *membership
	logs    *logs
	snaps   raft.SnapshotStore
	watch   *watch
	count   counters

	replace sync.Mutex // held while the instance is replaced or closed; guards what follows
	last    *instance  // the latest one, which may still be stopping

	mu       sync.Mutex // guards what follows
	inst     *instance  // nil while it is replaced, and once closed
	ready    chan struct{}
	closed   bool
	down     error // why there is no instance, when a replacement failed
	timing   Timing
	admitted map[workload.PeerID]struct{}
}

// counters are the numbers of Stats that only rise.
type counters struct {
	proposed, failed, refused, retimed atomic.Uint64
}

// instance is one life of the library's Raft on the group's storage.
type instance struct {
	raft   *raft.Raft
	trans  *transport
	done   chan struct{} // closed once the library has stopped
	told   chan struct{} // closed once it has also said its last about leadership
	events chan raft.Observation

	mu   sync.Mutex // guards what follows
	busy int        // calls that the library has not answered
	shut bool       // no new calls
	idle chan struct{}
}

// Open opens the server on its storage and starts it. A server without a past
// waits: for Bootstrap, if it founds the group, or for a leader that Admit
// named, if it joins one. A server that is the only voter leads within
// milliseconds. The state machine is reset first and then restored.
func Open(cfg Config) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open group: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Group{
		cfg: cfg, log: cfg.Logger.With("component", "consensus", "group", cfg.Group),
		members: &membership{}, ready: make(chan struct{}), timing: cfg.Timing,
		admitted: map[workload.PeerID]struct{}{},
	}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("open group %q: %w", cfg.Group, err)
	}
	return g, nil
}

func (g *Group) open() error {
	snaps, err := g.cfg.Storage.Snapshots(raftLog{log: g.log})
	if err != nil {
		return err
	}
	g.snaps = &snapshots{SnapshotStore: snaps, limit: g.cfg.MaxSnapshot}
	g.machine = &machine{fsm: g.cfg.FSM, members: g.members}
	g.logs = &logs{LogStore: g.cfg.Storage, members: g.members, snaps: g.snaps}
	g.watch = newWatch()
	if err := g.cfg.FSM.Restore(nil); err != nil {
		return fmt.Errorf("reset the state: %w", err)
	}
	inst, err := g.start(g.cfg.Timing, true)
	if err != nil {
		return err
	}
	g.install(inst)
	return nil
}

// start makes an instance. The caller holds replace or owns g alone.
func (g *Group) start(t Timing, restore bool) (*instance, error) {
	g.machine.replayed = 0
	hlog := raftLog{log: g.log}
	trans := newTransport(&g.cfg, g.members, t, hlog)
	in := &instance{trans: trans, done: make(chan struct{}), told: make(chan struct{}), events: make(chan raft.Observation, 64), idle: make(chan struct{})}
	if err := errors.Join(g.logs.prime(), checkTerm(g.cfg.Storage)); err != nil {
		return nil, errors.Join(err, trans.Close())
	}
	stable := &stable{StableStore: g.cfg.Storage, cut: trans.layer.ctx.Done(), log: g.log}
	r, err := raft.NewRaft(g.cfg.raftConfig(hlog, t, restore), g.machine, g.logs, stable, g.snaps, trans)
	if err != nil {
		return nil, errors.Join(err, trans.Close())
	}
	in.raft = r
	r.RegisterObserver(raft.NewObserver(in.events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	}))
	go g.follow(in)
	if g.members.current().lone(g.cfg.Self) {
		g.takeOffice(in)
	}
	return in, nil
}

// takeOffice makes the only voter stand for election now rather than after a
// timeout. An election is safe at any time.
func (g *Group) takeOffice(in *instance) {
	id, addr := serverID(g.cfg.Self), serverAddress(g.cfg.Self)
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(addr),
	}}
	if err := in.trans.TimeoutNow(id, addr, req, &raft.TimeoutNowResponse{}); err != nil {
		g.log.Warn("the only voter waits for its election timeout", "error", err)
	}
}

// install lets calls go to an instance. The caller holds replace or owns g alone.
func (g *Group) install(in *instance) {
	g.last = in
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inst, g.down = in, nil
	close(g.ready)
}

// retire takes the instance away from new calls, waits for those it has to be
// answered, at most until ctx ends, and stops it. The caller holds replace.
func (g *Group) retire(ctx context.Context) error {
	g.mu.Lock()
	in := g.inst
	if in != nil {
		g.inst, g.ready = nil, make(chan struct{})
	}
	g.mu.Unlock()
	if in == nil {
		return g.last.await(ctx)
	}
	in.drain(ctx, g.Timing())
	return in.stop(ctx)
}

// drain waits until every call is answered. A leader without a majority answers
// when its lease ends, so more than a few leases means that the disk hangs.
func (in *instance) drain(ctx context.Context, t Timing) {
	in.mu.Lock()
	in.shut = true
	if in.busy == 0 {
		close(in.idle)
	}
	in.mu.Unlock()
	limit := time.NewTimer(4*t.Lease + time.Second)
	defer limit.Stop()
	select {
	case <-in.idle:
	case <-ctx.Done():
	case <-limit.C:
	}
}

// stop cuts the instance off from its peers and ends it.
func (in *instance) stop(ctx context.Context) error {
	err := in.trans.Close()
	go func() {
		in.raft.Shutdown().Error()
		close(in.done)
	}()
	return errors.Join(err, in.await(ctx))
}

// await waits until the library has stopped and nothing more is heard of it: its
// last word on who leads must not come after its successor's first.
func (in *instance) await(ctx context.Context) error {
	select {
	case <-in.told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("raft is still busy: %w", ctx.Err())
	}
}

// enter returns the instance for a call that must be answered; leave has to
// follow. It waits while the instance is being replaced.
func (g *Group) enter(ctx context.Context) (*instance, error) {
	for {
		g.mu.Lock()
		in, ready, closed, down := g.inst, g.ready, g.closed, g.down
		g.mu.Unlock()
		switch {
		case closed:
			return nil, ErrStopped
		case down != nil:
			return nil, fmt.Errorf("%w: %w", ErrStopped, down)
		case in != nil && in.enter():
			return in, nil
		}
		if in != nil {
			continue // it was retired since; ready is or will be renewed
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (in *instance) enter() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shut {
		return false
	}
	in.busy++
	return true
}

func (in *instance) leave() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy--; in.busy == 0 && in.shut {
		close(in.idle)
	}
}

// current returns the instance without a promise that it stays, or nil.
func (g *Group) current() *instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inst
}

// Bootstrap founds the group with this server as its only voter and returns
// when it leads. It returns ErrBootstrapped when the server has a past.
func (g *Group) Bootstrap(ctx context.Context) error {
	if err := g.found(ctx); err != nil {
		return fmt.Errorf("group %q: bootstrap: %w", g.cfg.Group, err)
	}
	return g.awaitOffice(ctx)
}

func (g *Group) found(ctx context.Context) error {
	in, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer in.leave()
	only := Configuration{Servers: []Server{{ID: g.cfg.Self, Suffrage: Voter}}}
	err = in.raft.BootstrapCluster(raftServers(only)).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrBootstrapped
	}
	if err == nil {
		g.takeOffice(in)
	}
	return err
}

// awaitOffice waits until this server leads and has applied what came before.
func (g *Group) awaitOffice(ctx context.Context) error {
	for {
		news := g.watch.news()
		if g.IsLeader() {
			err := g.Barrier(ctx)
			if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrLeadershipLost) {
				return err
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("group %q: wait for office: %w", g.cfg.Group, ctx.Err())
		}
	}
}

// Admit replaces the peers, besides the servers of the group, that may connect.
// A server that joins names the voters of the cell's signed record; so does
// one that was away for so long that every server it knows has been replaced.
func (g *Group) Admit(peers ...workload.PeerID) {
	set := make(map[workload.PeerID]struct{}, len(peers))
	for _, p := range peers {
		set[p] = struct{}{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admitted = set
}

// ServeConn takes over a stream that a peer opened for this group and returns
// soon; the stream lives on. The caller has authenticated from. A peer that
// is neither a server nor admitted gets its stream closed, and the caller
// ErrNotServer.
func (g *Group) ServeConn(from workload.PeerID, raw net.Conn) error {
	g.mu.Lock()
	in := g.inst
	_, admitted := g.admitted[from]
	g.mu.Unlock()
	if !admitted && !g.members.knows(from) || from == g.cfg.Self {
		g.count.refused.Add(1)
		return errors.Join(fmt.Errorf("group %q: %s: %w", g.cfg.Group, from, ErrNotServer), raw.Close())
	}
	if in == nil {
		return errors.Join(fmt.Errorf("group %q: %w", g.cfg.Group, ErrStopped), raw.Close())
	}
	if err := in.trans.layer.serve(context.Background(), from, raw); err != nil {
		g.count.refused.Add(1)
		return fmt.Errorf("group %q: %w", g.cfg.Group, err)
	}
	return nil
}

// Retime closes the library's instance and opens another one with other
// timeouts on the same storage. Proposals that wait are answered first, as long
// as a majority is there; without one they end with ErrLeadershipLost. Calls
// that come meanwhile wait. The state machine keeps its state. When this server
// is the only voter, Retime returns once it leads again. After an error the
// group may be stopped; Retime may be tried again.
func (g *Group) Retime(ctx context.Context, t Timing) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if err := g.reopen(ctx, t); err != nil {
		return fmt.Errorf("group %q: retime: %w", g.cfg.Group, err)
	}
	g.count.retimed.Add(1)
	if g.members.current().lone(g.cfg.Self) {
		return g.awaitOffice(ctx)
	}
	return nil
}

func (g *Group) reopen(ctx context.Context, t Timing) error {
	g.replace.Lock()
	defer g.replace.Unlock()
	if g.isClosed() {
		return ErrStopped
	}
	if err := g.retire(ctx); err != nil {
		return g.fall(err)
	}
	in, err := g.start(t, false)
	if err != nil {
		return g.fall(err)
	}
	g.install(in)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timing = t
	return nil
}

// Timing returns the timeouts that the group runs with.
func (g *Group) Timing() Timing {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.timing
}

// fall notes why there is no instance, so that calls do not wait for one.
func (g *Group) fall(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = err
	return err
}

func (g *Group) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// Close stops the server. Calls that wait are answered, ErrLeadershipLost at
// worst. It does not hand leadership over: TransferLeadership does. When ctx
// ends first, the error says so and the storage must not be closed yet. Closing
// twice does nothing.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.replace.Lock()
	defer g.replace.Unlock()
	err := g.retire(ctx)
	g.watch.close()
	if err != nil {
		return fmt.Errorf("close group %q: %w", g.cfg.Group, err)
	}
	return nil
}
