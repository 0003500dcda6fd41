package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
)

// SEV is a made-up SEV-SNP machine with a maker of its own, which no production
// code takes for AMD.
type SEV struct {
	t            testing.TB
	Root, Issuer *Authority
	Key          *ecdsa.PrivateKey // of the chip
	Chip         [64]byte
	TCB          [8]byte // as in a report of Milan or Genoa
	Cert         *x509.Certificate
	cloud        bool
}

// NewSEV makes a machine of a product, such as Milan-B0; cloud has a cloud's key sign.
func NewSEV(t testing.TB, product string, cloud bool) *SEV {
	s := &SEV{t: t, Root: NewAuthority(t, "ARK-Test", nil), Key: NewKey(t, elliptic.P384()), TCB: [8]byte{3, 0, 0, 0, 0, 0, 20, 209}, cloud: cloud}
	s.Issuer = NewAuthority(t, "SEV-Test", s.Root)
	_, _ = rand.Read(s.Chip[:])
	s.Cert = s.Endorse(product, s.Chip[:])
	return s
}

// Endorse makes a certificate of the machine's key as AMD does.
func (s *SEV) Endorse(product string, chip []byte) *x509.Certificate {
	ext := func(value any, tail ...int) pkix.Extension {
		der, err := asn1.Marshal(value)
		if err != nil {
			s.t.Fatal(err)
		}
		return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...), Value: der}
	}
	list := []pkix.Extension{ext(1, 1), ext(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(product)}, 2),
		ext(int(s.TCB[0]), 3, 1), ext(int(s.TCB[1]), 3, 2), ext(int(s.TCB[6]), 3, 3), ext(int(s.TCB[7]), 3, 8)}
	if s.cloud {
		list = append(list, ext(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("cloud.test")}, 5))
	} else {
		raw := ext(1, 4)
		raw.Value = slices.Clone(chip)
		list = append(list, raw)
	}
	return s.Issuer.Sign(&x509.Certificate{SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: "SEV-VCEK"}, NotBefore: Epoch, NotAfter: Epoch.AddDate(7, 0, 0), ExtraExtensions: list}, &s.Key.PublicKey)
}

// Makers is the issuer and its root, as PEM.
func (s *SEV) Makers() []byte {
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Issuer.Cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Cert.Raw}))
}

// Report makes a report of version 3; change may alter it before it is signed.
func (s *SEV) Report(data [64]byte, change func([]byte)) []byte {
	b := make([]byte, 1184)
	b[0], b[0x34] = 3, 1
	binary.LittleEndian.PutUint64(b[8:], 0x30000)
	if s.cloud {
		b[0x48] = 1 << 2
	}
	copy(b[0x50:], data[:])
	launch := sha512.Sum384([]byte("launched"))
	copy(b[0x90:], launch[:])
	copy(b[0x180:], s.TCB[:])
	copy(b[0x1a0:], s.Chip[:])
	if change != nil {
		change(b)
	}
	return s.Resign(b)
}

// Resign signs what a report says now.
func (s *SEV) Resign(b []byte) []byte {
	digest := sha512.Sum384(b[:0x2a0])
	r, v, err := ecdsa.Sign(rand.Reader, s.Key, digest[:])
	if err != nil {
		s.t.Fatal(err)
	}
	for i, n := range []*big.Int{r, v} {
		raw := n.FillBytes(make([]byte, 72))
		slices.Reverse(raw)
		copy(b[0x2a0+72*i:], raw)
	}
	return b
}
