package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// The protocol versions that this node speaks. They are those of everything on
// the mesh; a protocol's own number changes with its messages.
const (
	newestVersion = 3
	oldestVersion = 3
)

const (
	maxHello = 4096 // bytes of one hello message
	// partingTime is how long a refused peer has to read why.
	partingTime = time.Second
)

// hello is each of the three messages of ProtoHello. Its form never changes,
// so that two versions can tell each other that they do not fit; Body is a
// helloBody of the newest version that both speak. The dialer sends its body,
// the listener answers with its own or with Err, and the dialer ends with Err
// or with nothing.
type hello struct {
	Newest uint16      `cbor:"1,keyasint"`
	Oldest uint16      `cbor:"2,keyasint"`
	Body   []byte      `cbor:"3,keyasint,omitempty" max:"4096"`
	Err    *wire.Error `cbor:"4,keyasint,omitempty"`
}

// helloBody is version 3 of what peers show each other.
type helloBody struct {
	Mesh   workload.MeshID  `cbor:"1,keyasint"`
	Bundle admission.Bundle `cbor:"2,keyasint"`
	Now    int64            `cbor:"3,keyasint"` // ms of the Unix epoch, by the peer's clock
}

func (h *Host) helloMessage() hello {
	b := h.Bundle()
	body := wire.MustMarshal(helloBody{Mesh: b.Mesh(), Bundle: b, Now: h.cfg.Now().UnixMilli()})
	return hello{Newest: newestVersion, Oldest: oldestVersion, Body: body}
}

func refusal(err error) hello {
	return hello{Newest: newestVersion, Oldest: oldestVersion, Err: refusalError(err)}
}

// refusalError says to a peer why it is not admitted.
func refusalError(err error) *wire.Error {
	switch {
	case errors.Is(err, wire.Version), errors.Is(err, wire.ErrMalformed):
		return wire.FromError(err)
	case errors.Is(err, admission.ErrExpired):
		return wire.Errorf(wire.Expired, "%s", err)
	}
	return wire.Errorf(wire.Unauthorized, "%s", err)
}

// judge decides about the peer's hello.
func (h *Host) judge(m hello, who workload.PeerID) (admission.Identity, error) {
	if m.Newest < oldestVersion || m.Oldest > newestVersion {
		return admission.Identity{}, wire.Errorf(wire.Version, "one side speaks protocol versions %d to %d, the other %d to %d; use the same release of perrin on both",
			m.Oldest, m.Newest, oldestVersion, newestVersion)
	}
	var body helloBody
	if err := wire.Unmarshal(m.Body, &body); err != nil {
		return admission.Identity{}, fmt.Errorf("hello of %s: %w", who.Short(), err)
	}
	identity, err := h.trust.Verify(body.Bundle, who, h.cfg.Now())
	if err == nil {
		h.shown.put(who, body.Bundle)
	}
	return identity, h.compareClocks(who, body.Now, err)
}

// sayHello is the dialer's side. It disconnects a peer that either side refuses.
func (h *Host) sayHello(c network.Conn) {
	who, err := fromLibp2p(c.RemotePeer())
	if err != nil {
		_ = c.CloseWithError(network.ConnGated)
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, HelloTimeout)
	defer cancel()
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, "perrin"))
	if err != nil {
		h.record(c, who, fmt.Errorf("hello with %s: %w", who.Short(), err))
		_ = c.CloseWithError(network.ConnGated)
		return
	}
	_ = s.SetDeadline(time.Now().Add(HelloTimeout))
	if err := h.exchange(s, who); err != nil {
		h.leave(s, who, err)
		return
	}
	_ = s.Close()
}

// exchange is the dialer's three messages, the last of them only if it is content.
func (h *Host) exchange(s network.Stream, who workload.PeerID) error {
	begin := time.Now()
	answer, err := askHello(s, h.helloMessage())
	if err != nil {
		return fmt.Errorf("hello with %s: %w: %w", who.Short(), admission.ErrNotAdmitted, err)
	}
	if answer.Err != nil {
		return verdict{error: fmt.Errorf("peer %s refuses this node: %w", who.Short(), answer.Err)}
	}
	h.base.Peerstore().RecordLatency(s.Conn().RemotePeer(), time.Since(begin))
	identity, err := h.judge(answer, who)
	if err != nil {
		return verdict{err, true}
	}
	if err := h.admitted(s.Conn(), identity); err != nil {
		return err
	}
	if err := writeFrame(s, wire.MustMarshal(hello{Newest: newestVersion, Oldest: oldestVersion})); err != nil {
		return fmt.Errorf("hello with %s: %w", who.Short(), err)
	}
	return nil
}

func askHello(s network.Stream, m hello) (hello, error) {
	if err := s.SetProtocol(ProtoHello); err != nil {
		return hello{}, err
	}
	if _, err := s.Write(append(preface(ProtoHello), frame(wire.MustMarshal(m))...)); err != nil {
		return hello{}, err
	}
	if err := readPreface(s, ProtoHello); err != nil {
		return hello{}, err
	}
	return readHello(s)
}

// hearHello is the listener's side.
func (h *Host) hearHello(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(HelloTimeout))
	who, err := fromLibp2p(s.Conn().RemotePeer())
	if err == nil {
		err = h.answerHello(s, who)
	}
	if err != nil {
		h.leave(s, who, err)
		return
	}
	_ = s.Close()
}

func (h *Host) answerHello(s network.Stream, who workload.PeerID) error {
	m, err := readHello(s)
	if err != nil {
		return verdict{fmt.Errorf("hello of %s: %w", who.Short(), err), true}
	}
	identity, err := h.judge(m, who)
	if err != nil {
		return verdict{err, true}
	}
	if err := h.admitted(s.Conn(), identity); err != nil {
		return err
	}
	if err := writeFrame(s, wire.MustMarshal(h.helloMessage())); err != nil {
		return fmt.Errorf("hello of %s: %w", who.Short(), err)
	}
	if last, err := readHello(s); err == nil && last.Err != nil {
		return verdict{error: fmt.Errorf("peer %s refuses this node: %w", who.Short(), last.Err)}
	}
	return nil
}

// verdict is an error that a side decided on, not a connection that broke.
type verdict struct {
	error
	ours bool // this side decided
}

func (v verdict) Unwrap() error { return v.error }

// leave ends a connection whose hello did not succeed. What became of it is
// on record before the peer hears of it, and the peer hears why.
func (h *Host) leave(s network.Stream, who workload.PeerID, err error) {
	h.record(s.Conn(), who, err)
	var decided verdict
	if errors.As(err, &decided) && decided.ours {
		_ = writeFrame(s, wire.MustMarshal(refusal(decided.error)))
		part(s)
	}
	_ = s.Reset()
	_ = s.Conn().CloseWithError(network.ConnGated)
}

func (h *Host) record(c network.Conn, who workload.PeerID, err error) {
	var decided verdict
	if !errors.As(err, &decided) {
		h.roster.fail(c.RemotePeer(), err)
		h.log.Info("hello broke off", "peer", who, "addr", c.RemoteMultiaddr(), "reason", err)
		return
	}
	h.stats.refused.Add(1)
	if !decided.ours {
		h.refusal.Store(&Refusal{Peer: who, At: h.cfg.Now(), Reason: decided.Error()})
	}
	h.roster.refuse(c.RemotePeer(), decided.error)
	if before, say := h.told.again(who, h.cfg.Now()); say {
		h.log.Warn("peer refused, or refuses this node", "peer", who, "addr", c.RemoteMultiaddr(), "reason", decided.error, "unsaid", before)
	}
}

// Refusal is what a peer said that does not take this node. The reason is the
// peer's text: it is at most a message long, and not to be printed as it is.
type Refusal struct {
	Peer   workload.PeerID
	At     time.Time
	Reason string
}

// Refusal returns the last refusal by a peer that has not admitted this node
// since, or nil.
func (h *Host) Refusal() *Refusal { return h.refusal.Load() }

// part gives the other side a moment to read the refusal.
func part(s network.Stream) {
	_ = s.CloseWrite()
	_ = s.SetReadDeadline(time.Now().Add(partingTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(s, maxHello))
}

func readHello(r io.Reader) (hello, error) {
	raw, err := readFrame(r, maxHello)
	if err != nil {
		return hello{}, err
	}
	return decodeHello(raw)
}

func decodeHello(raw []byte) (hello, error) {
	var m hello
	if err := wire.Unmarshal(raw, &m); err != nil {
		return hello{}, err
	}
	return m, nil
}

// frame is b behind its length in four bytes, big-endian.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...)
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(frame(b))
	return err
}

// readFrame reads a frame of at most limit bytes.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, wire.Errorf(wire.TooLarge, "message of %d bytes, at most %d", n, limit)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
