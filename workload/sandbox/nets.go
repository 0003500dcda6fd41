package sandbox

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// nets keeps empty network namespaces, which cost more than the other
// namespaces together, for the next program of the same owner. Without
// capabilities a program cannot change one: there is no interface but a
// loopback that is down, and its sockets end with it. What may stay are the
// kernel's counters, so an owner's is never another's. Its methods are safe for
// concurrent use.
type nets struct {
	may bool // this process can make them

	mu   sync.Mutex
	idle []ownedNet // the oldest first
}

type ownedNet struct {
	owner string
	file  *os.File
}

// maxNets bounds the namespaces that wait.
const maxNets = 32

// take returns a namespace that nothing is in, nil when the sandbox must make
// its own.
func (n *nets) take(owner string) *os.File {
	if !n.may || owner == "" {
		return nil
	}
	n.mu.Lock()
	for i := len(n.idle) - 1; i >= 0; i-- {
		if net := n.idle[i]; net.owner == owner {
			n.idle = append(n.idle[:i], n.idle[i+1:]...)
			n.mu.Unlock()
			return net.file
		}
	}
	n.mu.Unlock()
	return newNet()
}

// give takes back a namespace in which nothing runs any more.
func (n *nets) give(owner string, file *os.File) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle = append(n.idle, ownedNet{owner, file})
	if len(n.idle) > maxNets || !n.may {
		n.idle[0].file.Close()
		n.idle = append(n.idle[:0], n.idle[1:]...)
	}
}

func (n *nets) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.may = false
	for _, net := range n.idle {
		net.file.Close()
	}
	n.idle = nil
}

// newNet makes a network namespace, nil when it cannot.
func newNet() *os.File {
	made := make(chan *os.File, 1)
	go func() {
		runtime.LockOSThread()
		const path = "/proc/thread-self/ns/net"
		before, err := os.Open(path)
		if err != nil || unix.Unshare(unix.CLONE_NEWNET) != nil {
			made <- nil
			return
		}
		defer before.Close()
		f, _ := os.Open(path)
		if unix.Setns(int(before.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		made <- f
	}()
	return <-made
}
