package attest

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Version of the envelope and of the binding.
const Version = 1

// MaxEvidence bounds an encoded Evidence in bytes: an IMA list of some ten
// thousand files, a boot log, certificates and collateral.
const MaxEvidence = 4 << 20

// Evidence is what a machine shows of itself, with all that is needed to verify
// it without a network. Which fields are used depends on the kind.
type Evidence struct {
	Version   uint16         `cbor:"1,keyasint"`
	Kind      workload.Level `cbor:"2,keyasint" max:"8"`
	Report    []byte         `cbor:"3,keyasint" max:"65536"`             // quote or report, as the hardware made it
	Signature []byte         `cbor:"4,keyasint,omitempty" max:"1024"`    // of a TPM: TPMT_SIGNATURE
	Key       []byte         `cbor:"5,keyasint,omitempty" max:"1024"`    // of a TPM: TPMT_PUBLIC of the attestation key
	Chain     []Blob         `cbor:"6,keyasint,omitempty" max:"8"`       // certificates (DER), the hardware's own first
	PCRs      []PCR          `cbor:"7,keyasint,omitempty" max:"24"`      // of a TPM, SHA-256 bank, ascending
	BootLog   []byte         `cbor:"8,keyasint,omitempty" max:"1048576"` // TCG2 crypto-agile event log
	FileLog   []byte         `cbor:"9,keyasint,omitempty" max:"2097152"` // IMA list, binary
	Extra     []Item         `cbor:"10,keyasint,omitempty" max:"16"`     // collateral by name
}

// Blob is one certificate.
type Blob struct {
	Data []byte `cbor:"1,keyasint" max:"16384"`
}

// PCR is one register of a TPM.
type PCR struct {
	Index uint8  `cbor:"1,keyasint"`
	Value []byte `cbor:"2,keyasint" max:"32"`
}

// Item is collateral: a document that the manufacturer signed.
type Item struct {
	Name string `cbor:"1,keyasint" max:"32"`
	Data []byte `cbor:"2,keyasint" max:"262144"`
}

// Item returns the collateral of a name, or nil.
func (e *Evidence) Item(name string) []byte {
	for _, it := range e.Extra {
		if it.Name == name {
			return it.Data
		}
	}
	return nil
}

// Encode returns the envelope's bytes, whose SHA-256 names the evidence.
func (e *Evidence) Encode() []byte { return wire.MustMarshal(e) }

// Decode reads an envelope and checks its bounds.
func Decode(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("evidence: %d bytes, at most %d", len(b), MaxEvidence)
	}
	e := new(Evidence)
	if err := wire.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if e.Version != Version {
		return nil, fmt.Errorf("evidence: version %d, this node reads %d", e.Version, Version)
	}
	if !slices.Contains(workload.Levels, e.Kind) {
		return nil, fmt.Errorf("evidence: kind %.10q is none of tpm, sgx, tdx, snp", e.Kind)
	}
	return e, nil
}

// Binding is what evidence is made for. Evidence for one binding is worth
// nothing for another: not for another asker, another node that relays it,
// another connection, another sealing key, another award.
type Binding struct {
	Version uint16             `cbor:"1,keyasint" json:"version"`
	Nonce   [32]byte           `cbor:"2,keyasint" json:"-"` // of the asker
	Asker   workload.PeerID    `cbor:"3,keyasint" json:"asker"`
	Node    workload.PeerID    `cbor:"4,keyasint" json:"node"`
	Channel []byte             `cbor:"5,keyasint,omitempty" json:"channel,omitempty" max:"32"` // exported from the connection's TLS; none without TLS
	Sealing workload.Digest    `cbor:"6,keyasint" json:"sealing_key"`                          // SHA-256 of the public key that the node's attempt made; zero without
	Job     workload.ID        `cbor:"7,keyasint" json:"workload"`
	Award   workload.AuctionID `cbor:"8,keyasint" json:"-"`
}

// bindingDomain keeps report data apart from any other hash.
const bindingDomain = "perrin/attest/binding/1\x00"

// ReportData is the 64 bytes that a TEE signs: SHA-512 of the domain and the
// binding's canonical encoding.
func (b *Binding) ReportData() [64]byte {
	return sha512.Sum512(append([]byte(bindingDomain), wire.MustMarshal(b)...))
}

// Qualifying is the 32 bytes that a TPM signs, whose largest hash may be
// SHA-256: SHA-256 of the report data.
func (b *Binding) Qualifying() [32]byte {
	data := b.ReportData()
	return sha256.Sum256(data[:])
}

// Digest names a binding.
func (b *Binding) Digest() workload.Digest {
	return sha256.Sum256(append([]byte(bindingDomain), wire.MustMarshal(b)...))
}

// SealingKey is what stands for a sealing key's public half in a Binding.
func SealingKey(public []byte) workload.Digest {
	return sha256.Sum256(append([]byte("perrin/attest/sealing-key/1\x00"), public...))
}
