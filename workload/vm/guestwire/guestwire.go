// Package guestwire is what a node and the init of its virtual machine say to
// each other over a virtio serial port, in the frames of package frame: one
// attempt at a time. The guest is untrusted; so is everything that it says.
//
// The node waits for frame.Ready. It sends frame.Run with a Request, then, when
// that says so, the inputs as a tar archive in Input frames, of which an empty
// one ends it, and stdin. The guest says Started, streams, and at the end the
// output folder as a tar archive in Output frames, an empty one last, and
// frame.Done with a Reply. Connections to the unit socket are carried both ways.
package guestwire

import (
	"encoding/binary"
	"fmt"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// Frames beside those of package frame, which have the same meaning here.
const (
	Input     frame.Type = 32 // to the guest: a piece of the archive of inputs
	Terminate frame.Type = 33 // to the guest: SIGTERM to the program
	Started   frame.Type = 34 // from the guest: the program has been executed
	Output    frame.Type = 35 // from the guest: a piece of the archive of outputs
	StdinMore frame.Type = 36 // from the guest: so many bytes of stdin more, a uint32
	UnitOpen  frame.Type = 37 // from the guest: a connection to the unit socket; a Conn
	UnitData  frame.Type = 38 // either way: a Conn and bytes
	UnitClose frame.Type = 39 // either way: a Conn; nothing more of it follows
)

// StdinWindow is how many bytes of stdin may be sent before the guest asks for more.
const StdinWindow = 256 << 10

// Names that both sides use.
const (
	PortName = "perrin"       // of the virtio serial port
	InitPath = "/perrin/init" // of the guest's init, in its initial RAM disk
	Said     = "perrin-guest" // what its words on the console begin with
)

// Request is what an attempt is given.
type Request struct {
	Args   []string `json:"args"` // Args[0] is the command, looked up in PATH
	Env    []string `json:"env,omitempty"`
	Mounts []string `json:"mounts,omitempty"` // where input i goes, relative to /work
	Unit   bool     `json:"unit,omitempty"`
	Stdin  bool     `json:"stdin,omitempty"`
	Pids   int64    `json:"pids,omitempty"`
	Disk   int64    `json:"disk,omitempty"` // bytes of scratch and output
	Now    int64    `json:"now"`            // ns since 1970: the machine may have no clock
}

// Reply is how an attempt ended.
type Reply struct {
	Code   int32  `json:"code"`
	Signal int32  `json:"signal,omitempty"`  // that ended it, 0 for none
	NoExec string `json:"no_exec,omitempty"` // why the command could not be executed
	Memory bool   `json:"memory,omitempty"`  // the guest's kernel killed for memory
	Full   bool   `json:"full,omitempty"`    // its scratch was full at the end
	Peak   int64  `json:"peak,omitempty"`    // bytes of memory
}

// Conn numbers a connection to the unit socket; the guest counts up.
type Conn uint32

// WithConn puts the number before data.
func WithConn(c Conn, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(c)), data...)
}

// SplitConn undoes WithConn.
func SplitConn(payload []byte) (Conn, []byte, error) {
	if len(payload) < 4 {
		return 0, nil, fmt.Errorf("%w: a connection without its number", frame.ErrFrame)
	}
	return Conn(binary.BigEndian.Uint32(payload)), payload[4:], nil
}
