package worker

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// memorySpool is how much of a stream stays in memory, in bytes; the rest goes
// to a file.
const memorySpool = 64 << 10

// Reasons why a stream takes no more.
var (
	// errSpoolFull is returned when a program has written more than its share.
	errSpoolFull = errors.New("the stream is over its limit")
	// errSpoolRoom is returned when the node's disk is nearly full.
	errSpoolRoom = errors.New("the node's disk has no room for the stream")
)

// spoolReserve is what a stream leaves of the disk, in bytes; it looks every
// spoolStride bytes.
const (
	spoolReserve = 64 << 20
	spoolStride  = 16 << 20
)

// spool keeps what a program writes to one stream. One goroutine writes; any
// number read from the beginning, and wait for more.
type spool struct {
	path  string // of the file, made when it is needed
	limit int64
	room  func() int64 // bytes free on the disk; nil is enough
	over  func()       // called once, when it takes no more; it must not wait for who writes

	mu    sync.Mutex
	err   error // why it takes no more
	look  int64 // the size at which room is asked next
	data  []byte
	file  *os.File
	size  int64
	ended bool
	grown chan struct{} // closed and replaced when there is more, or the end
}

func newSpool(path string, limit int64) *spool {
	return &spool{path: path, limit: limit, grown: make(chan struct{})}
}

// Write appends. Over the limit it keeps what fits and returns errSpoolFull, and
// errSpoolRoom where the disk has no room; then it takes nothing any more.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.room != nil && s.size >= max(s.look, memorySpool) {
		s.look = s.size + spoolStride
		if s.room() < spoolReserve {
			return 0, s.refuse(errSpoolRoom)
		}
	}
	fit := p[:min(int64(len(p)), s.limit-s.size)]
	if err := s.store(fit); err != nil {
		return 0, s.refuse(err)
	}
	s.size += int64(len(fit))
	s.wake()
	if len(fit) < len(p) {
		return len(fit), s.refuse(errSpoolFull)
	}
	return len(p), nil
}

// refuse takes nothing from now on. The caller holds mu.
func (s *spool) refuse(err error) error {
	s.err = err
	if s.over != nil {
		go s.over()
	}
	return err
}

// refused returns why the spool takes no more, nil while it does.
func (s *spool) refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// mark appends a line of ours, whatever the limit.
func (s *spool) mark(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store([]byte(line)); err != nil {
		return err
	}
	s.size += int64(len(line))
	s.wake()
	return nil
}

func (s *spool) store(p []byte) error {
	if s.file == nil && s.size+int64(len(p)) <= memorySpool {
		s.data = append(s.data, p...)
		return nil
	}
	if s.file == nil {
		if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		s.file = f
		if _, err := f.Write(s.data); err != nil {
			return err
		}
		s.data = nil
	}
	_, err := s.file.Write(p)
	return err
}

func (s *spool) wake() {
	close(s.grown)
	s.grown = make(chan struct{})
}

// finish says that nothing more comes.
func (s *spool) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.wake()
	}
}

// close ends the spool and lets go of its file.
func (s *spool) close() {
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		os.Remove(s.path)
		s.file = nil
		s.size = 0
	}
}

// at reads from offset. Without data it returns the channel to wait on, or
// io.EOF when nothing more comes.
func (s *spool) at(p []byte, offset int64) (int, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset >= s.size {
		if s.ended {
			return 0, nil, io.EOF
		}
		return 0, s.grown, nil
	}
	if s.file == nil {
		return copy(p, s.data[offset:]), nil, nil
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.size-offset)], offset)
	if n > 0 {
		err = nil
	}
	return n, nil, err
}

// reader reads the whole spool once it is finished.
func (s *spool) reader() io.Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return io.NewSectionReader(spoolAt{s}, 0, s.size)
}

type spoolAt struct{ s *spool }

// ReadAt makes a finished spool an io.ReaderAt.
func (r spoolAt) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) {
		got, _, err := r.s.at(p[n:], offset+int64(n))
		if err != nil || got == 0 {
			return n, io.EOF
		}
		n += got
	}
	return n, nil
}
