package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// An entry's value is
//
//	version 1 | type 1 | term uvarint | appended varint | extensions uvarint + bytes | data
//
// where appended is nanoseconds of the Unix epoch, 0 for never. The index is in
// the key, the checksum is Badger's.
const entryVersion = 1

func encodeEntry(l *raft.Log) []byte {
	b := make([]byte, 2, 2+3*binary.MaxVarintLen64+len(l.Extensions)+len(l.Data))
	b[0], b[1] = entryVersion, byte(l.Type)
	b = binary.AppendUvarint(b, l.Term)
	var appended int64
	if !l.AppendedAt.IsZero() {
		appended = l.AppendedAt.UnixNano()
	}
	b = binary.AppendVarint(b, appended)
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	return append(b, l.Data...)
}

// decodeEntry reads the value of index into l. The slices of l are copies.
func decodeEntry(index uint64, b []byte, l *raft.Log) error {
	bad := fmt.Errorf("%w: log entry %d does not decode", ErrCorrupt, index)
	if len(b) < 2 || b[0] != entryVersion {
		return bad
	}
	kind, b := raft.LogType(b[1]), b[2:]
	term, n := binary.Uvarint(b)
	if n <= 0 {
		return bad
	}
	appended, m := binary.Varint(b[n:])
	if m <= 0 {
		return bad
	}
	b = b[n+m:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return bad
	}
	ext, data := b[n:n+int(size)], b[n+int(size):]
	*l = raft.Log{Index: index, Term: term, Type: kind, Data: clone(data), Extensions: clone(ext)}
	if appended != 0 {
		l.AppendedAt = time.Unix(0, appended)
	}
	return nil
}

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}
