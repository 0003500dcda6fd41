package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Sizes of what a quote is made of, in bytes.
const (
	headerSize  = 48
	enclaveSize = 384 // an SGX report body
	guestSize   = 584 // a TD report of TDX 1.0
	guest15Size = 648 // and of TDX 1.5
	numberPair  = 64  // a signature, or a point, on P-256
)

// Kinds of what a quote is about.
const (
	teeSGX = 0x00
	teeTDX = 0x81
)

// intelVendor is the QE's vendor in a quote's header.
var intelVendor = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// quote is a parsed one. Slices are of the bytes it was parsed from.
type quote struct {
	version   uint16
	kind      workload.Level // sgx or tdx
	body      []byte         // enclaveSize, guestSize or guest15Size bytes
	signed    []byte
	signature []byte // numberPair
	key       []byte // numberPair
	qe        []byte // the QE's report, enclaveSize bytes
	qeSigned  []byte // numberPair
	qeAuth    []byte
	chain     []byte // PEM, from the machine's key to the root
}

// parts cuts bytes into pieces and remembers whether there were enough.
type parts struct {
	rest  []byte
	short bool
}

func (p *parts) take(n uint64) []byte {
	if n > uint64(len(p.rest)) {
		p.short = true
		return make([]byte, min(n, guest15Size)) // of fixed sizes, so that nobody has to look each time
	}
	out := p.rest[:n:n]
	p.rest = p.rest[n:]
	return out
}

func (p *parts) u16() uint16 { return binary.LittleEndian.Uint16(p.take(2)) }
func (p *parts) u32() uint32 { return binary.LittleEndian.Uint32(p.take(4)) }

var errShort = errors.New("the quote is cut off, or its parts are longer than it")

// parseQuote reads a quote of version 3 (SGX), or 4 or 5 (TDX). Zero bytes may
// follow it, nothing else.
func parseQuote(b []byte) (*quote, error) {
	p := &parts{rest: b}
	q := &quote{}
	header := p.take(headerSize)
	q.version = binary.LittleEndian.Uint16(header)
	if p.short {
		return nil, errShort
	}
	size, err := q.parseHeader(header)
	if err != nil {
		return nil, err
	}
	if q.version == 5 {
		if size, err = bodySize(p.u16(), p.u32()); err != nil {
			return nil, err
		}
	}
	q.body = p.take(size)
	if p.short {
		return nil, errShort
	}
	q.signed = b[:len(b)-len(p.rest)]
	inner := &parts{rest: p.take(uint64(p.u32()))}
	if p.short {
		return nil, errShort
	}
	if !zero(p.rest) {
		return nil, errors.New("bytes follow the quote")
	}
	return q, q.parseSignature(inner)
}

// parseHeader checks what a quote says of itself, and returns its body's size.
func (q *quote) parseHeader(h []byte) (size uint64, err error) {
	tee := binary.LittleEndian.Uint32(h[4:])
	switch {
	case q.version == 3: // there the field is reserved
		q.kind, size = workload.LevelSGX, enclaveSize
	case (q.version == 4 || q.version == 5) && tee == teeTDX:
		q.kind, size = workload.LevelTDX, guestSize
	case q.version == 4 || q.version == 5:
		return 0, fmt.Errorf("the quote of version %d is of kind %#x, this node reads %#x, TDX, in it", q.version, tee, teeTDX)
	default:
		return 0, fmt.Errorf("the quote is of version %d, this node reads 3 of SGX, 4 and 5 of TDX", q.version)
	}
	if kind := binary.LittleEndian.Uint16(h[2:]); kind != 2 {
		return 0, fmt.Errorf("the quote is signed by a key of kind %d, this node knows 2, ECDSA on P-256", kind)
	}
	if !slices.Equal(h[12:28], intelVendor) {
		return 0, errors.New("the quote is not made by an enclave of Intel")
	}
	return size, nil
}

// bodySize checks what a quote of version 5 says of its body.
func bodySize(kind uint16, size uint32) (uint64, error) {
	if kind == 2 && size == guestSize || kind == 3 && size == guest15Size {
		return uint64(size), nil
	}
	return 0, fmt.Errorf("the quote's body is of kind %d and %d bytes, this node reads 2, TDX 1.0, and 3, TDX 1.5", kind, size)
}

// parseSignature reads what follows a quote's body.
func (q *quote) parseSignature(p *parts) error {
	q.signature, q.key = p.take(numberPair), p.take(numberPair)
	if q.version > 3 { // in a wrapping of its own
		if kind := p.u16(); kind != 6 && !p.short {
			return fmt.Errorf("the quote carries certification data of kind %d, want 6, the report of the QE", kind)
		}
		if size := p.u32(); uint64(size) != uint64(len(p.rest)) {
			return errShort
		}
	}
	q.qe, q.qeSigned = p.take(enclaveSize), p.take(numberPair)
	q.qeAuth = p.take(uint64(p.u16()))
	if kind := p.u16(); kind != 5 && !p.short {
		return fmt.Errorf("the quote carries certification data of kind %d, want 5, a chain of certificates", kind)
	}
	q.chain = p.take(uint64(p.u32()))
	if p.short || len(p.rest) > 0 {
		return errShort
	}
	return nil
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// signedBy checks a signature of two numbers over SHA-256.
func signedBy(key *ecdsa.PublicKey, message, signature []byte) bool {
	digest := sha256.Sum256(message)
	return len(signature) == numberPair && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// attestationKey is the key that signed the quote.
func (q *quote) attestationKey() (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.key...))
	if err != nil {
		return nil, errors.New("the key that signed the quote is no point on P-256")
	}
	return key, nil
}

// names reports whether the QE's report names the key that signed the quote.
func (q *quote) namesKey() bool {
	sum := sha256.Sum256(slices.Concat(q.key, q.qeAuth))
	data := enclave(q.qe).reportData()
	return slices.Equal(data[:32], sum[:]) && zero(data[32:])
}

// enclave is an SGX report body (Intel SDM volume 3D, REPORT).
type enclave []byte

func (e enclave) miscSelect() []byte { return e[16:20] }
func (e enclave) attributes() []byte { return e[48:64] }
func (e enclave) mrEnclave() []byte  { return e[64:96] }
func (e enclave) mrSigner() []byte   { return e[128:160] }
func (e enclave) product() uint16    { return binary.LittleEndian.Uint16(e[256:]) }
func (e enclave) version() uint16    { return binary.LittleEndian.Uint16(e[258:]) }
func (e enclave) reportData() []byte { return e[320:384] }
func (e enclave) debug() bool        { return e[48]&2 != 0 }

// guest is a TD report (Intel TDX module ABI, TDREPORT; in a quote without its head).
type guest []byte

func (g guest) tcb() []byte           { return g[0:16] }
func (g guest) moduleSigner() []byte  { return g[64:112] }
func (g guest) moduleAttribs() []byte { return g[112:120] }
func (g guest) reportData() []byte    { return g[520:584] }

// underDebug reports whether any bit of the group "TUD" is set: the machine is not
// secret to its host.
func (g guest) underDebug() bool { return g[120] != 0 }

// Bits of attributes (Intel TDX module ABI, ATTRIBUTES): 28 and 29.
func (g guest) faultsHidden() bool { return g[123]&(1<<4) != 0 }
func (g guest) migratable() bool   { return g[123]&(1<<5) != 0 }

// measured lists a TD's measurements by their names.
func (g guest) measured() (out []workload.Measurement) {
	for _, m := range []struct {
		name   string
		at     int
		always bool
	}{{"mrtd", 136, true}, {"rtmr0", 328, true}, {"rtmr1", 376, true}, {"rtmr2", 424, true}, {"rtmr3", 472, true}, {"mrconfigid", 184, false}, {"mrowner", 232, false}, {"mrownerconfig", 280, false}, {"mrseam", 16, true}} {
		if v := g[m.at : m.at+48]; m.always || !zero(v) {
			out = append(out, workload.Measurement{Name: m.name, Value: v})
		}
	}
	if len(g) == guest15Size && !zero(g[600:648]) {
		out = append(out, workload.Measurement{Name: "mrservicetd", Value: g[600:648]})
	}
	return out
}
