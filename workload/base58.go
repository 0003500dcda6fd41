package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Base58 as Bitcoin and libp2p write it: the bytes are one big number, and each
// zero byte before it is a leading "1". Peer IDs are printed for every answer of
// the API and every line of a log, so the number is worked on in limbs of 32 bits
// and five digits at a time.

const (
	base58Alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	base58Step     = 5                      // digits
	base58Power    = 58 * 58 * 58 * 58 * 58 // fits into 32 bits
)

func encodeBase58(b []byte) string {
	zeros := len(b) - len(bytes.TrimLeft(b, "\x00"))
	number := limbsOf(b)
	out := make([]byte, 0, len(b)*7/5+base58Step) // log 256 / log 58 is 1.37
	for len(number) > 0 {
		digits := divide(number, base58Power)
		for range base58Step {
			out = append(out, base58Alphabet[digits%58])
			digits /= 58
		}
		for len(number) > 0 && number[0] == 0 {
			number = number[1:]
		}
	}
	for len(out) > 0 && out[len(out)-1] == base58Alphabet[0] {
		out = out[:len(out)-1]
	}
	for range zeros {
		out = append(out, base58Alphabet[0])
	}
	slices.Reverse(out)
	return string(out)
}

// decodeBase58 is the inverse of encodeBase58.
func decodeBase58(s string) ([]byte, error) {
	number := make([]uint32, (len(s)*3/4+3)/4+1) // log 58 / log 256 is 0.73
	for _, c := range []byte(s) {
		digit := strings.IndexByte(base58Alphabet, c)
		if digit < 0 {
			return nil, fmt.Errorf("%q is not a base58 digit", c)
		}
		carry := uint64(digit)
		for i := len(number) - 1; i >= 0; i-- {
			carry += uint64(number[i]) * 58
			number[i] = uint32(carry)
			carry >>= 32
		}
	}
	zeros := len(s) - len(strings.TrimLeft(s, base58Alphabet[:1]))
	out := make([]byte, 0, 4*len(number)+zeros)
	for _, limb := range number {
		out = binary.BigEndian.AppendUint32(out, limb)
	}
	return append(make([]byte, zeros), bytes.TrimLeft(out, "\x00")...), nil
}

// limbsOf returns a big-endian number in limbs, the greatest first, without
// leading zeros.
func limbsOf(b []byte) []uint32 {
	b = bytes.TrimLeft(b, "\x00")
	padded := append(make([]byte, (4-len(b)%4)%4, len(b)+3), b...)
	limbs := make([]uint32, len(padded)/4)
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint32(padded[4*i:])
	}
	return limbs
}

// divide divides a number in place and returns the remainder.
func divide(number []uint32, by uint64) uint64 {
	var rest uint64
	for i, limb := range number {
		rest = rest<<32 | uint64(limb)
		number[i] = uint32(rest / by)
		rest %= by
	}
	return rest
}
