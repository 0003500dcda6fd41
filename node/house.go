package node

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// How often a node looks after its house, and lets go of what it alone keeps.
const (
	houseEvery = 5 * time.Second
	keptEvery  = 12 // rounds
)

// keepHouse compacts the ledger on its leader, and restores what a voter pins
// once its ledger has caught up.
func (n *Node) keepHouse(ctx context.Context) error {
	restored, round, unknown := false, 0, strays{}
	for pause(ctx, houseEvery) {
		n.noticeClock()
		n.noticeRoom()
		c := n.currentCell()
		if c != nil && !restored && n.caughtUp(ctx, c) {
			n.restorePins(c)
			restored = true
		}
		if c == nil && !restored {
			n.blobs.AllowEviction() // a plain member holds nothing for the cell
			restored = true
		}
		if c != nil {
			n.dropOffers(c)
			n.book.shelf.retry(n.book.known)
		}
		if l := n.currentLeader(); l != nil {
			n.compact(ctx, l)
		}
		n.blobs.Unpin(uploadOwner(time.Since(n.start), 2))
		if round++; round%keptEvery == 0 {
			if err := n.kept.release(ctx); err != nil {
				n.log.Warn("release what is not needed", "err", err)
			}
			if c != nil && restored {
				n.sweepHolds(c, unknown)
			}
		}
	}
	return nil
}

// caughtUp reports whether this server has applied what the leader had a moment
// ago, so that nothing the cell holds is missing here.
func (n *Node) caughtUp(ctx context.Context, c *cell) bool {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var answer wire.QueryAnswer
	var theirs ledger.Stats
	err := n.CallLeader(ctx, c.id, wire.ProtoQuery, &wire.QueryMsg{Op: leader.QueryStats}, &answer)
	if err != nil || json.Unmarshal(answer.JSON, &theirs) != nil {
		return false
	}
	var ours uint64
	c.Read(func(s *ledger.State) { ours, _ = s.Head() })
	return ours >= theirs.Index
}

// compactRounds bounds the Compacts of one round: 8,192 workloads.
const compactRounds = 8

// compact has the ledger shrink old workloads.
func (n *Node) compact(ctx context.Context, l *leader.Leader) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := l.Compact(ctx, n.cfg.Keep, compactRounds); err != nil {
		n.log.Warn("compaction not committed", "err", err)
	}
}

// holdGrace is how long a voter keeps what it was asked to hold for a workload
// that its ledger does not know: the workload is not committed yet, or never will be.
const holdGrace = 15 * time.Minute

// strays are the holds of unknown workloads, and since when.
type strays map[string]time.Time

// sweep lets go of holds that were unknown for holdGrace.
func (st strays) sweep(now time.Time, owners []string, known func(workload.ID) bool, unpin func(string)) {
	here := make(map[string]bool, len(owners))
	for _, owner := range owners {
		id, err := workload.ParseID(strings.TrimPrefix(owner, holdPrefix))
		if err == nil && known(id) {
			continue
		}
		here[owner] = true
		since, seen := st[owner]
		switch {
		case !seen:
			st[owner] = now
		case now.Sub(since) > holdGrace:
			unpin(owner)
			here[owner] = false
		}
	}
	maps.DeleteFunc(st, func(owner string, _ time.Time) bool { return !here[owner] })
}

func (n *Node) sweepHolds(c *cell, st strays) {
	st.sweep(time.Now(), n.blobs.Owners(holdPrefix), func(id workload.ID) (ok bool) {
		c.Read(func(s *ledger.State) { _, ok = s.Phase(id) })
		return ok
	}, n.blobs.Unpin)
}
