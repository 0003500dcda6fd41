package leader

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/workload"
)

// aCell is an empty ledger whose leader may be deposed.
type aCell struct {
	Cell
	state   *ledger.State
	term    uint64
	deposed bool
}

func (c *aCell) ID() workload.CellID        { return workload.CellID{1} }
func (c *aCell) Term() uint64               { return c.term }
func (c *aCell) Read(f func(*ledger.State)) { f(c.state) }

func (c *aCell) VerifyLeader(context.Context) error {
	if c.deposed {
		return wire.Errorf(wire.NotLeader, "somebody else leads")
	}
	return nil
}

// TestADeposedLeaderSaysNothing: what a leader does not know of may be what its
// successor has taken on, so it denies nothing before a majority has confirmed it.
func TestADeposedLeaderSaysNothing(t *testing.T) {
	from := workload.PeerID{9}
	asks := map[string]func(*Leader) error{
		"inspect": func(l *Leader) error {
			_, err := l.HandleQuery(t.Context(), from, &wire.QueryMsg{Op: QueryInspect})
			return err
		},
		"wait": func(l *Leader) error {
			_, err := l.HandleQuery(t.Context(), from, &wire.QueryMsg{Op: QueryWait})
			return err
		},
		"stop": func(l *Leader) error { return l.HandleStop(t.Context(), from, &wire.StopMsg{}) },
		"take": func(l *Leader) error { _, err := l.HandleTake(t.Context(), from, &wire.TakeMsg{}); return err },
		"done": func(l *Leader) error { return l.HandleDone(t.Context(), from, &wire.DoneMsg{}) },
	}
	for name, ask := range asks {
		c := &aCell{state: ledger.New(ledger.Rules{}), term: 3}
		l := New(t.Context(), Config{Cell: c, Log: slog.New(slog.DiscardHandler)})
		if err := ask(l); !errors.Is(err, wire.NotFound) {
			t.Errorf("%s, of a leader: %v", name, err)
		}
		c.term++
		if err := ask(l); !errors.Is(err, wire.NotLeader) {
			t.Errorf("%s, in a later term: %v", name, err)
		}
		c.term, c.deposed = 3, true
		if err := ask(l); !errors.Is(err, wire.NotLeader) {
			t.Errorf("%s, of one that is deposed: %v", name, err)
		}
	}
}

// TestAnEndNeedsNoMajority: a workload that has ended stays ended, so even a
// leader that cannot reach anybody says so; of one that runs it says nothing.
func TestAnEndNeedsNoMajority(t *testing.T) {
	var snap ledger.Snapshot
	if err := wire.UnmarshalBulk(fuzzBase(t), &snap); err != nil {
		t.Fatal(err)
	}
	state, err := ledger.Restore(duelRules(nil), &snap)
	if err != nil {
		t.Fatal(err)
	}
	l := New(t.Context(), Config{Cell: &aCell{state: state, deposed: true}, Caller: &duel{}, Log: slog.New(slog.DiscardHandler)})
	w, err := l.awaited(t.Context(), l.asker(fuzzpeers.ID(asHome), nil), &wire.QueryMsg{Op: QueryWait, ID: duelID(stopped), Since: api.UntilEnd, TimeoutMs: 60_000})
	if err != nil || w.Phase != workload.Stopped {
		t.Errorf("of one that has ended: %+v, %v", w, err)
	}
	if _, err = l.awaited(t.Context(), l.asker(fuzzpeers.ID(asHome), nil), &wire.QueryMsg{Op: QueryWait, ID: duelID(runs), TimeoutMs: 1}); !errors.Is(err, wire.NotLeader) {
		t.Errorf("of one that runs: %v", err)
	}
}
