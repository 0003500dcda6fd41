package attest

import (
	"crypto/x509"
	"fmt"
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
	// TPMMeasurements are registers that a TPM must show, and TPMFiles the SHA-256
	// digests of all files that IMA may have measured; without any, it may measure
	// what it likes.
	TPMMeasurements []workload.Measurement
	TPMFiles        map[workload.Digest]bool
	// Revoked are lists of TPM makers. One whose issuer is in a chain must be
	// current and must not name the certificate below.
	Revoked []*x509.RevocationList

	// NeedRevocation refuses a TPM where no current revocation list is at hand.
	NeedRevocation bool

	// WithoutLists takes evidence of sgx, tdx and snp where no current revocation
	// list came along; without it that is refused.
	WithoutLists bool
	// CollateralAge bounds the age of revocation lists and TCB information since
	// their makers signed them; 0 takes them until they end by themselves.
	CollateralAge time.Duration

	SNP SNPPolicy
	TDX IntelPolicy
	SGX IntelPolicy
}

// SNPPolicy is what an appraiser accepts of SEV-SNP machines.
type SNPPolicy struct {
	Measurements []workload.Measurement
	// MinTCB is the least firmware, by product: milan, genoa or turin. Once one
	// product is named, others are refused.
	MinTCB map[string]SNPTCB
	// MaxVMPL is the least privileged level of the virtual machine whose report is
	// taken: 0 is what was launched, 1 to 3 is what that gave room to.
	MaxVMPL uint32
}

// SNPTCB is the version of each part of an AMD machine's firmware (SEV-SNP
// firmware ABI, TCB_VERSION). FMC is of Turin alone.
type SNPTCB struct {
	FMC, Bootloader, TEE, SNP, Microcode uint8
}

// String names the parts in the order of the firmware.
func (t SNPTCB) String() string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// Below names the first part that is below least, or returns "".
func (t SNPTCB) Below(least SNPTCB) string {
	for _, part := range []struct {
		name      string
		has, want uint8
	}{{"fmc", t.FMC, least.FMC}, {"bootloader", t.Bootloader, least.Bootloader}, {"tee", t.TEE, least.TEE}, {"snp", t.SNP, least.SNP}, {"microcode", t.Microcode, least.Microcode}} {
		if part.has < part.want {
			return fmt.Sprintf("%s is %d, at least %d is wanted", part.name, part.has, part.want)
		}
	}
	return ""
}

// IntelPolicy is what an appraiser accepts of SGX enclaves or TDX machines.
type IntelPolicy struct {
	Measurements []workload.Measurement
	// Status lists what Intel may say of the machine's firmware (tcbStatus);
	// empty is DefaultStatus.
	Status []string
	// MinEvaluation is the least tcbEvaluationDataNumber of TCB information.
	MinEvaluation uint32
}

// DefaultStatus takes machines whose firmware is current. The others on it need
// something of software or settings against flaws of the processor, which nobody
// can see from outside: they are graded as a warning.
var DefaultStatus = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"}

// Statuses are what a policy may list. Revoked is never taken.
var Statuses = append(DefaultStatus[:len(DefaultStatus):len(DefaultStatus)], "OutOfDate", "OutOfDateConfigurationNeeded")

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
