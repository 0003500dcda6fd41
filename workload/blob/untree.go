package blob

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// UnpackTree makes the tree that r, an archive from a stranger, describes
// below dest, which should be empty. It writes only below dest, never through a
// link, makes files with mode 0644 or 0755 and folders with 0755, and holds l
// before it writes. Every name is relative and clean, comes once, and after its
// folder; links stay inside; devices, hard links, sparse files, owners, times
// and extended attributes are refused. Those errors wrap ErrTree and name
// the entry. After an error part of the tree is there: remove it.
func UnpackTree(r io.Reader, dest *os.Root, l Limits) error {
	u := &unpacker{root: dest, limits: l, seen: map[string]bool{}}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = u.add(h, tr)
		} else {
			err = readError(err)
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
}

// readError tells a broken archive from a reader that failed.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("%w: %w", ErrTree, err)
	}
	return err
}

type unpacker struct {
	root    *os.Root
	limits  Limits
	seen    map[string]bool // each entry; true for a folder
	entries int
	bytes   int64
}

func (u *unpacker) add(h *tar.Header, content io.Reader) error {
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if err := u.check(name, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.seen[name] = true
		return errors.Join(u.root.Mkdir(name, 0o755), u.root.Chmod(name, 0o755)) // whatever the umask
	case tar.TypeSymlink:
		u.seen[name] = false
		if err := checkLink(name, h.Linkname); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		u.seen[name] = false
		return u.addFile(name, h, content)
	}
	return fmt.Errorf("%w: %.200q has type %q; only files, folders and symbolic links travel", ErrTree, name, h.Typeflag)
}

// check returns an error for what is wrong with an entry whatever its type.
func (u *unpacker) check(name string, h *tar.Header) error {
	u.entries++
	if h.Size < 0 || h.Size > MaxSize {
		return fmt.Errorf("%w: %.200q says that it has %d bytes", ErrTree, name, h.Size)
	}
	u.bytes += h.Size
	if err := u.limits.count(name, u.entries, u.bytes); err != nil {
		return err
	}
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %.200q is not a relative, clean path", ErrTree, name)
	}
	if _, twice := u.seen[name]; twice {
		return fmt.Errorf("%w: %.200q is there twice", ErrTree, name)
	}
	if parent := path.Dir(name); parent != "." && !u.seen[parent] {
		return fmt.Errorf("%w: %.200q comes before its folder, or that is no folder", ErrTree, name)
	}
	for key := range h.PAXRecords {
		if key != "path" && key != "linkpath" && key != "size" {
			return fmt.Errorf("%w: %.200q has an extended attribute %.80q", ErrTree, name, key)
		}
	}
	return nil
}

func (u *unpacker) addFile(name string, h *tar.Header, content io.Reader) error {
	mode := fs.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	if err = errors.Join(readError(err), f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	if n != h.Size {
		return fmt.Errorf("%w: %.200q has %d bytes, says %d", ErrTree, name, n, h.Size)
	}
	return nil
}
