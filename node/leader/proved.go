package leader

import (
	"errors"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// OpenProved verifies and decodes what a leader signed of a node's evidence. It is pure.
func OpenProved(memo *workload.Memo, s workload.Signed) (workload.Proved, error) {
	var p workload.Proved
	if err := memo.Verify(workload.DomainProved, s); err != nil {
		return p, err
	}
	if err := wire.Unmarshal(s.Payload, &p); err != nil {
		return p, err
	}
	if p.By != s.By {
		return p, errors.New("the proof names another appraiser than its signer")
	}
	return p, nil
}

// signProved signs what this leader found of the winners of an award.
func (l *Leader) signProved(list []*workload.Proved) (out []workload.Signed) {
	for _, p := range list {
		out = append(out, l.cfg.Memo.Sign(workload.DomainProved, wire.MustMarshal(p), l.cfg.Key))
	}
	return out
}
