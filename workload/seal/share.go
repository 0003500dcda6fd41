package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// ShareSize is the encoded size of a share in bytes, MaxShares the most of a key.
const (
	ShareSize = 1 + KeySize
	MaxShares = 8
)

// Share is one of n shares of a key, k of which give it back and fewer say
// nothing of it. Close it.
type Share struct {
	x byte // 1 to MaxShares: where the polynomials are taken
	y *Key // their values there
}

// Close overwrites the share. It is idempotent; a nil share is none.
func (s *Share) Close() {
	if s != nil {
		s.y.Close()
	}
}

// Bytes returns the encoded share, for a channel that nobody else reads. The
// caller clears it.
func (s *Share) Bytes() ([]byte, error) {
	out := []byte{s.x}
	err := s.y.with(func(secret []byte) error { out = append(out, secret...); return nil })
	return out, err
}

// ParseShare reads an encoded share and clears b.
func ParseShare(b []byte) (*Share, error) {
	defer clear(b)
	if len(b) != ShareSize || b[0] == 0 || b[0] > MaxShares {
		return nil, fmt.Errorf("%w: not a share", ErrSealed)
	}
	y, err := lock(b[1:])
	if err != nil {
		return nil, err
	}
	return &Share{x: b[0], y: y}, nil
}

// Split returns n shares of a key, any k of which give it back: for each byte a
// random polynomial of degree k-1 over GF(2^8) whose value at 0 is the byte.
func (k *Key) Split(need, n int) (shares []*Share, err error) {
	if need < 1 || n < need || n > MaxShares {
		return nil, fmt.Errorf("seal: %d of %d shares: want 1 to %d shares, and no more needed than there are", need, n, MaxShares)
	}
	poly := make([]byte, need*KeySize) // of byte i: poly[i*need:], the constant first
	defer clear(poly)
	_, _ = rand.Read(poly) // it does not fail
	err = k.with(func(secret []byte) error {
		for i, b := range secret {
			poly[i*need] = b
		}
		return nil
	})
	for x := byte(1); err == nil && int(x) <= n; x++ {
		values := make([]byte, KeySize)
		for i := range values {
			values[i] = valueAt(poly[i*need:(i+1)*need], x)
		}
		var y *Key
		if y, err = lock(values); err == nil {
			shares = append(shares, &Share{x: x, y: y})
		}
	}
	if err != nil {
		CloseShares(shares)
		return nil, err
	}
	return shares, nil
}

// CloseShares closes all of them.
func CloseShares(shares []*Share) {
	for _, s := range shares {
		s.Close()
	}
}

// Combine returns the key of some shares, by Lagrange's interpolation at 0. It
// is another key when a share is wrong or there are too few: compare its Check.
func Combine(shares []*Share) (*Key, error) {
	if len(shares) < 1 || len(shares) > MaxShares {
		return nil, fmt.Errorf("seal: %d shares: want 1 to %d", len(shares), MaxShares)
	}
	secret := make([]byte, KeySize)
	for i, s := range shares {
		factor := byte(1)
		for j, t := range shares {
			if i == j {
				continue
			}
			if s.x == t.x {
				clear(secret)
				return nil, errors.New("seal: the same share twice")
			}
			factor = mul(factor, mul(t.x, inverse(s.x^t.x)))
		}
		err := s.y.with(func(y []byte) error {
			for b := range secret {
				secret[b] ^= mul(factor, y[b])
			}
			return nil
		})
		if err != nil {
			clear(secret)
			return nil, err
		}
	}
	return lock(secret)
}

// CombineAny returns the key that check commits to from any need of shares,
// some of which may be wrong.
func CombineAny(shares []*Share, need int, check []byte) (*Key, error) {
	if len(shares) > MaxShares {
		shares = shares[:MaxShares]
	}
	for set := range 1 << len(shares) {
		var some []*Share
		for i, s := range shares {
			if set>>i&1 == 1 {
				some = append(some, s)
			}
		}
		if len(some) != need {
			continue
		}
		k, err := Combine(some)
		if err != nil {
			continue
		}
		if k.Is(check) {
			return k, nil
		}
		k.Close()
	}
	return nil, fmt.Errorf("%w: no %d of the %d shares that came fit together", ErrSealed, need, len(shares))
}

// valueAt is Horner's rule in GF(2^8).
func valueAt(poly []byte, x byte) (v byte) {
	for i := len(poly) - 1; i >= 0; i-- {
		v = mul(v, x) ^ poly[i]
	}
	return v
}

// mul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, AES's field (FIPS 197,
// section 4.2), in the same time for all values.
func mul(a, b byte) (p byte) {
	for range 8 {
		p ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return p
}

// inverse is a^254, which is 1/a, and 0 of 0.
func inverse(a byte) byte {
	r := byte(1)
	for range 7 {
		a = mul(a, a)
		r = mul(r, a)
	}
	return r
}
