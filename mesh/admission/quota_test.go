package admission_test

import (
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// issuerOf makes an operator below a root.
func issuerOf(t *testing.T) *admission.Issuer {
	t.Helper()
	root, key, now := meshtest.Key(t), meshtest.Key(t), time.Now()
	cert, err := admission.IssueOperator(root, meshtest.IDOf(key), "attic", now)
	if err != nil {
		t.Fatal(err)
	}
	i, err := admission.NewIssuer(meshtest.IDOf(key), meshtest.IDOf(root), cert, key, &admission.Memory{})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// An order counts when an operator of the mesh has signed it, byte for byte.
func TestQuotaOrders(t *testing.T) {
	i, now := issuerOf(t), time.Now()
	m := i.Quota(workload.CellID{1}, workload.PeerID{2}, 5000, now)
	o, by, err := admission.OpenQuota(i.Mesh(), &m)
	want := wire.QuotaOrder{Mesh: i.Mesh(), Cell: workload.CellID{1}, Account: workload.PeerID{2}, Limit: 5000, At: now.UnixMilli()}
	if err != nil || o != want || by != i.ID() {
		t.Fatalf("%+v by %s: %v", o, by.Short(), err)
	}
	if _, _, err := admission.OpenQuota(issuerOf(t).Mesh(), &m); err == nil {
		t.Error("an order counts in another mesh")
	}
	raw := wire.MustMarshal(&m)
	for at := range raw {
		var changed wire.QuotaMsg
		raw[at] ^= 1
		if wire.Unmarshal(raw, &changed) == nil {
			if got, _, err := admission.OpenQuota(i.Mesh(), &changed); err == nil {
				t.Errorf("byte %d changed: %+v", at, got)
			}
		}
		raw[at] ^= 1
	}
}

func FuzzOpenQuota(f *testing.F) {
	root := meshtest.NewAuthority(f)
	f.Add([]byte{})
	f.Add(wire.MustMarshal(&wire.QuotaMsg{}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m wire.QuotaMsg
		if wire.Unmarshal(raw, &m) != nil {
			return
		}
		if _, _, err := admission.OpenQuota(root.Mesh(), &m); err == nil {
			t.Error("an order that nobody of this mesh gave")
		}
	})
}
