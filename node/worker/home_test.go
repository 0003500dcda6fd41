package worker

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// slowUnsealer is an owner's node that does not answer.
type slowUnsealer struct{}

// Unseal implements Unsealer.
func (slowUnsealer) Unseal(ctx context.Context, _ workload.Signed, _ wire.SlotRef) (*seal.Key, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// spoken is one end of a connection whose peer says nothing.
type spoken struct{ bytes.Buffer }

// Read implements io.Reader.
func (*spoken) Read([]byte) (int, error) { return 0, errors.New("it says nothing") }

// TestSealedOutputGoesHome has a leader award sealed work that, it says, was
// submitted on itself: what the work prints and publishes is for the node that the
// owner signed, and the leader feeds it no stdin.
func TestSealedOutputGoesHome(t *testing.T) {
	shop := openShop(t)
	synctest.Test(t, func(t *testing.T) {
		b := openBench(t, shop)
		b.w.cfg.Unseal = slowUnsealer{}
		home, leader := fuzzpeers.ID(asHome), fuzzpeers.ID(asLeader)
		id := workload.ID{Cell: homeCell, Random: [16]byte{1}}
		spec := workload.DefaultSpec()
		spec.Seal = &workload.Seal{Body: shop.program, Cell: homeCell, Home: home}
		b.w.mu.Lock()
		b.w.startSlot(&wire.AwardMsg{Cell: homeCell, Workload: id, Home: leader}, &spec, workload.Signed{}, wire.Awarded{Slot: 1})
		s := b.w.slots[slotKey{Workload: id, Slot: 1}]
		b.w.mu.Unlock()
		dir := t.TempDir()
		a := &attempt{s: s, stdout: newSpool(filepath.Join(dir, "out"), 1<<20), stderr: newSpool(filepath.Join(dir, "err"), 1<<20), stdin: newStdinPipe()}
		a.unit = newUnit(a, workload.Task{})
		if _, err := a.stdout.Write([]byte("in the clear")); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.live[0] = a
		s.mu.Unlock()
		for from, sees := range map[workload.PeerID]bool{home: true, leader: false} {
			for _, stdin := range []bool{false, true} {
				var heard spoken
				b.w.HandleAttach(from, &wire.AttachMsg{Workload: id, Stdin: stdin}, &heard)
				if got := bytes.Contains(heard.Bytes(), []byte("in the clear")); got != sees {
					t.Errorf("%s, stdin %t: sees the output: %t, want %t", from.Short(), stdin, got, sees)
				}
			}
			_, err := b.w.HandleLive(t.Context(), from, &wire.LiveMsg{Workload: id})
			if sees != (err == nil) || !sees && !errors.Is(err, wire.Unauthorized) {
				t.Errorf("%s lists what is published: %v", from.Short(), err)
			}
		}
		s.mu.Lock()
		delete(s.live, 0)
		s.mu.Unlock()
		b.end()
	})
}
