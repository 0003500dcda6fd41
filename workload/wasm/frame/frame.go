// Package frame is the protocol between a node and its wasm worker: small
// frames over a socket pair, one attempt at a time. Both sides bound what they
// read; the worker's side is untrusted.
package frame

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Type says what a frame carries.
type Type uint8

// The frames to the worker (up to UnitAt) and from it.
const (
	Run      Type = 1 // a Request: starts an attempt
	Stdin    Type = 2
	StdinEnd Type = 3
	UnitAt   Type = 4  // answers UnitAsk: the socket, relative to the slot's folder; empty for none
	Ready    Type = 10 // the program is loaded
	Failed   Type = 11 // the program cannot be loaded: text
	Stdout   Type = 12
	Stderr   Type = 13
	Done     Type = 14 // a Reply: the attempt has ended
	UnitAsk  Type = 15 // the guest wants its unit socket: at most once an attempt
)

// Bounds on one frame's payload, in bytes.
const (
	MaxStream  = 64 << 10
	MaxPayload = 8 << 20
)

const headLen = 9

// ErrFrame is returned when a frame is malformed or too long.
var ErrFrame = errors.New("malformed worker frame")

// Frame is one message. Attempt numbers the attempt it belongs to.
type Frame struct {
	Type    Type
	Attempt uint32
	Payload []byte
}

// Request is what an attempt is given. Paths are relative to the slot's folder.
type Request struct {
	Args   []string `json:"args"`
	Env    []string `json:"env,omitempty"`
	Mounts []Mount  `json:"mounts,omitempty"`
	Unit   bool     `json:"unit,omitempty"` // UnitAsk will be answered with a socket
	Work   string   `json:"work"`           // the name of the attempt's folder in the scratch folder
	Stdin  bool     `json:"stdin,omitempty"`
	Memory int64    `json:"memory"` // bytes of linear memory
}

// Mount is a file or folder of the slot shown read-only.
type Mount struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Dir    bool   `json:"dir,omitempty"`
}

// Reply is how an attempt ended.
type Reply struct {
	Code   int32  `json:"code"`
	Trap   string `json:"trap,omitempty"`   // why it did not end by itself
	Memory bool   `json:"memory,omitempty"` // it was refused memory over its limit
	CPUUs  int64  `json:"cpu_us"`
	Peak   int64  `json:"peak"` // bytes of linear memory
}

// Writer sends frames, whole, from any goroutine.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Send writes one frame in one write.
func (w *Writer) Send(t Type, attempt uint32, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(payload))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], byte(t))
	w.buf = binary.BigEndian.AppendUint32(w.buf, attempt)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// SendJSON writes one frame with v as JSON.
func (w *Writer) SendJSON(t Type, attempt uint32, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Send(t, attempt, b)
}

// Reader receives frames.
type Reader struct {
	r   *bufio.Reader
	buf []byte
}

// NewReader returns a Reader from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, MaxStream+headLen)} }

// Next returns the next frame, whose payload is valid until the call after.
// It returns io.EOF at the end.
func (r *Reader) Next() (Frame, error) {
	var head [headLen]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(head[5:])
	f := Frame{Type: Type(head[0]), Attempt: binary.BigEndian.Uint32(head[1:])}
	limit := uint32(MaxPayload)
	if f.Type == Stdin || f.Type == Stdout || f.Type == Stderr {
		limit = MaxStream
	}
	if n > limit {
		return f, fmt.Errorf("%w: type %d, %d bytes", ErrFrame, f.Type, n)
	}
	if uint32(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	f.Payload = r.buf[:n]
	if _, err := io.ReadFull(r.r, f.Payload); err != nil {
		return f, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return f, nil
}

// Decode reads the payload as JSON.
func (f Frame) Decode(v any) error {
	if err := json.Unmarshal(f.Payload, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}
