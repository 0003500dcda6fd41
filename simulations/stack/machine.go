package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/scheduler/capacity"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Machine is one simulated computer, with the node on it when that runs. Its
// methods are safe for concurrent use, but starting and stopping it is the
// business of one goroutine.
type Machine struct {
	Index int
	Name  string
	IP    netip.Addr

	mesh   *Mesh
	data   string
	warden *warden
	log    *slog.Logger

	mu   sync.Mutex // guards the rest
	id   workload.PeerID
	node *node.Node    // nil while it does not run
	stop func()        // ends the node
	done chan struct{} // closed when it has ended
	err  error         // of a node that ended by itself
	past uint64        // requests of nodes that ran here before
}

// port is what every node listens on.
const port = 4001

// addressOf gives each machine a network of its own, so that none fail together.
func addressOf(index int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(index >> 8), byte(index), 1})
}

func (m *Mesh) newMachine(index int) *Machine {
	rate := 1.0
	if m.opt.Drift != nil {
		rate += m.opt.Drift(index)
	}
	began := time.Now()
	// A machine was booted a while ago: a lease that counts from 0 would be
	// taken for none.
	clock := func() time.Duration { return time.Hour + time.Duration(float64(time.Since(began))*rate) }
	name := fmt.Sprintf("m%d", index)
	log := m.opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Machine{
		Index: index, Name: name, IP: addressOf(index), mesh: m, data: filepath.Join(m.opt.Dir, name),
		warden: newWarden(clock, rate), log: log,
	}
}

func (x *Machine) network() mesh.Option { return mesh.OnPackets(x.mesh.Net.Host(x.IP)) }

// found makes this machine's node the first of the mesh.
func (x *Machine) found() error {
	f, err := node.Init(x.data, x.Name)
	if err == nil {
		x.mu.Lock()
		x.id = f.Node
		x.mu.Unlock()
	}
	return err
}

// joinEvery is how long a machine waits to ask again when the mesh did not
// answer, or was asked by too many at once.
const joinEvery = 500 * time.Millisecond

// join asks the mesh of a token to let this machine's node in, until ctx ends. All
// machines of a mesh have one owner.
func (x *Machine) join(ctx context.Context, token string) error {
	if err := node.ShareOwner(x.mesh.Machines[0].data, x.data); err != nil {
		return err
	}
	for {
		f, err := node.Join(ctx, x.data, x.Name, token, x.network())
		if err == nil {
			x.mu.Lock()
			x.id = f.Node
			x.mu.Unlock()
			return nil
		}
		if !pause(ctx, joinEvery) {
			return fmt.Errorf("%s does not get in: %w", x.Name, err)
		}
	}
}

// Start starts the machine's node on the folder it has.
func (x *Machine) Start(ctx context.Context) error {
	if x.Running() {
		return fmt.Errorf("%s runs already", x.Name)
	}
	n, err := node.New(ctx, node.Config{
		Data: x.data, Listen: []string{fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", x.IP, port)},
		Memory: x.mesh.opt.Memory, CellSize: x.mesh.opt.CellSize, LeaseTTL: x.mesh.opt.LeaseTTL, Log: x.log,
		Runners: map[workload.Kind]runner.Runner{
			workload.Process: &player{machine: x.Index, program: x.mesh.opt.Program, journal: x.mesh.Journal},
		},
		Given: &node.Given{
			Topology: capacity.Uniform(x.mesh.opt.Cores, x.mesh.opt.Threads), Supervisor: x.warden, Clock: x.warden.clock,
			Mesh: []mesh.Option{x.network()}, Watch: x.watch(),
		},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", x.Name, err)
	}
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	x.mu.Lock()
	x.node, x.stop, x.done, x.err = n, stop, done, nil
	x.mu.Unlock()
	go func() {
		defer close(done)
		err := n.Run(inner)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.node, x.err = nil, err
		x.past += requestsOf(n)
	}()
	return nil
}

// watch tells who wants to know what this machine's replica applies.
func (x *Machine) watch() func(*ledger.Command, *ledger.Result) {
	told := x.mesh.opt.Watch
	if told == nil {
		return nil
	}
	return func(cmd *ledger.Command, res *ledger.Result) { told(x.Index, cmd, res) }
}

// Traffic is what nodes of this machine have asked of other nodes: requests, without
// those to themselves.
func (x *Machine) Traffic() (requests uint64) {
	x.mu.Lock()
	n, past := x.node, x.past
	x.mu.Unlock()
	if n == nil {
		return past
	}
	return past + requestsOf(n)
}

func requestsOf(n *node.Node) uint64 {
	s, ok := n.Stats()["mesh"].(mesh.Stats)
	if !ok {
		return 0
	}
	return s.Calls - s.Own
}

// Stop stops the node as its owner would, and waits for it. It returns why the
// node had ended before, if it had.
func (x *Machine) Stop() error {
	x.mu.Lock()
	stop, done := x.stop, x.done
	x.mu.Unlock()
	if done == nil {
		return nil
	}
	stop()
	<-done
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// Crash takes the machine off the network, ends what it runs, and then the
// node: what the node still says as it stops is heard by nobody. Its folder
// stays as it is. The machine is back on the network when Crash returns.
func (x *Machine) Crash() error {
	x.mesh.lose(x)
	x.warden.crash()
	err := x.Stop()
	x.mesh.restore(x)
	return err
}

// Wipe empties the machine's disk; the node must not run. It has no identity
// any more: Mesh.Rejoin gives it another.
func (x *Machine) Wipe() error {
	if x.Running() {
		return fmt.Errorf("%s runs", x.Name)
	}
	return os.RemoveAll(x.data)
}

// Running reports whether the node runs.
func (x *Machine) Running() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.node != nil
}

// ID is the node's identity.
func (x *Machine) ID() workload.PeerID {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.id
}

// ErrDown is returned when a machine's node does not run.
var ErrDown = errors.New("the node does not run")

// Backend is the node as its owner's tools see it.
func (x *Machine) Backend() (api.Backend, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.node == nil {
		return nil, fmt.Errorf("%s: %w", x.Name, errors.Join(ErrDown, x.err))
	}
	return x.node.Backend(), nil
}

// Status asks the node.
func (x *Machine) Status(ctx context.Context) (*api.Status, error) {
	b, err := x.Backend()
	if err != nil {
		return nil, err
	}
	return b.Status(ctx, false)
}

// Ledger returns the counters of the node's replica of the ledger; false on a
// plain member, which has none, and while the node does not run.
func (x *Machine) Ledger() (ledger.Stats, bool) {
	x.mu.Lock()
	n := x.node
	x.mu.Unlock()
	if n == nil {
		return ledger.Stats{}, false
	}
	s, ok := n.Stats()["ledger"].(ledger.Stats)
	return s, ok
}

// ready waits until the node takes work.
func (x *Machine) ready(ctx context.Context) error {
	x.mu.Lock()
	n, done := x.node, x.done
	x.mu.Unlock()
	if n == nil {
		return fmt.Errorf("%s: %w", x.Name, ErrDown)
	}
	select {
	case <-n.Ready():
		return nil
	case <-done:
		return fmt.Errorf("%s has ended: %w", x.Name, errors.Join(ErrDown, x.err))
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w", x.Name, ctx.Err())
	}
}
