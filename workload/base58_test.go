package workload

import (
	"bytes"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// slowBase58 is base58 by the book.
func slowBase58(b []byte) string {
	n, base, rem := new(big.Int).SetBytes(b), big.NewInt(58), new(big.Int)
	var out []byte
	for n.Sign() > 0 {
		n.DivMod(n, base, rem)
		out = append(out, base58Alphabet[rem.Int64()])
	}
	for _, c := range b {
		if c != 0 {
			break
		}
		out = append(out, base58Alphabet[0])
	}
	slices.Reverse(out)
	return string(out)
}

func FuzzBase58(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0, 0, 1})
	f.Add(bytes.Repeat([]byte{0xff}, 38))
	f.Add(append([]byte{0, 0x24, 8, 1, 0x12, 0x20}, bytes.Repeat([]byte{7}, 32)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 100 {
			return
		}
		text := encodeBase58(b)
		if want := slowBase58(b); text != want {
			t.Fatalf("%x is %s, want %s", b, text, want)
		}
		if back, err := decodeBase58(text); err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%x is %s and that is %x, %v", b, text, back, err)
		}
	})
}

// A peer ID has one text.
func TestPeerIDText(t *testing.T) {
	p := PeerID{1, 2, 3}
	if got, err := ParsePeerID(p.String()); err != nil || got != p {
		t.Errorf("%s is %v, %v", p, got, err)
	}
	for text, why := range map[string]string{
		"":                      "want an Ed25519 peer ID",
		"1" + p.String():        "want an Ed25519 peer ID",
		p.String()[1:]:          "want an Ed25519 peer ID",
		p.String() + "1":        "want an Ed25519 peer ID",
		"0" + p.String()[1:]:    "not a base58 digit",
		strings.Repeat("z", 65): "longer than",
		strings.Repeat("z", 64): "want an Ed25519 peer ID",
	} {
		if got, err := ParsePeerID(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, %v; want %q", text, got, err, why)
		}
	}
}

func BenchmarkPeerIDString(b *testing.B) {
	p := PeerID{1, 2, 3}
	for b.Loop() {
		_ = p.String()
	}
}
