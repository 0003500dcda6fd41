package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/worker"
	"github.com/perrin-mesh/perrin/workload"
)

// statusPatience bounds what a status waits for the cell's leader.
const statusPatience = time.Second

// Status implements api.Backend.
func (g gateway) Status(ctx context.Context, stats bool) (*api.Status, error) {
	n := g.n
	offers, err := n.offersOfCell(ctx)
	n.mu.Lock()
	why := n.notReady
	n.mu.Unlock()
	if err != nil {
		why = whyNoLeader(n.host.Refusal(), time.Now())
	}
	st := &api.Status{
		Ready: why == "", Why: why, Mesh: n.host.Mesh(), Node: n.self, Name: n.name, Version: n.cfg.Version,
		Versions: map[string]int{}, Prices: map[string]int64{}, Declared: n.machine.about.Declared, Enforced: n.machine.enforced(),
		Runs: n.machine.about.Kinds, RunsNot: n.Unoffered(),
	}
	st.Cells = append(st.Cells, n.homeStatus(offers, err == nil))
	for _, d := range n.digests.Board.List(time.Now()) {
		if d.Cell != n.homeCell() {
			st.Cells = append(st.Cells, api.Cell{
				ID: d.Cell, Epoch: d.Epoch, Term: d.Term, Leader: d.Leader, Name: d.Leader.Short(), Members: int(d.Members), Quorum: true,
				Free: workload.Capacity{Cores: d.FreeCores, Threads: d.FreeThreads, Memory: d.FreeMemory, Spare: d.FreeSpare},
			})
		}
	}
	for _, o := range offers {
		addOffer(st, &o)
	}
	n.fillRunning(ctx, st)
	st.Warnings = slices.Concat(n.notices(), n.warnings(st))
	if stats {
		st.Stats = n.Stats()
	}
	return st, nil
}

// whyNoLeader says why a node reaches no leader. The refusal is the last one by a peer,
// or nil.
func whyNoLeader(r *mesh.Refusal, now time.Time) string {
	if r == nil || now.Sub(r.At) >= refusalShown || !putOut(r.Reason) {
		return "no leader of the cell answers"
	}
	return fmt.Sprintf("this node is denied: %.300q", r.Reason)
}

// addOffer counts one node's offer in.
func addOffer(st *api.Status, o *workload.Offer) {
	addCapacity(&st.Capacity.Total, o.Machine.Total)
	addCapacity(&st.Capacity.Free, o.Free)
	st.Versions[o.Machine.Version]++
	st.Declared = st.Declared || o.Machine.Declared
	cheapest := func(name string, free int32, ask int64) {
		if old, ok := st.Prices[name]; free > 0 && (!ok || ask < old) {
			st.Prices[name] = ask
		}
	}
	cheapest("core", o.Free.Cores, o.Asks.Core)
	cheapest("thread", o.Free.Threads, o.Asks.Thread)
	cheapest("spare", o.Free.Spare, o.Asks.Spare)
}

func addCapacity(sum *workload.Capacity, c workload.Capacity) {
	sum.Cores += c.Cores
	sum.Threads += c.Threads
	sum.Memory += c.Memory
	sum.Disk += c.Disk
	sum.Slots += c.Slots
	sum.Spare += c.Spare
}

// offersOfCell asks the leader for the offers that stand.
func (n *Node) offersOfCell(ctx context.Context) (offers []workload.Offer, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var answer wire.QueryAnswer
	if err := n.CallLeader(ctx, n.homeCell(), wire.ProtoQuery, &wire.QueryMsg{Op: leader.QueryOffers}, &answer); err != nil {
		return nil, err
	}
	return offers, json.Unmarshal(answer.JSON, &offers)
}

func (n *Node) homeStatus(offers []workload.Offer, quorum bool) api.Cell {
	v := n.homeView()
	c := api.Cell{ID: v.Cell, Home: true, Epoch: v.Epoch, Term: v.Term, Leader: v.Leader, Members: len(v.Members), Quorum: quorum}
	c.Name = v.Leader.Short()
	for _, o := range offers {
		addCapacity(&c.Free, o.Free)
		if o.Node == v.Leader {
			c.Name = o.Machine.Name
		}
	}
	for _, p := range v.Voters {
		c.Voters = append(c.Voters, p.Peer)
	}
	for _, p := range v.Standby {
		c.Standby = append(c.Standby, p.Peer)
	}
	return c
}

// fillRunning counts the workloads that have not ended.
func (n *Node) fillRunning(ctx context.Context, st *api.Status) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var answer wire.QueryAnswer
	if st.Why != "" || n.CallLeader(ctx, n.homeCell(), wire.ProtoQuery, &wire.QueryMsg{Op: leader.QueryStats}, &answer) != nil {
		return
	}
	var counts ledger.Stats
	if json.Unmarshal(answer.JSON, &counts) != nil {
		return
	}
	for phase, k := range counts.Phases {
		if !phase.Ended() {
			st.Running += k
		}
	}
}

// warnings says what the home cell would not survive.
func (n *Node) warnings(st *api.Status) []string {
	home := st.Cells[0]
	switch {
	case len(home.Voters) != 1:
		return nil
	case home.Members == 1:
		return []string{"one node: losing its disk loses every workload; `perrin invite` adds another"}
	case len(home.Standby) == 0:
		return []string{"one voter and no standby yet: losing the voter's disk loses every workload"}
	}
	return []string{"one voter and a standby: while the voter is away nothing is placed, and what it acknowledged last may be lost with its disk; with a third node that votes any one may be lost"}
}

// Stats gathers each component's numbers: "ledger" and "raft" on a server of the
// cell, "leader" on its leader. It asks nobody else.
func (n *Node) Stats() map[string]any {
	out := map[string]any{
		"mesh": n.host.Stats(), "directory": n.dir.Stats(), "gossip": n.gossip.Stats(), "worker": n.worker.Stats(),
		"blobs": n.blobs.Usage(), "store": map[string]int64{"bytes": n.store.Size()}, "isolation": n.machine.levels(),
	}
	if c := n.currentCell(); c != nil {
		out["raft"] = c.group.Stats()
		c.Read(func(s *ledger.State) { out["ledger"] = s.Stats() })
	}
	if l := n.currentLeader(); l != nil {
		out["leader"] = l.Stats()
	}
	return out
}

// WorkerStats returns what this node's worker has counted since its start. It is
// much cheaper than Stats, and safe for concurrent use.
func (n *Node) WorkerStats() worker.Stats { return n.worker.Stats() }

// Metrics implements api.Backend: every number of every component's stats, in
// the Prometheus text format.
func (g gateway) Metrics(w io.Writer) error {
	raw, err := json.Marshal(g.n.Stats())
	if err != nil {
		return err
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return err
	}
	var lines []string
	flatten("perrin", tree, &lines)
	lines = append(lines, fmt.Sprintf("perrin_uptime_seconds %d", int64(time.Since(g.n.start).Seconds())))
	slices.Sort(lines)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		if _, err := fmt.Fprintf(w, "# TYPE %s untyped\n%s\n", name, line); err != nil {
			return err
		}
	}
	return nil
}

func flatten(name string, v any, lines *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			flatten(name+"_"+metricName(k), inner, lines)
		}
	case float64:
		*lines = append(*lines, fmt.Sprintf("%s %g", name, v))
	case bool:
		*lines = append(*lines, fmt.Sprintf("%s %d", name, map[bool]int{true: 1}[v]))
	}
}

func metricName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(s))
}

// Nodes implements api.Backend.
func (g gateway) Nodes(ctx context.Context, find string) ([]api.Node, error) {
	n := g.n
	where, err := workload.ParseWhere(find)
	if err != nil {
		return nil, &api.Error{Kind: api.Invalid, Message: "--find: " + err.Error()}
	}
	offers, err := n.offersOfCell(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	nodes := []api.Node{}
	known := map[workload.PeerID]bool{}
	for _, o := range offers {
		known[o.Node] = true
		if where.Match(o.Machine.Facts()) {
			nodes = append(nodes, n.nodeOf(&o))
		}
	}
	if find != "" {
		nodes = append(nodes, n.nodesOfDirectory(ctx, where, known)...)
	}
	slices.SortFunc(nodes, func(a, b api.Node) int { return strings.Compare(a.Name, b.Name) })
	n.fillRecords(ctx, nodes)
	return nodes, nil
}

// fillRecords adds what the cell's ledger remembers of nodes, if its leader says so.
func (n *Node) fillRecords(ctx context.Context, nodes []api.Node) {
	var names map[workload.PeerID]api.Record
	if n.query(ctx, n.homeCell(), &wire.QueryMsg{Op: leader.QueryNames}, &names) != nil {
		return
	}
	for i := range nodes {
		if r, ok := names[nodes[i].ID]; ok {
			nodes[i].Record = &r
		}
	}
}

func (n *Node) nodeOf(o *workload.Offer) api.Node {
	v := n.homeView()
	out := api.Node{
		ID: o.Node, Name: o.Machine.Name, Cell: o.Cell, Self: o.Node == n.self, Role: "member", Alive: true, Offer: o,
		Machine: o.Machine, RTTMicros: n.host.RTT(o.Node).Microseconds(), Found: "cell",
	}
	switch {
	case o.Node == v.Leader:
		out.Role = "leader"
	case isVoter(&v, o.Node):
		out.Role = "voter"
	case slices.ContainsFunc(v.Standby, func(p wire.PeerAddrs) bool { return p.Peer == o.Node }):
		out.Role = "standby"
	}
	return out
}
