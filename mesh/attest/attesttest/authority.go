package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// Authority signs certificates and revocation lists, below another or by itself.
type Authority struct {
	t    testing.TB
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Epoch is when a test's certificates begin; they last ten years.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// NewAuthority makes one that its parent signs, or itself without.
func NewAuthority(t testing.TB, name string, parent *Authority) *Authority {
	a := &Authority{t: t, Key: NewKey(t, elliptic.P256())}
	by := a
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: Epoch, NotAfter: Epoch.AddDate(10, 0, 0), SubjectKeyId: []byte(name),
	}
	if parent != nil {
		by = parent
	} else {
		a.Cert = template
	}
	a.Cert = by.Sign(template, &a.Key.PublicKey)
	return a
}

// NewKey makes a key.
func NewKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Sign makes a certificate of a key.
func (a *Authority) Sign(template *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, public, a.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// Revoke makes a revocation list (DER) from one time to another.
func (a *Authority) Revoke(from, until time.Time, certs ...*x509.Certificate) []byte {
	a.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: until}
	for _, c := range certs {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Cert, a.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}
