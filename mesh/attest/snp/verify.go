package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// ListItem is the collateral that holds AMD's revocation list (DER) of the
// product, as https://kdsintf.amd.com/vcek/v1/PRODUCT/crl answers.
const ListItem = "crl"

// Verify appraises evidence of an SEV-SNP machine: Report is the report as the
// firmware made it, Chain the certificate of the key that signed it.
func Verify(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	f := attest.Begin(e, x)
	amd, err := makers()
	if err != nil {
		f.Fail("AMD's roots: %v", err)
		return f.End()
	}
	verify(f, e, x, amd, x.Binding.ReportData())
	return f.End()
}

// verify holds evidence against makers and the report data that it is to have.
func verify(f *attest.Finding, e *attest.Evidence, x *attest.Expect, from []maker, data [64]byte) {
	r, err := parseReport(e.Report)
	if err != nil {
		f.Fail("%v", err)
		return
	}
	key, err := parseEndorsement(e.Chain)
	if err != nil {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
		return
	}
	digest := sha512.Sum384(r.signed)
	if !ecdsa.Verify(key.key, digest[:], r.r, r.s) {
		f.Trust.Instance = attest.CryptoFailed
		f.Fail("the report's signature does not verify")
		return
	}
	if err := key.follow(r.signer, from); err != nil {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
		return
	}
	if !bytes.Equal(r.reportData, data[:]) {
		f.Fail("the report was made for another nonce, peer, connection, key or award")
	}
	verifyChain(f, e, x, key)
	verifyMachine(f, x.Policy, r, key)
	verifyGuest(f, x.Policy, r)
}

// verifyChain checks dates and revocation of the certificates.
func verifyChain(f *attest.Finding, e *attest.Evidence, x *attest.Expect, key *endorsement) {
	f.Trust.Hardware = attest.HardwareGenuine
	refuse := func(err error) {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
	}
	for _, c := range []*x509.Certificate{key.cert, key.by.issuer, key.by.root} {
		f.Valid(c.NotAfter)
		if err := x.ValidAt(c); err != nil {
			refuse(err)
		}
	}
	lists, err := attest.Lists(e, ListItem)
	if err != nil {
		refuse(err)
		return
	}
	// AMD lists what its root signed; keys of chips have no numbers of their own.
	until, err := x.Unrevoked(lists, key.by.root, key.by.issuer)
	switch {
	case err != nil:
		refuse(err)
	case until.IsZero():
		f.Note("no current revocation list of AMD came along; the policy does without")
	default:
		f.Valid(until)
	}
}

// verifyMachine checks which chip signed, and its firmware.
func verifyMachine(f *attest.Finding, p *attest.Policy, r *report, key *endorsement) {
	f.Trust.Instance = attest.InstanceKnown
	f.Instance = workload.DigestOf(r.chip)
	if !key.names(r.chip) {
		f.Trust.Instance = attest.InstanceUnknown
		f.Fail("the certificate is of another chip than the report names")
	}
	tcb := tcbOf(key.by.product, r.reportedTCB)
	product := strings.ToUpper(key.by.product[:1]) + key.by.product[1:]
	f.TCB = fmt.Sprintf("%s, %s", product, tcb)
	if tcb != key.tcb {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("the report is of firmware %s, and the certificate of %s", tcb, key.tcb)
	}
	least, listed := p.SNP.MinTCB[key.by.product]
	switch below := tcb.Below(least); {
	case len(p.SNP.MinTCB) == 0:
		f.Note("its firmware is held against no least version: the policy has no snp.min_tcb")
	case !listed:
		f.Trust.Hardware = attest.HardwareRefused
		f.Fail("it is a %s, for which the policy (snp.min_tcb) names no least firmware", product)
	case below != "":
		f.Trust.Hardware = attest.HardwareRefused
		f.Fail("its firmware is too old: %s (snp.min_tcb)", below)
	}
	if r.signer == signedByCloud {
		f.Note("a cloud's key signed, which AMD gave it: the cloud vouches for which chip it is")
	}
}

// verifyGuest checks how the virtual machine was launched.
func verifyGuest(f *attest.Finding, p *attest.Policy, r *report) {
	f.Measure("launch", r.launch)
	f.Measure("host-data", r.hostData)
	if !zero(r.idKey) {
		f.Measure("id-key", r.idKey)
	}
	if !zero(r.authorKey) {
		f.Measure("author-key", r.authorKey)
	}
	f.Trust.Runtime, f.Trust.Config = attest.MemorySealed, attest.ConfigSafe
	unsafe := func(format string, args ...any) {
		f.Trust.Config = attest.ConfigRefused
		f.Fail(format, args...)
	}
	if r.guestPolicy&policyDebug != 0 {
		unsafe("its host may debug it, and so read it: it was launched with the DEBUG bit of its policy")
	}
	if r.guestPolicy&policyMigrate != 0 {
		unsafe("a migration agent may move it, and so read it: it was launched with the MIGRATE_MA bit of its policy")
	}
	if r.vmpl > p.SNP.MaxVMPL {
		unsafe("the report is of privilege level %d of the machine, at most %d is taken (snp.max_vmpl)", r.vmpl, p.SNP.MaxVMPL)
	}
	if r.guestPolicy&policySMT != 0 {
		f.Note("it may share cores with the sibling threads of its host (SMT)")
	}
	f.Allowed(p.SNP.Measurements)
	f.Note("%s", guestNote)
}

// guestNote says what a level of a whole virtual machine leaves open.
const guestNote = "its host cannot read it; who is root inside of it can"
