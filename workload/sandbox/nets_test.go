package sandbox

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetworksServeOneOwner: a network namespace waits for its owner's next
// program and is nobody else's.
func TestNetworksServeOneOwner(t *testing.T) {
	if !mayMount() {
		t.Skip("mounts are not allowed: an ordinary user's sandboxes make their own networks")
	}
	n := &nets{may: true}
	defer n.close()
	inode := func(f *os.File) uint64 {
		t.Helper()
		var st unix.Stat_t
		if f == nil || unix.Fstat(int(f.Fd()), &st) != nil {
			t.Fatal("no network namespace")
		}
		return st.Ino
	}
	first := n.take("ann")
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	id := inode(first)
	if id == inode(own) {
		t.Fatal("it is the node's own")
	}
	second := n.take("ann") // while the first is in use
	if inode(second) == id {
		t.Error("given twice at once")
	}
	n.give("ann", second)
	n.give("ann", first)
	bob := n.take("bob")
	if got := inode(bob); got == id || got == inode(second) {
		t.Error("another owner's was given")
	}
	n.give("bob", bob)
	if again := n.take("ann"); inode(again) != id {
		t.Error("the owner's own was not used again")
	} else {
		n.give("ann", again)
	}
	if n.take("") != nil {
		t.Error("nobody's was kept for somebody")
	}
	for range maxNets + 5 {
		n.give("eve", newNet())
	}
	if len(n.idle) != maxNets {
		t.Errorf("%d wait, at most %d", len(n.idle), maxNets)
	}
}
