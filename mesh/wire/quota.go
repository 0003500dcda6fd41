package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoQuota brings an operator's order about an account to a cell.
const ProtoQuota = "/perrin/quota/1" // an operator's node -> leader

// QuotaOrder is what an operator says that an account may spend.
type QuotaOrder struct {
	Mesh    workload.MeshID `cbor:"1,keyasint"` // of the operator
	Cell    workload.CellID `cbor:"2,keyasint"` // whose ledger it is about
	Account workload.PeerID `cbor:"3,keyasint"` // who pays: an owner's key
	Limit   int64           `cbor:"4,keyasint"` // micro-credits that it may spend ever; -1 is no limit
	At      int64           `cbor:"5,keyasint"` // ms, the operator's clock: a later order stands against an earlier one
}

// QuotaMsg is an order with the certificate of the operator that gave it.
type QuotaMsg struct {
	Order    workload.Signed `cbor:"1,keyasint"` // a `QuotaOrder`, signed by an operator (`perrin/quota/1`)
	Operator workload.Signed `cbor:"2,keyasint"` // its `certificate`, signed by the root
}
