package admission

import (
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Quota has an operator say what an account of a cell may spend from now on, in
// micro-credits; negative is no limit. It returns the signed order, and the
// certificate by which the operator may give it.
func (i *Issuer) Quota(cell workload.CellID, account workload.PeerID, limit int64, now time.Time) wire.QuotaMsg {
	order := wire.QuotaOrder{Mesh: i.Mesh(), Cell: cell, Account: account, Limit: max(limit, -1), At: now.UnixMilli()}
	return wire.QuotaMsg{Order: workload.Sign(workload.DomainQuota, wire.MustMarshal(&order), i.key), Operator: i.cert}
}

// OpenQuota verifies an order that an operator of a mesh gave, and returns it with the
// operator's key. Whether that one is still an operator is the caller's to know. It is
// pure; the error wraps ErrForged or ErrOtherMesh.
func OpenQuota(mesh workload.MeshID, m *wire.QuotaMsg) (o wire.QuotaOrder, operator workload.PeerID, err error) {
	if MeshOf(m.Operator.By) != mesh {
		return o, operator, fmt.Errorf("quota: the operator's certificate: %w", ErrOtherMesh)
	}
	op, err := open(m.Operator, kindOperator, m.Operator.By, mesh)
	if err != nil {
		return o, operator, fmt.Errorf("quota: the operator's certificate: %w", err)
	}
	if m.Order.By != op.Subject || m.Order.Verify(workload.DomainQuota) != nil {
		return o, operator, fmt.Errorf("quota: not signed by the operator that the certificate names: %w", ErrForged)
	}
	if err := wire.Unmarshal(m.Order.Payload, &o); err != nil {
		return o, operator, fmt.Errorf("quota: %w: %w", ErrForged, err)
	}
	if o.Mesh != mesh {
		return o, operator, fmt.Errorf("quota: %w", ErrOtherMesh)
	}
	return o, op.Subject, nil
}
