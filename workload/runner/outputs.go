package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// ErrTooManyOutputs is returned when an output folder holds more entries than
// the caller allows.
var ErrTooManyOutputs = errors.New("too many outputs")

// OutputFile is one regular file of an output folder.
type OutputFile struct {
	Path string // slash-separated, relative to the folder, clean
	Size int64
	Exec bool
}

// Outputs lists the regular files below dir, sorted by path. Symlinks, sockets,
// pipes and devices are left out and nothing outside of dir is touched,
// whatever the program put there. A dir that is not there holds none. It returns ErrTooManyOutputs above limit
// entries of any kind. No attempt may be writing to dir.
func Outputs(dir string, limit int) ([]OutputFile, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	defer root.Close()
	l := outputList{root: root, left: limit}
	if err := l.folder(".", 0); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	slices.SortFunc(l.files, func(a, b OutputFile) int { return strings.Compare(a.Path, b.Path) })
	return l.files, nil
}

// maxOutputDepth bounds how deep folders may be nested.
const maxOutputDepth = 64

type outputList struct {
	root  *os.Root
	left  int
	files []OutputFile
}

func (l *outputList) folder(name string, depth int) error {
	if depth > maxOutputDepth {
		return fmt.Errorf("%.80q: folders nested deeper than %d", name, maxOutputDepth)
	}
	entries, err := l.read(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := l.entry(path.Join(name, e.Name()), e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (l *outputList) read(name string) ([]fs.DirEntry, error) {
	d, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(l.left + 1)
	if len(entries) > l.left {
		return nil, ErrTooManyOutputs
	}
	l.left -= len(entries)
	if len(entries) > 0 {
		return entries, nil
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil || errors.Is(err, io.EOF) {
		return nil, nil
	}
	return nil, err
}

func (l *outputList) entry(name string, e fs.DirEntry, depth int) error {
	switch {
	case e.IsDir():
		return l.folder(name, depth+1)
	case e.Type().IsRegular():
		info, err := l.root.Lstat(name)
		if err != nil {
			return err
		}
		l.files = append(l.files, OutputFile{Path: name, Size: info.Size(), Exec: info.Mode()&0o111 != 0})
	}
	return nil
}

// OpenOutput opens one file that Outputs listed for reading. It refuses
// anything but a regular file and never leaves dir.
func OpenOutput(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open output %.80q: not a regular file", name)
	}
	return f, nil
}
