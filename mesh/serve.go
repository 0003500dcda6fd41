package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Handler answers one request of an admitted peer. It must not keep req after
// it returns. ctx ends when the caller gives up or its time is over. The error
// crosses as wire.FromError makes it.
type Handler func(ctx context.Context, from workload.PeerID, req []byte) ([]byte, error)

// Limits of one protocol's requests. Over them the answer is wire.Busy.
const (
	maxInFlight     = 1024     // of all peers
	maxPeerInFlight = 256      // of one peer
	maxBytesHeld    = 64 << 20 // of requests in memory, or one request if that is larger
)

// service is a unary protocol.
type service struct {
	proto  string
	maxReq int
	fn     Handler
	sent   func(answer []byte) // nil when nobody wants it back
	limit  limiter
}

// Handle serves a protocol of requests of at most maxReq bytes. fn runs in a
// goroutine of its own for each request, and also for the node's calls to
// itself. A later Handle of the same protocol takes its place.
func (h *Host) Handle(proto string, maxReq int, fn Handler) { h.HandleBulk(proto, maxReq, fn, nil) }

// HandleBulk is Handle for large answers: sent gets back each that has left, or
// failed to leave, for another use of its memory. An answer to the node itself
// is not given back.
func (h *Host) HandleBulk(proto string, maxReq int, fn Handler, sent func(answer []byte)) {
	checkProto(proto)
	sv := &service{proto: proto, maxReq: maxReq, fn: fn, sent: sent}
	sv.limit.maxBytes = max(maxBytesHeld, maxReq)
	h.mu.Lock()
	h.unary[proto] = sv
	h.mu.Unlock()
	h.base.Mux().AddHandler(protocol.ID(proto), func(_ protocol.ID, rwc io.ReadWriteCloser) error {
		h.serve(sv, rwc.(network.Stream))
		return nil
	})
}

// checkProto panics on a name that does not fit the preface: protocol names
// are constants of this program.
func checkProto(proto string) {
	if len(proto) < 2 || len(proto) > maxProto || proto[0] != '/' {
		panic("mesh: protocol name " + proto + ": want / and at most 99 bytes more")
	}
}

// serve answers one request.
func (h *Host) serve(sv *service, s network.Stream) {
	from, err := fromLibp2p(s.Conn().RemotePeer())
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Now().Add(bodyTimeout))
	n, wait, err := readRequestHead(s)
	if err != nil {
		_ = s.Reset()
		return
	}
	h.stats.served.Add(1)
	if n > sv.maxReq {
		answer(s, statusError, wire.MustMarshal(wire.Errorf(wire.TooLarge, "request of %d bytes, at most %d", n, sv.maxReq)))
		return
	}
	if !sv.limit.enter(from, n) {
		h.stats.busy.Add(1)
		_, _ = io.CopyN(io.Discard, s, int64(n)) // the caller may be blocked in writing it
		answer(s, statusError, wire.MustMarshal(wire.Errorf(wire.Busy, "%s: too many requests at once", sv.proto)))
		return
	}
	req := make([]byte, n)
	if _, err := io.ReadFull(s, req); err != nil {
		sv.limit.leave(from, n)
		_ = s.Reset()
		return
	}
	h.respond(sv, s, from, req, wait)
}

func readRequestHead(r io.Reader) (size int, wait time.Duration, err error) {
	var head [requestHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	wait = time.Duration(binary.BigEndian.Uint32(head[4:])) * time.Millisecond
	if wait <= 0 {
		wait = DefaultCallTimeout
	}
	return int(binary.BigEndian.Uint32(head[:4])), min(wait, maxCallTimeout), nil
}

// answerTimeout is how long after the handler's time the answer may take to
// leave, and how long the caller may take to close the stream behind it.
const answerTimeout = 10 * time.Second

// respond runs the handler, gives its place back and writes its answer. The
// context it gets ends when the caller resets the stream. It returns when the
// caller has closed the stream.
func (h *Host) respond(sv *service, s network.Stream, from workload.PeerID, req []byte, wait time.Duration) {
	ctx, cancel := context.WithTimeout(h.ctx, wait)
	defer cancel()
	_ = s.SetDeadline(time.Now().Add(wait + answerTimeout))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			cancel() // a caller who is satisfied closes; one who gives up resets
		}
	}()
	resp, err := sv.fn(ctx, from, req)
	sv.limit.leave(from, len(req))
	status := byte(statusOK)
	if err != nil {
		status, resp = statusError, wire.MustMarshal(h.outward(err, sv.proto, from))
	}
	err = writeAnswer(s, status, resp)
	if sv.sent != nil {
		sv.sent(resp)
	}
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.CloseWrite()
	_ = s.SetReadDeadline(time.Now().Add(answerTimeout))
	<-gone
	_ = s.Close()
}

// answer writes the answer and ends the stream.
func answer(s network.Stream, status byte, body []byte) {
	if err := writeAnswer(s, status, body); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func writeAnswer(w io.Writer, status byte, body []byte) error {
	head := make([]byte, 0, answerHead+min(len(body), inlineBody))
	head = append(head, status)
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	if len(body) <= inlineBody {
		_, err := w.Write(append(head, body...))
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// limiter counts what is in flight of one protocol.
type limiter struct {
	maxBytes int

	mu    sync.Mutex
	total int
	bytes int
	peers map[workload.PeerID]int
}

// enter takes a place for a request of n bytes, or reports that there is none.
func (l *limiter) enter(from workload.PeerID, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxInFlight || l.peers[from] >= maxPeerInFlight || l.bytes+n > l.maxBytes {
		return false
	}
	if l.peers == nil {
		l.peers = map[workload.PeerID]int{}
	}
	l.total++
	l.bytes += n
	l.peers[from]++
	return true
}

func (l *limiter) leave(from workload.PeerID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	l.bytes -= n
	if l.peers[from]--; l.peers[from] == 0 {
		delete(l.peers, from)
	}
}
