package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/simulations/packetnet"
)

// Options say what to simulate. Zero fields have defaults.
type Options struct {
	Nodes int // at the start, 1 to MaxNodes
	Seed  uint64
	// Link is the path between any two machines; Path, when set, goes before
	// it and gives each pair its own.
	Link packetnet.Link
	Path func(from, to int) packetnet.Link
	Rate int64 // bits a second that each machine sends and receives; 0 is no limit

	Cores    int           // of each machine; default 2
	Threads  int           // of each core; default 2
	Memory   int64         // of each machine in bytes; default 4 GiB
	CellSize int           // default as for any node
	LeaseTTL time.Duration // default as for any node
	Program  Program       // what attempts do; default Sleep
	// Drift is how much the lease clock of a machine runs fast, as a share:
	// 0.001 gains a millisecond a second. nil is not at all.
	Drift func(index int) float64
	// Watch, unless nil, is told of each entry that a machine's replica of the
	// ledger has applied. It must not block, and may be called by several
	// goroutines.
	Watch func(index int, cmd *ledger.Command, res *ledger.Result)

	// Dir is an existing folder for the machines' disks, which Stop leaves as
	// they are; "" makes one that Stop removes. A file system in memory makes
	// a sync free.
	Dir string
	Log *slog.Logger // nil discards what the nodes have to say
}

// MaxNodes bounds a mesh.
const MaxNodes = 1024

// Mesh is a simulated mesh that runs. Its methods are safe for concurrent use,
// but for those that add or stop machines.
type Mesh struct {
	Machines []*Machine
	Net      *packetnet.Network
	Journal  *Journal

	opt    Options
	ownDir bool

	mu    sync.Mutex // guards the rest
	lost  map[netip.Addr]bool
	parts func(from, to int) bool // the cut in force
}

// Start founds a mesh and has every other machine join it by invitation, all at
// once. It returns when every node takes work. When ctx ends first, all is
// stopped.
func Start(ctx context.Context, opt Options) (*Mesh, error) {
	if opt.Nodes < 1 || opt.Nodes > MaxNodes {
		return nil, fmt.Errorf("nodes: want 1 to %d, got %d", MaxNodes, opt.Nodes)
	}
	m := &Mesh{Journal: &Journal{}, lost: map[netip.Addr]bool{}}
	opt.fill()
	if m.ownDir = opt.Dir == ""; m.ownDir {
		dir, err := Folder()
		if err != nil {
			return nil, err
		}
		opt.Dir = dir
	}
	m.opt = opt
	m.Net = packetnet.New(packetnet.Config{Seed: opt.Seed, Rate: opt.Rate, Path: m.path})
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	return m, nil
}

// Folder makes a folder for the disks of a mesh, in memory where there is room. It
// is the caller's to remove.
func Folder() (string, error) { return os.MkdirTemp(diskInMemory(), "perrin-stack-") }

func (o *Options) fill() {
	if o.Cores == 0 {
		o.Cores = 2
	}
	if o.Threads == 0 {
		o.Threads = 2
	}
	if o.Memory == 0 {
		o.Memory = 4 << 30
	}
	if o.Program == nil {
		o.Program = Sleep
	}
}

// path is the link between two addresses.
func (m *Mesh) path(from, to netip.Addr) packetnet.Link {
	if m.opt.Path == nil {
		return m.opt.Link
	}
	return m.opt.Path(indexOf(from), indexOf(to))
}

// indexOf is the machine with an address, as addressOf gives them.
func indexOf(ip netip.Addr) int {
	b := ip.As4()
	return int(b[1])<<8 | int(b[2])
}

func (m *Mesh) start(ctx context.Context) error {
	first := m.add()
	if err := first.found(); err != nil {
		return err
	}
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := first.ready(ctx); err != nil {
		return err
	}
	if m.opt.Nodes == 1 {
		return nil
	}
	return m.Grow(ctx, m.opt.Nodes-1)
}

func (m *Mesh) add() *Machine {
	x := m.newMachine(len(m.Machines))
	m.Machines = append(m.Machines, x)
	return x
}

// Grow adds machines to the mesh, which join all at once, and returns when
// their nodes take work. The first machine must run.
func (m *Mesh) Grow(ctx context.Context, count int) error {
	var fresh []*Machine
	for range count {
		fresh = append(fresh, m.add())
	}
	return m.enter(ctx, fresh)
}

// Rejoin has machines whose disks were wiped join as new nodes.
func (m *Mesh) Rejoin(ctx context.Context, machines ...*Machine) error { return m.enter(ctx, machines) }

func (m *Mesh) enter(ctx context.Context, machines []*Machine) error {
	first, err := m.Machines[0].Backend()
	if err != nil {
		return err
	}
	inv, err := first.Invite(ctx, len(machines), time.Hour)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, x := range machines {
		group.Go(func() error {
			if err := x.join(ctx, inv.Token); err != nil {
				return err
			}
			if err := x.Start(ctx); err != nil {
				return err
			}
			return x.ready(ctx)
		})
	}
	return group.Wait()
}

// Stop stops every node, the members before the voters that they say goodbye
// to, and removes what the mesh wrote, if the folder is its own. It returns what
// ended a node before.
func (m *Mesh) Stop() error {
	m.Heal()
	var errs []error
	for i := len(m.Machines) - 1; i >= 0; i-- {
		errs = append(errs, m.Machines[i].Stop())
	}
	m.Net.Close()
	if m.ownDir {
		errs = append(errs, os.RemoveAll(m.opt.Dir))
	}
	return errors.Join(errs...)
}

// pollEvery is how often Await looks.
const pollEvery = 100 * time.Millisecond

// Await asks a machine for its status until it is as wanted, or ctx ends.
func (m *Mesh) Await(ctx context.Context, asked *Machine, ok func(*api.Status) bool) (*api.Status, error) {
	var last error
	for {
		st, err := asked.Status(ctx)
		if err == nil && ok(st) {
			return st, nil
		}
		if err == nil {
			home := st.Cells[0]
			err = fmt.Errorf("ready %t %s, %d members, %d voters, %d standbys, leader %q, free %+v",
				st.Ready, st.Why, home.Members, len(home.Voters), len(home.Standby), home.Name, st.Capacity.Free)
		}
		last = err
		if !pause(ctx, pollEvery) {
			return nil, fmt.Errorf("%s: %w: %w", asked.Name, ctx.Err(), last)
		}
	}
}

// pause waits, and reports whether ctx still stands.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
