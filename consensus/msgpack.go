package consensus

import (
	"encoding/binary"
	"fmt"
)

// The library decodes what a peer says with a codec that makes room for a time
// or an extension of whatever length its head claims, up to 4 GiB, before any of
// it has come. So a walker follows the bytes on their way to the codec and stops
// the first claim that nothing of ours would make. The format is that of
// https://github.com/msgpack/msgpack/blob/master/spec.md.

// Bounds of one value of a message.
const (
	maxField     = 1 << 20  // bytes of a string or of binary data; over MaxEntry
	maxExtension = 32       // bytes of a time or another extension, its kind included
	maxItems     = 64 << 10 // of a list or a map
	maxNesting   = 8        // lists and maps in each other
	maxKey       = 64       // bytes of a snapshot request's field name
)

// An InstallSnapshotRequest is of kind installs, and its field sizeField says
// how many bytes that are not msgpack follow it.
const (
	installs  = byte(2)
	sizeField = "Size"
)

// walker follows a stream of requests, each a byte of kind and one value, or of
// answers, values alone.
type walker struct {
	requests bool

	inside bool // a request's kind has come and its value has not ended
	kind   byte
	head   [1 + 8]byte // what a value begins with
	have   int         // bytes of head that have come
	raw    uint64      // bytes of a string, an extension or a snapshot still to come
	open   []container // the lists and maps around the next value

	// of an InstallSnapshotRequest
	naming bool   // what comes is the name of a field
	name   []byte // the latest
	size   uint64 // bytes of the snapshot
}

// container is a list or a map that has begun.
type container struct {
	left  int // values still to come; of a map names and values
	names bool
}

// walk takes the next bytes of the stream, in order. After an error the stream
// must not be read on.
func (w *walker) walk(p []byte) error {
	for len(p) > 0 {
		switch {
		case w.raw > 0:
			n := min(w.raw, uint64(len(p)))
			if w.naming {
				w.name = append(w.name, p[:n]...)
			}
			p, w.raw = p[n:], w.raw-n
			if w.raw == 0 && (w.inside || !w.requests) {
				w.ended()
			}
		case w.requests && !w.inside:
			w.inside, w.kind, w.size, w.name = true, p[0], 0, nil
			p = p[1:]
		default:
			w.head[w.have] = p[0]
			w.have++
			p = p[1:]
			if w.have < headLen(w.head[0]) {
				continue
			}
			if err := w.begun(); err != nil {
				return err
			}
			w.have = 0
		}
	}
	return nil
}

// headLen is how many bytes say the kind of a value and its length, or for a
// number all of it. An extension's kind counts as the first byte of its data.
func headLen(b byte) int {
	switch b {
	case 0xc4, 0xc7, 0xcc, 0xd0, 0xd9:
		return 1 + 1
	case 0xc5, 0xc8, 0xcd, 0xd1, 0xda, 0xdc, 0xde:
		return 1 + 2
	case 0xc6, 0xc9, 0xca, 0xce, 0xd2, 0xdb, 0xdd, 0xdf:
		return 1 + 4
	case 0xcb, 0xcf, 0xd3:
		return 1 + 8
	}
	return 1
}

// number is what follows the first byte of a head.
func (w *walker) number() uint64 {
	var b [8]byte
	copy(b[8-(w.have-1):], w.head[1:w.have])
	return binary.BigEndian.Uint64(b[:])
}

// begun takes a whole head.
func (w *walker) begun() error {
	if w.kind == installs && len(w.open) == 0 && w.head[0]&0xf0 != 0x80 && w.head[0] != 0xde {
		return fmt.Errorf("%w: a snapshot request is a map", ErrMalformed)
	}
	switch b := w.head[0]; {
	case b >= 0x80 && b <= 0x8f:
		return w.enter(uint64(b&0x0f), true)
	case b >= 0x90 && b <= 0x9f:
		return w.enter(uint64(b&0x0f), false)
	case b >= 0xa0 && b <= 0xbf:
		return w.data(uint64(b&0x1f), maxField)
	case b == 0xde, b == 0xdf:
		return w.enter(w.number(), true)
	case b == 0xdc, b == 0xdd:
		return w.enter(w.number(), false)
	case b >= 0xc4 && b <= 0xc6, b >= 0xd9 && b <= 0xdb:
		return w.data(w.number(), maxField)
	case b >= 0xc7 && b <= 0xc9:
		return w.data(1+w.number(), maxExtension)
	case b >= 0xd4 && b <= 0xd8:
		return w.data(1+1<<(b-0xd4), maxExtension)
	case b == 0xc1:
		return fmt.Errorf("%w: %#x begins no value", ErrMalformed, b)
	}
	if err := w.scalar(); err != nil {
		return err
	}
	w.ended()
	return nil
}

// scalar takes a number, a truth or nothing, of which only a snapshot's size
// matters. Both sides must agree on it: what follows is read by it.
func (w *walker) scalar() error {
	if w.kind != installs || len(w.open) != 1 || string(w.name) != sizeField {
		return nil
	}
	switch b := w.head[0]; {
	case b <= 0x7f:
		w.size = uint64(b)
	case b >= 0xcc && b <= 0xcf, b >= 0xd0 && b <= 0xd3 && w.head[1]&0x80 == 0:
		w.size = w.number()
	default:
		return fmt.Errorf("%w: a snapshot's size begins with %#x", ErrMalformed, b)
	}
	return nil
}

// data begins a string or an extension of n bytes.
func (w *walker) data(n, most uint64) error {
	w.naming = w.kind == installs && len(w.open) == 1 && w.open[0].names && w.open[0].left%2 == 0
	if w.naming {
		w.name, most = w.name[:0], maxKey
	}
	if n > most {
		return fmt.Errorf("%w: a field of %d bytes, at most %d", ErrTooLarge, n, most)
	}
	if w.raw = n; n == 0 {
		w.ended()
	}
	return nil
}

// enter begins a list or a map of n entries.
func (w *walker) enter(n uint64, names bool) error {
	if n > maxItems || len(w.open) == maxNesting {
		return fmt.Errorf("%w: %d entries at depth %d, at most %d at %d", ErrTooLarge, n, len(w.open), maxItems, maxNesting)
	}
	if names {
		n *= 2
	}
	if n == 0 {
		w.ended()
		return nil
	}
	w.open = append(w.open, container{int(n), names})
	return nil
}

// ended counts a value that is complete, and with it all that it completes.
func (w *walker) ended() {
	w.naming = false
	for len(w.open) > 0 {
		c := &w.open[len(w.open)-1]
		if c.left--; c.left > 0 {
			return
		}
		w.open = w.open[:len(w.open)-1]
	}
	w.inside = false
	if w.requests && w.kind == installs {
		w.raw = w.size
	}
}
