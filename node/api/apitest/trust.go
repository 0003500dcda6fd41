package apitest

import (
	"context"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// trust is what the Fake knows of operators and who is put out; its lock guards it.
type trust struct {
	operators []api.TrustOperator
	quota     *int64
	denied    []api.Denied
}

// Trust implements api.Backend.
func (f *Fake) Trust(context.Context) (*api.Trust, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &api.Trust{
		Mesh: workload.MeshID{1}, Root: workload.PeerID{2}, RootHere: true, Charter: uint64(1 + len(f.trust.operators)),
		Operators: append([]api.TrustOperator{{Name: "attic", Key: workload.PeerID{3}, Node: workload.PeerID{4}, Self: true, Reached: true, Time: Start}},
			f.trust.operators...),
		Node: api.Certificate{
			Node: workload.PeerID{4}, Name: "attic", Operator: "attic", Issued: Start, Renews: Start.Add(12 * time.Hour),
			Ends: Start.Add(24 * time.Hour), Grace: Start.Add(8 * 24 * time.Hour),
		},
		Denied: slices.Clone(f.trust.denied),
	}, nil
}

// ChangeOperator implements api.Backend.
func (f *Fake) ChangeOperator(_ context.Context, c api.OperatorChange) (*api.TrustOperator, error) {
	if c.Node != "cellar" {
		return nil, api.Errorf(api.NotFound, "no node %.80q in this cell", c.Node)
	}
	o := api.TrustOperator{Name: c.Node, Key: workload.PeerID{5}, Node: workload.PeerID{6}, Reached: true, Time: Start}
	f.change(func() {
		f.trust.operators = nil
		if !c.Remove {
			f.trust.operators = []api.TrustOperator{o}
		}
	})
	return &o, nil
}

// Accounts implements api.Backend.
func (f *Fake) Accounts(context.Context) ([]api.Account, error) {
	out := []api.Account{{Peer: workload.PeerID{7}, Own: true, Spent: 1500, Due: 200, Limit: -1}}
	f.change(func() {
		if f.trust.quota != nil {
			out[0].Limit = *f.trust.quota
		}
	})
	return append(out, api.Account{Peer: workload.PeerID{6}, Name: "cellar", Earned: 1500, Limit: -1}), nil
}

// SetQuota implements api.Backend.
func (f *Fake) SetQuota(ctx context.Context, c api.QuotaChange) (*api.Account, error) {
	list, err := f.Accounts(ctx)
	if err != nil || !list[0].Called(c.Account) {
		return nil, api.Errorf(api.NotFound, "no account begins with %.80q", c.Account)
	}
	f.change(func() { f.trust.quota = &c.Limit })
	list[0].Limit = c.Limit
	return &list[0], nil
}

// ChangeDenied implements api.Backend.
func (f *Fake) ChangeDenied(_ context.Context, c api.DenyChange) (*api.Denied, error) {
	if c.Peer != "cellar" {
		return nil, api.Errorf(api.NotFound, "no node %.80q in this cell", c.Peer)
	}
	d := api.Denied{Peer: workload.PeerID{6}, Name: c.Peer, By: "attic", Seq: 1, Since: Start, Reason: c.Reason}
	if c.ForMs > 0 {
		until := Start.Add(time.Duration(c.ForMs) * time.Millisecond)
		d.Until = &until
	}
	f.change(func() {
		f.trust.denied = nil
		if !c.Lift {
			f.trust.denied = []api.Denied{d}
		}
	})
	return &d, nil
}
