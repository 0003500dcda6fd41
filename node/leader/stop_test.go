package leader

import (
	"crypto/ed25519"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// TestAStopIsOrderedByTheOwnersKey accepts the owner's signature over the
// workload's ID, and nothing that resembles it.
func TestAStopIsOrderedByTheOwnersKey(t *testing.T) {
	key := func(seed byte) (workload.PeerID, ed25519.PrivateKey) {
		k := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
		return workload.PeerIDOf(k.Public().(ed25519.PublicKey)), k
	}
	owner, own := key(1)
	_, other := key(2)
	id, another := workload.ID{Random: [16]byte{1}}, workload.ID{Random: [16]byte{2}}
	sign := func(d workload.Domain, id workload.ID, k ed25519.PrivateKey) workload.Signed {
		return workload.Sign(d, wire.MustMarshal(id), k)
	}
	forged := sign(workload.DomainStop, id, other)
	forged.By = owner
	for name, c := range map[string]struct {
		order workload.Signed
		want  bool
	}{
		"the owner's":              {sign(workload.DomainStop, id, own), true},
		"no order":                 {workload.Signed{}, false},
		"somebody else's":          {sign(workload.DomainStop, id, other), false},
		"in the owner's name":      {forged, false},
		"of another workload":      {sign(workload.DomainStop, another, own), false},
		"another kind of sentence": {sign(workload.DomainSpec, id, own), false},
	} {
		if got := orderedBy(owner, &wire.StopMsg{ID: id, Order: c.order}); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
