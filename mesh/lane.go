package mesh

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ProtoLane is a stream that carries small calls to a peer, many at once, with
// their answers in the order in which they are ready. It costs a fraction of a
// stream for each, and what is sent at the same time shares packets.
//
// The side that opens it sends requests and may cancel them:
//
//	0 | number (4 bytes) | milliseconds to wait (4) | length of the protocol (1) | length of the body (4) | protocol | body
//	1 | number (4)
//
// The other answers each request that was not cancelled, and may answer one that was:
//
//	number (4) | status (1) | length (4) | body
//
// Numbers are the opener's; one may be used again when it has been answered.
const ProtoLane = "/perrin/lane/1"

// Bounds of a lane. What does not fit goes on a stream of its own.
const (
	maxLaneBody   = 16 << 10         // bytes of a request
	maxLaneAnswer = 64 << 10         // bytes of an answer
	maxLaneCalls  = 1024             // of a lane at once; over it the answer is wire.Busy
	maxLaneQueue  = 4 << 20          // bytes that wait to be written; over it the lane is given up
	maxLanes      = 4                // that one peer may have open here
	laneLife      = time.Minute      // then another takes its place, on the best connection there is
	lanePause     = time.Minute      // before a peer that takes no lane is asked again
	laneWorth     = 4                // calls to a peer, after which it gets a lane
	laneOpening   = 10 * time.Second // at most
)

const (
	laneRequest = 0
	laneCancel  = 1

	laneRequestHead = 14 // bytes
	laneCancelHead  = 5
	laneAnswerHead  = 9
)

// lanes are what a host knows of its lanes, to and from peers.
type lanes struct {
	mu    sync.Mutex
	out   map[workload.PeerID]*lane
	calls map[workload.PeerID]int // to a peer without one; laneWorth or more: one is being opened, or was refused lately
	in    map[workload.PeerID]int
}

// lane is the side that calls.
type lane struct {
	s    Stream
	out  *outbox
	born time.Time

	mu      sync.Mutex
	next    uint32
	waiting map[uint32]chan laneAnswer
	closed  bool // it takes no more calls
}

type laneAnswer struct {
	status byte
	body   []byte
	err    error // of the lane
}

// errLaneOver is returned for a call that a lane did not take: nothing was sent.
var errLaneOver = errors.New("the lane takes no more calls")

// lane returns the lane to a peer, nil while there is none. A peer that is
// called often gets one.
func (h *Host) lane(to workload.PeerID) *lane {
	if _, ok := h.roster.identity(toLibp2p(to)); !ok {
		return nil
	}
	h.lanes.mu.Lock()
	defer h.lanes.mu.Unlock()
	if l := h.lanes.out[to]; l != nil {
		return l
	}
	if h.lanes.calls[to]++; h.lanes.calls[to] == laneWorth {
		h.spawn(func() { h.openLane(to) })
	}
	return nil
}

// openLane opens a lane and reads what is answered on it until it ends.
func (h *Host) openLane(to workload.PeerID) {
	ctx, cancel := context.WithTimeout(h.ctx, laneOpening)
	s, err := h.agreedStream(ctx, to)
	cancel()
	if err != nil {
		h.log.Debug("no lane", "peer", to.Short(), "err", err)
		time.AfterFunc(lanePause, func() { h.forgetLane(to, nil) })
		return
	}
	l := &lane{s: s, out: newOutbox(s), born: time.Now(), waiting: map[uint32]chan laneAnswer{}}
	h.spawn(l.out.run)
	h.lanes.mu.Lock()
	h.lanes.out[to] = l
	h.lanes.mu.Unlock()
	err = l.read()
	h.forgetLane(to, l)
	l.end(fmt.Errorf("the lane has ended: %w", err))
}

// agreedStream opens the stream of a lane and waits for the peer to agree.
func (h *Host) agreedStream(ctx context.Context, to workload.PeerID) (Stream, error) {
	s, err := h.OpenStream(ctx, to, ProtoLane)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	if p, ok := s.(*peerStream); ok {
		p.read.Do(func() { p.rerr = p.agree() })
		err = p.rerr
	}
	if !stop() || err != nil {
		_ = s.Reset()
		return nil, errors.Join(err, ctx.Err())
	}
	return s, nil
}

// forgetLane lets the next calls to a peer open another lane.
func (h *Host) forgetLane(to workload.PeerID, l *lane) {
	h.lanes.mu.Lock()
	defer h.lanes.mu.Unlock()
	if h.lanes.out[to] == l {
		delete(h.lanes.out, to)
		delete(h.lanes.calls, to)
	}
}

// sweepLanes ends lanes that are old, each when its last call is answered.
func (h *Host) sweepLanes() {
	var old []*lane
	h.lanes.mu.Lock()
	for to, l := range h.lanes.out {
		if time.Since(l.born) > laneLife {
			old = append(old, l)
			delete(h.lanes.out, to)
			delete(h.lanes.calls, to)
		}
	}
	h.lanes.mu.Unlock()
	for _, l := range old {
		l.retire()
	}
}

// retire takes no more calls and ends the lane when none is left.
func (l *lane) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if len(l.waiting) == 0 {
		_ = l.s.Close()
	}
}

// call sends a request and waits for its answer. It returns errLaneOver when the
// request was not sent.
func (l *lane) call(ctx context.Context, proto string, req []byte, maxResp int) ([]byte, error) {
	answer := make(chan laneAnswer, 1)
	l.mu.Lock()
	if l.closed || len(l.waiting) >= maxLaneCalls/2 {
		l.mu.Unlock()
		return nil, errLaneOver
	}
	l.next++
	id := l.next
	l.waiting[id] = answer
	l.mu.Unlock()
	if !l.out.send(func(b []byte) []byte { return appendLaneRequest(b, id, waitOf(ctx), proto, req) }) {
		l.settle(id)
		return nil, errLaneOver
	}
	select {
	case a := <-answer:
		return a.open(maxResp)
	case <-ctx.Done():
		l.settle(id)
		l.out.send(func(b []byte) []byte { return binary.BigEndian.AppendUint32(append(b, laneCancel), id) })
		return nil, ctx.Err()
	}
}

func (a *laneAnswer) open(maxResp int) ([]byte, error) {
	switch {
	case a.err != nil:
		return nil, a.err
	case a.status == statusError:
		return nil, wire.DecodeError(a.body)
	case a.status != statusOK:
		return nil, wire.Errorf(wire.Malformed, "answer of status %d", a.status)
	case len(a.body) > maxResp:
		return nil, wire.Errorf(wire.TooLarge, "answer of %d bytes, at most %d", len(a.body), maxResp)
	}
	return a.body, nil
}

// settle takes a call off the lane and returns where its answer goes, nil when
// nobody waits for one.
func (l *lane) settle(id uint32) chan laneAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.waiting[id]
	delete(l.waiting, id)
	if l.closed && len(l.waiting) == 0 {
		_ = l.s.Close()
	}
	return answer
}

// read hands out answers until the stream ends.
func (l *lane) read() error {
	r := bufio.NewReader(l.s)
	for {
		id, a, err := readLaneAnswer(r)
		if err != nil {
			return err
		}
		if to := l.settle(id); to != nil {
			to <- a
		}
	}
}

// end fails every call that still waits.
func (l *lane) end(err error) {
	l.out.stop()
	_ = l.s.Reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for id, answer := range l.waiting {
		answer <- laneAnswer{err: err}
		delete(l.waiting, id)
	}
}

func appendLaneRequest(b []byte, id uint32, wait time.Duration, proto string, req []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, laneRequest), id)
	b = binary.BigEndian.AppendUint32(b, uint32(wait.Milliseconds()))
	b = binary.BigEndian.AppendUint32(append(b, byte(len(proto))), uint32(len(req)))
	return append(append(b, proto...), req...)
}

func readLaneAnswer(r io.Reader) (id uint32, a laneAnswer, err error) {
	var head [laneAnswerHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, a, err
	}
	n := binary.BigEndian.Uint32(head[5:])
	if n > maxLaneAnswer {
		return 0, a, wire.Errorf(wire.TooLarge, "answer of %d bytes on a lane", n)
	}
	a.status, a.body = head[4], make([]byte, n)
	_, err = io.ReadFull(r, a.body)
	return binary.BigEndian.Uint32(head[:]), a, err
}

// outbox writes what is sent to it, in order; what comes while it writes leaves
// in one piece after it.
type outbox struct {
	s    Stream
	more chan struct{} // something waits, or it is over

	mu   sync.Mutex
	buf  []byte
	over bool
}

func newOutbox(s Stream) *outbox { return &outbox{s: s, more: make(chan struct{}, 1)} }

// send adds a frame, and reports whether it will be written unless the stream
// breaks. It does not wait.
func (o *outbox) send(frame func([]byte) []byte) bool {
	o.mu.Lock()
	full := len(o.buf) > maxLaneQueue
	if !o.over && !full {
		o.buf = frame(o.buf)
	}
	sent := !o.over && !full
	o.mu.Unlock()
	if full {
		_ = o.s.Reset() // the peer does not read
	}
	o.wake()
	return sent
}

func (o *outbox) wake() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

func (o *outbox) stop() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	o.wake()
}

// run writes until stop, or until the stream breaks.
func (o *outbox) run() {
	var spare []byte
	for range o.more {
		o.mu.Lock()
		b, over := o.buf, o.over
		o.buf = spare[:0]
		o.mu.Unlock()
		if over {
			return
		}
		_ = o.s.SetWriteDeadline(time.Now().Add(answerTimeout))
		if _, err := o.s.Write(b); err != nil {
			o.stop()
			_ = o.s.Reset()
		}
		if spare = b; cap(spare) > maxLaneAnswer {
			spare = nil
		}
	}
}
