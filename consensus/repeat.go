package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// repeat is a connection on which a write that repeats the one before costs one
// byte. An idle group says little but the same heartbeat and the same answer,
// 250 and 150 bytes each, several times a second to every server.
//
// A write goes out as its length in bytes (uvarint), then the bytes; a length of
// zero stands for the bytes of the last write, which had repeatMost at most.
type repeat struct {
	net.Conn

	writing sync.Mutex
	said    []byte // the last write, nil when it was too long to keep

	// owned by the reader
	in    *bufio.Reader
	left  uint64 // bytes of the present write that are still to be read
	heard []byte // the last write, as far as it was read, nil when it is too long
	again []byte // what is still to be read of a repeated write
}

// repeatMost bounds what each side keeps, in bytes.
const repeatMost = 1024

func newRepeat(c net.Conn) *repeat {
	return &repeat{Conn: c, in: bufio.NewReaderSize(c, 4096)}
}

// Write writes p, whole.
func (c *repeat) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.said != nil && bytes.Equal(p, c.said) {
		if _, err := c.Conn.Write([]byte{0}); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	c.said = nil
	head := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+repeatMost), uint64(len(p)))
	if len(p) <= repeatMost {
		c.said = bytes.Clone(p)
		n, err := c.Conn.Write(append(head, p...))
		return max(n-len(head), 0), err
	}
	if _, err := c.Conn.Write(head); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Read reads what the other side wrote. A stream that ends within a write is
// io.ErrUnexpectedEOF.
func (c *repeat) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 && len(c.again) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.again) > 0 {
		n := copy(p, c.again)
		c.again = c.again[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(uint64(len(p)), c.left)])
	c.left -= uint64(n)
	if err == io.EOF && c.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if c.heard != nil {
		c.heard = append(c.heard, p[:n]...)
	}
	return n, err
}

// next reads what comes before a write.
func (c *repeat) next() error {
	n, err := binary.ReadUvarint(c.in)
	switch {
	case err != nil:
		return err
	case n > 0 && n <= repeatMost:
		c.left, c.heard = n, make([]byte, 0, n)
	case n > 0:
		c.left, c.heard = n, nil
	case len(c.heard) == 0:
		return fmt.Errorf("repeats a write that was not kept: %w", ErrMalformed)
	default:
		c.again = c.heard
	}
	return nil
}
