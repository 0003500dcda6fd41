package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of sealed work.
const (
	MaxSealBlobs   = 4096 // contents of one sealed workload
	MaxSealHelpers = 8
	MaxSealBody    = 1 << 20  // bytes of the sealed part of a spec
	MaxSecrets     = 64       // of a workload
	MaxSecretSize  = 64 << 10 // bytes of one
	MaxSecretsSize = 256 << 10
)

// Seal says that a workload is sealed: its spec holds only what placing it needs
// (kind, shape, limits, how many tasks, a name or label that its owner gave it
// for all to see), and Body the rest. Salt alone, without a Body, marks a spec
// that its owner's node has yet to seal. Cell and Home are here since the owner
// signs them: a leader's word for either would be a way to the key.
type Seal struct {
	Salt    []byte   `cbor:"1,keyasint" json:"salt" max:"32"`                        // of the content key
	Check   []byte   `cbor:"2,keyasint,omitempty" json:"check,omitempty" max:"16"`   // commits to the content key
	Body    Ref      `cbor:"3,keyasint" json:"body"`                                 // the whole spec, sealed
	Blobs   []Ref    `cbor:"4,keyasint,omitempty" json:"blobs,omitempty" max:"4096"` // the sealed contents that it names
	Need    uint32   `cbor:"5,keyasint,omitempty" json:"need,omitempty"`             // helpers that together release the key
	Helpers []PeerID `cbor:"6,keyasint,omitempty" json:"helpers,omitempty" max:"8"`  // nodes that hold a share of it, so that the owner's need not be up
	Cell    CellID   `cbor:"7,keyasint" json:"cell"`                                 // that the work is submitted to: who holds a slot, it alone says
	Home    PeerID   `cbor:"8,keyasint" json:"home"`                                 // the owner's node that it is submitted on, which releases the key and sees its output
}

// Guarantee says in a sentence what a spec asks to be proved and what sealing
// comes to with that; "" where it asks for neither.
func (s *Spec) Guarantee() string {
	switch {
	case s.Seal == nil && s.Require == nil:
		return ""
	case s.Seal == nil:
		return fmt.Sprintf("each node must prove %s to the leader before it is asked for a bid", s.Require)
	case s.Require == nil:
		return "sealed in transit and at rest; open to whoever owns the machine that runs it, which proves nothing about itself (level none)"
	}
	return fmt.Sprintf("sealed; the key goes to a node that proves %s, afresh, to whoever releases it; who owns that machine may still open it", s.Require)
}

// Secret is content for the program alone.
type Secret struct {
	Name string `cbor:"1,keyasint" json:"name" max:"64"`
	Data []byte `cbor:"2,keyasint" json:"data" max:"65536"`
}

// Sealed reports whether the spec's content is in its sealed body.
func (s *Spec) Sealed() bool { return s.Seal != nil && !s.Seal.Body.IsZero() }

// Public returns the part of a spec that a sealed workload shows to everybody.
func (s *Spec) Public() Spec {
	p := *s
	p.Program = Program{Kind: s.Program.Kind, Host: s.Program.Host}
	p.Args, p.Env, p.Inputs, p.Secrets = nil, nil, nil, nil
	p.Tasks, p.Stdin, p.Seal = Tasks{Count: s.Tasks.Count}, Ref{}, nil
	return p
}

// validateSeal checks what is particular to sealed work.
func (s *Spec) validateSeal() error {
	if s.Seal == nil {
		if len(s.Secrets) > 0 {
			return errors.New("secrets: only sealed work has secrets; add --seal (seal: true)")
		}
		return nil
	}
	c := s.Seal
	switch {
	case s.Program.Kind != Wasm && s.Program.Kind != Process:
		return fmt.Errorf("seal: programs of kind %q cannot be sealed yet, since nodes keep images and machines unpacked; want %q or %q", s.Program.Kind, Wasm, Process)
	case len(s.After) > 0:
		return errors.New("seal: sealed work cannot come after other workloads yet")
	case len(c.Salt) != 32:
		return fmt.Errorf("seal.salt: want 32 bytes, got %d", len(c.Salt))
	case len(c.Helpers) > MaxSealHelpers:
		return fmt.Errorf("seal.helpers: want at most %d, got %d", MaxSealHelpers, len(c.Helpers))
	case int64(c.Need) > int64(len(c.Helpers)) || (c.Need == 0) != (len(c.Helpers) == 0):
		return fmt.Errorf("seal.need: want 1 to %d helpers, got %d", len(c.Helpers), c.Need)
	}
	for i, h := range c.Helpers {
		if h.IsZero() || slices.Contains(c.Helpers[:i], h) {
			return errors.New("seal.helpers: a node is listed twice, or is none")
		}
	}
	return s.validateSecrets()
}

func (s *Spec) validateSecrets() error {
	seen, sum := map[string]bool{}, 0
	for _, sec := range s.Secrets {
		sum += len(sec.Data)
		switch {
		case !SecretName(sec.Name) || seen[sec.Name]:
			return fmt.Errorf("secrets: %.80q: want a name of its own, of 1 to 64 letters, digits, dots, _ and -", sec.Name)
		case len(sec.Data) > MaxSecretSize:
			return fmt.Errorf("secrets: %s has %d bytes, at most %d", sec.Name, len(sec.Data), MaxSecretSize)
		}
		seen[sec.Name] = true
	}
	switch {
	case len(s.Secrets) > MaxSecrets:
		return fmt.Errorf("secrets: want at most %d, got %d", MaxSecrets, len(s.Secrets))
	case sum > MaxSecretsSize:
		return fmt.Errorf("secrets: %d bytes in all, at most %d", sum, MaxSecretsSize)
	}
	return nil
}

// SecretName reports whether name may name a secret, which is a file's name too.
func SecretName(name string) bool {
	return name != "" && len(name) <= 64 && name != "." && name != ".." && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == ""
}

// validatePublic checks the spec of a sealed workload: what is sealed must not
// stand beside it.
func (s *Spec) validatePublic() error {
	c, p := s.Seal, s.Program
	named := p.Name != "" || !p.Blob.IsZero() || len(p.Layers)+len(p.Parts) > 0
	switch {
	case s.Version != SpecVersion:
		return fmt.Errorf("version: this node speaks %d, got %d", SpecVersion, s.Version)
	case named || len(s.Args)+len(s.Env)+len(s.Inputs)+len(s.Secrets)+len(s.Tasks.Inline) > 0 || !s.Tasks.Table.IsZero() || !s.Stdin.IsZero():
		return errors.New("seal: content stands beside the sealed body")
	case p.Host != "" && (p.Kind != Process || !HostProgram(p.Host)):
		return fmt.Errorf("program.host: %.80q is not a program of the node's", p.Host)
	case len(c.Check) != 16:
		return fmt.Errorf("seal.check: want 16 bytes, got %d", len(c.Check))
	case c.Body.Size < 1 || c.Body.Size > MaxSealBody:
		return fmt.Errorf("seal.body: want 1 to %d bytes, got %d", MaxSealBody, c.Body.Size)
	case len(c.Blobs) > MaxSealBlobs:
		return fmt.Errorf("seal.blobs: want at most %d contents, got %d", MaxSealBlobs, len(c.Blobs))
	case s.Tasks.Count < 1 || s.Tasks.Count > MaxTasks:
		return fmt.Errorf("tasks.count: want 1 to %d, got %d", MaxTasks, s.Tasks.Count)
	}
	for _, r := range c.Blobs {
		if r.IsZero() || r.Size < 0 {
			return errors.New("seal.blobs: one has no content")
		}
	}
	return nil
}
