package mesh

import (
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/perrin-mesh/perrin/mesh/wire"
)

// A stream begins with multistream-select 1.0.0 (libp2p specs, connections),
// which names its protocol. The side that opens it sends its choice together
// with its first bytes, without waiting; the answer is read in front of the
// answer's first bytes. libp2p's own client does the same with a goroutine
// per stream, and after identify has ended.

const multistream = "\x13/multistream/1.0.0\n"

// maxProto keeps a protocol's length in one byte of varint.
const maxProto = 100

// preface is what the opener of a stream sends first.
func preface(proto string) []byte {
	b := make([]byte, 0, len(multistream)+len(proto)+2)
	b = append(b, multistream...)
	b = append(b, byte(len(proto)+1))
	b = append(b, proto...)
	return append(b, '\n')
}

// readPreface reads the other side's agreement. The error is wire.NotFound
// when the peer does not serve the protocol, and wire.Unauthorized when its
// gate is closed to this node.
func readPreface(r io.Reader, proto string) error {
	err := readAgreement(r, proto)
	var reset *network.StreamError
	if !errors.As(err, &reset) || !reset.Remote {
		return err
	}
	switch reset.ErrorCode {
	case network.StreamProtocolNegotiationFailed:
		return notServed(proto)
	case network.StreamGated:
		return wire.Errorf(wire.Unauthorized, "the peer has not admitted this node")
	}
	return err
}

func readAgreement(r io.Reader, proto string) error {
	var head [len(multistream) + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if string(head[:len(multistream)]) != multistream || head[len(multistream)] > 127 {
		return wire.Errorf(wire.Malformed, "stream does not begin with multistream-select")
	}
	name := make([]byte, head[len(multistream)])
	if _, err := io.ReadFull(r, name); err != nil {
		return err
	}
	switch string(name) {
	case proto + "\n":
		return nil
	case "na\n":
		return notServed(proto)
	}
	return wire.Errorf(wire.Malformed, "stream of %s is answered with protocol %.80q", proto, name)
}

// ErrNotServed is returned, beside wire.NotFound, when a peer does not serve a
// protocol: it is starting, or of another version.
var ErrNotServed = errors.New("it may be starting, or of another version")

func notServed(proto string) error {
	return fmt.Errorf("%w: %w", wire.Errorf(wire.NotFound, "the peer does not serve %s", proto), ErrNotServed)
}
