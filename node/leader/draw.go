package leader

import (
	"context"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// How long an owner's node is asked for one draw, how many one node is asked for at
// once, and how many a new leader finds that were not asked for.
const (
	drawFor      = 5 * time.Second
	maxDraws     = 16
	maxInherited = 1 << 20
)

// drawQueue holds the results that wait for draws, by the node to ask, so that one that
// says nothing holds up its own alone. Its methods may be called from any goroutine.
type drawQueue struct {
	mu      sync.Mutex
	waiting map[workload.PeerID][]ledger.Undrawn
	asking  map[workload.PeerID]int
}

// add reports whether somebody has to begin to ask its node.
func (q *drawQueue) add(u *ledger.Undrawn) (begin bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting, q.asking = map[workload.PeerID][]ledger.Undrawn{}, map[workload.PeerID]int{}
	}
	q.waiting[u.Home] = append(q.waiting[u.Home], *u)
	if q.asking[u.Home] >= maxDraws {
		return false
	}
	q.asking[u.Home]++
	return true
}

// next returns what to ask a node next. When nothing is left whoever asked is done.
func (q *drawQueue) next(home workload.PeerID) (u ledger.Undrawn, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if list := q.waiting[home]; len(list) > 0 {
		q.waiting[home] = list[1:]
		return list[0], true
	}
	delete(q.waiting, home)
	if q.asking[home]--; q.asking[home] == 0 {
		delete(q.asking, home)
	}
	return u, false
}

// draw asks the node on which a workload was submitted whether a committed result is
// checked, and commits what it says. An owner that says nothing has it checked.
func (l *Leader) draw(u *ledger.Undrawn) {
	if u == nil || !l.drawing.add(u) {
		return
	}
	home := u.Home
	l.group.Go(func() {
		for l.ctx.Err() == nil {
			u, ok := l.drawing.next(home)
			if !ok {
				return
			}
			l.drawNow(&u)
		}
	})
}

func (l *Leader) drawNow(u *ledger.Undrawn) {
	cmd := &ledger.Draw{Workload: u.Workload, Task: u.Task, Result: u.Result}
	d := workload.Draw{Workload: u.Workload, Task: u.Task, Result: u.Result}
	sig, err := l.askDraw(u, &d)
	if err != nil {
		cmd.Note = workload.Cut("the owner's node did not draw: "+err.Error(), 128)
	} else {
		cmd.Sig = sig
	}
	_, err = l.propose(l.ctx, &ledger.Command{Draw: cmd})
	if err != nil && l.ctx.Err() == nil {
		l.cfg.Log.Warn("draw not committed", "workload", u.Workload.Short(), "task", u.Task, "err", err)
	}
}

// askDraw returns a signature that holds.
func (l *Leader) askDraw(u *ledger.Undrawn, d *workload.Draw) ([]byte, error) {
	var owner workload.PeerID
	err := l.withOutline(u.Workload, func(_ *ledger.State, v *ledger.View, _ int) { owner = v.Signed.By })
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, drawFor)
	defer cancel()
	var answer wire.DrawAnswer
	if err := l.cfg.Caller.Call(ctx, u.Home, wire.ProtoDraw, &wire.DrawMsg{Draw: *d}, &answer); err != nil {
		return nil, err
	}
	return answer.Sig, wire.OpenDraw(l.cfg.Memo, owner, d, answer.Sig)
}

// inheritDraws asks for the draws that an earlier leader did not bring to an end.
func (l *Leader) inheritDraws() {
	var waiting []ledger.Undrawn
	l.cfg.Cell.Read(func(s *ledger.State) { waiting = s.Undrawn(maxInherited) })
	for i := range waiting {
		l.draw(&waiting[i])
	}
}
