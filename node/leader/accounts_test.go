package leader

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/fuzzpeers"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// A token for some workloads does not show what its giver spends on the others.
func TestATokenForSomeWorkloadsShowsNoAccount(t *testing.T) {
	owner, guest, now := fuzzpeers.ID(1), fuzzpeers.ID(2), time.UnixMilli(1_000_000)
	for _, only := range [][]workload.ID{nil, {{Random: [16]byte{7}}}} {
		d := rights.Delegation{
			Version: rights.Version(), Subject: owner, Audience: guest, May: []rights.Capability{rights.Observe}, Only: only,
			NotBefore: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(),
		}
		a := asker{from: guest, token: []workload.Signed{workload.Sign(workload.DomainToken, wire.MustMarshal(d), fuzzpeers.Key(1))}, judge: tenancy.Judge{Memo: workload.NewMemo()}}
		mine, err := a.accounts(now)
		if err != nil || !mine[guest] || mine[owner] != (only == nil) {
			t.Errorf("only %v: %v, %v", only, mine, err)
		}
	}
}
