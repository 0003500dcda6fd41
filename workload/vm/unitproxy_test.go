package vm

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

func openUnit(u *unitProxy, id guestwire.Conn) error {
	return u.take(frame.Frame{Type: guestwire.UnitOpen, Payload: guestwire.WithConn(id, nil)})
}

// TestUnitConnectionsEnd: nothing of a connection stays that the server has closed,
// whether or not the guest closes its side.
func TestUnitConnectionsEnd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "unit.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	u := newUnitProxy(&run{m: &machine{out: frame.NewWriter(io.Discard)},
		a: runner.Attempt{Unit: func() (string, error) { return socket, nil }}})
	defer u.close()
	open := func() int {
		u.mu.Lock()
		defer u.mu.Unlock()
		return len(u.conns)
	}
	before := runtime.NumGoroutine()
	for id := range guestwire.Conn(200) {
		if err := openUnit(u, id); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return open() < maxUnitConns })
	}
	waitUntil(t, func() bool { return open() == 0 && runtime.NumGoroutine() <= before+2 })
}

// waitUntil polls a condition that others make true.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left", runtime.NumGoroutine())
		}
	}
}

// TestRefusedConnectionsAreBounded: a guest that opens connections for ever and reads
// no answer costs the node no more than a few.
func TestRefusedConnectionsAreBounded(t *testing.T) {
	r, w := io.Pipe() // nobody reads
	defer r.Close()
	u := newUnitProxy(&run{m: &machine{out: frame.NewWriter(w)}})
	defer u.close()
	for id := range guestwire.Conn(maxUnitConns) {
		if err := openUnit(u, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := openUnit(u, maxUnitConns); !errors.Is(err, frame.ErrFrame) {
		t.Errorf("%v", err)
	}
}
