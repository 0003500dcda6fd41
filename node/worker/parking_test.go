package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// parkable is a session that counts what is done to it.
type parkable struct {
	runner.Session
	dead           bool
	reopened, ends int
}

func (p *parkable) Park() ([]string, error) {
	if p.dead {
		return nil, errors.New("dead")
	}
	return []string{"keep"}, nil
}

func (p *parkable) Reopen(runner.Slot) error { p.reopened++; return nil }
func (p *parkable) Close() error             { p.ends++; return nil }

// garage is a worker's parking and the slots that use it.
type garage struct {
	*Worker
	t    *testing.T
	root string
}

func newGarage(t *testing.T) *garage {
	ctx, stop := context.WithCancel(context.Background())
	w := &Worker{ctx: ctx, stop: stop, parking: map[*parked]struct{}{}, cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	return &garage{w, t, t.TempDir()}
}

// slot is one of an owner's, for a program with some memory.
func (l *garage) slot(owner byte, program string, memory int64) *slot {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Wasm, Blob: workload.Ref{Digest: workload.DigestOf([]byte(program)), Size: 1}}
	spec.Resources.Memory = memory
	dir, err := os.MkdirTemp(l.root, "slot")
	if err != nil {
		l.t.Fatal(err)
	}
	return &slot{w: l.Worker, owner: workload.PeerID{owner}, spec: &spec, dir: dir, log: l.cfg.Log}
}

func (l *garage) take(s *slot) *parked {
	l.t.Helper()
	p, err := l.unpark(s)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// A session goes to a slot of the same owner, program and limits, with its
// folder, in which nothing of the first slot is left, and to nobody else.
func TestParkedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newGarage(t)
		first, session := l.slot(1, "program", 1<<20), &parkable{}
		for _, name := range []string{"keep", "file-of-the-slot"} {
			if err := os.WriteFile(filepath.Join(first.dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if !l.park(first, session) {
			t.Fatal("not parked")
		}
		for name, s := range map[string]*slot{
			"another owner's": l.slot(2, "program", 1<<20), "another program's": l.slot(1, "other", 1<<20), "a larger one": l.slot(1, "program", 2<<20),
		} {
			if p := l.take(s); p != nil {
				t.Errorf("%s slot got the session", name)
			}
		}
		next := l.slot(1, "program", 1<<20)
		if p := l.take(next); p == nil || p.session != session || next.dir != first.dir {
			t.Fatalf("got %+v in %s", p, next.dir)
		}
		if entries, err := os.ReadDir(next.dir); err != nil || len(entries) != 1 || entries[0].Name() != "keep" {
			t.Errorf("the folder holds %v, %v", entries, err)
		}
		if l.take(l.slot(1, "program", 1<<20)) != nil {
			t.Error("two slots got one session")
		}
		if l.park(next, &parkable{dead: true}) || l.park(next, struct{ runner.Session }{}) {
			t.Error("a session was parked that cannot be")
		}
		<-time.After(2 * parkFor) // nothing of it is left to expire
		if session.ends != 0 || len(l.parking) != 0 {
			t.Errorf("ended %d times, %d parked", session.ends, len(l.parking))
		}
	})
}

// What waits is bounded, ends after a while with its folder, and ends with the
// worker.
func TestParkingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newGarage(t)
		var sessions []*parkable
		for range maxParked {
			s := &parkable{}
			sessions = append(sessions, s)
			if !l.park(l.slot(1, "program", 1<<20), s) {
				t.Fatal("not parked")
			}
		}
		if l.park(l.slot(1, "program", 1<<20), &parkable{}) {
			t.Errorf("more than %d are parked", maxParked)
		}
		<-time.After(parkFor + time.Second)
		synctest.Wait()
		late := &parkable{}
		l.park(l.slot(1, "program", 1<<20), late)
		l.Close()
		for _, s := range append(sessions, late) {
			if s.ends != 1 {
				t.Errorf("ended %d times", s.ends)
			}
		}
		if l.park(l.slot(1, "program", 1<<20), &parkable{}) {
			t.Error("parked after Close")
		}
	})
}
