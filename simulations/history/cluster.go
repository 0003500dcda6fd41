package history

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
)

// Config says which daemons to start.
type Config struct {
	Exe   string        // the perrin binary
	Dir   string        // an existing folder for all of their data
	Nodes int           // 1 or more
	Lease time.Duration // of a node with its cell
	Net   *Network      // nil is loopback, where nothing can be cut
}

// Cluster is a mesh of real daemons that a nemesis may hurt. All of it but Dial
// is for one goroutine.
type Cluster struct {
	mesh    *devmesh.Mesh
	net     *Network
	ids     []workload.PeerID
	dead    []bool
	frozen  []bool
	patient time.Duration // how long a cell may take to be whole again
}

// cores is what each node declares: enough for all that a history submits.
const cores = 8

// Start starts the daemons and returns when they take work.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	opt := devmesh.Options{
		Exe: cfg.Exe, Nodes: cfg.Nodes, Data: cfg.Dir, Cores: cores, Memory: 2 << 30,
		Args: []string{"--lease-ttl", cfg.Lease.String(), "--mdns=false"},
	}
	if cfg.Net != nil {
		opt.Net = cfg.Net.mesh()
	}
	m, err := devmesh.Start(ctx, opt)
	if err != nil {
		return nil, err
	}
	c := &Cluster{mesh: m, net: cfg.Net, dead: make([]bool, cfg.Nodes), frozen: make([]bool, cfg.Nodes), patient: time.Minute}
	for i := range m.Members {
		st, err := c.status(ctx, i)
		if err != nil {
			m.Stop()
			return nil, err
		}
		c.ids = append(c.ids, st.Node)
	}
	return c, nil
}

// Size is the number of members.
func (c *Cluster) Size() int { return len(c.mesh.Members) }

// Dial returns a client of a member, which may not answer just now.
func (c *Cluster) Dial(i int) (*api.Client, error) { return api.Dial(c.mesh.Members[i].Socket) }

func (c *Cluster) status(ctx context.Context, i int) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := c.Dial(i)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Status(ctx, false)
}

// await polls a condition.
func await(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !ok() {
		if !pause(ctx, 25*time.Millisecond) {
			return fmt.Errorf("not within %s: %s", within, what)
		}
	}
	return nil
}

// pause waits, and reports whether ctx still stands.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// Leader asks a member who leads.
func (c *Cluster) Leader(ctx context.Context, asked int) (leader int, err error) {
	err = await(ctx, time.Minute, "a leader is known", func() bool {
		st, err := c.status(ctx, asked)
		if err != nil || !st.Ready || st.Cells[0].Leader.IsZero() {
			return false
		}
		leader = slices.Index(c.ids, st.Cells[0].Leader)
		return leader >= 0 && !c.dead[leader] && !c.frozen[leader]
	})
	return leader, err
}

// Standbys are the members that do not vote, as one of them sees it.
func (c *Cluster) Standbys(ctx context.Context, asked int) (out []int, err error) {
	st, err := c.status(ctx, asked)
	if err != nil {
		return nil, err
	}
	for i, id := range c.ids {
		if !slices.Contains(st.Cells[0].Voters, id) {
			out = append(out, i)
		}
	}
	return out, nil
}

// Others are all members but the given ones.
func (c *Cluster) Others(but ...int) (out []int) {
	for i := range c.Size() {
		if !slices.Contains(but, i) {
			out = append(out, i)
		}
	}
	return out
}

// Kill ends a daemon with SIGKILL. Its supervisor sees that and ends what runs.
func (c *Cluster) Kill(i int) {
	c.mesh.Members[i].Kill()
	c.dead[i], c.frozen[i] = true, false
}

// Restart starts a killed daemon again.
func (c *Cluster) Restart(i int) error {
	if !c.dead[i] {
		return nil
	}
	c.dead[i] = false
	return c.mesh.Restart(c.mesh.Members[i])
}

// Freeze stops a daemon's process, not what it has started.
func (c *Cluster) Freeze(i int) error {
	c.frozen[i] = true
	return c.mesh.Members[i].Freeze()
}

// Thaw lets a frozen daemon go on.
func (c *Cluster) Thaw(i int) error {
	if !c.frozen[i] {
		return nil
	}
	c.frozen[i] = false
	return c.mesh.Members[i].Thaw()
}

// Cut leaves members in reach of those of their own side only. Members that no
// side names are on the first one.
func (c *Cluster) Cut(sides ...[]int) error {
	if c.net == nil {
		return errors.New("the network of the host is not cut")
	}
	return c.net.Cut(sides...)
}

// Repair undoes all that was done to the cluster and returns when it is whole.
func (c *Cluster) Repair(ctx context.Context) error {
	var err error
	if c.net != nil {
		err = c.net.Cut()
	}
	for i := range c.Size() {
		err = errors.Join(err, c.Thaw(i), c.Restart(i))
	}
	if err != nil {
		return err
	}
	for i := range c.Size() {
		what := memberName(i) + " is ready, and its cell whole"
		err = errors.Join(err, await(ctx, c.patient, what, func() bool {
			st, err := c.status(ctx, i)
			return err == nil && st.Ready && st.Cells[0].Members == c.Size() && st.Cells[0].Quorum && !st.Cells[0].Leader.IsZero()
		}))
	}
	return err
}

// Stop ends every daemon and waits until their supervisors have closed.
func (c *Cluster) Stop() {
	for i := range c.Size() {
		_ = c.Thaw(i) // or it would have to be killed
	}
	c.mesh.Stop()
}

// records are what the supervisors of a member have recorded.
func (c *Cluster) records(i int) ([]watchdog.Record, error) {
	return watchdog.ReadJournal(filepath.Join(c.mesh.Members[i].Data, node.JournalFile))
}

// Runs returns the members on which a workload has started, in order of the starts.
func (c *Cluster) Runs(id workload.ID) ([]int, error) {
	var all []Attempt
	for i := range c.Size() {
		records, err := c.records(i)
		if err != nil {
			return nil, err
		}
		attempts, _ := Attempts(memberName(i), records)
		all = append(all, attempts...)
	}
	slices.SortFunc(all, func(a, b Attempt) int { return int(a.Start - b.Start) })
	var out []int
	for _, a := range all {
		if a.Workload == id.String() {
			out = append(out, slices.IndexFunc(c.mesh.Members, func(m *devmesh.Member) bool { return m.Name == a.Node }))
		}
	}
	return out, nil
}

// closedWithin bounds how long a supervisor may outlive its daemon.
const closedWithin = 10 * time.Second

// Attempts returns what ran on every member, once all daemons have stopped.
func (c *Cluster) Attempts(ctx context.Context) (all []Attempt, found []Finding, err error) {
	for i := range c.Size() {
		var one []Attempt
		var odd []Finding
		closed := await(ctx, closedWithin, "the supervisors close", func() bool {
			records, rerr := c.records(i)
			err = rerr
			one, odd = Attempts(memberName(i), records)
			return len(odd) == 0
		})
		if err != nil {
			return nil, nil, err
		}
		if closed != nil {
			found = append(found, odd...)
		}
		all = append(all, one...)
	}
	return all, found, nil
}
