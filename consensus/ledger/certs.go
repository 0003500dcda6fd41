package ledger

import (
	"bytes"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Cert is a node's chain of certificates as it showed it, with what Rules.OpenCert
// read from it. The ledger keeps those that a workload's receipt may need: what a
// node signed is worth something to others only as long as they can tell that it
// was a node.
type Cert struct {
	Node workload.PeerID `cbor:"1,keyasint" json:"node"`
	Raw  []byte          `cbor:"2,keyasint" json:"raw" max:"2048"`
	From int64           `cbor:"3,keyasint" json:"from_ms"`
	To   int64           `cbor:"4,keyasint" json:"to_ms"`

	Operator workload.PeerID `cbor:"40,keyasint,omitzero" json:"operator,omitzero"` // zero of an older version
}

// KnowsCert reports whether raw is the last certificate that was recorded of a node.
func (s *State) KnowsCert(node workload.PeerID, raw []byte) bool {
	list := s.certs[node]
	return len(list) > 0 && bytes.Equal(list[len(list)-1].Raw, raw)
}

// Certs returns the certificates of nodes that hold at some time of a span.
func (s *State) Certs(nodes []workload.PeerID, from, to int64) (out []Cert) {
	for _, node := range nodes {
		for _, c := range s.certs[node] {
			if c.From <= to && from <= c.To {
				out = append(out, c)
			}
		}
	}
	return out
}

// certify records certificates that come with a command. One that does not open,
// or for which there is no room, is left out: nothing but receipts needs them.
func (s *State) certify(raws [][]byte) {
	for _, raw := range raws {
		if s.rules.OpenCert == nil || s.certCount >= MaxCerts {
			return
		}
		c, err := s.rules.OpenCert(raw)
		if err != nil || s.KnowsCert(c.Node, raw) {
			continue
		}
		s.known++
		s.certs[c.Node] = append(s.certs[c.Node], c)
		s.certCount++
	}
}

// forgetCerts drops certificates that ended before the oldest workload that is
// kept was accepted, but for each node's last.
func (s *State) forgetCerts(now int64) {
	s.known++
	oldest := now
	for l := range s.all.from(0) {
		oldest = min(oldest, l.Accepted)
		break
	}
	for node, list := range s.certs {
		last := len(list) - 1
		kept := slices.DeleteFunc(slices.Clone(list), func(c Cert) bool { return c.To < oldest && !bytes.Equal(c.Raw, list[last].Raw) })
		if s.members[node] == nil && len(kept) == 1 && kept[0].To < oldest {
			kept = nil
		}
		s.certCount -= len(list) - len(kept)
		if s.certs[node] = kept; len(kept) == 0 {
			delete(s.certs, node)
		}
	}
}
