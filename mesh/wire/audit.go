package wire

import "github.com/perrin-mesh/perrin/workload"

// ProtoAudit asks a voter to sign the head of its ledger's chain.
const ProtoAudit = "/perrin/audit/1" // any node -> voter

// Mark is what a voter signs (DomainMark) about its cell: the head of the hash chain
// after an entry. Two marks of one voter at one index with different heads prove that
// it shows two histories.
type Mark struct {
	Cell  workload.CellID `cbor:"1,keyasint"`
	Index uint64          `cbor:"2,keyasint"` // of a log entry
	Head  workload.Digest `cbor:"3,keyasint"`
}

// AuditMsg asks for the voter's newest mark, and for those at some entries.
type AuditMsg struct {
	Cell workload.CellID `cbor:"1,keyasint"`
	At   []uint64        `cbor:"2,keyasint,omitempty" max:"64"`
}

// AuditAnswer answers AuditMsg with the marks that the voter can make: it knows the
// heads of its last 4,096 commands.
type AuditAnswer struct {
	Marks        []workload.Signed `cbor:"1,keyasint" max:"65"`
	Certificates []byte            `cbor:"2,keyasint" max:"2048"`
}
