package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// How offers travel: to the leader each offerEvery and on change, at most every
// offerPause, and each second time to every voter, for a term that it may lead;
// one is valid for offerValid.
const (
	offerEvery = 5 * time.Second
	offerPause = 50 * time.Millisecond
	offerValid = 12 * time.Second
)

// signedOffer is a member's latest offer, as it signed it.
type signedOffer struct {
	signed workload.Signed
	offer  workload.Offer
	at     time.Time
	full   bool // its disk is
}

// keepOffering tells the voters of the home cell what this node has free.
func (n *Node) keepOffering(ctx context.Context) error {
	tick := time.NewTicker(offerEvery)
	defer tick.Stop()
	all, round := true, 0
	for {
		told := n.tellOffer(ctx, all)
		all = true
		again := tick.C
		if !told {
			again = time.After(200 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			round++
			all = !told || round%2 == 0
		case <-n.doubt:
		case <-n.worker.Changed():
			all = !told
			if !pause(ctx, offerPause) {
				return nil
			}
		}
	}
}

// tellOffer sends one offer to every voter, or to the leader alone, and reports
// whether the leader has it.
func (n *Node) tellOffer(ctx context.Context, all bool) bool {
	view := n.homeView()
	if view.Cell.IsZero() || !n.worker.Announced() {
		return false
	}
	msg := wire.OfferMsg{Offer: n.worker.Offer(offerValid), Full: n.room() != nil}
	if !all && !view.Leader.IsZero() {
		ctx, cancel := context.WithTimeout(ctx, tellPatience)
		defer cancel()
		return n.heard(n.tellVoter(ctx, view.Leader, &msg))
	}
	return n.heard(n.tellVoters(ctx, &view, &msg) || n.tellStranger(ctx, &view, &msg))
}

// tellPatience bounds the telling of one offer.
const tellPatience = 2 * time.Second

// tellVoters sends an offer to every voter of a view and reports whether one of
// them leads.
func (n *Node) tellVoters(ctx context.Context, view *wire.CellView, msg *wire.OfferMsg) bool {
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	heard := make(chan bool, len(view.Voters))
	for _, v := range view.Voters {
		go func() { heard <- n.tellVoter(ctx, v.Peer, msg) }()
	}
	leads := false
	for range view.Voters {
		leads = <-heard || leads
	}
	return leads
}

// tellStranger sends an offer to whom the mesh at large knows as the leader, by
// the cell's digest or its record: while this node was away, all the voters that
// it knew may have been replaced.
func (n *Node) tellStranger(ctx context.Context, view *wire.CellView, msg *wire.OfferMsg) bool {
	found, ok := n.findCell(ctx, view.Cell)
	if !ok || found.Leader == n.self || found.Term < view.Term {
		return false
	}
	n.learnAddrs(ctx, found.Voters)
	return n.tellVoters(ctx, &found, msg)
}

// heard notes whether the leader has this node's offer.
func (n *Node) heard(leads bool) bool {
	if leads {
		n.markReady()
	} else {
		n.setNotReady("no leader of the cell has this node's offer yet")
	}
	return leads
}

// tellVoter sends an offer to one voter. The leader answers with its view, and
// has taken the offer if this node is a member by it.
func (n *Node) tellVoter(ctx context.Context, to workload.PeerID, msg *wire.OfferMsg) bool {
	var answer wire.OfferAnswer
	if err := (caller{n}).Call(ctx, to, wire.ProtoOffer, msg, &answer); err != nil {
		n.log.Debug("offer not told", "to", to.Short(), "err", err)
		return false
	}
	if answer.View == nil {
		return false
	}
	n.learnView(answer.View)
	if !slices.Contains(answer.View.Members, n.self) {
		n.returnHome(ctx, to, answer.View.Cell)
		return false
	}
	return true
}

// returnHome asks the leader to take this node in again, which the cell has
// evicted while it was away or put out.
func (n *Node) returnHome(ctx context.Context, leader workload.PeerID, cell workload.CellID) {
	msg := wire.MemberMsg{Name: n.name, Addrs: n.addrs(), Direct: true, Version: n.cfg.Version, Cell: &cell}
	var answer wire.MemberAnswer
	if err := (caller{n}).Call(ctx, leader, wire.ProtoMember, &msg, &answer); err != nil {
		n.log.Debug("not taken in again", "by", leader.Short(), "err", err)
	}
}

func (n *Node) markReady() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notReady = ""
	select {
	case <-n.ready:
	default:
		close(n.ready)
		n.log.Info("ready")
	}
}

// handleOffer takes a member's offer.
func (n *Node) handleOffer(_ context.Context, from workload.PeerID, m *wire.OfferMsg) (*wire.OfferAnswer, error) {
	offer, err := openOffer(n.memo, m.Offer)
	if err != nil {
		return nil, wire.Errorf(wire.Malformed, "%v", err)
	}
	if offer.Node != from || offer.Cell != n.homeCell() {
		return nil, wire.Errorf(wire.Refused, "the offer is of another node or for another cell")
	}
	l := n.currentLeader()
	if n.isMember(from) {
		n.keepOffer(from, m, &offer)
		if l != nil {
			l.Offer(offer)
		}
	}
	if l == nil {
		return &wire.OfferAnswer{}, nil
	}
	view := n.homeView()
	return &wire.OfferAnswer{View: &view}, nil
}

// keepOffer keeps a member's latest offer, for a term that this voter may lead.
func (n *Node) keepOffer(from workload.PeerID, m *wire.OfferMsg, offer *workload.Offer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.offers[from]
	if offer.Seq > known.offer.Seq || known.at.IsZero() {
		n.offers[from] = signedOffer{signed: m.Offer, offer: *offer, at: time.Now(), full: m.Full}
	}
}

// dropOffers forgets the offers of nodes that are members no more.
func (n *Node) dropOffers(c *cell) {
	members := map[workload.PeerID]bool{}
	c.Read(func(s *ledger.State) {
		for _, m := range s.Members() {
			members[m.Node] = true
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.offers, func(id workload.PeerID, _ signedOffer) bool { return !members[id] })
}

// isMember reports whether a peer is a member by this voter's ledger. A voter
// keeps no offer of anybody else, and so not more of them than a cell has members.
func (n *Node) isMember(peer workload.PeerID) (member bool) {
	if c := n.currentCell(); c != nil {
		c.Read(func(s *ledger.State) { _, member = s.Member(peer) })
	}
	return member
}

// openOffer verifies and decodes a signed offer.
func openOffer(memo *workload.Memo, s workload.Signed) (workload.Offer, error) {
	var o workload.Offer
	if err := memo.Verify(workload.DomainOffer, s); err != nil {
		return o, err
	}
	if err := wire.Unmarshal(s.Payload, &o); err != nil {
		return o, err
	}
	if o.Node != s.By {
		return o, errors.New("the offer names another node than its signer")
	}
	if o.ValidMs < 0 || o.ValidMs > time.Minute.Milliseconds() {
		return o, errors.New("an offer is valid for at most a minute")
	}
	return o, nil
}

// knownOffers are the offers that this voter has, for a term that begins.
func (n *Node) knownOffers() []workload.Offer {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []workload.Offer
	for _, o := range n.offers {
		if time.Since(o.at) < offerValid {
			out = append(out, o.offer)
		}
	}
	return out
}
