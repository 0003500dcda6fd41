package guest

import (
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// unitServer carries connections to the unit socket to the node.
type unitServer struct {
	a *attempt
	l net.Listener // nil for an attempt that has none

	mu    sync.Mutex
	next  guestwire.Conn
	conns map[guestwire.Conn]*queue
}

func newUnitServer(a *attempt) (*unitServer, error) {
	u := &unitServer{a: a, conns: map[guestwire.Conn]*queue{}}
	if !a.req.Unit {
		return u, nil
	}
	path := filepath.Join(unitDir, "unit.sock")
	var err error
	if u.l, err = net.Listen("unix", path); err != nil {
		return nil, err
	}
	go u.accept()
	return u, os.Chmod(path, 0o666)
}

func (u *unitServer) accept() {
	for {
		c, err := u.l.Accept()
		if err != nil {
			return // closed
		}
		u.mu.Lock()
		u.next++
		conn, answers := u.next, newQueue()
		u.conns[conn] = answers
		u.mu.Unlock()
		if u.a.out.Send(guestwire.UnitOpen, u.a.id, guestwire.WithConn(conn, nil)) != nil {
			c.Close()
			return
		}
		go answers.drainTo(c, nil)
		go u.forward(conn, c)
	}
}

// forward sends what the program says until it closes its end.
func (u *unitServer) forward(conn guestwire.Conn, c net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 && u.a.out.Send(guestwire.UnitData, u.a.id, guestwire.WithConn(conn, buf[:n])) != nil {
			return
		}
		if err != nil {
			_ = u.a.out.Send(guestwire.UnitClose, u.a.id, guestwire.WithConn(conn, nil))
			return
		}
	}
}

// take gives a connection what the node answers.
func (u *unitServer) take(conn guestwire.Conn, data []byte, last bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := u.conns[conn]
	if q == nil {
		return
	}
	if last {
		q.end()
		delete(u.conns, conn)
		return
	}
	q.put(data)
}

func (u *unitServer) close() {
	if u.l != nil {
		u.l.Close()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for conn, q := range u.conns {
		q.end()
		delete(u.conns, conn)
	}
}
