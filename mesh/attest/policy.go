package attest

import (
	"crypto/x509"
	"math/big"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Policy is what an appraiser accepts. The zero value trusts Intel's and AMD's
// roots, which are built in, no TPM maker's, and refuses debugging and platforms
// whose firmware is revoked or out of date.
type Policy struct {
	// TPMRoots are certificates of TPM makers that the operator trusts: none are
	// built in, because there are some dozen, and a software TPM is made in a minute.
	TPMRoots []*x509.Certificate
	// TPMKeys are SHA-256 digests of endorsement keys (SubjectPublicKeyInfo) that
	// the operator has looked at; such a chip needs no certificate.
	TPMKeys []workload.Digest
	// Revoked are lists of TPM makers. One whose issuer is in a chain must be
	// current and must not name the certificate below.
	Revoked []*x509.RevocationList

	// SNPRoots and IntelRoots stand in for the built-in ones in tests.
	SNPRoots   []*x509.Certificate
	IntelRoots []*x509.Certificate

	// MinTCB are the least security versions of SEV-SNP firmware, each part by itself.
	MinTCB SNPVersions
	// AllowStatus are Intel's TCB statuses that are accepted besides UpToDate.
	AllowStatus []string
	// NeedRevocation refuses where no current revocation list came along.
	NeedRevocation bool
}

// SNPVersions are the security versions of the parts of SEV-SNP's firmware.
type SNPVersions struct{ FMC, Bootloader, TEE, SNP, Microcode uint8 }

// Below reports whether any part is older than least.
func (v SNPVersions) Below(least SNPVersions) bool {
	return v.FMC < least.FMC || v.Bootloader < least.Bootloader || v.TEE < least.TEE || v.SNP < least.SNP || v.Microcode < least.Microcode
}

// Accepts reports whether one of Intel's TCB statuses is accepted.
func (p *Policy) Accepts(status string) bool {
	return status == "UpToDate" || slices.Contains(p.AllowStatus, status)
}

// RevokedBy reports whether a list that issuer signed names a serial number, and
// whether there was such a list that is current at now.
func RevokedBy(lists []*x509.RevocationList, issuer *x509.Certificate, serial *big.Int, now time.Time) (revoked, current bool) {
	for _, l := range lists {
		if l.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, r := range l.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(serial) == 0 {
				revoked = true
			}
		}
		current = current || !now.Before(l.ThisUpdate) && (l.NextUpdate.IsZero() || !now.After(l.NextUpdate))
	}
	return revoked, current
}
