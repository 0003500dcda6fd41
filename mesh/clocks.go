package mesh

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

const (
	maxApart  = 64        // peers whose clocks are noted as wrong
	keptApart = time.Hour // how long after a peer has gone
)

// quicTransport is libp2p's QUIC with certificates that no clock makes invalid.
// They only carry the peer's key. libp2p's own begin an hour before they are
// made: a machine whose clock is further behind fails in the middle of the
// handshake, and the other side cannot tell why. The hello judges the time, in
// words.
func quicTransport() (libp2p.Option, error) {
	template, err := timeless()
	if err != nil {
		return nil, fmt.Errorf("certificate of the transport: %w", err)
	}
	return libp2p.Transport(libp2pquic.NewTransport, libp2pquic.WithTLSIdentityOption(libp2ptls.WithCertTemplate(template))), nil
}

// timeless is a template for one identity: libp2p writes into it. Its end is
// that of certificates that have none (RFC 5280, section 4.1.2.5).
func timeless() (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{SerialNumber: serial.String()}, // an issuer must have a name
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}, nil
}

// Apart says that the clocks of a peer and of this node differ by more than
// admission.ClockSkew.
type Apart struct {
	Peer workload.PeerID
	By   time.Duration // the peer's is that much ahead; behind when negative
	At   time.Time     // of the comparison, by this node's clock
}

// apart is the peers whose clocks differ, by their last hello. The zero one is
// ready for use by any goroutine.
type apart struct {
	mu    sync.Mutex
	peers map[workload.PeerID]Apart
}

// compareClocks notes what a peer's hello said of its clock, in ms of the Unix
// epoch. It returns err, with both clocks in words where they explain it. What a
// peer says that the mesh did not certify is not noted.
func (h *Host) compareClocks(who workload.PeerID, theirs int64, err error) error {
	now := h.cfg.Now()
	by := time.UnixMilli(theirs).Sub(now)
	if err == nil || errors.Is(err, admission.ErrExpired) {
		h.apart.note(Apart{who, by, now})
	}
	if errors.Is(err, admission.ErrExpired) {
		return explainClocks(err, who, h.id, time.UnixMilli(theirs), now)
	}
	return err
}

// explainClocks adds to an error that has to do with the time by how much two
// clocks differ, if that is much.
func explainClocks(err error, who, self workload.PeerID, theirs, ours time.Time) error {
	by := theirs.Sub(ours)
	if by.Abs() <= admission.ClockSkew {
		return err
	}
	const form = "2006-01-02 15:04:05"
	return fmt.Errorf("the clocks differ by %s: on %s it is %s UTC, on %s %s UTC; set the wrong one right: %w",
		by.Abs().Round(time.Second), who.Short(), theirs.UTC().Format(form), self.Short(), ours.UTC().Format(form), err)
}

func (a *apart) note(n Apart) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n.By.Abs() <= admission.ClockSkew {
		delete(a.peers, n.Peer)
		return
	}
	if a.peers == nil || len(a.peers) >= maxApart {
		a.peers = map[workload.PeerID]Apart{}
	}
	a.peers[n.Peer] = n
}

// Apart returns the connected peers, and those that were within the hour, whose
// clocks differed from this node's at their last hello, in the order of their IDs.
func (h *Host) Apart() []Apart {
	now := h.cfg.Now()
	h.apart.mu.Lock()
	defer h.apart.mu.Unlock()
	var found []Apart
	for _, n := range h.apart.peers {
		if _, ok := h.roster.identity(toLibp2p(n.Peer)); ok || now.Sub(n.At) < keptApart {
			found = append(found, n)
		}
	}
	slices.SortFunc(found, func(a, b Apart) int { return cmp.Compare(a.Peer.String(), b.Peer.String()) })
	return found
}

// ClockWasSet forgets how far other clocks were from this node's.
func (h *Host) ClockWasSet() {
	h.apart.mu.Lock()
	defer h.apart.mu.Unlock()
	clear(h.apart.peers)
}
