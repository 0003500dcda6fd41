package blob

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// ErrTree is returned for a folder that cannot be a tree, and for an archive
// that is not one.
var ErrTree = errors.New("not a tree")

// Limits bounds a tree. The zero value of a field is no bound of its own.
type Limits struct {
	Entries int   // files, folders and links
	Bytes   int64 // of content
	Name    int   // of a path, in bytes
	Depth   int   // folders above an entry
}

// DefaultLimits bounds a tree to a million entries, MaxSize bytes, paths of
// 4096 bytes and 128 folders.
func DefaultLimits() Limits {
	return Limits{Entries: 1 << 20, Bytes: MaxSize, Name: 4096, Depth: 128}
}

// count adds an entry to what a tree has so far.
func (l Limits) count(name string, entries int, bytes int64) error {
	switch {
	case l.Entries > 0 && entries > l.Entries:
		return fmt.Errorf("%w: more than %d entries", ErrTree, l.Entries)
	case l.Bytes > 0 && bytes > l.Bytes:
		return fmt.Errorf("%w: more than %d bytes of content", ErrTree, l.Bytes)
	case l.Name > 0 && len(name) > l.Name:
		return fmt.Errorf("%w: %.80q…: a path of %d bytes, at most %d", ErrTree, name, len(name), l.Name)
	case l.Depth > 0 && strings.Count(name, "/") > l.Depth:
		return fmt.Errorf("%w: %.80q: more than %d folders deep", ErrTree, name, l.Depth)
	}
	return nil
}

// PackTree writes the folder dir to w as a tar archive that depends on the
// names, the content, the executable bits and the link targets alone: entries
// in the order of their names within each folder, no times, no owners, modes
// 0755 and 0644. dir itself is not an entry.
//
// A tree has regular files, folders and symbolic links that stay inside; for
// anything else, a file that changes while it is read and a limit that is
// exceeded, the error wraps ErrTree and names the path. What was written to w is
// then of no use.
func PackTree(ctx context.Context, dir string, w io.Writer, l Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	defer root.Close()
	buf := bufio.NewWriterSize(w, 64<<10)
	p := &packer{root: root, tar: tar.NewWriter(buf), limits: l}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		return p.add(name, d)
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	if err := errors.Join(p.tar.Close(), buf.Flush()); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

type packer struct {
	root    *os.Root
	tar     *tar.Writer
	limits  Limits
	entries int
	bytes   int64
}

func (p *packer) add(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	p.entries++
	if info.Mode().IsRegular() {
		p.bytes += info.Size()
	}
	if err := p.limits.count(name, p.entries, p.bytes); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		return p.addFile(name, info)
	case fs.ModeDir:
		return p.tar.WriteHeader(header(tar.TypeDir, name+"/", 0o755))
	case fs.ModeSymlink:
		return p.addLink(name)
	}
	return fmt.Errorf("%w: %q is a %s; only files, folders and symbolic links travel", ErrTree, name, typeName(info.Mode()))
}

// header is one with everything that could differ between machines left out.
func header(kind byte, name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}
}

func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

func (p *packer) addLink(name string) error {
	target, err := p.root.Readlink(name)
	if err != nil {
		return err
	}
	if err := checkLink(name, target); err != nil {
		return err
	}
	h := header(tar.TypeSymlink, name, 0o777)
	h.Linkname = target
	return p.tar.WriteHeader(h)
}

func (p *packer) addFile(name string, info fs.FileInfo) error {
	// A name that became a link or a pipe since it was listed must not be
	// followed or waited for.
	f, err := p.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, now) || !now.Mode().IsRegular() {
		return fmt.Errorf("%w: %q changed while it was read", ErrTree, name)
	}
	h := header(tar.TypeReg, name, 0o644|int64(info.Mode().Perm()&0o100)/0o100*0o111)
	h.Size = info.Size()
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.tar, io.LimitReader(f, h.Size))
	if err != nil {
		return err
	}
	if extra, _ := f.Read(make([]byte, 1)); n != h.Size || extra != 0 {
		return fmt.Errorf("%w: %q changed while it was read", ErrTree, name)
	}
	return nil
}

// checkLink returns an error unless a link called name with target stays
// inside the tree. The parents of name are folders, not links, and ".." may
// only lead: so each ".." is where it seems to be, and what follows goes down,
// or through another link that obeys the same rule.
func checkLink(name, target string) error {
	up, down := 0, false
	for _, part := range strings.Split(target, "/") {
		switch {
		case part == "..":
			if up++; down || up > strings.Count(name, "/") {
				return fmt.Errorf("%w: the link %.200q to %.200q leads, or may lead, outside", ErrTree, name, target)
			}
		case part != "" && part != ".":
			down = true
		}
	}
	if target == "" || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return fmt.Errorf("%w: the link %.200q to %.200q leads outside", ErrTree, name, target)
	}
	return nil
}
