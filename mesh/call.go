package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// A call is one stream. The request is 4 bytes of length and 4 bytes of
// milliseconds that the caller will wait (both big-endian), then the body. The
// answer is a byte of status, 4 bytes of length, then the body, which is a
// wire.Error when the status is statusError.
const (
	requestHead = 8
	answerHead  = 5

	statusOK    = 0
	statusError = 1

	// maxErrorBody bounds an encoded wire.Error in bytes.
	maxErrorBody = 1024
	// DefaultCallTimeout is how long a call may take when its context has no deadline.
	DefaultCallTimeout = 30 * time.Second
	// maxCallTimeout bounds how long a peer may keep a handler busy.
	maxCallTimeout = 10 * time.Minute
	// bodyTimeout is how long a request may take to arrive.
	bodyTimeout = 30 * time.Second
	// inlineBody is the size in bytes up to which a body is copied behind its
	// head, so that both leave in one write.
	inlineBody = 16 << 10
)

// Call sends a request of the protocol and returns the answer of at most
// maxResp bytes. It uses the connection that is open, or makes one. A failure
// that the peer reports, and one on the way, are a *wire.Error: the kind is
// wire.Unavailable when the peer was not reached or did not answer before ctx
// ended. A call may have been carried out even if it returns an error.
func (h *Host) Call(ctx context.Context, to workload.PeerID, proto string, req []byte, maxResp int) ([]byte, error) {
	return h.call(ctx, to, proto, req, maxResp, nil)
}

// CallInto is Call for an answer that fits into room, and uses it. The node's
// own answer to itself may be elsewhere.
func (h *Host) CallInto(ctx context.Context, to workload.PeerID, proto string, req, room []byte) ([]byte, error) {
	return h.call(ctx, to, proto, req, len(room), room)
}

func (h *Host) call(ctx context.Context, to workload.PeerID, proto string, req []byte, maxResp int, room []byte) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCallTimeout)
		defer cancel()
	}
	h.stats.calls.Add(1)
	var resp []byte
	var err error
	if to == h.id {
		h.stats.own.Add(1)
		resp, err = h.callSelf(ctx, proto, req, maxResp)
	} else {
		resp, err = h.callPeer(ctx, to, proto, req, maxResp, room)
	}
	if err == nil {
		return resp, nil
	}
	h.stats.failed.Add(1)
	var we *wire.Error
	if !errors.As(err, &we) {
		err = wire.Errorf(wire.Unavailable, "%s to %s: %s", proto, to.Short(), err)
	}
	return nil, err
}

func (h *Host) callPeer(ctx context.Context, to workload.PeerID, proto string, req []byte, maxResp int, room []byte) ([]byte, error) {
	if len(req) <= maxLaneBody && maxResp <= maxLaneAnswer && room == nil {
		if l := h.lane(to); l != nil {
			resp, err := l.call(ctx, proto, req, maxResp)
			if !errors.Is(err, errLaneOver) {
				return resp, h.laneFailed(ctx, to, err)
			}
		}
	}
	s, err := h.open(ctx, to, proto)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	sent := sendRequest(ctx, s, proto, req)
	resp, err := readAnswer(s, proto, maxResp, room)
	if err != nil {
		_ = s.Reset()
		return nil, h.callFailed(ctx, to, err, sent)
	}
	_ = s.Close()
	return resp, err
}

func (h *Host) laneFailed(ctx context.Context, to workload.PeerID, err error) error {
	if err == nil {
		return nil
	}
	return h.callFailed(ctx, to, err, nil)
}

// callFailed chooses what a failed call reports: an answer of the peer before
// anything that happened on the way. A peer that did not answer in time is probed.
func (h *Host) callFailed(ctx context.Context, to workload.PeerID, err, sent error) error {
	var we *wire.Error
	if errors.As(err, &we) {
		return err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		h.suspect(toLibp2p(to))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, sent)
}

// open opens a stream to an admitted peer without waiting for identify, and
// without waiting for the peer to agree to the protocol.
func (h *Host) open(ctx context.Context, to workload.PeerID, proto string) (network.Stream, error) {
	id := toLibp2p(to)
	if _, ok := h.roster.identity(id); !ok {
		if err := h.reach(ctx, addrInfo(id)); err != nil {
			return nil, err
		}
	}
	ctx = network.WithAllowLimitedConn(network.WithNoDial(ctx, "dialed"), "perrin")
	s, err := h.base.Network().NewStream(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(protocol.ID(proto)); err != nil {
		_ = s.Reset()
		return nil, wire.Errorf(wire.Busy, "%s: %s", proto, err)
	}
	return s, nil
}

// waitOf is how long the caller will wait.
func waitOf(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return DefaultCallTimeout
	}
	return min(max(time.Until(end), time.Millisecond), maxCallTimeout)
}

func sendRequest(ctx context.Context, w io.Writer, proto string, req []byte) error {
	b := preface(proto)
	b = binary.BigEndian.AppendUint32(b, uint32(len(req)))
	b = binary.BigEndian.AppendUint32(b, uint32(waitOf(ctx).Milliseconds()))
	if len(req) <= inlineBody {
		_, err := w.Write(append(b, req...))
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	_, err := w.Write(req)
	return err
}

func readAnswer(r io.Reader, proto string, maxResp int, room []byte) ([]byte, error) {
	if err := readPreface(r, proto); err != nil {
		return nil, err
	}
	return decodeAnswer(r, maxResp, room)
}

// decodeAnswer reads an answer into room, or where that is too short into new memory.
func decodeAnswer(r io.Reader, maxResp int, room []byte) ([]byte, error) {
	var head [answerHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, limit := binary.BigEndian.Uint32(head[1:]), maxResp
	if head[0] != statusOK {
		limit = maxErrorBody
	}
	if uint64(n) > uint64(limit) {
		return nil, wire.Errorf(wire.TooLarge, "answer of %d bytes, at most %d", n, limit)
	}
	if int(n) > len(room) {
		room = make([]byte, n)
	}
	b := room[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	switch head[0] {
	case statusOK:
		return b, nil
	case statusError:
		return nil, wire.DecodeError(b)
	}
	return nil, wire.Errorf(wire.Malformed, "answer of status %d", head[0])
}

// callSelf runs the node's own handler with the same limits and the same
// errors as a peer would see.
func (h *Host) callSelf(ctx context.Context, proto string, req []byte, maxResp int) ([]byte, error) {
	h.mu.RLock()
	sv, ok := h.unary[proto]
	h.mu.RUnlock()
	switch {
	case !ok:
		return nil, notServed(proto)
	case len(req) > sv.maxReq:
		return nil, wire.Errorf(wire.TooLarge, "request of %d bytes, at most %d", len(req), sv.maxReq)
	case !sv.limit.enter(h.id, len(req)):
		return nil, wire.Errorf(wire.Busy, "%s: too many requests at once", proto)
	}
	defer sv.limit.leave(h.id, len(req))
	resp, err := sv.fn(ctx, h.id, req)
	if err != nil {
		return nil, h.outward(err, proto, h.id)
	}
	if len(resp) > maxResp {
		return nil, wire.Errorf(wire.TooLarge, "answer of %d bytes, at most %d", len(resp), maxResp)
	}
	return resp, nil
}

// outward is what the caller learns of a handler's error; the log keeps the
// rest of an internal one.
func (h *Host) outward(err error, proto string, from workload.PeerID) *wire.Error {
	we := wire.FromError(err)
	if we.Kind == wire.Internal {
		h.log.Error("request failed", "protocol", proto, "peer", from, "error", err)
	}
	return we
}

// Server is where protocols are registered: a Host, or what stands in for one.
type Server interface {
	Handle(proto string, maxReq int, fn Handler)
	HandleBulk(proto string, maxReq int, fn Handler, sent func(answer []byte))
	HandleStream(proto string, fn StreamHandler)
}

// HandleTyped is Server.Handle for a protocol whose messages are structs in
// mesh/wire's encoding. A request that does not decode is answered
// wire.Malformed and never reaches fn.
func HandleTyped[Req, Resp any](h Server, proto string, maxReq int, fn func(ctx context.Context, from workload.PeerID, req *Req) (*Resp, error)) {
	h.Handle(proto, maxReq, func(ctx context.Context, from workload.PeerID, raw []byte) ([]byte, error) {
		req := new(Req)
		if err := wire.Unmarshal(raw, req); err != nil {
			return nil, err
		}
		resp, err := fn(ctx, from, req)
		if err != nil {
			return nil, err
		}
		return wire.Marshal(resp)
	})
}

// CallTyped is Host.Call for a protocol whose messages are structs in
// mesh/wire's encoding.
func CallTyped[Req, Resp any](ctx context.Context, h *Host, to workload.PeerID, proto string, req *Req, maxResp int) (*Resp, error) {
	raw, err := wire.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("%s to %s: encode: %w", proto, to.Short(), err)
	}
	raw, err = h.Call(ctx, to, proto, raw, maxResp)
	if err != nil {
		return nil, err
	}
	resp := new(Resp)
	if err := wire.Unmarshal(raw, resp); err != nil {
		return nil, wire.Errorf(wire.Malformed, "answer of %s to %s: %s", to.Short(), proto, err)
	}
	return resp, nil
}
