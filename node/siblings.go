package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/directory"
	"github.com/perrin-mesh/perrin/mesh/gossip"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/workload"
)

// How often a leader tells other cells of its own, and for how long that holds.
// A cell's digest goes out when it says something new, when another cell has
// spoken for the first time, and now and then.
const (
	digestEvery  = 3 * time.Second
	digestAnyhow = 5 // rounds
	digestValid  = 40 * time.Second
)

func (n *Node) openDirectory(context.Context) (err error) {
	if n.dir, err = directory.New(n.host, directory.Config{Key: n.id.key, Log: n.log.With("part", "directory")}); err != nil {
		return err
	}
	n.onClose("directory", n.dir.Close)
	g, err := gossip.New(n.host, gossip.Config{Log: n.log.With("part", "gossip")})
	if err != nil {
		return err
	}
	n.onClose("gossip", g.Close)
	n.gossip = g
	n.digests, err = g.JoinDigests("", time.Now)
	return err
}

// keepGossiping publishes the cell's digest for as long as this node leads it.
func (n *Node) keepGossiping(ctx context.Context) error {
	seq, told, record, round := uint64(0), "", "", 0
	for pause(ctx, digestEvery) {
		l := n.currentLeader()
		if l == nil {
			told, record = "", ""
			continue
		}
		offers, err := l.Offers(ctx)
		if err != nil {
			continue
		}
		d := n.digest(offers)
		says := n.news(d)
		if round++; says == told && round%digestAnyhow != 0 {
			continue
		}
		told = says
		seq++
		d.Seq = uint64(n.start.Unix())<<20 + seq
		if err := n.digests.Publish(ctx, d, n.id.key); err != nil {
			n.log.Warn("digest not published", "err", err)
		}
		record = n.publishCell(&d, record)
	}
	return nil
}

// news is all that a digest says, and who else speaks.
func (n *Node) news(d gossip.CellDigest) string {
	d.ExpiryMs = 0
	var others []workload.CellID
	for _, o := range n.digests.Board.List(time.Now()) {
		others = append(others, o.Cell)
	}
	return fmt.Sprint(d, others)
}

// digest sums the offers of the cell up.
func (n *Node) digest(offers []workload.Offer) gossip.CellDigest {
	view := n.homeView()
	d := gossip.CellDigest{
		Cell: view.Cell, Leader: n.self, LeaderAddrs: n.addrs()[:min(4, len(n.addrs()))], Epoch: view.Epoch, Term: view.Term,
		Members: uint32(len(view.Members)), ExpiryMs: time.Now().Add(digestValid).UnixMilli(),
	}
	labels, arches, kinds := map[string]bool{}, map[string]bool{}, map[workload.Kind]bool{}
	for _, o := range offers {
		d.FreeCores += o.Free.Cores
		d.FreeThreads += o.Free.Threads
		d.FreeMemory += o.Free.Memory
		if o.Free.Cores > 0 {
			d.MinAskCore = least(d.MinAskCore, o.Asks.Core)
		}
		if o.Free.Threads > 0 {
			d.MinAskThread = least(d.MinAskThread, o.Asks.Thread)
		}
		d.FreeSpare += o.Free.Spare
		if o.Free.Spare > 0 {
			d.MinAskSpare = least(d.MinAskSpare, o.Asks.Spare)
		}
		arches[o.Machine.Arch] = true
		for _, k := range o.Machine.Kinds {
			kinds[k] = true
		}
		for k, v := range o.Machine.Labels {
			labels[k+"="+v] = true
		}
	}
	d.Arches, d.Kinds = first(arches, 8), first(kinds, 8)
	d.Labels = first(labels, 16)
	return d
}

func least(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// first returns the first keys in order, few enough for a digest.
func first[K interface {
	comparable
	~string
}](set map[K]bool, most int) []K {
	keys := slices.Sorted(maps.Keys(set))
	return keys[:min(len(keys), most)]
}

// publishCell puts the cell's record into the DHT if it says something else than
// last, and returns what it says. The directory publishes it again by itself.
func (n *Node) publishCell(d *gossip.CellDigest, last string) string {
	view := n.homeView()
	r := directory.CellRecord{Cell: d.Cell, Epoch: d.Epoch, Term: d.Term, Leader: n.self, Members: d.Members}
	for _, v := range view.Voters[:min(len(view.Voters), 9)] {
		r.Voters = append(r.Voters, directory.Voter{Peer: v.Peer, Addrs: v.Addrs})
	}
	says := fmt.Sprint(r)
	if says == last {
		return says
	}
	if err := n.dir.PutCell(r); err != nil {
		n.log.Debug("cell record not published", "err", err)
		return ""
	}
	return says
}

// siblingViews are the other cells that have spoken lately.
func (n *Node) siblingViews() []wire.CellView {
	var out []wire.CellView
	for _, d := range n.digests.Board.List(time.Now()) {
		if d.Cell != n.homeCell() && len(out) < 32 {
			out = append(out, digestView(&d))
		}
	}
	return out
}

func digestView(d *gossip.CellDigest) wire.CellView {
	return wire.CellView{
		Cell: d.Cell, Epoch: d.Epoch, Term: d.Term, Leader: d.Leader,
		Voters: []wire.PeerAddrs{{Peer: d.Leader, Addrs: d.LeaderAddrs}},
	}
}

// findCell looks a cell up: in the digests, then in the DHT.
func (n *Node) findCell(ctx context.Context, id workload.CellID) (wire.CellView, bool) {
	for _, d := range n.digests.Board.List(time.Now()) {
		if d.Cell == id {
			return digestView(&d), true
		}
	}
	return n.lookUp(ctx, id)
}

// Suited implements leader.Siblings: it asks the leaders of sibling cells whose
// digest does not rule them out, and when none has an answer, the DHT.
func (n *Node) Suited(ctx context.Context, lot *scheduler.Lot) (offers []workload.Offer, dht bool) {
	msg := &wire.SuitedMsg{
		Owner: lot.Owner, Shape: lot.Shape, Kind: lot.Kind, Where: lot.Where, MaxPrice: lot.MaxPrice, Wanted: lot.Wanted,
		Require: lot.Require,
	}
	for _, d := range n.digests.Board.List(time.Now()) {
		if d.Cell == n.homeCell() || !mayServe(&d, lot) || len(offers) >= 64 {
			continue
		}
		got, err := n.askSibling(ctx, &d, msg)
		if err != nil {
			n.log.Debug("sibling cell not asked", "cell", d.Cell, "err", err)
			continue
		}
		offers = append(offers, got...)
	}
	if len(offers) > 0 {
		return offers, false
	}
	return n.searchDirectory(ctx, lot), true
}

// mayServe reports whether a digest leaves hope for a lot.
func mayServe(d *gossip.CellDigest, lot *scheduler.Lot) bool {
	free, ask := d.FreeCores, d.MinAskCore
	switch lot.Shape.Class {
	case workload.Thread:
		free, ask = d.FreeThreads, d.MinAskThread
	case workload.Spare:
		free, ask = d.FreeSpare, d.MinAskSpare
	}
	return free >= lot.Shape.CPUs && d.FreeMemory >= lot.Shape.Memory && slices.Contains(d.Kinds, lot.Kind) &&
		(lot.MaxPrice == 0 || ask <= lot.MaxPrice)
}

func (n *Node) askSibling(ctx context.Context, d *gossip.CellDigest, msg *wire.SuitedMsg) ([]workload.Offer, error) {
	n.learnAddrs(ctx, []wire.PeerAddrs{{Peer: d.Leader, Addrs: d.LeaderAddrs}})
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := mesh.CallTyped[wire.SuitedMsg, wire.SuitedOffers](ctx, n.host, d.Leader, wire.ProtoSuited, msg, maxAnswer)
	if err != nil {
		return nil, err
	}
	n.learnAddrs(ctx, answer.Addrs)
	var offers []workload.Offer
	for _, signed := range answer.Offers {
		if o, err := openOffer(n.memo, signed); err == nil && o.Cell == d.Cell {
			offers = append(offers, o)
		}
	}
	return offers, nil
}

// handleSuited answers another cell's leader with members that fit its lot.
func (n *Node) handleSuited(ctx context.Context, _ workload.PeerID, m *wire.SuitedMsg) (*wire.SuitedOffers, error) {
	l, err := n.leading()
	if err != nil {
		return nil, err
	}
	nodes, err := l.HandleSuited(ctx, m)
	if err != nil {
		return nil, err
	}
	answer := &wire.SuitedOffers{}
	c := n.currentCell()
	for _, id := range nodes {
		n.mu.Lock()
		o, ok := n.offers[id]
		n.mu.Unlock()
		if !ok {
			continue
		}
		answer.Offers = append(answer.Offers, o.signed)
		c.Read(func(s *ledger.State) {
			if member, ok := s.Member(id); ok {
				answer.Addrs = append(answer.Addrs, wire.PeerAddrs{Peer: id, Addrs: member.Addrs})
			}
		})
	}
	return answer, nil
}

// searchDirectory asks the DHT for nodes of a rare kind. What it finds is not
// an offer: the node's bid will say what it has free and asks.
func (n *Node) searchDirectory(ctx context.Context, lot *scheduler.Lot) []workload.Offer {
	where, err := workload.ParseWhere(lot.Where)
	if err != nil {
		return nil
	}
	q := directory.Query{
		Kind: lot.Kind, Labels: where.Labels(), Exclude: []workload.PeerID{n.self},
		Match: func(r *directory.NodeRecord) bool { return r.Cell != n.homeCell() && where.Match(r.Machine.Facts()) },
	}
	switch lot.Shape.Class {
	case workload.Thread:
		q.Total.Threads = lot.Shape.CPUs
	case workload.Spare:
		q.Total.Spare = lot.Shape.CPUs
	default:
		q.Total.Cores = lot.Shape.CPUs
	}
	q.Total.Memory = lot.Shape.Memory
	records, err := n.dir.Find(ctx, q)
	if err != nil {
		return nil
	}
	var offers []workload.Offer
	for _, r := range records {
		n.learnAddrs(ctx, []wire.PeerAddrs{{Peer: r.Peer, Addrs: r.Addrs}})
		offers = append(offers, workload.Offer{
			Node: r.Peer, Cell: r.Cell, Machine: r.Machine, Free: r.Machine.Total, ValidMs: offerValid.Milliseconds(),
		})
	}
	return offers
}

// keepPublished keeps this node's record and class keys in the DHT.
func (n *Node) keepPublished(ctx context.Context) error {
	var told workload.CellID
	for pause(ctx, 500*time.Millisecond) {
		cell := n.homeCell()
		if cell == told || cell.IsZero() {
			continue
		}
		if err := n.dir.PutNode(n.machine.about, cell); err != nil {
			n.log.Debug("node record not published", "err", err)
			continue
		}
		if err := n.dir.Provide(ctx, directory.Keys(n.self, n.machine.about, 1)); err != nil {
			n.log.Debug("class keys not published", "err", err)
		}
		told = cell
	}
	return nil
}

// nodesOfDirectory asks the DHT for nodes that match a condition.
func (n *Node) nodesOfDirectory(ctx context.Context, where workload.Where, known map[workload.PeerID]bool) []api.Node {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	records, err := n.dir.Find(ctx, directory.Query{
		Labels: where.Labels(), Limit: directory.MaxFind,
		Match: func(r *directory.NodeRecord) bool { return !known[r.Peer] && where.Match(r.Machine.Facts()) },
	})
	if err != nil {
		n.log.Debug("directory search", "err", err)
		return nil
	}
	var out []api.Node
	for _, r := range records {
		out = append(out, api.Node{
			ID: r.Peer, Name: r.Machine.Name, Cell: r.Cell, Role: "member", Alive: true, Machine: r.Machine, Addrs: r.Addrs,
			RTTMicros: n.host.RTT(r.Peer).Microseconds(), Found: "dht",
		})
	}
	return out
}
