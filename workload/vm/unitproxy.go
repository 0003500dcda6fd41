package vm

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// Bounds of what a guest can hold open and pile up of its unit socket: over
// them a connection is closed.
const (
	maxUnitConns  = 32
	maxUnitChunks = 64 // frames of one connection that the server has not read
)

// unitProxy carries the guest's connections to the attempt's unit socket.
// take and close belong to the goroutine that reads frames.
type unitProxy struct {
	r      *run
	socket func() (string, error)

	refusing chan struct{} // a token for each refusal that the guest has not taken

	mu    sync.Mutex
	conns map[guestwire.Conn]*unitConn // until the server closes
}

type unitConn struct {
	conn   net.Conn
	asked  chan []byte
	gone   chan struct{} // closed when the server's side has ended
	silent bool          // the guest's side has ended and asked is closed; of the goroutine that reads frames
}

// hush ends the guest's side.
func (c *unitConn) hush() {
	if !c.silent {
		c.silent = true
		close(c.asked)
	}
}

func newUnitProxy(r *run) *unitProxy {
	u := &unitProxy{r: r, conns: map[guestwire.Conn]*unitConn{}, refusing: make(chan struct{}, maxUnitConns)}
	u.socket = sync.OnceValues(func() (string, error) {
		if r.a.Unit == nil {
			return "", errors.New("the attempt has none")
		}
		return r.a.Unit()
	})
	return u
}

func (u *unitProxy) take(f frame.Frame) error {
	id, data, err := guestwire.SplitConn(f.Payload)
	if err != nil {
		return err
	}
	if f.Type == guestwire.UnitOpen {
		return u.open(id)
	}
	u.mu.Lock()
	c := u.conns[id]
	u.mu.Unlock()
	if c == nil || c.silent {
		return nil // closed from here
	}
	if f.Type == guestwire.UnitClose {
		c.hush()
		return nil
	}
	select {
	case c.asked <- append([]byte(nil), data...):
	default: // it asks and does not wait for the answers
		c.hush()
		c.conn.Close()
	}
	return nil
}

func (u *unitProxy) open(id guestwire.Conn) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conns[id] != nil {
		return fmt.Errorf("%w: connection %d is open", frame.ErrFrame, id)
	}
	var c *unitConn
	socket, err := u.socket()
	if err == nil && len(u.conns) < maxUnitConns {
		var conn net.Conn
		if conn, err = net.Dial("unix", socket); err == nil {
			c = &unitConn{conn: conn, asked: make(chan []byte, maxUnitChunks), gone: make(chan struct{})}
		}
	}
	if c == nil {
		return u.refuse(id)
	}
	u.conns[id] = c
	go c.forward()
	go u.answer(id, c)
	return nil
}

// refuse tells the guest that a connection is closed. One that goes on opening them
// and takes no answers is talking nonsense.
func (u *unitProxy) refuse(id guestwire.Conn) error {
	select {
	case u.refusing <- struct{}{}:
	default:
		return fmt.Errorf("%w: more than %d connections are refused and the answers not read", frame.ErrFrame, maxUnitConns)
	}
	go func() {
		_ = u.say(guestwire.UnitClose, id, nil)
		<-u.refusing
	}()
	return nil
}

// forward passes on what the guest says until one of the sides has ended.
func (c *unitConn) forward() {
	for {
		select {
		case data, more := <-c.asked:
			if !more {
				if half, ok := c.conn.(*net.UnixConn); ok {
					_ = half.CloseWrite()
				}
				return
			}
			_, _ = c.conn.Write(data) // the other direction sees its error too
		case <-c.gone:
			return
		}
	}
}

// answer passes on what the server says until it closes.
func (u *unitProxy) answer(id guestwire.Conn, c *unitConn) {
	defer u.drop(id, c)
	buf := make([]byte, 32<<10)
	for {
		n, err := c.conn.Read(buf)
		if n > 0 && u.say(guestwire.UnitData, id, buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = u.say(guestwire.UnitClose, id, nil)
			return
		}
	}
}

func (u *unitProxy) say(t frame.Type, id guestwire.Conn, data []byte) error {
	return u.r.m.out.Send(t, u.r.id, guestwire.WithConn(id, data))
}

func (u *unitProxy) drop(id guestwire.Conn, c *unitConn) {
	close(c.gone)
	c.conn.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, id)
}

func (u *unitProxy) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		c.hush()
		c.conn.Close()
	}
}
