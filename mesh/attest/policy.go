package attest

import (
	"crypto/x509"
	"math/big"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Policy is what an appraiser accepts. The zero value trusts nobody.
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

	// NeedRevocation refuses where no current revocation list came along.
	NeedRevocation bool
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
