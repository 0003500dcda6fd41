package leader

import (
	"crypto/ed25519"
	"fmt"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// SealCommand encodes a command as an entry of its cell's log. Behind one that judges
// stands the signature of the leader that it names, whose key this is, over the cell's
// name and the command (DomainCommand).
func SealCommand(memo *workload.Memo, key ed25519.PrivateKey, cell workload.CellID, c *ledger.Command) ([]byte, error) {
	raw, err := wire.Marshal(c)
	if err != nil || !c.Judges() {
		return raw, err
	}
	s := memo.Sign(workload.DomainCommand, commandPayload(cell, raw), key)
	return append(raw, s.Sig...), nil
}

// OpenCommand decodes an entry of a log, without a look at its signature. One has
// exactly the bytes that SealCommand gives.
func OpenCommand(entry []byte) (*ledger.Command, error) {
	c := new(ledger.Command)
	rest, err := wire.UnmarshalFirst(entry, c)
	want := 0
	if c.Judges() {
		want = ed25519.SignatureSize
	}
	switch {
	case err != nil:
		return nil, err
	case len(rest) != want:
		return nil, fmt.Errorf("%w: %d bytes behind a command, want %d", wire.ErrMalformed, len(rest), want)
	}
	return c, nil
}

// Proposed returns an error unless the leader that a command names has signed its entry,
// from which it was decoded, for this cell. It is pure.
func Proposed(memo *workload.Memo, cell workload.CellID, c *ledger.Command, entry []byte) error {
	if !c.Judges() {
		return nil
	}
	end := len(entry) - ed25519.SignatureSize
	if end < 0 {
		return fmt.Errorf("%w: an entry without a signature", workload.ErrSignature)
	}
	return memo.Verify(workload.DomainCommand, workload.Signed{
		Payload: commandPayload(cell, entry[:end]), By: c.Leader, Sig: entry[end:],
	})
}

// commandPayload is what a leader signs of a command: the cell's name, which has always
// the same length, and the command's encoding.
func commandPayload(cell workload.CellID, raw []byte) []byte {
	out := make([]byte, 0, len(cell)+len(raw))
	return append(append(out, cell[:]...), raw...)
}
