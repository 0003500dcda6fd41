package oci

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/oci/unpack"
)

// entryCost is what each entry of an image counts beside its content, in bytes.
const entryCost = 512

// slack is how many entries a root may have beyond what its image's limit says:
// the folders and files that a sandbox needs.
const slack = 64

// takeOver makes what a worker left below dir this process's own, and returns how
// many bytes it holds. The worker may have been taken over by the image: whatever
// it says, the root has plain files, folders and links, within the limits, and no
// set-user-ID bits. Nothing may run any more that can write there.
func takeOver(dir string, l unpack.Limits) (int64, error) {
	t := taker{limits: l, uid: os.Geteuid(), gid: os.Getegid()}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("take over the image: %w", err)
	}
	if err := unix.Fchown(fd, t.uid, t.gid); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("take over the image: %w", err)
	}
	if err := t.folder(fd, 0); err != nil {
		return 0, fmt.Errorf("take over the image: %w", err)
	}
	return t.bytes, nil
}

type taker struct {
	limits   unpack.Limits
	uid, gid int
	files    int
	bytes    int64
}

// folder takes over what is in the open folder fd, and closes it.
func (t *taker) folder(fd, depth int) error {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	if depth > t.limits.Depth+1 {
		return fmt.Errorf("folders deeper than %d", t.limits.Depth)
	}
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if err := t.entry(fd, name, depth); err != nil {
				return err
			}
		}
		if len(names) == 0 { // the end, or an error
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (t *taker) entry(parent int, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	t.files++
	t.bytes += entryCost
	switch kind {
	case unix.S_IFREG:
		t.bytes += st.Size / max(int64(st.Nlink), 1)
	case unix.S_IFDIR, unix.S_IFLNK:
	default:
		return fmt.Errorf("%.80q is not a file, folder or link", name)
	}
	if t.files > t.limits.Files+slack || t.bytes > t.limits.Bytes+slack*entryCost {
		return fmt.Errorf("more than %d files or %d bytes", t.limits.Files, t.limits.Bytes)
	}
	if int(st.Uid) != t.uid || int(st.Gid) != t.gid {
		if err := unix.Fchownat(parent, name, t.uid, t.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if kind != unix.S_IFLNK && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 { // what is no link now was none before
		if err := unix.Fchmodat(parent, name, st.Mode&0o777, 0); err != nil {
			return err
		}
	}
	if kind != unix.S_IFDIR {
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return t.folder(fd, depth+1)
}
