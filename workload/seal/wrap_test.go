package seal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

func someBinding() Binding {
	return Binding{
		Workload: workload.ID{Cell: workload.CellID{1}, Random: [16]byte{2}}, Slot: 3, Fence: workload.Fence{Generation: 1, Epoch: 5},
		From: workload.PeerID{6}, To: workload.PeerID{7},
	}
}

func recipient(t testing.TB) *Recipient {
	t.Helper()
	r, err := NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Public()) != PublicSize {
		t.Fatalf("a public key of %d bytes, want %d", len(r.Public()), PublicSize)
	}
	return r
}

// TestReleaseIsForOneAttempt wraps a key for one slot, fence and pair of nodes:
// for any other it does not open, nor with another attempt's key pair.
func TestReleaseIsForOneAttempt(t *testing.T) {
	k, r, b := testKey(t, "a"), recipient(t), someBinding()
	wrapped, err := k.Wrap(r.Public(), &b)
	if err != nil || len(wrapped) > MaxWrapped {
		t.Fatalf("%d bytes, %v", len(wrapped), err)
	}
	got, err := r.Key(wrapped, &b)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	check, err := k.Check()
	if err != nil || !got.Is(check) || testKey(t, "b").Is(check) {
		t.Error("another key came out, or the check is of any key")
	}
	for what, change := range map[string]func(*Binding){
		"workload": func(b *Binding) { b.Workload.Random[15]++ }, "cell": func(b *Binding) { b.Workload.Cell[0]++ },
		"slot": func(b *Binding) { b.Slot++ }, "generation": func(b *Binding) { b.Fence.Generation++ }, "epoch": func(b *Binding) { b.Fence.Epoch++ },
		"from": func(b *Binding) { b.From[0]++ }, "to": func(b *Binding) { b.To[0]++ }, "a share": func(b *Binding) { b.Share = true },
	} {
		other := b
		change(&other)
		if _, err := r.Key(wrapped, &other); !errors.Is(err, ErrSealed) {
			t.Errorf("opened for another %s: %v", what, err)
		}
	}
	if _, err := recipient(t).Key(wrapped, &b); !errors.Is(err, ErrSealed) {
		t.Errorf("opened with the key pair of another attempt: %v", err)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := r.Key(bad, &b); !errors.Is(err, ErrSealed) {
			t.Errorf("opened with byte %d changed: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, len(wrapped) - 1} {
		if _, err := r.Key(wrapped[:n], &b); !errors.Is(err, ErrSealed) {
			t.Errorf("opened when cut off at %d: %v", n, err)
		}
	}
	if _, err := r.Share(wrapped, &b); !errors.Is(err, ErrSealed) {
		t.Errorf("a key opens as a share: %v", err)
	}
}

// TestWrapRefusesJunk wraps to what is no public key.
func TestWrapRefusesJunk(t *testing.T) {
	k, b := testKey(t, "a"), someBinding()
	for _, public := range [][]byte{nil, make([]byte, 32), make([]byte, PublicSize+1)} {
		if _, err := k.Wrap(public, &b); err == nil {
			t.Errorf("wrapped to %d bytes of nothing", len(public))
		}
	}
}

// TestShares puts a key together from every choice of enough shares, and from
// none of too few.
func TestShares(t *testing.T) {
	k := testKey(t, "a")
	check, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct{ need, n int }{{1, 1}, {2, 3}, {3, 5}, {MaxShares, MaxShares}} {
		shares, err := k.Split(of.need, of.n)
		if err != nil {
			t.Fatal(err)
		}
		for set := range 1 << of.n {
			var some []*Share
			for i, s := range shares {
				if set>>i&1 == 1 {
					some = append(some, s)
				}
			}
			if len(some) == 0 {
				continue
			}
			got, err := Combine(some)
			if err != nil {
				t.Fatal(err)
			}
			if got.Is(check) != (len(some) >= of.need) {
				t.Errorf("%d of %d shares, %d needed: the key came out %v", len(some), of.n, of.need, got.Is(check))
			}
			got.Close()
		}
		CloseShares(shares)
	}
	for _, of := range []struct{ need, n int }{{0, 1}, {2, 1}, {1, MaxShares + 1}} {
		if _, err := k.Split(of.need, of.n); err == nil {
			t.Errorf("split into %d of %d", of.need, of.n)
		}
	}
}

// TestWrongShares puts a key together although some helpers give wrong shares, as
// long as enough are right.
func TestWrongShares(t *testing.T) {
	k, other := testKey(t, "a"), testKey(t, "b")
	check, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	right, err := k.Split(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseShares(right)
	wrong, err := other.Split(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseShares(wrong)
	got, err := CombineAny([]*Share{wrong[0], wrong[1], right[2], right[3]}, 2, check)
	if err != nil || !got.Is(check) {
		t.Errorf("with two right ones: %v", err)
	}
	got.Close()
	for _, shares := range [][]*Share{{wrong[0], wrong[1], right[2]}, {right[0]}, {right[0], right[0]}, nil} {
		if _, err := CombineAny(shares, 2, check); !errors.Is(err, ErrSealed) {
			t.Errorf("with %d that do not fit: %v", len(shares), err)
		}
	}
}

// TestShareTravels sends a share to a helper and from there to an attempt.
func TestShareTravels(t *testing.T) {
	k, r, b := testKey(t, "a"), recipient(t), someBinding()
	b.Share = true
	shares, err := k.Split(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseShares(shares)
	raw, err := shares[0].Bytes()
	if err != nil || len(raw) != ShareSize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	kept, err := ParseShare(raw)
	if err != nil || !bytes.Equal(raw, make([]byte, ShareSize)) {
		t.Fatalf("%v; what it was read from is %x", err, raw)
	}
	defer kept.Close()
	wrapped, err := kept.Wrap(r.Public(), &b)
	if err != nil || len(wrapped) > MaxWrapped {
		t.Fatalf("%d bytes, %v", len(wrapped), err)
	}
	came, err := r.Share(wrapped, &b)
	if err != nil {
		t.Fatal(err)
	}
	defer came.Close()
	got, err := Combine([]*Share{came})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if check, err := k.Check(); err != nil || !got.Is(check) {
		t.Errorf("another key came out: %v", err)
	}
	b.Share = false
	if _, err := r.Key(wrapped, &b); !errors.Is(err, ErrSealed) {
		t.Errorf("a share opens as a key: %v", err)
	}
}

// TestField holds the arithmetic of GF(2^8) against its laws, and one product
// against FIPS 197 (section 4.2: {57} times {83} is {c1}).
func TestField(t *testing.T) {
	if p := mul(0x57, 0x83); p != 0xc1 {
		t.Errorf("{57} times {83} is {%02x}", p)
	}
	for a := 1; a < 256; a++ {
		if mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("1/%02x is not %02x", a, inverse(byte(a)))
		}
	}
	if inverse(0) != 0 {
		t.Error("0 has an inverse")
	}
}

// FuzzRelease reads junk as a share, as a wrapped key and as a public key.
func FuzzRelease(f *testing.F) {
	k, r, b := testKey(f, "a"), recipient(f), someBinding()
	wrapped, err := k.Wrap(r.Public(), &b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(r.Public())
	f.Add(append([]byte{1}, make([]byte, KeySize)...))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, in []byte) {
		if s, err := ParseShare(bytes.Clone(in)); err == nil {
			if s.x == 0 || s.x > MaxShares || len(in) != ShareSize {
				t.Errorf("read %x as share %d", in, s.x)
			}
			s.Close()
		}
		if k, err := r.Key(in, &b); err == nil {
			if !bytes.Equal(in, wrapped) {
				t.Errorf("opened %d bytes that were not wrapped here", len(in))
			}
			k.Close()
		}
		if out, err := k.Wrap(in, &b); err == nil && len(out) > MaxWrapped {
			t.Errorf("wrapped into %d bytes", len(out))
		}
	})
}
