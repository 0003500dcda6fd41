package mesh

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// laneEnd is the side of a lane that serves.
type laneEnd struct {
	h    *Host
	from workload.PeerID
	out  *outbox

	mu   sync.Mutex
	live map[uint32]context.CancelFunc
}

// laneFrame is what the other side has sent: a request, or a cancellation when
// proto is empty.
type laneFrame struct {
	id    uint32
	wait  time.Duration
	proto string
	body  []byte
}

// serveLane answers the calls of a lane until it ends, and those under way then
// are cancelled.
func (h *Host) serveLane(ctx context.Context, from workload.PeerID, s Stream) {
	if !h.enterLane(from) {
		_ = s.Reset()
		return
	}
	defer h.leaveLane(from)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &laneEnd{h: h, from: from, out: newOutbox(s), live: map[uint32]context.CancelFunc{}}
	h.spawn(e.out.run)
	defer e.out.stop()
	r := bufio.NewReader(s)
	for {
		f, err := readLaneFrame(r)
		if err == nil {
			err = e.take(ctx, f)
		}
		if err != nil {
			_ = s.Reset()
			return
		}
	}
}

func (h *Host) enterLane(from workload.PeerID) bool {
	h.lanes.mu.Lock()
	defer h.lanes.mu.Unlock()
	if h.lanes.in[from] >= maxLanes {
		return false
	}
	h.lanes.in[from]++
	return true
}

func (h *Host) leaveLane(from workload.PeerID) {
	h.lanes.mu.Lock()
	defer h.lanes.mu.Unlock()
	if h.lanes.in[from]--; h.lanes.in[from] == 0 {
		delete(h.lanes.in, from)
	}
}

// take starts a request or cancels one. An error ends the lane.
func (e *laneEnd) take(ctx context.Context, f laneFrame) error {
	if f.proto == "" {
		e.forget(f.id)
		return nil
	}
	if _, ok := e.h.Admitted(e.from); !ok {
		return wire.Errorf(wire.Unauthorized, "the peer is admitted no more")
	}
	e.h.stats.served.Add(1)
	e.h.mu.RLock()
	sv := e.h.unary[f.proto]
	e.h.mu.RUnlock()
	if sv == nil {
		e.refuse(f.id, wire.Errorf(wire.NotFound, "the peer does not serve %s", f.proto))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.wait)
	if err := e.admit(f.id, cancel); err != nil {
		cancel()
		return err
	}
	if len(f.body) > sv.maxReq || e.calls() > maxLaneCalls || !sv.limit.enter(e.from, len(f.body)) {
		e.h.stats.busy.Add(1)
		e.forget(f.id)
		e.refuse(f.id, wire.Errorf(wire.Busy, "%s: too many requests at once", f.proto))
		return nil
	}
	go e.respond(ctx, sv, f)
	return nil
}

// admit notes a request, unless another of its number is under way.
func (e *laneEnd) admit(id uint32, cancel context.CancelFunc) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live[id] != nil {
		return wire.Errorf(wire.Malformed, "two requests of number %d", id)
	}
	e.live[id] = cancel
	return nil
}

func (e *laneEnd) calls() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.live)
}

func (e *laneEnd) forget(id uint32) {
	e.mu.Lock()
	cancel := e.live[id]
	delete(e.live, id)
	e.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// respond runs the handler and sends its answer.
func (e *laneEnd) respond(ctx context.Context, sv *service, f laneFrame) {
	resp, err := sv.fn(ctx, e.from, f.body)
	sv.limit.leave(e.from, len(f.body))
	e.forget(f.id)
	switch {
	case err != nil:
		e.refuse(f.id, e.h.outward(err, sv.proto, e.from))
	case len(resp) > maxLaneAnswer:
		e.refuse(f.id, wire.Errorf(wire.TooLarge, "answer of %d bytes, at most %d", len(resp), maxLaneAnswer))
	default:
		e.answer(f.id, statusOK, resp)
	}
	if err == nil && sv.sent != nil {
		sv.sent(resp)
	}
}

func (e *laneEnd) refuse(id uint32, err *wire.Error) {
	e.answer(id, statusError, wire.MustMarshal(err))
}

func (e *laneEnd) answer(id uint32, status byte, body []byte) {
	e.out.send(func(b []byte) []byte {
		b = append(binary.BigEndian.AppendUint32(b, id), status)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	})
}

func readLaneFrame(r io.Reader) (f laneFrame, err error) {
	var head [laneRequestHead]byte
	if _, err := io.ReadFull(r, head[:laneCancelHead]); err != nil {
		return f, err
	}
	f.id = binary.BigEndian.Uint32(head[1:])
	if head[0] == laneCancel {
		return f, nil
	}
	if _, err := io.ReadFull(r, head[laneCancelHead:]); err != nil {
		return f, err
	}
	name, size := int(head[9]), binary.BigEndian.Uint32(head[10:])
	if head[0] != laneRequest || name == 0 || size > maxLaneBody {
		return f, wire.Errorf(wire.Malformed, "a frame of kind %d, a protocol of %d bytes and a body of %d", head[0], name, size)
	}
	f.wait = time.Duration(binary.BigEndian.Uint32(head[5:])) * time.Millisecond
	if f.wait <= 0 {
		f.wait = DefaultCallTimeout
	}
	f.wait = min(f.wait, maxCallTimeout)
	raw := make([]byte, name+int(size))
	if _, err := io.ReadFull(r, raw); err != nil {
		return f, err
	}
	f.proto, f.body = string(raw[:name]), raw[name:]
	return f, nil
}
