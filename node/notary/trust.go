package notary

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// TrustType is what a trust file says that it is.
const TrustType = "https://github.com/perrin-mesh/perrin/trust/v1"

// MaxTrust bounds a trust file in bytes: a whole deny list in base64.
const MaxTrust = 4 << 20

// ErrTrust is returned for what is no trust file, or one that does not verify.
var ErrTrust = errors.New("not a trust file")

// TrustFile is what the root and operators of a mesh have said, as a node knew it: the
// encoded admission.Statements, which prove themselves below the root.
type TrustFile struct {
	Type       string          `json:"type"`
	Root       workload.PeerID `json:"root"`
	Statements []byte          `json:"statements"`
	// Written says which node wrote it and when; files of before have none.
	Written *Written `json:"written,omitempty"`
}

// Written is a node's word on when it knew what a trust file says.
type Written struct {
	By          workload.PeerID `json:"by"`
	At          time.Time       `json:"at"` // to the ms
	Signature   []byte          `json:"signature"`
	Certificate []byte          `json:"certificate"` // its chain, encoded
}

// written is what the node signs.
type written struct {
	Root       workload.PeerID `cbor:"1,keyasint"`
	Statements workload.Digest `cbor:"2,keyasint"`
	At         int64           `cbor:"3,keyasint"` // ms
}

func (f *TrustFile) written(at time.Time) []byte {
	return wire.MustMarshal(written{f.Root, workload.DigestOf(f.Statements), at.UnixMilli()})
}

// Date has a node with a certificate sign when the file was written.
func (f *TrustFile) Date(key ed25519.PrivateKey, certificate []byte, now time.Time) {
	now = now.UTC().Truncate(time.Millisecond)
	s := workload.Sign(workload.DomainTrustFile, f.written(now), key)
	f.Written = &Written{By: s.By, At: now, Signature: s.Sig, Certificate: certificate}
}

// dated verifies the file's date, if it has one.
func (f *TrustFile) dated(past *admission.Past) error {
	w := f.Written
	if w == nil {
		return nil
	}
	chain, err := admission.OpenChain(w.Certificate)
	if err != nil {
		return fmt.Errorf("its date: %w", err)
	}
	switch {
	case chain.Root != f.Root || chain.Node != w.By:
		return fmt.Errorf("its date: %s is not the node that the certificate names: %w", w.By.Short(), admission.ErrNotAdmitted)
	case w.At.Before(chain.From.Add(-admission.ClockSkew)) || w.At.After(chain.To.Add(admission.OfflineGrace+admission.ClockSkew)):
		return fmt.Errorf("its date: %s had no certificate at %s: %w", w.By.Short(), w.At.UTC().Format(time.RFC3339), admission.ErrExpired)
	}
	if err := (workload.Signed{By: w.By, Payload: f.written(w.At), Sig: w.Signature}).Verify(workload.DomainTrustFile); err != nil {
		return fmt.Errorf("its date: %w", err)
	}
	if err := past.Stood(w.By, chain.Operator, w.At); err != nil {
		return fmt.Errorf("its date is the word of %s: %w", w.By.Short(), err)
	}
	past.Written, past.By = w.At, w.By
	return nil
}

// ReadTrust decodes a trust file and verifies all that it says.
func ReadTrust(raw []byte) (*admission.Past, error) {
	var f TrustFile
	if len(raw) > MaxTrust {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTrust, len(raw), MaxTrust)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%w: %.200s", ErrTrust, err.Error())
	}
	if f.Type != TrustType {
		return nil, fmt.Errorf("%w: type %.80q, want %q", ErrTrust, f.Type, TrustType)
	}
	past, err := admission.OpenPast(f.Root, f.Statements)
	if err == nil {
		err = f.dated(past)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	return past, nil
}

// Encode returns the file.
func (f *TrustFile) Encode() ([]byte, error) {
	f.Type = TrustType
	raw, err := json.MarshalIndent(f, "", " ")
	return append(raw, '\n'), err
}
