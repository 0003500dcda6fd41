package leader

import (
	"context"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// How long an owner's node is asked for one draw, how many are asked at once, and
// how many a new leader finds that were not asked for.
const (
	drawFor      = 5 * time.Second
	maxDraws     = 64
	maxInherited = 1 << 20
)

// draw asks the node on which a workload was submitted whether a committed result is
// checked, and commits what it says. An owner that says nothing has it checked.
func (l *Leader) draw(u *ledger.Undrawn) {
	if u == nil {
		return
	}
	l.group.Go(func() {
		select {
		case l.drawing <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		defer func() { <-l.drawing }()
		l.drawNow(u)
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
	if len(waiting) == 0 {
		return
	}
	l.group.Go(func() {
		for i := range waiting {
			l.draw(&waiting[i])
		}
	})
}
