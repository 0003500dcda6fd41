package mesh

import (
	"sync"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// maxShown bounds the certificates that are remembered after their nodes have
// gone; those of nodes that come again are shown again.
const maxShown = 8192

// shown is what admitted peers showed last, also of those that are gone. The
// zero one is ready for use by any goroutine.
type shown struct {
	mu  sync.Mutex
	raw map[workload.PeerID][]byte
}

func (s *shown) put(who workload.PeerID, b admission.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw == nil || len(s.raw) >= maxShown {
		s.raw = map[workload.PeerID][]byte{}
	}
	s.raw[who] = b.Encode()
}

// Shown returns the encoded certificates that an admitted peer showed last, or
// the node's own; nil when none are known. They may have ended since.
func (h *Host) Shown(who workload.PeerID) []byte {
	if who == h.id {
		return h.Bundle().Encode()
	}
	h.shown.mu.Lock()
	defer h.shown.mu.Unlock()
	return h.shown.raw[who]
}
