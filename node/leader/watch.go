package leader

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/workload"
)

// changed wakes everybody who waits for a workload.
func (l *Leader) changed(id workload.ID, index uint64) {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.versions[id] = max(l.versions[id], index)
	if w := l.watchers[id]; w != nil {
		close(w)
		delete(l.watchers, id)
	}
}

// forget drops what is remembered of workloads that are gone.
func (l *Leader) forget(ids []workload.ID) {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	for _, id := range ids {
		delete(l.versions, id)
		if w := l.watchers[id]; w != nil {
			close(w)
			delete(l.watchers, id)
		}
	}
}

// Compact has the ledger shrink old workloads while rule names any, for at most
// rounds times ledger.MaxCompact of them. It does nothing for rule.AtOnce after
// the term's first call, and after a clock was set forward: what ended a moment
// ago would seem to have ended long ago.
func (l *Leader) Compact(ctx context.Context, rule *ledger.Compact, rounds int) error {
	if l.steady.note(l.cellNow(), l.now()) < rule.AtOnce {
		return nil
	}
	for range rounds {
		due := 0
		l.cfg.Cell.Read(func(s *ledger.State) { due = s.Compactable(time.Now().UnixMilli(), rule) })
		if due == 0 {
			return nil
		}
		if _, err := l.propose(ctx, &ledger.Command{Compact: rule}); err != nil {
			return err
		}
	}
	return nil
}

// begin notes the log index at which the term begins.
func (l *Leader) begin(index uint64, _ workload.Digest) {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.first = index
}

// version is the log index of a workload's last change, as far as this term knows.
func (l *Leader) version(id workload.ID) uint64 {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	return max(l.versions[id], l.first)
}

// watch returns a channel that is closed at the workload's next change.
func (l *Leader) watch(id workload.ID) <-chan struct{} {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	w := l.watchers[id]
	if w == nil {
		w = make(chan struct{})
		l.watchers[id] = w
	}
	return w
}

// maxWait bounds how long a query may wait for a change.
const maxWait = 60 * time.Second

// await returns when the workload has changed since a version, when it has
// ended, or after timeout.
func (l *Leader) await(ctx context.Context, id workload.ID, since uint64, timeout time.Duration) {
	timer := time.NewTimer(min(max(timeout, 0), maxWait))
	defer timer.Stop()
	for {
		change := l.watch(id)
		if phase, _ := l.phase(id); phase.Ended() || l.version(id) > since {
			return
		}
		select {
		case <-change:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-l.ctx.Done():
			return
		}
	}
}
