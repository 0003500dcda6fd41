package attestor

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Bounds of the operator's folder.
const (
	maxPolicyFiles = 1024
	maxPolicyFile  = 1 << 20 // bytes
)

// KeysFile, in the folder, lists SHA-256 digests of endorsement keys, one a
// line as hex digits; what follows a # is for people.
const KeysFile = "tpm-keys"

// FilesFile, in the folder, lists SHA-256 digests of the files that a machine with a
// TPM may run, one a line as hex digits, as sha256sum prints them or the kernel
// does in its list; what follows a space is for people.
const FilesFile = "tpm-files"

// ErrPolicy is returned when a file in the operator's folder does not read.
var ErrPolicy = errors.New("attestation policy")

// LoadPolicy reads a folder: certificates of TPM makers and revocation lists of
// any maker in *.pem, KeysFile, FilesFile and PolicyFile. A folder that is not there is an
// empty one.
func LoadPolicy(dir string) (*attest.Policy, error) {
	p := &attest.Policy{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || dir == "" {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if len(entries) > maxPolicyFiles {
		return nil, fmt.Errorf("%w: %s has %d files, at most %d", ErrPolicy, dir, len(entries), maxPolicyFiles)
	}
	for _, e := range entries {
		err := loadFile(p, filepath.Join(dir, e.Name()))
		if place := (*document.Error)(nil); errors.As(err, &place) {
			return nil, fmt.Errorf("%w: %w", ErrPolicy, err) // it names the file
		} else if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, e.Name(), err)
		}
	}
	return p, nil
}

func loadFile(p *attest.Policy, path string) error {
	b, err := readPolicy(path)
	if b == nil {
		return err
	}
	switch filepath.Base(path) {
	case KeysFile:
		return loadKeys(p, b)
	case FilesFile:
		return loadFiles(p, b)
	case PolicyFile:
		return loadSheet(p, b)
	}
	return loadPEM(p, b)
}

func loadPEM(p *attest.Policy, b []byte) error {
	found := 0
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		found++
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("block %d: %w", found, err)
			}
			p.TPMRoots = append(p.TPMRoots, cert)
		case "X509 CRL":
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return fmt.Errorf("block %d: %w", found, err)
			}
			p.Revoked = append(p.Revoked, list)
		default:
			return fmt.Errorf("block %d is a %.40q; want CERTIFICATE or X509 CRL", found, block.Type)
		}
	}
	if found == 0 {
		return errors.New("there is no PEM block in it")
	}
	return nil
}

func loadKeys(p *attest.Policy, b []byte) error {
	return digests(b, "as `perrin attest` prints it", func(d workload.Digest) { p.TPMKeys = append(p.TPMKeys, d) })
}

func loadFiles(p *attest.Policy, b []byte) error {
	p.TPMFiles = map[workload.Digest]bool{}
	err := digests(b, "as sha256sum prints it", func(d workload.Digest) { p.TPMFiles[d] = true })
	if err == nil && len(p.TPMFiles) == 0 {
		return errors.New("it lists no file, so that no machine could count; remove it to take whatever a machine runs")
	}
	return err
}

// digests reads a digest a line; a # or a space behind it begins what is for people.
func digests(b []byte, as string, add func(workload.Digest)) error {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		text, _, _ = strings.Cut(strings.TrimPrefix(text, "sha256:"), " ")
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != len(workload.Digest{}) {
			return fmt.Errorf("line %d: want 64 hex digits, a SHA-256 digest %s", n, as)
		}
		add(workload.Digest(raw))
	}
	return lines.Err()
}

// PolicyDigest is equal on two nodes whose folders say the same: a SHA-256 over the names
// and contents of the files that LoadPolicy reads, in the order of their names. It is zero
// where there are none, or one does not read.
func PolicyDigest(dir string) workload.Digest {
	d, err := policyDigest(dir)
	if err != nil {
		return workload.Digest{}
	}
	return d
}

// Rules is the PolicyDigest of what this node asks of machines at the moment: what was
// appraised under others does not count under these. An error is ErrPolicy, of a folder
// that LoadPolicy would not read.
func (a *Attestor) Rules() (workload.Digest, error) { return policyDigest(a.cfg.Policy) }

func policyDigest(dir string) (workload.Digest, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || dir == "":
		return workload.Digest{}, nil
	case err != nil:
		return workload.Digest{}, fmt.Errorf("%w: %w", ErrPolicy, err)
	case len(entries) > maxPolicyFiles:
		return workload.Digest{}, fmt.Errorf("%w: %s has %d files, at most %d", ErrPolicy, dir, len(entries), maxPolicyFiles)
	}
	h, any := sha256.New(), false
	for _, e := range entries {
		b, err := readPolicy(filepath.Join(dir, e.Name()))
		if err != nil {
			return workload.Digest{}, fmt.Errorf("%w: %s: %w", ErrPolicy, e.Name(), err)
		}
		if b != nil {
			fmt.Fprintf(h, "%q %x\n", e.Name(), sha256.Sum256(b))
			any = true
		}
	}
	if !any {
		return workload.Digest{}, nil
	}
	return workload.Digest(h.Sum(nil)), nil
}

// readPolicy reads one file of the folder, or returns nil of one that is none of it.
func readPolicy(path string) ([]byte, error) {
	name := filepath.Base(path)
	if meant := slipOf(name); meant != "" {
		return nil, fmt.Errorf("call it %s, or it is not read; as a copy, name it %s.old", meant, meant)
	}
	if !isPolicy(name) {
		return nil, nil
	}
	about, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if about.Size() > maxPolicyFile {
		return nil, fmt.Errorf("%d bytes, at most %d", about.Size(), maxPolicyFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, b...), nil // not nil, though it be empty
}

// isPolicy reports whether LoadPolicy reads a file of that name.
func isPolicy(name string) bool {
	return name == KeysFile || name == FilesFile || name == PolicyFile || strings.HasSuffix(name, ".pem")
}

// slipOf returns what a file that LoadPolicy does not read was most likely to be called,
// or "": a rule that is left out in silence would take anything. Copies that say so
// (.old, .bak, ~) and hidden files are nobody's rules.
func slipOf(name string) string {
	ext := filepath.Ext(name)
	if isPolicy(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || slices.Contains([]string{".old", ".orig", ".bak"}, ext) {
		return ""
	}
	if strings.EqualFold(ext, ".pem") {
		return strings.TrimSuffix(name, ext) + ".pem"
	}
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch document.Nearest(strings.ReplaceAll(stem, "_", "-"), []string{"policy", KeysFile, FilesFile}) {
	case "policy":
		return PolicyFile
	case KeysFile:
		return KeysFile
	case FilesFile:
		return FilesFile
	}
	return ""
}
