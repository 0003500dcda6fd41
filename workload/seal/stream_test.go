package seal

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func testKey(t testing.TB, secret string) *Key {
	t.Helper()
	k, err := Derive([]byte(secret), bytes.Repeat([]byte{7}, SaltSize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func sealed(t testing.TB, k *Key, plain []byte, context string) []byte {
	t.Helper()
	out, err := k.Seal(plain, context)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(out)) != Size(int64(len(plain))) {
		t.Fatalf("%d bytes sealed are %d, Size says %d", len(plain), len(out), Size(int64(len(plain))))
	}
	return out
}

// TestRoundTrip seals contents of the lengths around a chunk's, which come in
// pieces of any size.
func TestRoundTrip(t *testing.T) {
	k := testKey(t, "a")
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 17} {
		plain := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		r, err := Encrypt(iotest.HalfReader(bytes.NewReader(plain)), k, "x")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(Decrypt(iotest.HalfReader(r), k, "x"))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
		if err := iotest.TestReader(Decrypt(bytes.NewReader(sealed(t, k, plain, "x")), k, "x"), plain); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestEveryByteCounts flips each byte of a sealed content, and cuts it off at
// each: nothing but the true beginning is ever read.
func TestEveryByteCounts(t *testing.T) {
	k := testKey(t, "a")
	plain := bytes.Repeat([]byte("secret"), 40)
	good := sealed(t, k, plain, "x")
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if got, err := k.Open(bad, "x"); !errors.Is(err, ErrSealed) || len(got) > 0 {
			t.Errorf("byte %d changed: %d bytes and %v", i, len(got), err)
		}
		if got, err := k.Open(good[:i], "x"); !errors.Is(err, ErrSealed) || len(got) > 0 {
			t.Errorf("cut off at %d: %d bytes and %v", i, len(got), err)
		}
	}
	if _, err := k.Open(append(bytes.Clone(good), 0), "x"); !errors.Is(err, ErrSealed) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestChunksStayInPlace drops, doubles, swaps and mixes the chunks of two streams.
func TestChunksStayInPlace(t *testing.T) {
	k := testKey(t, "a")
	plain := bytes.Repeat([]byte("0123456789abcdef"), 3*chunkSize/16)
	parts := func(b []byte) [][]byte {
		return append([][]byte{b[:headSize]}, slices.Collect(slices.Chunk(b[headSize:], chunkSize+tagSize))...)
	}
	p, q := parts(sealed(t, k, plain, "x")), parts(sealed(t, k, plain, "x"))
	if bytes.Equal(p[1], q[1]) {
		t.Error("the same content sealed twice looks the same")
	}
	for what, order := range map[string][][]byte{
		"the first is missing": {p[0], p[2], p[3]}, "one is missing": {p[0], p[1], p[3]}, "the last is missing": {p[0], p[1], p[2]},
		"swapped": {p[0], p[2], p[1], p[3]}, "doubled": {p[0], p[1], p[1], p[2], p[3]}, "the last twice": {p[0], p[1], p[2], p[3], p[3]},
		"of another stream": {p[0], p[1], q[2], p[3]}, "the head of another stream": {q[0], p[1], p[2], p[3]}, "only a head": {p[0]},
	} {
		got, err := k.Open(bytes.Join(order, nil), "x")
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: other content was read", what)
		}
	}
}

func TestOtherKeyOrContext(t *testing.T) {
	k := testKey(t, "a")
	b := sealed(t, k, []byte("secret"), "x")
	if _, err := testKey(t, "b").Open(b, "x"); !errors.Is(err, ErrSealed) {
		t.Errorf("another key: %v", err)
	}
	if _, err := k.Open(b, "y"); !errors.Is(err, ErrSealed) {
		t.Errorf("another context: %v", err)
	}
	if _, err := k.Open([]byte(strings.Repeat("not sealed ", 10)), "x"); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "not in the sealed form") {
		t.Errorf("plain content: %v", err)
	}
}

// TestClosedKey holds that a key is gone from memory once it is closed.
func TestClosedKey(t *testing.T) {
	k, err := Derive([]byte("a"), make([]byte, SaltSize))
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	k.Close()
	if _, err := k.Seal(nil, "x"); err == nil || k.page != nil {
		t.Errorf("a closed key seals: %v", err)
	}
	if _, err := Derive([]byte("a"), []byte("short")); err == nil {
		t.Error("a short salt is taken")
	}
	(*Key)(nil).Close()
}

// BenchmarkSeal and BenchmarkOpen are the promise of 0.5 GB/s a core.
func BenchmarkSeal(b *testing.B) {
	k, plain := testKey(b, "a"), make([]byte, 16<<20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		r, err := Encrypt(bytes.NewReader(plain), k, "x")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := testKey(b, "a")
	content := sealed(b, k, make([]byte, 16<<20), "x")
	b.SetBytes(16 << 20)
	for b.Loop() {
		if _, err := io.Copy(io.Discard, Decrypt(bytes.NewReader(content), k, "x")); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzOpen opens junk: what is read without an error was sealed here.
func FuzzOpen(f *testing.F) {
	k := testKey(f, "a")
	good := sealed(f, k, []byte("secret"), "x")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:headSize])
	f.Add([]byte(magic))
	f.Add(sealed(f, k, make([]byte, chunkSize+1), "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := k.Open(b, "x")
		if err == nil && int64(len(b)) != Size(int64(len(plain))) {
			t.Errorf("%d bytes opened as %d", len(b), len(plain))
		}
		if err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("not ErrSealed: %v", err)
		}
	})
}
