package leader

import (
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// QueryNames asks for the reputation of nodes as the cell's ledger has it: the answer
// is the JSON of a map from node to api.Record, of those about which anything is known.
const QueryNames = "names"

// names answers QueryNames.
func (l *Leader) names() map[workload.PeerID]api.Record {
	out := map[workload.PeerID]api.Record{}
	now := time.Now().UnixMilli()
	l.cfg.Cell.Read(func(s *ledger.State) {
		for _, node := range s.Named() {
			n := s.Name(node, now)
			out[node] = api.Record{
				Good: n.Good, Bad: n.Bad, Issuers: n.Issuers, MeanPPM: n.MeanPPM, RiskPPM: n.RiskPPM, Probation: n.Probation,
			}
		}
	})
	return out
}

// risk is what a node's record adds to the cost of its bids, in ppm of the ask.
func (l *Leader) risk(node workload.PeerID) (ppm int64) {
	l.cfg.Cell.Read(func(s *ledger.State) { ppm = s.Name(node, time.Now().UnixMilli()).RiskPPM })
	return ppm
}
