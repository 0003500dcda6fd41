package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// laned returns two hosts, of which b has a lane to a.
func laned(t testing.TB) (a, b *Host) {
	t.Helper()
	a, b = pair(t)
	a.Handle("/perrin/echo/1", 1<<20, echo)
	onALane(t, a, b)
	return a, b
}

// onALane calls until b has a lane to a.
func onALane(t testing.TB, a, b *Host) *lane {
	t.Helper()
	var l *lane
	eventually(t, "there is a lane", func() bool {
		if _, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/echo/1", nil, 10); err != nil {
			t.Fatal(err)
		}
		b.lanes.mu.Lock()
		defer b.lanes.mu.Unlock()
		l = b.lanes.out[a.ID()]
		return l != nil
	})
	return l
}

// TestCallsShareALane: each call gets its own answer, whatever its size, and
// errors cross as they do on a stream.
func TestCallsShareALane(t *testing.T) {
	t.Parallel()
	a, b := laned(t)
	a.Handle("/perrin/no/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		return nil, wire.Errorf(wire.Refused, "no")
	})
	a.Handle("/perrin/long/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		return make([]byte, maxLaneAnswer+1), nil
	})
	ctx := within(t, 20*time.Second)
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			req := bytes.Repeat([]byte{byte(i)}, i*i) // some are too large for a lane
			if got, err := b.Call(ctx, a.ID(), "/perrin/echo/1", req, maxLaneAnswer); err != nil || !bytes.Equal(got, req) {
				t.Errorf("%d bytes: %d came back, %v", len(req), len(got), err)
			}
		})
	}
	for proto, want := range map[string]error{"/perrin/no/1": wire.Refused, "/perrin/none/1": wire.NotFound, "/perrin/long/1": wire.TooLarge} {
		if _, err := b.Call(ctx, a.ID(), proto, nil, maxLaneAnswer); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", proto, err, want)
		}
	}
	if _, err := b.Call(ctx, a.ID(), "/perrin/echo/1", make([]byte, 20), 10); !errors.Is(err, wire.TooLarge) {
		t.Errorf("more than the caller wants: %v", err)
	}
	calls.Wait()
	a.mu.RLock()
	sv := a.unary["/perrin/echo/1"]
	a.mu.RUnlock()
	for range maxPeerInFlight {
		sv.limit.enter(b.ID(), 0)
	}
	if _, err := b.Call(ctx, a.ID(), "/perrin/echo/1", nil, 10); !errors.Is(err, wire.Busy) {
		t.Errorf("one more than allowed: got %v, want busy", err)
	}
}

// TestACancelledCallEndsItsHandler, and the lane goes on.
func TestACancelledCallEndsItsHandler(t *testing.T) {
	t.Parallel()
	a, b := laned(t)
	entered, ended := make(chan struct{}), make(chan struct{})
	a.Handle("/perrin/hold/1", 10, func(ctx context.Context, _ workload.PeerID, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(within(t, 10*time.Second))
	failed := make(chan error, 1)
	go func() {
		_, err := b.Call(ctx, a.ID(), "/perrin/hold/1", nil, 10)
		failed <- err
	}()
	<-entered
	cancel()
	if err := <-failed; !errors.Is(err, wire.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	<-ended
	onALane(t, a, b)
}

// TestAnOldLaneIsReplaced: it answers what it has taken, and another follows.
func TestAnOldLaneIsReplaced(t *testing.T) {
	t.Parallel()
	a, b := laned(t)
	entered, release := make(chan struct{}), make(chan struct{})
	a.Handle("/perrin/hold/1", 10, func(context.Context, workload.PeerID, []byte) ([]byte, error) {
		close(entered)
		<-release
		return []byte("done"), nil
	})
	old := onALane(t, a, b)
	answered := make(chan error, 1)
	go func() {
		_, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/hold/1", nil, 10)
		answered <- err
	}()
	<-entered
	old.born = time.Now().Add(-2 * laneLife)
	b.sweepLanes()
	if fresh := onALane(t, a, b); fresh == old {
		t.Error("the old lane serves on")
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("what the old lane had taken: %v", err)
	}
	eventually(t, "the old lane is gone", func() bool {
		a.lanes.mu.Lock()
		defer a.lanes.mu.Unlock()
		return a.lanes.in[b.ID()] == 1
	})
}

// TestABrokenLaneFailsItsCalls, and later ones find another way.
func TestABrokenLaneFailsItsCalls(t *testing.T) {
	t.Parallel()
	a, b := laned(t)
	entered := make(chan struct{})
	a.Handle("/perrin/hold/1", 10, func(ctx context.Context, _ workload.PeerID, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	l := onALane(t, a, b)
	failed := make(chan error, 1)
	go func() {
		_, err := b.Call(within(t, 10*time.Second), a.ID(), "/perrin/hold/1", nil, 10)
		failed <- err
	}()
	<-entered
	_ = l.s.Reset()
	if err := <-failed; !errors.Is(err, wire.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	if onALane(t, a, b) == l {
		t.Error("the broken lane is used")
	}
}

// TestAPeerHasFewLanes: more than maxLanes of one peer are turned away.
func TestAPeerHasFewLanes(t *testing.T) {
	t.Parallel()
	a, b := laned(t)
	for range maxLanes - 1 {
		s, err := b.agreedStream(within(t, 10*time.Second), a.ID())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
	}
	s, err := b.OpenStream(within(t, 10*time.Second), a.ID(), ProtoLane)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := s.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of one lane too many", n)
	}
}

// memStream is one end of a pipe as a Stream.
type memStream struct{ net.Conn }

func (m memStream) CloseWrite() error { return nil }
func (m memStream) Reset() error      { return m.Close() }

// FuzzLane hands the serving side arbitrary bytes. It answers each request of
// the echo with its own bytes, and nothing that was not asked.
func FuzzLane(f *testing.F) {
	frame := func(id uint32, proto string, body string) []byte {
		return appendLaneRequest(nil, id, time.Second, proto, []byte(body))
	}
	cancel := binary.BigEndian.AppendUint32([]byte{laneCancel}, 7)
	f.Add(bytes.Join([][]byte{frame(7, "/perrin/echo/1", "hello"), cancel, frame(8, "/perrin/none/1", "")}, nil))
	f.Add(append(frame(7, "/perrin/echo/1", "a"), frame(7, "/perrin/echo/1", "b")...))
	f.Add(binary.BigEndian.AppendUint32(frame(1, "", ""), 9))
	f.Add([]byte{laneRequest, 0, 0, 0, 1, 0, 0, 0, 1, 255, 255, 255, 255, 255})
	from := idOf(seeded(3))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := &Host{
			roster: newRoster(time.Now), unary: map[string]*service{},
			lanes: lanes{in: map[workload.PeerID]int{}},
		}
		h.roster.add(toLibp2p(from), from)
		h.roster.admit(toLibp2p(from), admission.Identity{Peer: from}, time.Now().Add(time.Hour))
		sv := &service{proto: "/perrin/echo/1", maxReq: maxLaneBody, fn: echo}
		sv.limit.maxBytes = maxBytesHeld
		h.unary[sv.proto] = sv
		near, far := net.Pipe()
		over := make(chan struct{})
		go func() {
			defer close(over)
			h.serveLane(context.Background(), from, memStream{far})
		}()
		go func() {
			_, _ = near.Write(raw)
			near.Close()
		}()
		sent := map[uint32]int{}
		for r := bytes.NewReader(raw); ; {
			fr, err := readLaneFrame(r)
			if err != nil {
				break
			}
			sent[fr.id]++
		}
		for {
			id, a, err := readLaneAnswer(near)
			if err != nil {
				break
			}
			if sent[id]--; sent[id] < 0 {
				t.Errorf("an answer to %d, which was not asked: %v", id, a)
			}
		}
		<-over
		if len(h.lanes.in) > 0 {
			t.Error("the lane is still counted")
		}
	})
}

// FuzzLaneAnswers hands the calling side arbitrary bytes: it keeps no more of an
// answer than the bound.
func FuzzLaneAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, statusOK, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{0, 0, 0, 1, statusError, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, a, err := readLaneAnswer(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if body, err := a.open(100); err == nil && (len(body) > 100 || a.status != statusOK) {
			t.Errorf("took %d bytes of status %d", len(body), a.status)
		}
	})
}
