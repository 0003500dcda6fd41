package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// Frames of an Attach stream: a kind, the length as four bytes, big-endian,
// and the data.
const (
	FrameStdin    byte = 0 // to the worker
	FrameStdinEnd byte = 1
	FrameStdout   byte = 2 // from the worker
	FrameStderr   byte = 3
	FrameEnd      byte = 4 // the attempt is over; nothing follows
	FrameError    byte = 5 // an encoded wire.Error; nothing follows
	FrameOpen     byte = 6 // to the worker, first: an encoded wire.AttachMsg
	MaxFrame           = 64 << 10
)

// WriteFrame writes one frame of at most MaxFrame bytes of data.
func WriteFrame(w io.Writer, kind byte, data []byte) error {
	b := make([]byte, 5, 5+len(data))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(data)))
	_, err := w.Write(append(b, data...))
	return err
}

// ReadFrame reads one frame into buf, which holds MaxFrame bytes.
func ReadFrame(r io.Reader, buf []byte) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame || int(n) > len(buf) {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", n, wire.ErrMalformed)
	}
	_, err = io.ReadFull(r, buf[:n])
	return head[0], buf[:n], err
}

// HandleAttach copies a running attempt's output, from its beginning, to
// stream, and the stream's stdin frames to the program, until the attempt is
// over or, without Follow, all that there is was copied.
func (w *Worker) HandleAttach(from workload.PeerID, m *wire.AttachMsg, stream io.ReadWriter) {
	a := w.find(m.Workload, m.Task)
	out := &frameWriter{w: stream}
	if a == nil {
		out.fail(wire.Errorf(wire.NotFound, "task %d does not run here now", m.Task))
		return
	}
	if err := w.mayRead(from, m.Token, a.s); err != nil {
		out.fail(wire.FromError(err))
		return
	}
	if a.s.spec.Sealed() && from != a.s.home {
		out.fail(wire.Errorf(wire.Unauthorized, "the work is sealed: only the node it was submitted on sees its output"))
		return
	}
	if m.Stdin && from != a.s.home {
		out.fail(wire.Errorf(wire.Unauthorized, "only the node a workload was submitted on feeds its stdin"))
		return
	}
	if m.Stdin {
		if a.stdin == nil || !a.takeStdin(stream) {
			out.fail(wire.Errorf(wire.Exists, "stdin of task %d is not to be had: somebody is attached, or it is not interactive", m.Task))
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() { out.copy(FrameStdout, a.stdout, m.Follow) })
	both.Go(func() { out.copy(FrameStderr, a.stderr, m.Follow) })
	both.Wait()
	out.write(FrameEnd, nil)
}

// mayRead refuses whoever has no right to what a slot's workload prints or publishes.
func (w *Worker) mayRead(from workload.PeerID, token []workload.Signed, s *slot) error {
	judge := tenancy.Judge{Mesh: s.spec.Mesh, Memo: w.cfg.Memo, Revoked: w.cfg.Revoked}
	return judge.May(from, token, rights.Observe, tenancy.Workload{ID: s.key.Workload, Owner: s.owner, Payer: s.payer, Home: s.home}, time.Now())
}

func (w *Worker) find(id workload.ID, task uint32) *attempt {
	w.mu.Lock()
	slots := w.list(func(s *slot) bool { return s.key.Workload == id })
	w.mu.Unlock()
	for _, s := range slots {
		s.mu.Lock()
		a := s.live[task]
		s.mu.Unlock()
		if a != nil {
			return a
		}
	}
	return nil
}

// takeStdin starts feeding the program from the stream's frames.
func (a *attempt) takeStdin(stream io.Reader) bool {
	w := a.stdin.claim()
	if w == nil {
		return false
	}
	go func() {
		defer w.Close()
		buf := make([]byte, MaxFrame)
		for {
			kind, data, err := ReadFrame(stream, buf)
			if err != nil || kind != FrameStdin {
				return
			}
			if _, err := w.Write(data); err != nil {
				return
			}
		}
	}()
	return true
}

// frameWriter writes frames of two streams to one connection.
type frameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (f *frameWriter) write(kind byte, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = WriteFrame(f.w, kind, data)
	}
	return f.err
}

func (f *frameWriter) fail(e *wire.Error) {
	f.write(FrameError, wire.MustMarshal(e)) //nolint:errcheck // the peer is gone, or will read it
}

func (f *frameWriter) copy(kind byte, s *spool, follow bool) {
	buf := make([]byte, MaxFrame)
	var offset int64
	for {
		n, more, err := s.at(buf, offset)
		switch {
		case errors.Is(err, io.EOF) || err != nil || n == 0 && !follow:
			return
		case n == 0:
			<-more
			continue
		}
		offset += int64(n)
		if f.write(kind, buf[:n]) != nil {
			return
		}
	}
}
