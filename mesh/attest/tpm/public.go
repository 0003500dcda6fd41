package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
)

// Algorithms and curves (part 2, tables 9 and 11).
const (
	algRSA    = 0x0001
	algSHA256 = 0x000b
	algNull   = 0x0010
	algRSASSA = 0x0014
	algECDSA  = 0x0018
	algECC    = 0x0023
	curveP256 = 0x0003
)

// Attributes of a key (part 2, TPMA_OBJECT).
const (
	fixedTPM            = 1 << 1
	fixedParent         = 1 << 4
	sensitiveDataOrigin = 1 << 5
	restricted          = 1 << 16
	decrypt             = 1 << 17
	sign                = 1 << 18

	// attesting is what a key must be that signs quotes and nothing from outside.
	attesting = fixedTPM | fixedParent | sensitiveDataOrigin | restricted | sign
)

// public is a TPMT_PUBLIC of an attestation key.
type public struct {
	name []byte // algorithm and hash of the whole structure
	key  crypto.PublicKey
}

var errKey = errors.New("the attestation key is not a well-formed TPMT_PUBLIC of P-256 or RSA")

// parsePublic reads an attestation key and refuses one that could sign what did
// not come from inside the chip.
func parsePublic(raw []byte) (*public, error) {
	s := cryptobyte.String(raw)
	var kind, nameAlg, symmetric uint16
	var attributes uint32
	var policy cryptobyte.String
	if !s.ReadUint16(&kind) || !s.ReadUint16(&nameAlg) || !s.ReadUint32(&attributes) || !s.ReadUint16LengthPrefixed(&policy) || !s.ReadUint16(&symmetric) {
		return nil, errKey
	}
	switch {
	case nameAlg != algSHA256:
		return nil, errors.New("the attestation key's name is not by SHA-256")
	case attributes&attesting != attesting || attributes&decrypt != 0:
		return nil, errors.New("the attestation key is not restricted to what the chip itself attests")
	case symmetric != algNull:
		return nil, errKey
	}
	key, err := parseKey(&s, kind)
	if err != nil || !s.Empty() {
		return nil, errors.Join(err, errKey)
	}
	sum := sha256.Sum256(raw)
	return &public{name: append(binary.BigEndian.AppendUint16(nil, algSHA256), sum[:]...), key: key}, nil
}

func parseKey(s *cryptobyte.String, kind uint16) (crypto.PublicKey, error) {
	var scheme, hash uint16
	if !s.ReadUint16(&scheme) || scheme != algNull && !s.ReadUint16(&hash) {
		return nil, errKey
	}
	if hash != 0 && hash != algSHA256 {
		return nil, errors.New("the attestation key does not sign by SHA-256")
	}
	switch kind {
	case algECC:
		return parseP256(s)
	case algRSA:
		return parseRSA(s)
	}
	return nil, errKey
}

func parseP256(s *cryptobyte.String) (crypto.PublicKey, error) {
	var curve, kdf uint16
	var x, y cryptobyte.String
	if !s.ReadUint16(&curve) || !s.ReadUint16(&kdf) || curve != curveP256 || kdf != algNull ||
		!s.ReadUint16LengthPrefixed(&x) || !s.ReadUint16LengthPrefixed(&y) || len(x) > 32 || len(y) > 32 {
		return nil, errKey
	}
	point := make([]byte, 65)
	point[0] = 4
	copy(point[33-len(x):33], x)
	copy(point[65-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("the attestation key is no point of P-256")
	}
	return key, nil
}

func parseRSA(s *cryptobyte.String) (crypto.PublicKey, error) {
	var bits uint16
	var exponent uint32
	var modulus cryptobyte.String
	if !s.ReadUint16(&bits) || !s.ReadUint32(&exponent) || !s.ReadUint16LengthPrefixed(&modulus) ||
		bits < 2048 || bits > 4096 || len(modulus)*8 != int(bits) {
		return nil, errKey
	}
	if exponent == 0 {
		exponent = 65537
	}
	if exponent != 65537 {
		return nil, errors.New("the attestation key has an exponent other than 65537")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(exponent)}, nil
}

// qualifiedName is the name of a primary key of the endorsement hierarchy, its
// parent included (part 1, section 16).
func (p *public) qualifiedName() []byte {
	const endorsement = 0x4000000b
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, endorsement), p.name...))
	return append(binary.BigEndian.AppendUint16(nil, algSHA256), sum[:]...)
}

// verify checks a TPMT_SIGNATURE over message.
func (p *public) verify(message, raw []byte) bool {
	s := cryptobyte.String(raw)
	var alg, hash uint16
	if !s.ReadUint16(&alg) || !s.ReadUint16(&hash) || hash != algSHA256 {
		return false
	}
	sum := sha256.Sum256(message)
	switch key := p.key.(type) {
	case *ecdsa.PublicKey:
		var r, v cryptobyte.String
		return alg == algECDSA && s.ReadUint16LengthPrefixed(&r) && s.ReadUint16LengthPrefixed(&v) && s.Empty() &&
			len(r) <= 32 && len(v) <= 32 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(v))
	case *rsa.PublicKey:
		var sig cryptobyte.String
		return alg == algRSASSA && s.ReadUint16LengthPrefixed(&sig) && s.Empty() && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
	}
	return false
}
