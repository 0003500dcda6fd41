package worker

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/clock"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// interruptible is a session that notes when it is asked to end.
type interruptible struct {
	runner.Session
	asked []time.Duration
}

func (s *interruptible) Interrupt(grace time.Duration) { s.asked = append(s.asked, grace) }

// deaf is a supervisor that hears of leases and does nothing.
type deaf struct{ Supervisor }

func (deaf) Grant(runner.Instant, time.Duration, ...string) error { return nil }

// A node that did not hear that a workload was stopped hears it with its lease,
// once: the program runs on for no longer.
func TestAStopIsHeardWithTheLease(t *testing.T) {
	w := &Worker{clock: clock.New(nil), terms: map[workload.CellID]uint64{}, cfg: Config{Supervisor: deaf{}, Log: slog.New(slog.DiscardHandler)}}
	stops, goes := &interruptible{}, &interruptible{}
	spec := workload.DefaultSpec()
	var held []*slot
	for i, session := range []*interruptible{stops, goes} {
		key := slotKey{Workload: workload.ID{Random: [16]byte{byte(i)}}, Slot: 1}
		s := &slot{w: w, key: key, ref: wire.SlotRef{Workload: key.Workload, Slot: 1}, ctx: t.Context(), spec: &spec, session: session, log: w.cfg.Log}
		s.bringing, s.stopBringing = context.WithCancel(s.ctx)
		held = append(held, s)
	}
	c := &cellLease{lease: lease.NewWorker(lease.Default())}
	answer := &wire.Renewed{GrantMs: 9000, Stop: []wire.SlotRef{held[0].ref}}
	for range 2 {
		w.granted(c, held, answer, w.now())
	}
	if len(stops.asked) != 1 || stops.asked[0] != lateGrace || len(goes.asked) != 0 {
		t.Errorf("asked to end: the stopped one %v, the other %v", stops.asked, goes.asked)
	}
	if !held[0].stopping() || held[1].stopping() {
		t.Error("the wrong slot begins another task")
	}
	if held[0].bringing.Err() == nil || held[1].bringing.Err() != nil {
		t.Error("the stopped slot still waits for what others bring it, or the other does not")
	}
}
