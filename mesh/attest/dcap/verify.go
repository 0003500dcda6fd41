package dcap

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// The collateral that evidence carries, by its names.
const (
	TCBItem       = "tcb-info"    // JSON, as Intel's server answers
	IdentityItem  = "qe-identity" // likewise
	SignerItem    = "tcb-chain"   // PEM: who signed both, and the root
	ListItem      = "pck-crl"     // DER: of the CA that signed the machine's key
	RootListItem  = "root-crl"    // DER: of the root
	tcbVersion    = 3
	identityV     = 2
	signerCerts   = 2
	platformCerts = 3
)

// Verify appraises evidence of an SGX enclave or a TDX machine: Report is the
// quote, which carries the chain of the machine's key.
func Verify(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	f := attest.Begin(e, x)
	root, err := intelRoot()
	if err != nil {
		f.Fail("Intel's root: %v", err)
		return f.End()
	}
	verify(f, e, x, root, x.Binding.ReportData())
	return f.End()
}

// appraisal is one in the making.
type appraisal struct {
	*attest.Finding
	e      *attest.Evidence
	x      *attest.Expect
	policy *attest.IntelPolicy
	quote  *quote
}

// verify holds evidence against a root and the report data that it is to have.
func verify(f *attest.Finding, e *attest.Evidence, x *attest.Expect, root *x509.Certificate, data [64]byte) {
	q, err := parseQuote(e.Report)
	if err == nil && q.kind != e.Kind {
		err = fmt.Errorf("the evidence says %.10q, and its quote is of %s", e.Kind, q.kind)
	}
	if err != nil {
		f.Fail("%v", err)
		return
	}
	a := &appraisal{Finding: f, e: e, x: x, policy: &x.Policy.TDX, quote: q}
	if q.kind == workload.LevelSGX {
		a.policy = &x.Policy.SGX
	}
	p, err := a.machine(root)
	if err != nil {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
		return
	}
	if err := a.signatures(); err != nil {
		f.Trust.Instance = attest.CryptoFailed
		f.Fail("%v", err)
		return
	}
	f.Trust.Instance, f.Trust.Hardware = attest.InstanceKnown, attest.HardwareGenuine
	f.Instance = workload.DigestOf(p.id)
	if err := a.firmware(root, p); err != nil {
		f.Trust.Hardware = attest.HardwareUnknown
		f.Fail("%v", err)
	}
	a.content(data)
}

// machine follows the chain of the machine's key, which it returns what is said of.
func (a *appraisal) machine(root *x509.Certificate) (*platform, error) {
	certs, err := parseChain(a.quote.chain, platformCerts)
	if err != nil {
		return nil, fmt.Errorf("the chain of the machine's key: %w", err)
	}
	path := chain(certs)
	if err := path.followed(a.x, root); err != nil {
		return nil, err
	}
	if err := path.unrevoked(a.Finding, a.e, a.x); err != nil {
		return nil, err
	}
	key, err := path.key()
	if err != nil {
		return nil, err
	}
	if !signedBy(key, a.quote.qe, a.quote.qeSigned) {
		return nil, errors.New("the quoting enclave's report is not signed by the machine's key")
	}
	return parsePlatform(path[0])
}

// signatures follows the way from the quoting enclave to the quote.
func (a *appraisal) signatures() error {
	if !a.quote.namesKey() {
		return errors.New("the quoting enclave's report does not name the key that signed the quote")
	}
	key, err := a.quote.attestationKey()
	if err != nil {
		return err
	}
	if !signedBy(key, a.quote.signed, a.quote.signature) {
		return errors.New("the quote's signature does not verify")
	}
	return nil
}

// firmware holds machine, enclave and module against what Intel says of them.
func (a *appraisal) firmware(root *x509.Certificate, p *platform) error {
	certs, err := parseChain(a.e.Item(SignerItem), signerCerts)
	if err != nil {
		return fmt.Errorf("%w: %s, who signed TCB information: %w", attest.ErrStale, SignerItem, err)
	}
	signers := chain(certs)
	if err := signers.followed(a.x, root); err != nil {
		return err
	}
	if err := signers.unrevoked(a.Finding, a.e, a.x); err != nil {
		return err
	}
	info, id := &tcbInfo{}, &identity{}
	if err := readSigned(a.e, TCBItem, "tcbInfo", signers, info); err != nil {
		return err
	}
	if err := readSigned(a.e, IdentityItem, "enclaveIdentity", signers, id); err != nil {
		return err
	}
	if err := a.documents(info, id, p); err != nil {
		return err
	}
	return a.judge(info, id, p)
}

// documents checks that what Intel says is of this kind of machine, and current.
func (a *appraisal) documents(info *tcbInfo, id *identity, p *platform) error {
	name, enclave := "TDX", "TD_QE"
	if a.quote.kind == workload.LevelSGX {
		name, enclave = "SGX", "QE"
	}
	if err := info.current(a.x, TCBItem, name, tcbVersion); err != nil {
		return err
	}
	if err := id.current(a.x, IdentityItem, enclave, identityV); err != nil {
		return err
	}
	a.Valid(info.Next)
	a.Valid(id.Next)
	switch {
	case !strings.EqualFold(info.FMSPC, p.fmspc) || !strings.EqualFold(info.PCEID, p.pceID) || info.Type != 0:
		return fmt.Errorf("%s is of machines %.12s-%.4s, and this is a %s-%s", TCBItem, info.FMSPC, info.PCEID, p.fmspc, p.pceID)
	case min(info.Evaluation, id.Evaluation) < a.policy.MinEvaluation:
		return fmt.Errorf("TCB information is of evaluation %d, at least %d is wanted (%s.min_evaluation)", min(info.Evaluation, id.Evaluation), a.policy.MinEvaluation, a.quote.kind)
	}
	return nil
}

// judge grades each part by what Intel says of its version.
func (a *appraisal) judge(info *tcbInfo, id *identity, p *platform) error {
	qe, err := id.level(a.quote.qe)
	if err != nil {
		return err
	}
	var tdx []byte
	if a.quote.kind == workload.LevelTDX {
		tdx = guest(a.quote.body).tcb()
		module, err := info.module(a.quote.body)
		if err != nil {
			return err
		}
		if module != nil {
			judge(a.Finding, a.policy, a.quote.kind, "TDX module", module)
		}
	}
	level, err := info.level(p, tdx)
	if err != nil {
		return err
	}
	judge(a.Finding, a.policy, a.quote.kind, "firmware", level)
	judge(a.Finding, a.policy, a.quote.kind, "quoting enclave", qe)
	a.TCB = workload.Cut(fmt.Sprintf("Intel %s, %s, quoting enclave %s, evaluation %d", p.fmspc, level.Status, qe.Status, info.Evaluation), 128)
	return nil
}

// content checks what the quote is about.
func (a *appraisal) content(data [64]byte) {
	var reported []byte
	if a.quote.kind == workload.LevelSGX {
		reported = enclave(a.quote.body).reportData()
		a.enclave(a.quote.body)
	} else {
		reported = guest(a.quote.body).reportData()
		a.guest(a.quote.body)
	}
	if !bytes.Equal(reported, data[:]) {
		a.Fail("the quote was made for another nonce, peer, connection, key or award")
	}
	a.Allowed(a.policy.Measurements)
}

// enclave grades an SGX enclave.
func (a *appraisal) enclave(e enclave) {
	a.Measure("mrenclave", e.mrEnclave())
	a.Measure("mrsigner", e.mrSigner())
	a.Note("the enclave is of product %d, version %d, by its signer's word", e.product(), e.version())
	a.secret(e.debug(), "it is an enclave in debug mode, which its host can read")
	a.Note("who runs the machine cannot read the enclave; what it shows and keeps is the enclave's matter")
}

// guest grades a TDX machine.
func (a *appraisal) guest(g guest) {
	for _, m := range g.measured() {
		a.Measure(m.Name, m.Value)
	}
	a.secret(g.underDebug(), "its host may debug it, and so read it: it was launched with a debugging attribute")
	if g.migratable() {
		a.Trust.Config = attest.ConfigRefused
		a.Fail("another machine may take it over, and so read it: it was launched with the MIGRATABLE attribute")
	}
	if !g.faultsHidden() {
		a.Note("its host may have its pages fault into it (SEPT_VE_DISABLE is not set): its kernel must be made for that")
	}
	a.Note("its host cannot read it; who is root inside of it can")
}

// secret grades whether the host can look inside.
func (a *appraisal) secret(debug bool, why string) {
	a.Trust.Runtime, a.Trust.Config = attest.MemorySealed, attest.ConfigSafe
	if debug {
		a.Trust.Config = attest.ConfigRefused
		a.Fail("%s", why)
	}
}
