// Package tenancy decides who may read or change a workload: the node that it was
// submitted on, and whoever holds a token of its owner. The leader of a cell asks
// it about what the ledger says, a worker about what runs there.
//
// It keeps nothing and reads no clock; the peer that asks is the one that the
// connection proved.
package tenancy

import (
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// Judge judges tokens of one mesh.
type Judge struct {
	Mesh workload.MeshID
	Memo *workload.Memo // of signatures; nil is none
	// Revoked returns why a token with some links counts no more; nil knows of none.
	Revoked func(links []workload.TokenLink) error
}

// Workload is what matters here of one.
type Workload struct {
	ID    workload.ID
	Owner workload.PeerID // the key that its spec counts for
	Payer workload.PeerID // the owner, or who made the token that it was submitted under
	Home  workload.PeerID // the node that it was submitted on
}

// Open verifies a token, all but its time.
func (j Judge) Open(token []workload.Signed) (*rights.Grant, error) {
	return rights.Open(token, j.Mesh, rights.Reader{Decode: wire.Unmarshal, Verify: j.Memo.Verify})
}

// Grant opens a token that allows its holder a thing at now. The error is of kind
// wire.Refused.
func (j Judge) Grant(holder workload.PeerID, token []workload.Signed, c rights.Capability, now time.Time) (*rights.Grant, error) {
	g, err := j.Open(token)
	if err == nil {
		err = g.Allows(holder, c, now.UnixMilli())
	}
	if err == nil && j.Revoked != nil {
		err = j.Revoked(g.Bounds)
	}
	if err != nil {
		return nil, wire.Errorf(wire.Refused, "%s", err)
	}
	return g, nil
}

// May returns nil when a peer may do c with a workload: it is the node that it was
// submitted on, or shows a token for it. Otherwise the error is of kind
// wire.NotYours, or wire.Refused for a token that does not count.
func (j Judge) May(from workload.PeerID, token []workload.Signed, c rights.Capability, w Workload, now time.Time) error {
	if from == w.Home {
		return nil
	}
	if len(token) > 0 {
		g, err := j.Grant(from, token, c, now)
		if err != nil {
			return err
		}
		if g.Covers(w.Owner, w.ID) || g.Covers(w.Payer, w.ID) {
			return nil
		}
	}
	return wire.Errorf(wire.NotYours, "workload %s is not yours", w.ID.Short())
}
