package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/directory"
	"github.com/perrin-mesh/perrin/mesh/gossip"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// Node is one running node. Make it with New, serve with Run.
type Node struct {
	cfg  Config
	id   *identity
	log  *slog.Logger
	self workload.PeerID
	name string

	memo *workload.Memo

	notarized notarized // checkpoints of the cell's chain

	own      ownTokens // under mu
	holding  *holding
	store    *store.Store
	blobs    *blob.Store
	host     *mesh.Host
	dir      *directory.Directory
	gossip   *gossip.Gossip
	digests  *gossip.Digests
	worker   *worker.Worker
	machine  *machine
	attestor *attestor.Attestor
	book     *book
	kept     kept
	lookups  lookups
	vault    vault // of shares of other owners' keys
	draws    draws // for work that was submitted here
	sealing  sealingKeys
	mender   *mender
	ready    chan struct{}
	doubt    chan struct{} // somebody waits for a leader that may be gone
	start    time.Time
	clock    clock.Clock // since start

	witnessing chan struct{} // holds one for each receipt that this node makes for others

	operatorMu sync.Mutex // one at a time makes this node an operator's

	closeMu sync.Mutex
	closers []func() // in the order they were opened; closeMu guards it

	// mu guards all that follows.
	mu       sync.Mutex
	home     home
	cell     *cell // nil on a plain member
	leader   *leader.Leader
	leaders  map[workload.CellID]workload.PeerID // of other cells: who answered last
	offers   map[workload.PeerID]signedOffer     // of the home cell, on its voters
	notReady string
	copies   map[workload.PeerID]*copies // of the standbys, while this node leads
	drift    time.Duration               // of the machine's clock against the time since start
	full     bool                        // the disk was at the last look
	clockSet time.Duration               // by how much it was set last
}

// New opens the node of a data folder: its stores, its keys, its place on the
// mesh. What it returns must be run or closed.
func New(ctx context.Context, cfg Config) (*Node, error) {
	cfg.fill()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	id, h, err := loadIdentity(cfg.Data)
	if err != nil {
		return nil, err
	}
	n := &Node{
		holding: newHolding(), memo: workload.NewMemo(), clock: clock.New(cfg.clock()),
		cfg: cfg, id: id, self: idOf(id.key), home: *h, ready: make(chan struct{}), doubt: make(chan struct{}, 1), start: time.Now(),
		witnessing: make(chan struct{}, maxWitness),
		leaders:    map[workload.CellID]workload.PeerID{}, offers: map[workload.PeerID]signedOffer{}, notReady: "starting",
	}
	if n.name = cfg.Name; n.name == "" {
		if n.name, err = id.bundle.NodeName(); err != nil {
			return nil, err
		}
	}
	n.log = cfg.Log.With("node", n.name)
	n.mender = newMender(n)
	n.finishRotation(ctx)
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// open opens each part; Close undoes what was opened, last first.
func (n *Node) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{n.openStores, n.openMesh, n.openAttestor, n.openMachine, n.openWorker, n.openHome} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	n.serve(n.host)
	return nil
}

func (n *Node) openStores(context.Context) (err error) {
	if n.store, err = store.Open(filepath.Join(n.cfg.Data, "ledger"), store.Default(), n.log.With("part", "store")); err != nil {
		return err
	}
	n.onClose("ledger store", n.store.Close)
	if n.blobs, err = blob.Open(filepath.Join(n.cfg.Data, "blobs"), n.cfg.BlobLimit, n.log.With("part", "blobs")); err != nil {
		return err
	}
	n.onClose("blob store", n.blobs.Close)
	n.onClose("shares", func() error { n.vault.close(); return nil })
	n.kept = kept{kv: n.store.Durable("kept"), n: n, mu: new(sync.Mutex)}
	if err := n.kept.restore(); err != nil {
		return err
	}
	n.book = newBook(rules(n.memo), n.log.With("part", "ledger"), newShelf(n.blobs, n.log))
	n.book.forgot = func(id workload.ID) { n.blobs.Unpin(holdOwner(id)) }
	n.book.watch = n.cfg.watch()
	n.book.taken = func(id workload.ID, spec *workload.Spec) {
		if spec.Tasks.Table.IsZero() { // else a hold was asked for, see leader.sharesInputs
			n.blobs.Pin(holdOwner(id), n.needs(spec)...)
		}
	}
	return nil
}

func (n *Node) openMesh(ctx context.Context) (err error) {
	cfg := mesh.Default()
	cfg.Key, cfg.Bundle, cfg.Log = n.id.key, n.id.bundle, n.log.With("part", "mesh")
	cfg.MDNS, cfg.Trust = n.cfg.MDNS, n.id.trust
	cfg.ConnLow, cfg.ConnHigh = mesh.VoterConnLow, mesh.VoterConnHigh
	cfg.Alone = n.home.Founder && len(n.home.Contacts) == 0
	if len(n.cfg.Listen) > 0 {
		cfg.Listen = n.cfg.Listen
	}
	if n.cfg.Given != nil {
		cfg.Options = n.cfg.Given.Mesh
	}
	if cfg.Bundle, err = n.freshBundle(ctx); err != nil {
		return err
	}
	// The host outlives ctx: a node that stops still says goodbye. Close ends it.
	if n.host, err = mesh.New(context.WithoutCancel(ctx), cfg); err != nil {
		return err
	}
	n.onClose("mesh", n.host.Close)
	if issuer := n.id.issuer.Load(); issuer != nil {
		n.host.ServeIssuer(issuer, n.contacts)
	}
	return n.openDirectory(ctx)
}

func (n *Node) onClose(what string, f func() error) {
	n.closeMu.Lock()
	defer n.closeMu.Unlock()
	n.closers = append(n.closers, func() {
		if err := f(); err != nil {
			n.log.Warn("close", "what", what, "err", err)
		}
	})
}

// Close stops what New opened, last first. Run calls it.
func (n *Node) Close() {
	n.closeMu.Lock()
	closers := n.closers
	n.closers = nil
	n.closeMu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
}

// bootNumber is higher at every start of the node: others keep the latest of
// what it says by this number. It follows the clock in seconds too, so that a
// folder which comes out of a backup does not fall behind itself.
func (n *Node) bootNumber() (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.home.Boot = max(n.home.Boot+1, uint64(max(n.start.Unix(), 0)))
	return n.home.Boot, saveHome(n.id.dir, &n.home)
}

// Ready is closed once the node takes work: it is on the mesh, its cell has a
// leader, and its first offer is known there.
func (n *Node) Ready() <-chan struct{} { return n.ready }

func (n *Node) setNotReady(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notReady = why
}

// Run serves until ctx ends, then stops and closes the node.
func (n *Node) Run(ctx context.Context) error {
	defer n.Close()
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group sync.WaitGroup
	failed := make(chan error, 8)
	spawn := func(what string, f func(context.Context) error) {
		group.Go(func() {
			if err := f(inner); err != nil && inner.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	api, err := n.openAPI()
	if err != nil {
		return err
	}
	spawn("home", n.keepHome)
	spawn("supervisor", n.watchSupervisor)
	spawn("load", n.watchLoad)
	spawn("offers", n.keepOffering)
	spawn("connections", n.keepConnected)
	spawn("directory", n.keepPublished)
	spawn("certificate", n.keepCertified)
	spawn("gossip", n.keepGossiping)
	spawn("housekeeping", n.keepHouse)
	spawn("mending", n.keepMending)
	spawn("checkpoints", n.keepCheckpoints)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	api()
	n.handOver()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	n.worker.Leave(leave)
	cancel()
	stop()
	group.Wait()
	return err
}

// leaveWithin bounds how long a node that stops tries to tell its cell.
const leaveWithin = 2 * time.Second

// handOver lets another voter lead before this one goes, so that nobody waits
// for an election.
func (n *Node) handOver() {
	c := n.currentCell()
	if c == nil || !c.group.IsLeader() || len(c.Voters()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := c.group.TransferLeadership(ctx, workload.PeerID{}); err != nil {
		n.log.Debug("leadership not handed over", "err", err)
	}
}

func (n *Node) currentCell() *cell {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cell
}

func (n *Node) currentLeader() *leader.Leader {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader
}

func (n *Node) homeCell() workload.CellID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.home.Cell
}

// contacts lists addresses at which a machine that joins finds the mesh.
func (n *Node) contacts() []string {
	addrs := n.host.Addrs()
	for _, p := range n.host.Peers() {
		if len(addrs) < 16 {
			addrs = append(addrs, withPeer(p.Addrs, p.ID)...)
		}
	}
	return addrs[:min(len(addrs), 16)]
}

func withPeer(addrs []string, id workload.PeerID) []string {
	var out []string
	for _, a := range addrs[:min(len(addrs), 2)] {
		out = append(out, a+"/p2p/"+id.String())
	}
	return out
}

// errNoLeader is what a request meets while nobody leads the cell.
var errNoLeader = wire.Errorf(wire.NotLeader, "this node does not lead the cell, and does not know who does")

// leading returns the leader that this node is, or says who is.
func (n *Node) leading() (*leader.Leader, error) {
	if l := n.currentLeader(); l != nil {
		return l, nil
	}
	e := *errNoLeader
	if view := n.homeView(); !view.Leader.IsZero() && view.Leader != n.self {
		e.Leader = view.Leader
		e.Detail = "this node does not lead the cell"
	}
	return nil, &e
}
