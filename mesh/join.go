package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"golang.org/x/time/rate"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ProtoCertificate gives an admitted node a new certificate.
const ProtoCertificate = "/perrin/certificate/1"

const (
	// joinTimeout bounds one attempt to join at one address.
	joinTimeout = 10 * time.Second
	// joinRate and joinBurst bound the join requests that a node looks at in a
	// second: each may cost a write to disk.
	joinRate  = 5
	joinBurst = 20
	// A machine that is told to come back does so after joinPause and up to as
	// much again, for joinPatience.
	joinPause    = 500 * time.Millisecond
	joinPatience = 30 * time.Second
)

// ServeIssuer answers machines that want to join and members whose
// certificate ends. peers, called for each newcomer, are addresses of members
// that it may connect to.
func (h *Host) ServeIssuer(issuer *admission.Issuer, peers func() []string) {
	d := &door{h: h, issuer: issuer, peers: peers, rate: rate.NewLimiter(joinRate, joinBurst)}
	h.base.SetStreamHandler(ProtoJoin, d.serve)
	HandleTyped(h, ProtoCertificate, 16, d.renew)
}

// door is where newcomers knock.
type door struct {
	h      *Host
	issuer *admission.Issuer
	peers  func() []string
	rate   *rate.Limiter

	succession sync.Mutex
}

func (d *door) serve(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(HelloTimeout))
	answer := d.answer(s)
	answer.Now = d.h.cfg.Now().UnixMilli()
	err := writeFrame(s, wire.MustMarshal(answer))
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.CloseWrite()
	part(s)
	_ = s.Close()
}

func (d *door) answer(s network.Stream) admission.JoinAnswer {
	from, err := fromLibp2p(s.Conn().RemotePeer())
	if err != nil || !d.rate.Allow() {
		return admission.Refuse(admission.ErrBusy)
	}
	req, err := readJoin(s)
	if err != nil {
		return admission.Refuse(err)
	}
	b, err := d.admit(from, req)
	if err != nil {
		d.h.log.Warn("join refused", "peer", from, "name", fmt.Sprintf("%.80q", req.Name), "reason", err)
		return admission.Refuse(err)
	}
	d.h.stats.joined.Add(1)
	d.h.log.Info("node certified", "peer", from, "name", req.Name)
	peers := d.peers()
	return admission.JoinAnswer{Bundle: &b, Peers: peers[:min(len(peers), admission.MaxJoinPeers)]}
}

// admit has the issuer judge a request. The key in whose place another one is let in
// is denied here, on disk, before the certificates go out.
func (d *door) admit(from workload.PeerID, req admission.JoinRequest) (admission.Bundle, error) {
	now := d.h.cfg.Now()
	if req.Succession == nil {
		return d.issuer.Admit(from, req, now)
	}
	d.succession.Lock() // two asking for one key's place are judged one after the other
	defer d.succession.Unlock()
	b, out, err := d.issuer.Succeed(from, req, now)
	if err != nil || out == nil {
		return b, err
	}
	if err := d.h.Publish(admission.Statements{Denials: []admission.SignedDenial{*out}}); err != nil {
		return b, err
	}
	d.h.log.Info("a node has a new key", "old", req.Succession.By, "new", from)
	return b, d.h.trust.Denied(from, now)
}

func readJoin(r io.Reader) (admission.JoinRequest, error) {
	var req admission.JoinRequest
	raw, err := readFrame(r, admission.MaxJoinRequest)
	if err == nil {
		err = wire.Unmarshal(raw, &req)
	}
	if err != nil {
		return req, fmt.Errorf("join request: %w: %w", admission.ErrForged, err)
	}
	return req, nil
}

// renewRequest is empty: the peer is who the connection proves, and its name
// and mesh are those of its present certificate.
type renewRequest struct{}

type renewAnswer struct {
	Bundle admission.Bundle `cbor:"1,keyasint"`
}

func (d *door) renew(_ context.Context, from workload.PeerID, _ *renewRequest) (*renewAnswer, error) {
	id, ok := d.h.Admitted(from)
	if !ok {
		return nil, wire.Errorf(wire.Unauthorized, "not admitted")
	}
	b, err := d.issuer.Renew(id, d.h.cfg.Now())
	if err != nil {
		return nil, wire.Errorf(wire.Unauthorized, "%s", err)
	}
	return &renewAnswer{Bundle: b}, nil
}

// Renew asks an issuer, which may be this node, for a new certificate, and
// takes it into use. The caller saves the bundle.
func (h *Host) Renew(ctx context.Context, issuer workload.PeerID) (admission.Bundle, error) {
	a, err := CallTyped[renewRequest, renewAnswer](ctx, h, issuer, ProtoCertificate, &renewRequest{}, admission.MaxBundle+64)
	if err != nil {
		return admission.Bundle{}, fmt.Errorf("renew at %s: %w", issuer.Short(), err)
	}
	return a.Bundle, h.SetBundle(a.Bundle)
}

// Joined is what a machine has after it was let in.
type Joined struct {
	Bundle admission.Bundle
	Peers  []string // addresses of members, the issuer's first
	// Apart is how far the issuer's clock was ahead of this machine's, if that
	// is more than admission.ClockSkew; else 0.
	Apart time.Duration
}

// Join asks the issuer of an invitation to admit key under a name. It checks
// the invitation first, tries each of its addresses and, when none answers and
// lan is set, the local network. The bundle it returns has been verified. An
// error of package admission has a hint (admission.Hint). opts are appended to
// libp2p's own, as Config.Options are.
func Join(ctx context.Context, key ed25519.PrivateKey, v admission.Invitation, name string, lan bool, opts ...Option) (Joined, error) {
	if err := v.Check(workload.MeshID{}, time.Now()); err != nil {
		return Joined{}, err
	}
	req, err := v.Request(keyID(key), name)
	if err != nil {
		return Joined{}, err
	}
	return knock(ctx, key, v.Issuer, v.Addrs, req, lan, opts)
}

// Rejoin asks an issuer for new certificates with a bundle that may have
// ended, at addresses that end in /p2p/ID.
func Rejoin(ctx context.Context, key ed25519.PrivateKey, old admission.Bundle, addrs []string) (Joined, error) {
	return again(ctx, key, admission.Renewal(old), addrs)
}

// Succeed asks an issuer to take key in the place of a node's old one, which has the
// bundle, at addresses that end in /p2p/ID.
func Succeed(ctx context.Context, key, old ed25519.PrivateKey, bundle admission.Bundle, addrs []string) (Joined, error) {
	return again(ctx, key, admission.Successor(old, bundle, keyID(key)), addrs)
}

// again asks issuers in turn on behalf of a node that is known to the mesh.
func again(ctx context.Context, key ed25519.PrivateKey, req admission.JoinRequest, addrs []string) (Joined, error) {
	infos, err := addrInfos(addrs)
	if err != nil {
		return Joined{}, err
	}
	last := errors.New("no address given")
	for _, pi := range infos {
		id, err := fromLibp2p(pi.ID)
		if err != nil {
			return Joined{}, err
		}
		transports := make([]string, 0, len(pi.Addrs))
		for _, a := range pi.Addrs {
			transports = append(transports, a.String())
		}
		j, err := knock(ctx, key, id, transports, req, false, nil)
		if err == nil {
			return j, nil
		}
		last = err
	}
	return Joined{}, last
}

func keyID(key ed25519.PrivateKey) workload.PeerID {
	return workload.PeerIDOf(key.Public().(ed25519.PublicKey))
}

// knock sends the request from a host that lives for this only and listens nowhere.
func knock(ctx context.Context, key ed25519.PrivateKey, issuer workload.PeerID, addrs []string, req admission.JoinRequest, lan bool, opts []Option) (Joined, error) {
	base, err := guest(key, opts...)
	if err != nil {
		return Joined{}, err
	}
	defer base.Close()
	list, err := multiaddrs(addrs)
	if err != nil {
		return Joined{}, err
	}
	pi := peer.AddrInfo{ID: toLibp2p(issuer), Addrs: list}
	answer, err := askInTurn(ctx, base, pi, req, lan)
	if err != nil {
		return Joined{}, err
	}
	if _, err := answer.Bundle.Verify(req.Mesh, keyID(key), time.Now()); err != nil {
		err = fmt.Errorf("join at %s: the certificate it gave: %w", issuer.Short(), err)
		return Joined{}, explainJoin(err, base, pi.ID, answer)
	}
	at := base.Network().ConnsToPeer(pi.ID)
	peers := answer.Peers
	if len(at) > 0 {
		peers = append([]string{at[0].RemoteMultiaddr().String() + "/p2p/" + issuer.String()}, peers...)
	}
	joined := Joined{Bundle: *answer.Bundle, Peers: peers}
	if by := time.Until(time.UnixMilli(answer.Now)); answer.Now != 0 && by.Abs() > admission.ClockSkew {
		joined.Apart = by.Round(time.Second)
	}
	return joined, nil
}

// explainJoin says so where an issuer's answer means that one of two clocks is wrong.
func explainJoin(err error, base host.Host, issuer peer.ID, answer admission.JoinAnswer) error {
	who, whoErr := fromLibp2p(issuer)
	self, selfErr := fromLibp2p(base.ID())
	late := errors.Is(err, admission.ErrExpired) || errors.Is(err, admission.ErrTokenExpired)
	if !late || whoErr != nil || selfErr != nil || answer.Now == 0 {
		return err
	}
	return explainClocks(err, who, self, time.UnixMilli(answer.Now), time.Now())
}

// askInTurn asks the issuer, and again for a while when it has others to see to.
func askInTurn(ctx context.Context, base host.Host, pi peer.AddrInfo, req admission.JoinRequest, lan bool) (admission.JoinAnswer, error) {
	for end := time.Now().Add(joinPatience); ; {
		if err := reachIssuer(ctx, base, pi, req.Mesh, lan); err != nil {
			return admission.JoinAnswer{}, err
		}
		answer, err := ask(ctx, base, pi.ID, req)
		if err != nil {
			err = fmt.Errorf("join at %s: %w", pi.ID.ShortString(), err)
		} else {
			err = explainJoin(answer.Err(), base, pi.ID, answer)
		}
		if !errors.Is(err, admission.ErrBusy) || time.Now().After(end) {
			return answer, err
		}
		select {
		case <-time.After(joinPause + rand.N(joinPause)):
		case <-ctx.Done():
			return answer, errors.Join(err, ctx.Err())
		}
	}
}

func guest(key ed25519.PrivateKey, opts ...Option) (host.Host, error) {
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("join: key: %w", err)
	}
	quic, err := quicTransport()
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	base, err := libp2p.New(append([]Option{
		libp2p.Identity(sk), libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.UserAgent("perrin"),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		quic, libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableRelay(),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	base.Network().SetStreamHandler(func(s network.Stream) { _ = s.ResetWithError(network.StreamGated) })
	return base, nil
}

// reachIssuer connects to the issuer where the invitation says, or, with lan,
// where it announces itself on the local network.
func reachIssuer(ctx context.Context, base host.Host, pi peer.AddrInfo, mesh workload.MeshID, lan bool) error {
	dial, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	base.Peerstore().AddAddrs(pi.ID, pi.Addrs, addrTTL)
	_, err := base.Network().DialPeer(dial, pi.ID)
	if err == nil {
		return nil
	}
	if lan && searchLAN(ctx, base, pi.ID, mesh) {
		return nil
	}
	issuer, _ := fromLibp2p(pi.ID)
	return wire.Errorf(wire.Unavailable, "node %s, which was to let this one in, is not reached: %s", issuer.Short(), err)
}

// searchLAN reports whether the issuer was found on the local network and connected to.
func searchLAN(ctx context.Context, base host.Host, issuer peer.ID, mesh workload.MeshID) bool {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := browse(ctx, mesh, func(pi peer.AddrInfo) bool {
		if pi.ID != issuer {
			return false
		}
		base.Peerstore().AddAddrs(pi.ID, pi.Addrs, addrTTL)
		_, err := base.Network().DialPeer(network.WithForceDirectDial(ctx, "found"), pi.ID)
		return err == nil
	})
	return err == nil
}

func ask(ctx context.Context, base host.Host, id peer.ID, req admission.JoinRequest) (admission.JoinAnswer, error) {
	var answer admission.JoinAnswer
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := base.Network().NewStream(network.WithNoDial(ctx, "dialed"), id)
	if err != nil {
		return answer, joinFailed(err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := s.Write(append(preface(ProtoJoin), frame(wire.MustMarshal(req))...)); err != nil {
		return answer, joinFailed(err)
	}
	if err := readPreface(s, ProtoJoin); err != nil {
		return answer, joinFailed(err)
	}
	raw, err := readFrame(s, admission.MaxJoinAnswer)
	if err != nil {
		return answer, joinFailed(err)
	}
	return answer, wire.Unmarshal(raw, &answer)
}

// noRoom is how libp2p's QUIC listener closes a connection when as many as it
// keeps wait to be accepted ("queue full"). Nothing was heard on it.
var noRoom = &network.ConnError{Remote: true, ErrorCode: 1}

// joinFailed keeps what the peer said and calls the rest unavailable.
func joinFailed(err error) error {
	var we *wire.Error
	switch {
	case errors.As(err, &we):
		return err
	case errors.Is(err, noRoom):
		return fmt.Errorf("%w: %s", admission.ErrBusy, err)
	}
	return wire.Errorf(wire.Unavailable, "%s", err)
}
