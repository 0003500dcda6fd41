package blob

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"golang.org/x/sys/unix"
)

const inNamespace = "BLOB_TEST_IN_NAMESPACE"

// ownMounts runs the calling test again in a user and mount namespace of its
// own and reports whether this is that run.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("user and mount namespaces: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("in the namespace:\n%s", out)
	}
	return false
}

func mount(t *testing.T, source, dir, fs string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, dir, fs, flags, data); err != nil {
		t.Skipf("mount %s: %v", fs, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestFullDisk(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=3m")
	s := open(t, dir, 1<<30)
	first := put(t, s, content(1, 100))
	big := content(2, 4*workload.ChunkSize)
	_, err := s.Put(context.Background(), bytes.NewReader(big))
	if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on the disk of "+dir) {
		t.Errorf("put: %v", err)
	}
	if got := files(t, s); len(got) != 1 || s.Usage().Reserved != 0 {
		t.Errorf("left %q, %+v", got, s.Usage())
	}
	from := open(t, t.TempDir(), roomy)
	ref := put(t, from, big)
	err = s.Fetch(context.Background(), ref, []Source{&plain{from}})
	if !errors.Is(err, ErrFull) || s.Has(ref) || s.Usage().Reserved != 0 {
		t.Errorf("fetch: %v; %+v", err, s.Usage())
	}
	if got, err := s.ReadAll(first, 100); err != nil || !bytes.Equal(got, content(1, 100)) {
		t.Errorf("what was there before: %v", err)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	dir := t.TempDir()
	s := open(t, dir, roomy)
	ref := put(t, s, content(1, 100))
	mount(t, dir, dir, "", unix.MS_BIND, "")
	mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	for _, n := range []int{10, 2 * workload.ChunkSize} {
		if _, err := s.PutBytes(content(2, n)); !errors.Is(err, ErrNotWritable) || !strings.Contains(err.Error(), dir) {
			t.Errorf("put of %d bytes: %v", n, err)
		}
	}
	if !s.Has(ref) || s.Usage().Reserved != 0 {
		t.Errorf("what is there: %t, %+v", s.Has(ref), s.Usage())
	}
	s.Close()
	if _, err := Open(dir, roomy, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNotWritable) {
		t.Errorf("open: %v", err)
	}
}
