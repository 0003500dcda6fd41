package snp

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/attest"
)

// Offsets in a report, and its size (AMD 56860, ATTESTATION_REPORT).
const (
	reportSize = 1184
	signedSize = 0x2a0
	maxNumber  = 72 // bytes of each of the signature's numbers, little-endian
)

// Bits of a guest's policy (AMD 56860, GUEST_POLICY).
const (
	policySMT     = 1 << 16
	policyMigrate = 1 << 18
	policyDebug   = 1 << 19
)

// Who signed a report (AMD 56860, ATTESTATION_REPORT.SIGNING_KEY).
const (
	signedByChip  = 0 // VCEK
	signedByCloud = 1 // VLEK
)

// report is an attestation report. Slices are of the bytes it was parsed from.
type report struct {
	version     uint32
	guestPolicy uint64
	vmpl        uint32
	signer      uint32 // signedByChip or signedByCloud
	reportData  []byte // 64 bytes
	launch      []byte // 48 bytes
	hostData    []byte // 32 bytes
	idKey       []byte // 48 bytes
	authorKey   []byte // 48 bytes
	reportedTCB []byte // 8 bytes
	chip        []byte // 64 bytes
	signed      []byte
	r, s        *big.Int
}

// parseReport reads a report of version 2 to 5, of exactly its size.
func parseReport(b []byte) (*report, error) {
	if len(b) != reportSize {
		return nil, fmt.Errorf("an SEV-SNP report has %d bytes, this one %d", reportSize, len(b))
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	r := &report{
		version: word(0), guestPolicy: binary.LittleEndian.Uint64(b[0x8:]), vmpl: word(0x30), signer: word(0x48) >> 2 & 7,
		reportData: b[0x50:0x90], launch: b[0x90:0xc0], hostData: b[0xc0:0xe0], idKey: b[0xe0:0x110], authorKey: b[0x110:0x140],
		reportedTCB: b[0x180:0x188], chip: b[0x1a0:0x1e0], signed: b[:signedSize],
		r: number(b[signedSize:]), s: number(b[signedSize+maxNumber:]),
	}
	switch {
	case r.version < 2 || r.version > 5:
		return nil, fmt.Errorf("the report is of version %d, this node reads 2 to 5", r.version)
	case word(0x34) != 1:
		return nil, fmt.Errorf("the report is signed by algorithm %d, this node knows 1, ECDSA on P-384", word(0x34))
	case r.signer > signedByCloud:
		return nil, fmt.Errorf("the report is not signed by a key of the chip or of its cloud (signing key %d)", r.signer)
	case !zero(b[signedSize+2*maxNumber:]):
		return nil, fmt.Errorf("the report has bytes behind its signature")
	}
	return r, nil
}

func number(b []byte) *big.Int {
	big2 := slices.Clone(b[:maxNumber])
	slices.Reverse(big2)
	return new(big.Int).SetBytes(big2)
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// tcbOf reads a TCB_VERSION, whose layout Turin changed (AMD 56860, TCB_VERSION).
func tcbOf(product string, b []byte) attest.SNPTCB {
	if product == "turin" {
		return attest.SNPTCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return attest.SNPTCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}
