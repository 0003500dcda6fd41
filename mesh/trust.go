package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// ProtoTrust tells a peer what the root and the operators have said, and learns
// what it knows.
const ProtoTrust = "/perrin/trust/1"

const (
	// maxStatements bounds a message of ProtoTrust in bytes: a whole deny list, and all
	// that is revoked.
	maxStatements = 4 << 20
	// trustTimeout bounds one exchange.
	trustTimeout = 10 * time.Second
	// trustEvery is how often a node compares what it knows with one of its peers,
	// in case a message was lost.
	trustEvery = time.Minute
)

// trustMsg carries what its sender knows: all of it by a digest, and what the
// other side may lack.
type trustMsg struct {
	Digest     workload.Digest      `cbor:"1,keyasint"`
	Statements admission.Statements `cbor:"2,keyasint"`
}

// Trust is what the host knows of its mesh's operators and of who is put out.
func (h *Host) Trust() *admission.Trust { return h.trust }

// Publish takes statements of the root or an operator, enforces them here and
// passes what is new on to every peer.
func (h *Host) Publish(s admission.Statements) error {
	_, err := h.learn(s, workload.PeerID{})
	return err
}

// learn takes what is new of s, acts on it and passes it on, not to from.
func (h *Host) learn(s admission.Statements, from workload.PeerID) (admission.Statements, error) {
	fresh, err := h.trust.Merge(s, h.cfg.Now())
	if fresh.IsZero() {
		return fresh, err
	}
	if fresh.Charter != nil {
		h.log.Info("operators of the mesh", "charter", h.trust.Charter().Seq)
	}
	for _, d := range h.trust.List(h.cfg.Now()) {
		h.log.Debug("denied", "peer", d.Peer, "by", d.By, "seq", d.Seq)
	}
	h.enforce()
	for _, m := range h.roster.members() {
		if m.identity.Peer != from {
			h.spawn(func() { h.tellTrust(m.identity.Peer, fresh) })
		}
	}
	select {
	case h.trusted <- struct{}{}:
	default:
	}
	return fresh, err
}

// TrustChanged receives after what is known of operators and denials has changed.
func (h *Host) TrustChanged() <-chan struct{} { return h.trusted }

// enforce disconnects the peers that do not stand any more.
func (h *Host) enforce() {
	now := h.cfg.Now()
	refused := h.roster.reconsider(func(id admission.Identity) (time.Time, error) {
		return h.trust.Until(id), h.trust.Stands(id, now)
	})
	for _, m := range refused {
		h.log.Info("peer is admitted no more", "peer", m.identity.Peer, "name", m.identity.Name, "reason", h.trust.Stands(m.identity, now))
		_ = h.base.Network().ClosePeer(m.id)
	}
}

// hearTrust is the answering side of an exchange.
func (h *Host) hearTrust(_ context.Context, from workload.PeerID, m *trustMsg) (*trustMsg, error) {
	if !m.Statements.IsZero() {
		if _, err := h.learn(m.Statements, from); err != nil {
			h.log.Warn("statements of a peer are not believed", "peer", from, "err", err)
		}
	}
	answer := trustMsg{Digest: h.digest()}
	if answer.Digest != m.Digest {
		answer.Statements = h.trust.All(h.cfg.Now())
	}
	return &answer, nil
}

// tellTrust tells a peer news, learns what it knows, and tells it everything if
// they still differ.
func (h *Host) tellTrust(to workload.PeerID, news admission.Statements) {
	ctx, cancel := context.WithTimeout(h.ctx, trustTimeout)
	defer cancel()
	h.shareTrust(ctx, to, news)
}

func (h *Host) shareTrust(ctx context.Context, to workload.PeerID, news admission.Statements) {
	for range 2 {
		answer, err := CallTyped[trustMsg, trustMsg](ctx, h, to, ProtoTrust, &trustMsg{h.digest(), news}, maxStatements)
		if err != nil {
			h.log.Debug("trust not exchanged", "peer", to, "err", fmt.Sprintf("%.200s", err))
			return
		}
		if _, err := h.learn(answer.Statements, to); err != nil {
			h.log.Warn("statements of a peer are not believed", "peer", to, "err", err)
		}
		if answer.Digest == h.digest() {
			return
		}
		news = h.trust.All(h.cfg.Now())
	}
}

// AskTrust learns what every connected peer knows, as far as they answer within
// trustTimeout: before a change that builds on it.
func (h *Host) AskTrust(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for _, m := range h.roster.members() {
		asked.Go(func() { h.shareTrust(ctx, m.identity.Peer, admission.Statements{}) })
	}
	asked.Wait()
}

func (h *Host) digest() workload.Digest { return h.trust.Digest(h.cfg.Now()) }

// compareTrust asks one peer, each trustEvery, whether it knows the same.
func (h *Host) compareTrust() {
	tick := time.NewTicker(trustEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		if peers := h.roster.members(); len(peers) > 0 {
			h.tellTrust(peers[rand.N(len(peers))].identity.Peer, admission.Statements{})
		}
	}
}
