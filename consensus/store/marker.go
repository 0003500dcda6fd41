package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
)

// marker is the ACKED file: the number of the last acknowledged commit and a
// checksum, written after each commit and never synced.
type marker struct {
	f      *os.File
	buf    [12]byte
	log    *slog.Logger
	warned bool
}

// openMarker compares the file with the number in the database and returns
// ErrCorrupt when the database is behind it. A file that does not decode tells
// nothing and is started again.
func openMarker(path string, number uint64, log *slog.Logger) (*marker, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, readOnly(err)
	}
	m := &marker{f: f, log: log}
	acked, err := m.read()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if acked > number {
		err := fmt.Errorf("%w: acknowledged writes %d to %d are gone from the raft database; "+
			"this voter must not vote again from this folder", ErrCorrupt, number+1, acked)
		return nil, errors.Join(err, f.Close())
	}
	m.set(number)
	return m, nil
}

func (m *marker) read() (uint64, error) {
	n, err := m.f.ReadAt(m.buf[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n != len(m.buf) || binary.BigEndian.Uint32(m.buf[8:]) != crc32.ChecksumIEEE(m.buf[:8]) {
		return 0, nil
	}
	return binary.BigEndian.Uint64(m.buf[:8]), nil
}

// set records a number. A failure only weakens the check at the next opening.
func (m *marker) set(number uint64) {
	binary.BigEndian.PutUint64(m.buf[:8], number)
	binary.BigEndian.PutUint32(m.buf[8:], crc32.ChecksumIEEE(m.buf[:8]))
	if _, err := m.f.WriteAt(m.buf[:], 0); err != nil && !m.warned {
		m.warned = true
		m.log.Warn("cannot write the ACKED file", "error", err)
	}
}

func (m *marker) close() error { return m.f.Close() }
