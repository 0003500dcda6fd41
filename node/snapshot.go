package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// A ledger's snapshot on disk is a list of parts, each a length (uvarint) and
// that many bytes of CBOR: first the ledger.Snapshot without records, then one
// part for each record, then a length of 0. So neither side holds more than one
// encoded record.
const (
	snapshotPart  = ledger.MaxGrown // bytes of the largest part: one record may be all of a ledger
	snapshotEnds  = "snapshot ends early"
	snapshotStrip = 64 << 10 // bytes written and read at a time
)

// snapshot is a captured ledger on its way to the disk, and the results that
// rode in its entries. It is written once.
type snapshot struct {
	s     *ledger.Snapshot
	book  *book
	taken map[workload.Ref]workload.ID
}

// WriteTo encodes the snapshot once those results are durable by themselves.
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	if err := s.book.shelf.sync(s.taken, s.book.known); err != nil {
		return 0, err
	}
	return s.write(w)
}

func (s snapshot) write(w io.Writer) (int64, error) {
	count := &countingWriter{w: w}
	out := bufio.NewWriterSize(count, snapshotStrip)
	records := s.s.Records
	head := *s.s
	head.Records = nil
	err := writePart(out, &head)
	for i := range records {
		if err == nil {
			err = writePart(out, &records[i])
		}
	}
	if err == nil {
		err = out.WriteByte(0)
	}
	err = errors.Join(err, out.Flush())
	return count.n, err
}

func writePart(w io.Writer, v any) error {
	raw, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(raw)))); err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// readSnapshot reads what WriteTo wrote.
func readSnapshot(r io.Reader) (*ledger.Snapshot, error) {
	in := bufio.NewReaderSize(r, snapshotStrip)
	var snap ledger.Snapshot
	more, err := readPart(in, &snap)
	if err != nil || !more {
		return nil, errors.Join(err, errors.New("snapshot without a head"))
	}
	for {
		var rec ledger.Record
		more, err := readPart(in, &rec)
		if err != nil {
			return nil, err
		}
		if !more {
			return &snap, nil
		}
		if len(snap.Records) == ledger.MaxKept {
			return nil, fmt.Errorf("snapshot of over %d workloads: %w", ledger.MaxKept, wire.ErrMalformed)
		}
		snap.Records = append(snap.Records, rec)
	}
}

// readPart decodes one part; false at the end.
func readPart(r *bufio.Reader, v any) (more bool, err error) {
	n, err := binary.ReadUvarint(r)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", snapshotEnds, err)
	case n == 0:
		return false, nil
	case n > uint64(snapshotPart):
		return false, fmt.Errorf("snapshot part of %d bytes: %w", n, wire.ErrMalformed)
	}
	raw, err := io.ReadAll(io.LimitReader(r, int64(n))) // grows with what is there, not with what is claimed
	if err == nil && uint64(len(raw)) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", snapshotEnds, err)
	}
	return true, wire.UnmarshalBulk(raw, v)
}

type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
