package guest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// serve runs the node's attempts until the port ends.
func (m *machine) serve() error {
	in, out := frame.NewReader(m.port), frame.NewWriter(m.port)
	if err := out.Send(frame.Ready, 0, nil); err != nil {
		return err
	}
	var current *attempt
	for {
		f, err := in.Next()
		if err != nil {
			return fmt.Errorf("the port to the node: %w", err)
		}
		switch {
		case f.Type == frame.Run:
			if current != nil {
				<-current.over // it has said Done, so this is soon
			}
			if current, err = m.begin(f, out); err != nil {
				return err
			}
		case current != nil && f.Attempt == current.id:
			if err := current.take(f); err != nil {
				return err
			}
		}
	}
}

// take gives a running attempt a frame that is meant for it. It does not wait
// for the program.
func (a *attempt) take(f frame.Frame) error {
	data := append([]byte(nil), f.Payload...)
	switch f.Type {
	case guestwire.Input:
		return a.inputs.feed(data)
	case frame.Stdin:
		a.stdin.put(data)
	case frame.StdinEnd:
		a.stdin.end()
	case guestwire.Terminate:
		a.terminate()
	case guestwire.UnitData, guestwire.UnitClose:
		conn, rest, err := guestwire.SplitConn(data)
		if err != nil {
			return err
		}
		a.unit.take(conn, rest, f.Type == guestwire.UnitClose)
	default:
		return errors.New("a frame that the guest does not know")
	}
	return nil
}

// more asks for n bytes of stdin.
func (a *attempt) more(n int) {
	_ = a.out.Send(guestwire.StdinMore, a.id, binary.BigEndian.AppendUint32(nil, uint32(n)))
}
