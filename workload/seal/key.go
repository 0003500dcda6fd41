package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes in bytes.
const (
	KeySize   = 32
	SaltSize  = 32
	CheckSize = 16
)

// ErrMemory is returned when a key cannot be locked into memory.
var ErrMemory = errors.New("no memory can be locked for a key: raise the limit of locked memory (ulimit -l, LimitMEMLOCK)")

// Key is a content key. Its methods may be called from any goroutine; none but
// Close may be called after Close.
type Key struct {
	mu   sync.Mutex
	page []byte // locked; the key is its beginning
}

// lock copies secret, of KeySize bytes, to locked memory and clears it.
func lock(secret []byte) (*Key, error) {
	defer clear(secret)
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMemory, err)
	}
	if err := unix.Mlock(page); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrMemory, err), unix.Munmap(page))
	}
	_ = unix.Madvise(page, unix.MADV_DONTDUMP) // older kernels do not know it
	copy(page, secret)
	return &Key{page: page}, nil
}

// Derive returns the content key of the workload whose spec has the salt, of
// SaltSize bytes, and whose owner has the secret. Equal arguments give the same key.
func Derive(secret, salt []byte) (*Key, error) {
	if len(salt) != SaltSize {
		return nil, fmt.Errorf("seal: a salt of %d bytes, want %d", len(salt), SaltSize)
	}
	raw, err := hkdf.Key(sha256.New, secret, salt, "perrin/seal/1 content", KeySize)
	if err != nil {
		return nil, err
	}
	return lock(raw)
}

// NewSalt returns a random salt.
func NewSalt() []byte {
	salt := make([]byte, SaltSize)
	_, _ = rand.Read(salt) // it does not fail
	return salt
}

// Close overwrites the key and gives its memory back. It is idempotent; a nil
// key has none.
func (k *Key) Close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.page == nil {
		return
	}
	clear(k.page)
	_ = unix.Munmap(k.page)
	k.page = nil
}

// with shows the key to use, which must not keep it.
func (k *Key) with(use func(secret []byte) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.page == nil {
		return errors.New("seal: the key is closed")
	}
	return use(k.page[:KeySize])
}

// Check returns a public value that commits to the key: AES-GCM alone does not
// (Dodis, Grubbs, Ristenpart and Woodage, CRYPTO 2018), and who combines shares
// must know when they fit.
func (k *Key) Check() ([]byte, error) {
	sum, err := k.MAC("check", nil)
	return sum[:CheckSize], err
}

// Is reports whether the key is the one that check commits to.
func (k *Key) Is(check []byte) bool {
	sum, err := k.Check()
	return err == nil && hmac.Equal(sum, check)
}

// MAC returns an HMAC-SHA256 of data under a key derived from this one for a purpose.
func (k *Key) MAC(purpose string, data []byte) (sum [sha256.Size]byte, err error) {
	err = k.with(func(secret []byte) error {
		own, err := hkdf.Expand(sha256.New, secret, "perrin/seal/1 mac "+purpose, KeySize)
		if err != nil {
			return err
		}
		defer clear(own)
		m := hmac.New(sha256.New, own)
		m.Write(data)
		m.Sum(sum[:0])
		return nil
	})
	return sum, err
}
