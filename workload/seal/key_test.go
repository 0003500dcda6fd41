package seal

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// flagsOf returns the kernel's flags (proc(5), VmFlags) of the mapping of this process that
// an address lies in; none when it lies in none.
func flagsOf(t *testing.T, page uintptr) []string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= page && page < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return strings.Fields(flags)
		}
	}
	return nil
}

// TestKeysLieInLockedMemory holds of every kind of key and share that its page is never
// swapped (lo) nor in a core dump (dd), and gone once it is closed; and that what it was
// made of is overwritten.
func TestKeysLieInLockedMemory(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, KeySize)
	locked, err := lock(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, make([]byte, KeySize)) {
		t.Errorf("what the key was made of is left: %x", raw)
	}
	encoded := append([]byte{1}, bytes.Repeat([]byte{0xa5}, KeySize)...)
	share, err := ParseShare(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded, make([]byte, ShareSize)) {
		t.Errorf("what the share was read from is left: %x", encoded)
	}
	derived := testKey(t, "a")
	shares, err := derived.Split(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	combined, err := Combine(shares[:2])
	if err != nil {
		t.Fatal(err)
	}
	r, b := recipient(t), someBinding()
	wrapped, err := derived.Wrap(r.Public(), &b)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := r.Key(wrapped, &b)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*Key{
		"locked": locked, "of a share": share.y, "derived": derived, "split": shares[2].y, "put together": combined, "released": opened,
	} {
		page := uintptr(unsafe.Pointer(unsafe.SliceData(k.page)))
		flags := flagsOf(t, page)
		for _, want := range []string{"lo", "dd"} {
			if !slices.Contains(flags, want) {
				t.Errorf("%s: the page has the flags %q, want %s", name, flags, want)
			}
		}
		k.Close()
		if flags := flagsOf(t, page); slices.Contains(flags, "lo") {
			t.Errorf("%s: the page is still there after Close: %q", name, flags)
		}
		if _, err := k.Check(); err == nil {
			t.Errorf("%s: a closed key works", name)
		}
	}
	CloseShares(shares)
}
