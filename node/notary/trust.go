package notary

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/mesh/admission"
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
