package seal

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Binding is what a release is about. Both sides fill it in from what they know
// by themselves; a wrapped key opens only where all of it is equal.
type Binding struct {
	Workload workload.ID
	Slot     workload.SlotID
	Fence    workload.Fence
	From     workload.PeerID // who releases
	To       workload.PeerID // who is to run it
	Share    bool            // a share of the key, not the key
}

// info is the binding as bytes: all fields have a fixed length.
func (b *Binding) info() []byte {
	out := append([]byte("perrin/unseal/1\x00"), b.Workload.Cell[:]...)
	out = append(out, b.Workload.Random[:]...)
	out = binary.BigEndian.AppendUint32(out, uint32(b.Slot))
	out = binary.BigEndian.AppendUint64(out, b.Fence.Generation)
	out = binary.BigEndian.AppendUint64(out, b.Fence.Epoch)
	out = append(append(out, b.From[:]...), b.To[:]...)
	if b.Share {
		return append(out, 1)
	}
	return append(out, 0)
}

// The suite: a hybrid of ML-KEM-768 and X25519, HKDF-SHA256 and AES-256-GCM.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// Sizes of public keys and wrapped secrets in bytes.
const (
	PublicSize = 1216
	MaxWrapped = 1120 + ShareSize + 16
)

// Recipient is a key pair for one release. It is not safe for concurrent use.
type Recipient struct {
	private hpke.PrivateKey
	public  []byte
}

// NewRecipient makes a key pair.
func NewRecipient() (*Recipient, error) {
	kem, _, _ := suite()
	private, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Recipient{private: private, public: private.PublicKey().Bytes()}, nil
}

// Public returns the public key, of PublicSize bytes.
func (r *Recipient) Public() []byte { return r.public }

// Wrap encrypts a key to a recipient's public key, for what b says.
func (k *Key) Wrap(public []byte, b *Binding) (wrapped []byte, err error) {
	err = k.with(func(secret []byte) error { wrapped, err = wrap(public, b, secret); return err })
	return wrapped, err
}

// Wrap is Key.Wrap for a share.
func (s *Share) Wrap(public []byte, b *Binding) (wrapped []byte, err error) {
	err = s.y.with(func(secret []byte) error {
		plain := append([]byte{s.x}, secret...)
		defer clear(plain)
		wrapped, err = wrap(public, b, plain)
		return err
	})
	return wrapped, err
}

func wrap(public []byte, b *Binding, secret []byte) ([]byte, error) {
	kem, kdf, aead := suite()
	pk, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("seal: the recipient's key: %w", err)
	}
	return hpke.Seal(pk, kdf, aead, b.info(), secret)
}

// Key opens a wrapped key.
func (r *Recipient) Key(wrapped []byte, b *Binding) (*Key, error) {
	secret, err := r.open(wrapped, b, KeySize)
	if err != nil {
		return nil, err
	}
	return lock(secret)
}

// Share opens a wrapped share.
func (r *Recipient) Share(wrapped []byte, b *Binding) (*Share, error) {
	secret, err := r.open(wrapped, b, ShareSize)
	if err != nil {
		return nil, err
	}
	return ParseShare(secret)
}

func (r *Recipient) open(wrapped []byte, b *Binding, size int) ([]byte, error) {
	if len(wrapped) > MaxWrapped {
		return nil, fmt.Errorf("%w: a wrapped key of %d bytes", ErrSealed, len(wrapped))
	}
	_, kdf, aead := suite()
	secret, err := hpke.Open(r.private, kdf, aead, b.info(), wrapped)
	if err != nil || len(secret) != size {
		clear(secret)
		return nil, fmt.Errorf("%w: the wrapped key is for something else", ErrSealed)
	}
	return secret, nil
}
