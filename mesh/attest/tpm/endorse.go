package tpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// EndorsementItem is the collateral that holds the endorsement key
// (SubjectPublicKeyInfo) of a chip without a certificate.
const EndorsementItem = "ek"

var (
	oidAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEKCert  = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
)

// endorsement is a chip's endorsement key, with its certificate if it has one.
type endorsement struct {
	key    any
	digest workload.Digest // of the SubjectPublicKeyInfo
	chain  []*x509.Certificate
}

func parseEndorsement(e *attest.Evidence) (*endorsement, error) {
	out := &endorsement{}
	for _, c := range e.Chain {
		cert, err := x509.ParseCertificate(c.Data)
		if err != nil {
			return nil, fmt.Errorf("the endorsement key's certificate: %w", err)
		}
		out.chain = append(out.chain, cert)
	}
	spki := e.Item(EndorsementItem)
	if len(out.chain) > 0 {
		spki = out.chain[0].RawSubjectPublicKeyInfo
	}
	if spki == nil {
		return nil, errors.New("there is no endorsement key")
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the endorsement key: %w", err)
	}
	out.key, out.digest = key, workload.DigestOf(spki)
	return out, nil
}

// trusted returns until when the key is vouched for, by a maker that the policy
// trusts or by the operator who looked at the key itself.
func (k *endorsement) trusted(p *attest.Policy, now time.Time) (until time.Time, how string, err error) {
	if slices.Contains(p.TPMKeys, k.digest) {
		return now.AddDate(100, 0, 0), "its endorsement key is one that the operator listed", nil
	}
	if len(k.chain) == 0 {
		return until, "", errors.New("its endorsement key has no certificate of a maker, and is not one that the operator listed")
	}
	leaf := k.chain[0]
	if leaf.IsCA || len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidEKCert.Equal) {
		return until, "", errors.New("the certificate is not one of an endorsement key")
	}
	paths, err := leaf.Verify(options(k.chain, p.TPMRoots, now))
	if err != nil {
		return until, "", fmt.Errorf("the endorsement key's certificate leads to no TPM maker that is trusted here: %w", err)
	}
	path := paths[0]
	until = leaf.NotAfter
	for i, c := range path {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
		if i+1 == len(path) {
			break
		}
		revoked, current := attest.RevokedBy(p.Revoked, path[i+1], c.SerialNumber, now)
		if revoked {
			return until, "", fmt.Errorf("the maker has revoked certificate %x", c.SerialNumber)
		}
		if !current && p.NeedRevocation {
			return until, "", fmt.Errorf("there is no current revocation list of %.80q", path[i+1].Subject.CommonName)
		}
	}
	return until, fmt.Sprintf("its maker: %.80s", path[len(path)-1].Subject.CommonName), nil
}

// options lets a leaf name itself by TPM attributes, which crypto/x509 does not
// know, in a critical extension.
func options(chain, roots []*x509.Certificate, now time.Time) x509.VerifyOptions {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	chain[0].UnhandledCriticalExtensions = slices.DeleteFunc(chain[0].UnhandledCriticalExtensions, oidAltName.Equal)
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	return o
}

// Challenge encrypts secret, of at most 32 bytes, so that only the chip opens it
// that has both the endorsement key and the attestation key of the evidence.
// Random bytes come from rand.
func Challenge(rand io.Reader, e *attest.Evidence, secret []byte) (credential, encrypted []byte, err error) {
	k, err := parseEndorsement(e)
	if err != nil {
		return nil, nil, err
	}
	ak, err := parsePublic(e.Key)
	if err != nil {
		return nil, nil, err
	}
	template, err := k.template()
	if err != nil {
		return nil, nil, err
	}
	enc, err := tpm2.ImportEncapsulationKey(template)
	if err != nil {
		return nil, nil, fmt.Errorf("the endorsement key: %w", err)
	}
	return tpm2.CreateCredential(rand, enc, ak.name, secret)
}

// template is the endorsement key by the TCG's default template of its kind
// (EK Credential Profile 2.6, sections B.3.3 and B.3.4).
func (k *endorsement) template() (*tpm2.TPMTPublic, error) {
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 2048 || key.E != 65537 {
			return nil, errors.New("the endorsement key is RSA, but not of 2048 bits with exponent 65537")
		}
		t := tpm2.RSAEKTemplate
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.FillBytes(make([]byte, 256))})
		return &t, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, errors.New("the endorsement key is on a curve other than P-256")
		}
		point, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		t := tpm2.ECCEKTemplate
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		})
		return &t, nil
	}
	return nil, errors.New("the endorsement key is neither RSA nor P-256")
}

// MarshalKey returns the SubjectPublicKeyInfo of a chip's public key.
func MarshalKey(p *tpm2.TPMTPublic) ([]byte, error) {
	key, err := tpm2.Pub(*p)
	if err != nil {
		return nil, fmt.Errorf("the endorsement key: %w", err)
	}
	return x509.MarshalPKIXPublicKey(key)
}
