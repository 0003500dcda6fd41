package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// errPack is returned for a file that is no pack.
var errPack = errors.New("malformed pack")

// aside is added to the name of a pack that cannot be read, and which is kept for
// whoever may mend it.
const aside = ".damaged"

// scanPacks returns what is in the packs. One of which the head is damaged is put
// aside.
func (s *Store) scanPacks() ([]found, error) {
	files, err := os.ReadDir(s.path(dirPack))
	if err != nil {
		return nil, s.diskError(err)
	}
	var all []found
	for _, f := range files {
		name := s.path(dirPack, f.Name())
		if strings.HasSuffix(name, aside) {
			continue
		}
		if n, err := strconv.ParseUint(f.Name(), 10, 64); err == nil && n > s.seq.Load() {
			s.seq.Store(n)
		}
		in, err := s.scanPack(name)
		if errors.Is(err, errPack) {
			s.log.Error("blob store: a damaged pack is put aside", "file", name, "err", err)
			err = os.Rename(name, name+aside)
		}
		if err != nil {
			return nil, s.diskError(err)
		}
		all = append(all, in...)
	}
	return all, nil
}

// dropDeadPacks removes the packs of which nothing came into the index.
func (s *Store) dropDeadPacks() error {
	for p := range s.packs {
		if len(p.live) > 0 {
			continue
		}
		if err := removeFile(p.name); err != nil {
			return s.diskError(err)
		}
		delete(s.packs, p)
	}
	return nil
}

func (s *Store) scanPack(name string) ([]found, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a file", errPack)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	refs, err := readPack(f, info.Size())
	if err != nil {
		return nil, err
	}
	p := &pack{name: name, size: info.Size(), live: make(map[workload.Ref]struct{}, len(refs))}
	s.packs[p] = struct{}{}
	off := int64(packHeader + len(refs)*packRow)
	var all []found
	for _, ref := range refs {
		e := &entry{ref: ref, bytes: packCharge(ref), place: &place{pack: p, off: off}}
		all = append(all, found{e, info.ModTime()})
		off += ref.Size
	}
	return all, nil
}

// readPack reads and checks the head of a pack of size bytes. It returns an error
// that wraps errPack for anything else.
func readPack(r io.Reader, size int64) ([]workload.Ref, error) {
	head := make([]byte, packHeader)
	if err := readHead(r, head); err != nil {
		return nil, err
	}
	if string(head[:len(packMagic)]) != packMagic {
		return nil, fmt.Errorf("%w: another beginning", errPack)
	}
	n := int(binary.BigEndian.Uint32(head[len(packMagic):]))
	if n == 0 || n > maxRows || int64(packHeader+n*packRow) > size {
		return nil, fmt.Errorf("%w: %d contents in %d bytes", errPack, n, size)
	}
	rows := make([]byte, n*packRow)
	if err := readHead(r, rows); err != nil {
		return nil, err
	}
	refs := make([]workload.Ref, n)
	end := int64(packHeader + len(rows))
	for i := range refs {
		b := rows[i*packRow:]
		refs[i] = workload.Ref{Digest: workload.Digest(b[:32]), Size: int64(binary.BigEndian.Uint32(b[32:packRow]))}
		if refs[i].Size == 0 || refs[i].Size > maxPacked {
			return nil, fmt.Errorf("%w: a content of %d bytes", errPack, refs[i].Size)
		}
		end += refs[i].Size
	}
	if end != size {
		return nil, fmt.Errorf("%w: %d bytes, its contents need %d", errPack, size, end)
	}
	return refs, nil
}

// readHead fills b. A file that ends before is no pack; a disk that does not give
// it is another matter.
func readHead(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in its head", errPack)
	}
	return err
}
