// Package cpio writes initial RAM disks: archives in the format newc that
// Linux unpacks into memory (Documentation/driver-api/early-userspace).
package cpio

import (
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Writer writes one archive. It is for one goroutine. The first error stays.
type Writer struct {
	w    io.Writer
	n    int64
	next uint32 // inode number
	dirs map[string]bool
	err  error
}

// NewWriter returns a writer of an archive to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, dirs: map[string]bool{}} }

func (a *Writer) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
	a.n += int64(len(b))
}

// pad fills up to four bytes.
func (a *Writer) pad() { a.write(make([]byte, -a.n&3)) }

// Append writes another archive, compressed or not, as it is. The kernel unpacks
// one after the other and lets a later file take an earlier one's place.
func (a *Writer) Append(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(a.w, f)
	a.n += n
	a.pad()
	if err != nil {
		return err
	}
	return a.err
}

// File adds a regular file, and the folders above it.
func (a *Writer) File(name string, mode uint32, data []byte) {
	a.folders(path.Dir(name))
	a.entry(name, unix.S_IFREG|mode, 0, 0, data)
}

// Folder adds a folder, and those above it.
func (a *Writer) Folder(name string) { a.folders(name) }

// Device adds a character device, and the folders above it.
func (a *Writer) Device(name string, mode, major, minor uint32) {
	a.folders(path.Dir(name))
	a.entry(name, unix.S_IFCHR|mode, major, minor, nil)
}

// Close ends the archive and returns the first error.
func (a *Writer) Close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}

func (a *Writer) folders(name string) {
	if name == "." || name == "/" || a.dirs[name] {
		return
	}
	a.folders(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, unix.S_IFDIR|0o755, 0, 0, nil)
}

func (a *Writer) entry(name string, mode, major, minor uint32, data []byte) {
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
