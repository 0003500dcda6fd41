package lease

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

func peer(n byte) workload.PeerID { return workload.PeerID{31: n} }

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	if got := Default().GiveUp(); got != 10_018 {
		t.Errorf("a node is given up after %d ms, want 10018", got)
	}
	for name, c := range map[string]Config{"ttl": {TTL: 99}, "rho": {TTL: 9000, RhoPPM: -1}, "guard": {TTL: 9000, Guard: 60_001}} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "lease."+name+":") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestGrant(t *testing.T) {
	tests := []struct{ now, start, want int64 }{
		{1000, 1000, 9000}, {3000, 1000, 7000}, {10_000, 1000, 0}, {50_000, 1000, 0}, {1000, 2000, 9000},
	}
	for _, tt := range tests {
		if got := Default().Grant(tt.now, tt.start); got != tt.want {
			t.Errorf("verified at %d, now %d: got %d, want %d", tt.start, tt.now, got, tt.want)
		}
	}
}

func TestWorkerCountsFromWhatItSent(t *testing.T) {
	w := NewWorker(Default())
	if !w.Over(0) {
		t.Error("without a lease, something may run")
	}
	if end, err := w.Award(1500, 1000, 8000, 3); err != nil || end != 9000 {
		t.Errorf("award: %d, %v", end, err)
	}
	if end, lost := w.Renewed(5000, 4000, 9000, 3); end != 13_000 || lost {
		t.Errorf("renewed: %d, %t", end, lost)
	}
	if end, _ := w.Renewed(6000, 2000, 9000, 3); end != 13_000 {
		t.Errorf("an answer that was overtaken moved the deadline to %d", end)
	}
	if end, _ := w.Renewed(6000, 5000, 900_000, 3); end != 14_000 {
		t.Errorf("a grant over TTL moved the deadline to %d", end)
	}
	if w.Over(13_999) || !w.Over(14_000) {
		t.Error("the lease does not end at its deadline")
	}
}

func TestWorkerRefusesLateAndStaleAwards(t *testing.T) {
	w := NewWorker(Default())
	if _, err := w.Award(10_000, 1000, 9000, 1); !errors.Is(err, ErrLate) {
		t.Errorf("an award at the end of its lease: %v", err)
	}
	if _, err := w.Award(2000, 1000, 0, 1); !errors.Is(err, ErrLate) {
		t.Errorf("an award without a lease: %v", err)
	}
	if w.Epoch() != 0 || w.Deadline() != 0 {
		t.Error("a refused award changed something")
	}
	if _, err := w.Award(2000, 1000, 9000, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Award(2000, 1000, 9000, 4); !errors.Is(err, ErrStale) {
		t.Errorf("an award of an epoch that is over: %v", err)
	}
}

func TestWorkerLearnsThatItWasGivenUp(t *testing.T) {
	w := NewWorker(Default())
	if _, lost := w.Renewed(2000, 1000, 9000, 2); lost {
		t.Error("the first lease lost something")
	}
	if end, lost := w.Renewed(4000, 3000, 5000, 3); !lost || end != 8000 {
		t.Errorf("the next epoch: deadline %d, lost %t; the old epoch's lease must not count", end, lost)
	}
	if end, lost := w.Renewed(5000, 4500, 9000, 2); lost || end != 8000 {
		t.Errorf("an answer of the old epoch: deadline %d, lost %t", end, lost)
	}
}

// wantGrant asks the desk for a lease and compares.
func wantGrant(t *testing.T, d *Desk, now int64, node byte, epoch uint64, want int64, wantErr error) {
	t.Helper()
	got, err := d.Grant(now, peer(node), epoch)
	if got != want || !errors.Is(err, wantErr) {
		t.Errorf("grant at %d to node %d in epoch %d: got %d, %v; want %d, %v", now, node, epoch, got, err, want, wantErr)
	}
}

func wantDue(t *testing.T, d *Desk, now int64, want ...Held) {
	t.Helper()
	if got := d.Due(now); !slices.Equal(got, want) {
		t.Errorf("due at %d: got %v, want %v", now, got, want)
	}
}

func TestDeskGivesUpOnlyAfterTheWholeWait(t *testing.T) {
	d := NewDesk(Default())
	wantGrant(t, d, 0, 1, 1, 0, ErrUnverified)
	d.Verified(500)
	wantGrant(t, d, 1000, 1, 1, 8500, nil)
	wantGrant(t, d, 1000, 2, 1, 8500, nil)
	d.Verified(3900)
	d.Verified(100) // an older one, late
	wantGrant(t, d, 4000, 2, 1, 8900, nil)
	wantDue(t, d, 11_017)
	if next, ok := d.Next(); !ok || next != 11_018 {
		t.Errorf("next is %d, %t", next, ok)
	}
	wantDue(t, d, 11_018, Held{peer(1), 1})
	wantGrant(t, d, 11_019, 1, 1, 0, ErrGivenUp)
	wantDue(t, d, 11_019)
	wantDue(t, d, 14_018, Held{peer(1), 1}, Held{peer(2), 1})
	d.Expired(peer(1), 1)
	d.Verified(14_000)
	wantGrant(t, d, 14_500, 1, 1, 0, ErrStale)
	wantGrant(t, d, 14_500, 1, 2, 8500, nil)
	wantDue(t, d, 20_000, Held{peer(2), 1})
}

func TestDeskKeepsAnAwardThatItCouldNotGrant(t *testing.T) {
	d := NewDesk(Default())
	d.Verified(0)
	wantGrant(t, d, 20_000, 1, 1, 0, ErrUnverified)
	wantGrant(t, d, 22_000, 1, 1, 0, ErrUnverified)
	wantDue(t, d, 30_018, Held{peer(1), 1})
}

func TestDeskInheritsAtFullLength(t *testing.T) {
	d := NewDesk(Default())
	d.Inherit(5000, []Held{{peer(2), 7}, {peer(1), 4}})
	wantDue(t, d, 15_017)
	d.Verified(15_000)
	wantGrant(t, d, 15_017, 2, 7, 8983, nil)
	wantGrant(t, d, 15_017, 3, 1, 8983, nil)
	wantGrant(t, d, 15_017, 1, 3, 0, ErrStale)
	wantDue(t, d, 15_018, Held{peer(1), 4})
	if d.Len() != 3 {
		t.Errorf("%d leases, want 3", d.Len())
	}
}

func TestDeskDropAndEnded(t *testing.T) {
	d := NewDesk(Default())
	d.Verified(0)
	for n := byte(1); n <= 3; n++ {
		wantGrant(t, d, 0, n, 1, 9000, nil)
	}
	d.Drop(peer(1))
	d.Ended(100, peer(2), 1)
	d.Ended(100, peer(3), 0)
	wantDue(t, d, 100, Held{peer(2), 1})
	d.Drop(peer(2)) // its EXPIRE is under way
	wantGrant(t, d, 200, 2, 1, 0, ErrGivenUp)
	wantGrant(t, d, 200, 1, 1, 8800, nil)
	d.Expired(peer(2), 1)
	d.Drop(peer(3))
	if next, ok := d.Next(); !ok || next != 10_218 || d.Len() != 1 {
		t.Errorf("next is %d, %t with %d leases", next, ok, d.Len())
	}
	d.Drop(peer(1))
	if _, ok := d.Next(); ok {
		t.Error("something is due on an empty desk")
	}
}

func TestDeskGrantsAgainWhenThereWasNothingToExpire(t *testing.T) {
	d := NewDesk(Default())
	d.Verified(0)
	if _, err := d.Grant(0, peer(1), 3); err != nil {
		t.Fatal(err)
	}
	if due := d.Due(20_000); len(due) != 1 {
		t.Fatalf("due: %+v", due)
	}
	d.Verified(20_000)
	if _, err := d.Grant(20_000, peer(1), 3); !errors.Is(err, ErrGivenUp) {
		t.Errorf("a node that is being given up: %v", err)
	}
	d.Settled(peer(1), 3)
	if ttl, err := d.Grant(20_000, peer(1), 3); err != nil || ttl != 9000 {
		t.Errorf("after it was settled: %d, %v", ttl, err)
	}
}
