package history

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/node/devmesh"
)

// Network is a network namespace for each node, joined by bridges in the
// namespace of this process, which must be one of its own. It is for one
// goroutine.
type Network struct {
	spaces []*os.File // of the nodes
	sides  int        // bridges so far
}

// NewNetwork makes the namespaces of n nodes. The caller closes it; the kernel
// removes what is in a namespace with the last process that is in it.
func NewNetwork(n int) (*Network, error) {
	w := &Network{}
	if err := ip("link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	if err := w.grow(1); err != nil {
		return nil, err
	}
	if err := ip("addr", "add", hub+"/24", "dev", bridge(0)); err != nil {
		return nil, err
	}
	for i := range n {
		space, err := newSpace()
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.spaces = append(w.spaces, space)
		if err := w.plug(i); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// hub is the address of this process on the first bridge.
const hub = "10.77.0.254"

func bridge(side int) string { return fmt.Sprintf("side%d", side) }

func wire(i int) string { return fmt.Sprintf("wire%d", i) }

// address of a node.
func address(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// ip runs the program of that name.
func ip(args ...string) error { return ipWith(nil, args...) }

func ipWith(file *os.File, args ...string) error {
	cmd := exec.Command("ip", args...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", args, err, out)
	}
	return nil
}

// newSpace returns a new network namespace. The thread that made it ends.
func newSpace() (space *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			space, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	return space, err
}

// within runs f on a thread in a node's namespace. What f starts is in it too.
func (w *Network) within(i int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is of no more use
		err := unix.Setns(int(w.spaces[i].Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// plug connects a node with the first bridge.
func (w *Network) plug(i int) error {
	const inside = "eth0"
	err := ip("link", "add", wire(i), "type", "veth", "peer", "name", inside)
	if err == nil {
		err = ipWith(w.spaces[i], "link", "set", inside, "netns", "/proc/self/fd/3")
	}
	if err != nil {
		return err
	}
	return errors.Join(ip("link", "set", wire(i), "master", bridge(0), "up"), w.within(i, func() error {
		return errors.Join(ip("link", "set", "lo", "up"), ip("addr", "add", address(i)+"/24", "dev", inside), ip("link", "set", inside, "up"))
	}))
}

// grow makes bridges until there are as many.
func (w *Network) grow(sides int) error {
	for ; w.sides < sides; w.sides++ {
		if err := errors.Join(ip("link", "add", bridge(w.sides), "type", "bridge"), ip("link", "set", bridge(w.sides), "up")); err != nil {
			return err
		}
	}
	return nil
}

// Cut leaves nodes in reach of those of their own side only. Nodes that no side
// names are on the first one; without sides nothing is cut.
func (w *Network) Cut(sides ...[]int) error {
	if err := w.grow(len(sides)); err != nil {
		return err
	}
	var err error
	for i := range w.spaces {
		side := max(0, slices.IndexFunc(sides, func(s []int) bool { return slices.Contains(s, i) }))
		err = errors.Join(err, ip("link", "set", wire(i), "master", bridge(side)))
	}
	return err
}

// Close lets go of the namespaces and removes the bridges.
func (w *Network) Close() error {
	var err error
	for i, s := range w.spaces {
		err = errors.Join(err, ip("link", "del", wire(i)), s.Close())
	}
	for side := range w.sides {
		err = errors.Join(err, ip("link", "del", bridge(side)))
	}
	return err
}

func (w *Network) mesh() devmesh.Net {
	return devmesh.Net{Address: address, Enter: w.within}
}
