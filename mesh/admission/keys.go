package admission

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of a node's key folder.
const (
	RootKeyFile     = "root.key"
	OperatorKeyFile = "operator.key"
	NodeKeyFile     = "node.key"
)

// maxKeyFile bounds what is read from a key file in bytes.
const maxKeyFile = 4096

const pemType = "PRIVATE KEY" // PKCS #8 (RFC 5958, RFC 8410)

// NewKey makes an Ed25519 key from the system's randomness.
func NewKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// SaveKey writes key as PKCS #8 in PEM to dir/name, durable when it returns:
// the folder is made with mode 0700, the file with mode 0600, and it replaces
// an older one whole or not at all.
func SaveKey(dir, name string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return WriteFile(dir, name, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
}

// LoadKey reads the key at dir/name. The error wraps fs.ErrNotExist when there
// is none, and ErrKeyFile when others may read it or it is not an Ed25519 key.
func LoadKey(dir, name string) (ed25519.PrivateKey, error) {
	raw, err := readPrivate(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return nil, fmt.Errorf("load %s: not one PEM private key: %w", name, ErrKeyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load %s: not a PKCS #8 key: %w", name, ErrKeyFile)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load %s: not an Ed25519 key: %w", name, ErrKeyFile)
	}
	return ed, nil
}

// LoadOrCreateKey loads the key at dir/name, and makes and saves it when there is none.
func LoadOrCreateKey(dir, name string) (ed25519.PrivateKey, error) {
	key, err := LoadKey(dir, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = NewKey(); err != nil {
		return nil, err
	}
	return key, SaveKey(dir, name, key)
}

func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("mode %v, want a file of mode 0600: %w", st.Mode(), ErrKeyFile)
	}
	if st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", st.Size(), maxKeyFile, ErrKeyFile)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// WriteFile replaces dir/name with data, durable when it returns, whole or not
// at all. The folder gets mode 0700 and the file 0600.
func WriteFile(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	tmp, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// FileStore is a Store in one file of mode 0600 in a folder of mode 0700.
type FileStore struct{ Dir, Name string }

// Load returns the file's content, or nothing when there is no file.
func (s FileStore) Load() ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, s.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save replaces the file, durable when it returns.
func (s FileStore) Save(b []byte) error { return WriteFile(s.Dir, s.Name, b) }
