package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/perrin-mesh/perrin/mesh/attest"
	tpmcheck "github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/workload"
)

// TPM makes quotes of a TPM 2.0. Nothing stays in the chip: it has room for
// three keys, so each call makes its keys from their seed, and drops them.
type TPM struct{ files Files }

// NewTPM returns the source of a machine's TPM.
func NewTPM(f Files) *TPM { return &TPM{files: f} }

// Kind implements Source.
func (t *TPM) Kind() workload.Level { return workload.LevelTPM }

// Probe implements Source.
func (t *TPM) Probe() error {
	return t.with(func(chip transport.TPM) error {
		_, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTFamilyIndicator), PropertyCount: 1}.Execute(chip)
		if err != nil {
			return fmt.Errorf("its TPM does not answer as one of version 2.0: %w", err)
		}
		return nil
	})
}

func (t *TPM) with(do func(transport.TPM) error) error {
	if t.files.TPM == nil {
		return errors.New("no TPM 2.0 is configured")
	}
	conn, err := t.files.TPM()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no TPM 2.0 (%s does not exist); a PC has one when it is switched on in the firmware's settings", TPMDevice)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("there is a TPM, but this user may not open %s; run the daemon as root or add its user to the group tss", TPMDevice)
	case err != nil:
		return fmt.Errorf("open the TPM: %w", err)
	}
	chip := transport.FromReadWriteCloser(conn)
	return errors.Join(do(chip), chip.Close())
}

// akTemplate is the attestation key: a primary of the endorsement hierarchy, so
// that it is the same each time, and that its quotes tell the clock and the
// number of restarts as they are.
func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
		}),
	}
}

// key is a primary key of the endorsement hierarchy, loaded.
type key struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPM2BPublic
}

func primary(chip transport.TPM, template tpm2.TPMTPublic) (*key, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(template),
	}.Execute(chip)
	if err != nil {
		return nil, fmt.Errorf("make a key in the endorsement hierarchy: %w", err)
	}
	return &key{handle: made.ObjectHandle, name: made.Name, public: made.OutPublic}, nil
}

func (k *key) drop(chip transport.TPM) {
	_, _ = tpm2.FlushContext{FlushHandle: k.handle}.Execute(chip) // the chip drops it at the next reset at the latest
}

// quoted are the registers that a quote covers: what firmware, boot loader,
// kernel and IMA extend. 16 and above are for debugging and for late launch.
const quoted = 16

// Collect implements Source.
func (t *TPM) Collect(_ context.Context, b *attest.Binding) (e *attest.Evidence, err error) {
	err = t.with(func(chip transport.TPM) error {
		e, err = t.collect(chip, b)
		return err
	})
	return e, err
}

func (t *TPM) collect(chip transport.TPM, b *attest.Binding) (*attest.Evidence, error) {
	e := &attest.Evidence{Version: attest.Version, Kind: workload.LevelTPM}
	chain, template, err := endorsement(chip)
	if err != nil {
		return nil, err
	}
	e.Chain = chain
	if len(chain) == 0 {
		if err := bareEndorsement(chip, e, template); err != nil {
			return nil, err
		}
	}
	ak, err := primary(chip, akTemplate())
	if err != nil {
		return nil, err
	}
	defer ak.drop(chip)
	e.Key = ak.public.Bytes()
	if err := quote(chip, ak, b, e); err != nil {
		return nil, err
	}
	e.BootLog = t.read("sys/kernel/security/tpm0/binary_bios_measurements", 1<<20)
	e.FileLog = t.read("sys/kernel/security/ima/binary_runtime_measurements", 2<<20)
	return e, nil
}

// read returns a file of the kernel's that may be missing or too large to send;
// then the evidence says less.
func (t *TPM) read(path string, most int) []byte {
	b, err := os.ReadFile(filepath.Join(t.files.Root, path))
	if err != nil || len(b) == 0 || len(b) > most {
		return nil
	}
	return b
}

// quoteTries is how often a quote is made again because a register changed
// between it and its reading, as IMA's does.
const quoteTries = 5

func quote(chip transport.TPM, ak *key, b *attest.Binding, e *attest.Evidence) error {
	data := b.Qualifying()
	for range quoteTries {
		signed, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: data[:]},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      selection(0, quoted),
		}.Execute(chip)
		if err != nil {
			return fmt.Errorf("quote: %w", err)
		}
		e.Report, e.Signature = signed.Quoted.Bytes(), tpm2.Marshal(signed.Signature)
		if e.PCRs, err = registers(chip); err != nil {
			return err
		}
		if tpmcheck.Covers(e) {
			return nil
		}
	}
	return errors.New("the TPM's registers change faster than they can be read")
}

func selection(from, to uint) tpm2.TPMLPCRSelection {
	var list []uint
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(list...)}}}
}

// registers reads the quoted registers, of which a TPM returns eight at a time.
func registers(chip transport.TPM) ([]attest.PCR, error) {
	var out []attest.PCR
	for from := uint(0); from < quoted; from += 8 {
		read, err := tpm2.PCRRead{PCRSelectionIn: selection(from, from+8)}.Execute(chip)
		if err != nil {
			return nil, fmt.Errorf("read registers: %w", err)
		}
		if len(read.PCRValues.Digests) != 8 {
			return nil, errors.New("the TPM has no SHA-256 registers switched on")
		}
		for i, d := range read.PCRValues.Digests {
			out = append(out, attest.PCR{Index: uint8(from) + uint8(i), Value: d.Buffer})
		}
	}
	return out, nil
}

// Where makers keep the certificates of endorsement keys (EK Credential Profile
// 2.6, section 2.2.1.4), and their intermediate ones from chainIndex on.
const (
	eccCertIndex = 0x01c0000a
	rsaCertIndex = 0x01c00002
	chainIndex   = 0x01c00100
	maxChain     = 4
)

// endorsement reads the certificate of an endorsement key, and its template:
// P-256, which chips make quickly, before RSA.
func endorsement(chip transport.TPM) ([]attest.Blob, tpm2.TPMTPublic, error) {
	template := tpm2.ECCEKTemplate
	leaf := certificate(chip, eccCertIndex)
	if leaf == nil {
		if leaf = certificate(chip, rsaCertIndex); leaf != nil {
			template = tpm2.RSAEKTemplate
		}
	}
	if leaf == nil {
		return nil, template, nil
	}
	chain := []attest.Blob{{Data: leaf}}
	for i := range tpm2.TPMHandle(maxChain) {
		c := certificate(chip, chainIndex+i)
		if c == nil {
			break
		}
		chain = append(chain, attest.Blob{Data: c})
	}
	return chain, template, nil
}

// bareEndorsement puts the endorsement key itself into evidence.
func bareEndorsement(chip transport.TPM, e *attest.Evidence, template tpm2.TPMTPublic) error {
	ek, err := primary(chip, template)
	if err != nil {
		return err
	}
	defer ek.drop(chip)
	public, err := ek.public.Contents()
	if err != nil {
		return err
	}
	spki, err := tpmcheck.MarshalKey(public)
	if err != nil {
		return err
	}
	e.Extra = append(e.Extra, attest.Item{Name: tpmcheck.EndorsementItem, Data: spki})
	return nil
}

// certificate reads one from the chip's memory; nil when there is none.
func certificate(chip transport.TPM, index tpm2.TPMHandle) []byte {
	about, err := tpm2.NVReadPublic{NVIndex: index}.Execute(chip)
	if err != nil {
		return nil
	}
	public, err := about.NVPublic.Contents()
	if err != nil || public.DataSize > 8192 {
		return nil
	}
	raw := cryptobyte.String(readNV(chip, index, about.NVName, public.DataSize))
	var cert cryptobyte.String
	if !raw.ReadASN1Element(&cert, asn1.SEQUENCE) { // what follows is padding
		return nil
	}
	return cert
}

func readNV(chip transport.TPM, index tpm2.TPMHandle, name tpm2.TPM2BName, size uint16) (out []byte) {
	const step = 512 // chips read at least so much at once
	for at := uint16(0); at < size; at += step {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: name, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: name}, Size: min(step, size-at), Offset: at,
		}.Execute(chip)
		if err != nil {
			return nil
		}
		out = append(out, part.Data.Buffer...)
	}
	return out
}

// Activate implements Activator.
func (t *TPM) Activate(credential, encrypted []byte) (secret []byte, err error) {
	err = t.with(func(chip transport.TPM) error {
		_, template, err := endorsement(chip)
		if err != nil {
			return err
		}
		ek, err := primary(chip, template)
		if err != nil {
			return err
		}
		defer ek.drop(chip)
		ak, err := primary(chip, akTemplate())
		if err != nil {
			return err
		}
		defer ak.drop(chip)
		opened, err := tpm2.ActivateCredential{
			ActivateHandle: tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
			KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: ek.name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsementPolicy)},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
		}.Execute(chip)
		if err != nil {
			return fmt.Errorf("open the credential: %w", err)
		}
		secret = opened.CertInfo.Buffer
		return nil
	})
	return secret, err
}

// endorsementPolicy is what allows the use of an endorsement key: the
// authorisation of its hierarchy, which is empty unless the owner set one.
func endorsementPolicy(chip transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce,
	}.Execute(chip)
	return err
}
