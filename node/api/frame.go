package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// An attach connection carries frames: one byte of type, four bytes of length
// (big-endian), and at most maxFrame bytes. The client sends stdin within the
// credit that the server gives it, so the server always reads on and sees at
// once when the client goes away.
const (
	frameStdin  byte = 1 // client: input
	frameEOF    byte = 2 // client: no more input
	frameStdout byte = 3 // server
	frameStderr byte = 4 // server
	frameError  byte = 5 // server: an Error as JSON; the last frame
	frameEnd    byte = 6 // server: all is said; the last frame
	frameCredit byte = 7 // server: four bytes, how much more stdin it takes

	frameHeader   = 5
	maxFrame      = 32 << 10
	initialCredit = 256 << 10
)

var errFrame = errors.New("malformed frame")

// frameConn writes whole frames; write may be called from several goroutines.
type frameConn struct {
	mu sync.Mutex
	w  io.Writer
}

func (c *frameConn) write(kind byte, p []byte) error {
	buf := make([]byte, frameHeader, frameHeader+len(p))
	buf[0] = kind
	binary.BigEndian.PutUint32(buf[1:], uint32(len(p)))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.w.Write(append(buf, p...))
	return err
}

func (c *frameConn) credit(n int) error {
	return c.write(frameCredit, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// frameWriter turns writes into frames of one kind.
type frameWriter struct {
	conn *frameConn
	kind byte
}

func (w frameWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		if err := w.conn.write(w.kind, p[:n]); err != nil {
			return written, err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// readFrame reads one frame into buf, which holds maxFrame bytes.
func readFrame(r *bufio.Reader, buf []byte) (byte, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, maxFrame)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return head[0], buf[:n], nil
}

// inbox holds stdin that has arrived and not been read: at most the credit
// that was given. Read gives credit back.
type inbox struct {
	mu     sync.Mutex
	ready  sync.Cond
	buf    []byte
	credit int // the client may still send
	err    error
	give   func(n int) error
}

func newInbox(give func(n int) error) *inbox {
	b := &inbox{credit: initialCredit, give: give}
	b.ready.L = &b.mu
	return b
}

// push takes what the client sent; it never blocks.
func (b *inbox) push(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) > b.credit {
		return fmt.Errorf("%w: more stdin than was asked for", errFrame)
	}
	b.credit -= len(p)
	if b.err == nil {
		b.buf = append(b.buf, p...)
	}
	b.ready.Broadcast()
	return nil
}

// close makes Read return err after what is there.
func (b *inbox) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.ready.Broadcast()
}

// Read implements io.Reader.
func (b *inbox) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.mu.Lock()
	for len(b.buf) == 0 && b.err == nil {
		b.ready.Wait()
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	b.credit += n
	err := b.err
	b.mu.Unlock()
	if n == 0 {
		return 0, err
	}
	return n, b.give(n)
}

// allowance is the client's side of the credit.
type allowance struct {
	mu    sync.Mutex
	more  sync.Cond
	n     int
	ended bool
}

func newAllowance() *allowance {
	a := &allowance{n: initialCredit}
	a.more.L = &a.mu
	return a
}

// take waits for credit and returns how much there is, at most limit, or 0
// when the attach has ended.
func (a *allowance) take(limit int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.n == 0 && !a.ended {
		a.more.Wait()
	}
	if a.ended {
		return 0
	}
	n := min(limit, a.n)
	a.n -= n
	return n
}

func (a *allowance) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n += n
	a.more.Broadcast()
}

func (a *allowance) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.more.Broadcast()
}
