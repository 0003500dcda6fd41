package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// rootKey is the key of the whole mesh.
type rootKey = ed25519.PrivateKey

const (
	// certifyEvery is how often a node looks whether its certificate is to be renewed.
	certifyEvery = time.Minute
	// renewWithin bounds one round of asking for a certificate, and rejoinAddrs at
	// how many addresses an operator is looked for.
	renewWithin = time.Minute
	rejoinAddrs = 16
)

// keepCertified renews this node's certificate when half of its time is over, and
// at once when its operator is removed.
func (n *Node) keepCertified(ctx context.Context) error {
	tick := time.NewTicker(certifyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.host.TrustChanged():
		}
		n.noteTrust()
		n.stopRevoked(ctx)
		if !n.wantsCertificate(time.Now()) {
			continue
		}
		if err := n.renewCertificate(ctx); err != nil {
			n.log.Warn("certificate not renewed", "err", err)
		}
	}
}

func (n *Node) wantsCertificate(now time.Time) bool {
	who, err := n.id.trust.Verify(n.host.Bundle(), n.self, now)
	return err != nil || who.NotAfter.Sub(now) <= admission.NodeTTL/2 || n.id.trust.Leaving(who.Operator)
}

// renewCertificate asks the operators for a certificate in turn, and when none
// of them takes this node for admitted any more, as one that was away.
func (n *Node) renewCertificate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	last := error(admission.ErrNotAdmitted)
	for _, p := range n.operatorsFirst() {
		each, cancel := context.WithTimeout(ctx, renewWithin/4)
		bundle, err := n.host.Renew(each, p)
		cancel()
		if err == nil {
			return admission.WriteFile(n.id.dir, fileBundle, bundle.Encode())
		}
		last = err
	}
	if _, err := n.id.trust.Verify(n.host.Bundle(), n.self, time.Now()); err == nil && len(n.host.Peers()) > 0 {
		return last // the others still take it as it is
	}
	bundle, err := n.rejoin(ctx, n.host.Bundle())
	if err != nil {
		return errors.Join(last, err)
	}
	return n.host.SetBundle(bundle)
}

// rejoin asks at every address that is remembered for new certificates with the
// old ones, as a node does that was away for longer than they last, and saves them.
func (n *Node) rejoin(ctx context.Context, old admission.Bundle) (admission.Bundle, error) {
	n.mu.Lock()
	addrs := n.home.operatorAddrs(n.id.trust.Charter(), n.self)
	n.mu.Unlock()
	last := fmt.Errorf("no address of an operator's node is known: %w", admission.ErrExpired)
	for _, addr := range addrs {
		joined, err := mesh.Rejoin(ctx, n.id.key, old, []string{addr})
		if err == nil {
			return joined.Bundle, admission.WriteFile(n.id.dir, fileBundle, joined.Bundle.Encode())
		}
		last = err
	}
	return admission.Bundle{}, last
}

// freshBundle returns certificates that this node may start with. Those that have
// ended for longer than there is grace are renewed first.
func (n *Node) freshBundle(ctx context.Context) (admission.Bundle, error) {
	_, err := n.id.trust.Verify(n.id.bundle, n.self, time.Now())
	if !errors.Is(err, admission.ErrExpired) {
		return n.id.bundle, nil // whatever else is wrong with it, the host says
	}
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	bundle, again := n.rejoin(ctx, n.id.bundle)
	if again != nil {
		return n.id.bundle, errors.Join(err, again)
	}
	return bundle, nil
}

// noteTrust drops the offers of peers that were put out, so that nobody calls them.
// What runs here for workloads that they submitted goes on: it is their cell's.
func (n *Node) noteTrust() {
	now := time.Now()
	for _, d := range n.id.trust.List(now) {
		n.forgetOffer(d.Peer)
	}
}

// forgetOffer drops the offer of a peer here and at the leader.
func (n *Node) forgetOffer(peer workload.PeerID) {
	n.mu.Lock()
	delete(n.offers, peer)
	n.mu.Unlock()
	if l := n.currentLeader(); l != nil {
		l.Gone(peer)
	}
}
