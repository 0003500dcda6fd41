package leader

import (
	"context"
	"errors"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

func (l *Leader) judge() tenancy.Judge {
	return tenancy.Judge{Mesh: l.cfg.Mesh, Memo: l.cfg.Memo, Revoked: l.cfg.Revoked}
}

// tokenCounts refuses a token that was revoked. What else is wrong with it every replica
// says when it applies the workload; what was revoked each hears in its own time, so that
// the leader alone decides.
func (l *Leader) tokenCounts(from workload.PeerID, token []workload.Signed) error {
	if len(token) == 0 || l.cfg.Revoked == nil {
		return nil
	}
	g, err := l.judge().Open(token)
	if err != nil || g.Allows(from, rights.Submit, time.Now().UnixMilli()) != nil {
		return nil
	}
	if err := l.cfg.Revoked(g.Bounds); err != nil {
		return wire.Errorf(wire.Refused, "%s", err)
	}
	return nil
}

// StopRevoked ends what runs under tokens that were revoked, and returns how many
// workloads that was.
func (l *Leader) StopRevoked(ctx context.Context) (n int, err error) {
	var under map[workload.ID][]workload.TokenLink
	l.cfg.Cell.Read(func(s *ledger.State) { under = s.UnderTokens() })
	for id, links := range under {
		if l.cfg.Revoked == nil || l.cfg.Revoked(links) == nil {
			continue
		}
		_, wrong := l.propose(ctx, &ledger.Command{Stop: &ledger.Stop{ID: id, By: links[0].By, Revoked: true}})
		if wrong == nil {
			n++
		}
		err = errors.Join(err, wrong)
		l.halt(id, "the token that it was submitted under was revoked")
	}
	return n, err
}
