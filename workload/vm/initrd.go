package vm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// writeInitrd makes the initial RAM disk at path: the archives one after the
// other, then ours. The kernel unpacks them in this order and lets a later file
// take an earlier one's place (Documentation/driver-api/early-userspace).
func writeInitrd(path string, archives []string, init []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Chmod(0o644), f.Close()) }()
	w := &archiveWriter{w: f}
	for _, a := range archives {
		if err := w.copy(a); err != nil {
			return err
		}
	}
	w.entry("perrin", unix.S_IFDIR|0o755, 0, 0, nil)
	w.entry("dev", unix.S_IFDIR|0o755, 0, 0, nil)
	w.entry("dev/console", unix.S_IFCHR|0o600, 5, 1, nil) // for the kernel to open as the init's streams
	w.entry("dev/null", unix.S_IFCHR|0o666, 1, 3, nil)
	w.entry(guestwire.InitPath[1:], unix.S_IFREG|0o755, 0, 0, init)
	w.entry("TRAILER!!!", 0, 0, 0, nil)
	return w.err
}

// archiveWriter writes cpio archives in the kernel's format, newc.
type archiveWriter struct {
	w    io.Writer
	n    int64
	next uint32 // inode number
	err  error
}

func (a *archiveWriter) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
	a.n += int64(len(b))
}

// pad fills up to four bytes.
func (a *archiveWriter) pad() { a.write(make([]byte, -a.n&3)) }

func (a *archiveWriter) copy(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(a.w, f)
	a.n += n
	a.pad()
	return errors.Join(err, a.err)
}

func (a *archiveWriter) entry(name string, mode, major, minor uint32, data []byte) {
	a.next++
	head := "070701"
	for _, v := range []uint32{a.next, mode, 0, 0, 1, 0, uint32(len(data)), 0, 0, major, minor, uint32(len(name) + 1), 0} {
		head += fmt.Sprintf("%08X", v)
	}
	a.write([]byte(head + name + "\x00"))
	a.pad()
	a.write(data)
	a.pad()
}
