package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

// Limits bounds what an image unpacks to, all of its layers together. What a
// higher layer replaces counts too.
type Limits struct {
	Bytes int64 // of content, and entryCost for each entry
	Files int   // entries of any kind
	Depth int   // folders above an entry
}

// Bounds of an image that is unpacked, unless a caller has less room.
const (
	maxBytes  = 32 << 30
	maxFiles  = 800_000
	maxDepth  = 128
	maxHops   = 40 // links in one path, as many as Linux follows
	maxTarget = 4096
	entryCost = 512 // bytes, so that empty files are not free
)

// DefaultLimits bounds an image to 32 GiB, 800,000 entries and 128 folders.
func DefaultLimits() Limits { return Limits{Bytes: maxBytes, Files: maxFiles, Depth: maxDepth} }

// Unpacker applies layers to one folder, the lowest first. Its methods may not
// be called at once.
type Unpacker struct {
	root   *os.Root
	limits Limits

	layer   int // from 1
	files   int
	bytes   int64
	leftOut int

	folders map[string]bool // known to be folders themselves, not links
	mine    map[string]bool // made by the layer at hand, with the folders above
	at      *os.Root        // the folder that was used last
	atName  string
	buffer  []byte
}

// New returns an unpacker into root, which must be empty and stays the caller's.
func New(root *os.Root, l Limits) *Unpacker {
	return &Unpacker{root: root, limits: l, folders: map[string]bool{".": true}, buffer: make([]byte, 128<<10)}
}

// Close lets go of what the unpacker holds open.
func (u *Unpacker) Close() { u.forget() }

// Bytes returns what was unpacked so far, counted as Limits.Bytes.
func (u *Unpacker) Bytes() int64 { return u.bytes }

// LeftOut returns how many devices, pipes and the like were left out.
func (u *Unpacker) LeftOut() int { return u.leftOut }

// Layer unpacks the next layer from r, its bytes as they were moved. Errors of
// the image wrap image.ErrInvalid; others are of this machine. After an error
// the folder is of no use.
func (u *Unpacker) Layer(r io.Reader, l image.Layer) error {
	u.layer++
	u.mine = map[string]bool{}
	s, err := newStream(r, l, u.limits.Bytes+int64(u.limits.Files)*2*tarBlock)
	if err != nil {
		return u.of(err)
	}
	defer s.close()
	if err := u.entries(tar.NewReader(s)); err != nil {
		return u.of(err)
	}
	return u.of(s.finish())
}

// of names the layer in an error.
func (u *Unpacker) of(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, image.ErrInvalid): // said once, in front
		return fmt.Errorf("%w: layer %d: %s", image.ErrInvalid, u.layer, strings.TrimPrefix(err.Error(), image.ErrInvalid.Error()+": "))
	}
	return fmt.Errorf("layer %d: %w", u.layer, err)
}

// refuse is an error of the image.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", image.ErrInvalid, fmt.Errorf(format, args...))
}

func (u *Unpacker) entries(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(err)
		}
		if err := u.entry(h, r); err != nil {
			return err
		}
	}
}

// readError tells a broken archive from a reader that failed.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return refuse("it is no tar archive: %w", err)
	}
	return err
}

func (u *Unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.admit(h)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return refuse("it makes / something other than a folder")
		}
		return nil
	}
	dir, err := u.folder(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if strings.HasPrefix(base, whiteout) {
		return u.hide(dir, base)
	}
	return hostile(u.make(h, dir, base, content))
}

// hostile tells names that no file system takes from this machine's failures.
func hostile(err error) error {
	for _, no := range []error{syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ, syscall.EMLINK} {
		if errors.Is(err, no) {
			return refuse("%w", err)
		}
	}
	return err
}

// admit checks an entry against the limits and returns its clean name.
func (u *Unpacker) admit(h *tar.Header) (string, error) {
	if h.Typeflag == tar.TypeGNUSparse {
		return "", sparse(h.Name)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "", sparse(h.Name)
		}
	}
	if h.Size < 0 || h.Size > u.limits.Bytes-u.bytes {
		return "", refuse("%.200q has %d bytes: the image unpacks to more than the %d bytes it may have here", h.Name, h.Size, u.limits.Bytes)
	}
	if err := u.count(h.Size); err != nil {
		return "", err
	}
	if strings.ContainsRune(h.Name, 0) || len(h.Name) > maxTarget || len(h.Linkname) > maxTarget || strings.ContainsRune(h.Linkname, 0) {
		return "", refuse("%.200q: a name of more than %d bytes, or with a zero byte", h.Name, maxTarget)
	}
	for part := range strings.SplitSeq(h.Name, "/") {
		if part == ".." {
			return "", refuse("%.200q leads out of the image", h.Name)
		}
	}
	name := path.Clean("/" + h.Name)[1:]
	if name == "" {
		return ".", nil
	}
	if depth := strings.Count(name, "/"); depth > u.limits.Depth {
		return "", refuse("%.200q is %d folders deep, at most %d", h.Name, depth, u.limits.Depth)
	}
	return name, nil
}

func sparse(name string) error {
	return refuse("%.200q is a sparse file; build the layer without (tar --no-sparse)", name)
}

// count takes an entry into account.
func (u *Unpacker) count(size int64) error {
	u.files++
	u.bytes += size + entryCost
	switch {
	case u.files > u.limits.Files:
		return refuse("the image has more than %d files", u.limits.Files)
	case u.bytes > u.limits.Bytes:
		return refuse("the image unpacks to more than the %d bytes it may have here", u.limits.Bytes)
	}
	return nil
}

// make makes one entry in the folder dir, in place of what is there.
func (u *Unpacker) make(h *tar.Header, dir, base string, content io.Reader) error {
	full := path.Join(dir, base)
	switch h.Typeflag {
	case tar.TypeDir:
		return u.makeFolder(h, dir, base)
	case tar.TypeReg:
		return u.replace(dir, base, func(at *os.Root) error { return u.makeFile(at, base, h, content) })
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return refuse("%.200q is a link to nothing", full)
		}
		return u.replace(dir, base, func(at *os.Root) error { return at.Symlink(h.Linkname, base) })
	case tar.TypeLink:
		return u.makeLink(h, dir, base)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		u.leftOut++
		return u.remove(dir, base)
	}
	return refuse("%.200q is of type %q, which no layer has", full, h.Typeflag)
}

func (u *Unpacker) makeFolder(h *tar.Header, dir, base string) error {
	full := path.Join(dir, base)
	at, err := u.in(dir)
	if err != nil {
		return err
	}
	mode := spread(h.Mode) | 0o700
	info, err := at.Lstat(base)
	if err == nil && info.IsDir() {
		u.note(full)
		return at.Chmod(base, mode)
	}
	err = u.replace(dir, base, func(at *os.Root) error { return at.Mkdir(base, 0o700) })
	if err != nil {
		return err
	}
	u.folders[full] = true
	return at.Chmod(base, mode) // whatever the umask
}

// spread gives everyone the owner's right to read and execute.
func spread(mode int64) fs.FileMode {
	m := fs.FileMode(mode) & 0o777
	owner := m >> 6 & 0o5
	return m | owner<<3 | owner | 0o400
}

// Times outside of these are not kept.
var oldest, newest = time.Unix(0, 0), time.Unix(1<<33, 0)

func (u *Unpacker) makeFile(at *os.Root, base string, h *tar.Header, content io.Reader) error {
	f, err := at.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{content}, u.buffer)
	if err != nil {
		err = readError(err)
	}
	if err = errors.Join(err, f.Chmod(spread(h.Mode)), f.Close()); err != nil {
		return err
	}
	if n != h.Size {
		return refuse("%.200q has %d bytes, says %d", h.Name, n, h.Size)
	}
	if h.ModTime.After(oldest) && h.ModTime.Before(newest) { // interpreters compare it with their caches
		return at.Chtimes(base, h.ModTime, h.ModTime)
	}
	return nil
}

// makeLink makes a hard link to a file that is there already.
func (u *Unpacker) makeLink(h *tar.Header, dir, base string) error {
	target := path.Clean("/" + h.Linkname)[1:]
	for part := range strings.SplitSeq(h.Linkname, "/") {
		if part == ".." {
			return refuse("%.200q is a hard link to %.200q, which leads out of the image", h.Name, h.Linkname)
		}
	}
	if target == "" {
		return refuse("%.200q is a hard link to a folder", h.Name)
	}
	folder, err := u.folder(path.Dir(target))
	if err != nil {
		return err
	}
	target = path.Join(folder, path.Base(target))
	info, err := u.root.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("%.200q is a hard link to %.200q, which is not there", h.Name, h.Linkname)
	case err != nil:
		return err
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return refuse("%.200q is a hard link to %.200q, which is no file", h.Name, h.Linkname)
	case target == path.Join(dir, base):
		return nil
	}
	return u.replace(dir, base, func(*os.Root) error { return u.root.Link(target, path.Join(dir, base)) })
}

// replace removes what is at base and has something else made there.
func (u *Unpacker) replace(dir, base string, make func(at *os.Root) error) error {
	if err := u.remove(dir, base); err != nil {
		return err
	}
	at, err := u.in(dir)
	if err != nil {
		return err
	}
	u.note(path.Join(dir, base))
	return make(at)
}
