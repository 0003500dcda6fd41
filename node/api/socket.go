package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the socket. A path longer than maxSocketPath does not fit the
// kernel's sockaddr_un.
const (
	maxSocketPath = 107
	dialTimeout   = 2 * time.Second
	knockEvery    = 20 * time.Millisecond // the first pause before a full queue is tried again; the next are twice as long
)

// Listen opens the Unix socket at path with the given permissions: 0600 for the
// owner alone, 0660 to let a group in. It makes the folder (0700) when there is
// none. A socket that a dead daemon left behind is replaced; the error for one
// that a live daemon serves is of kind Exists, and so is the one for anything
// at path that is not a socket. Closing the listener removes the file.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if len(path)+len(stageSuffix) > maxSocketPath {
		return nil, Errorf(Invalid, "socket path %q is longer than %d bytes", path, maxSocketPath-len(stageSuffix)).
			WithHint("choose a shorter one with --socket")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of socket: %w", err)
	}
	if err := claim(path); err != nil {
		return nil, err
	}
	return publish(path, mode)
}

const stageSuffix = ".new"

// claim returns nil when path is free to take over.
func claim(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return Errorf(Exists, "%s exists and is not a socket", path).WithHint("choose another path with --socket")
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err == nil {
		conn.Close()
	}
	return Errorf(Exists, "a daemon already serves %s", path).
		WithHint("stop it first, or give this one another --data and --socket")
}

// publish binds beside path and renames into place, so that the socket never
// exists there with other permissions than mode.
func publish(path string, mode fs.FileMode) (net.Listener, error) {
	stage := path + stageSuffix
	if err := os.Remove(stage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clear old socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stage, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(stage, mode), os.Rename(stage, path)); err != nil {
		ln.Close()
		os.Remove(stage)
		return nil, fmt.Errorf("publish socket: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("publish socket: %w", err)
	}
	return &socketListener{Listener: netutil.LimitListener(ln, maxConnections), path: path, made: info}, nil
}

// socketListener removes its file when it closes, unless another daemon has
// put its own there meanwhile.
type socketListener struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

// Close stops listening and removes the socket file.
func (l *socketListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() {
		if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.made) {
			err = errors.Join(err, os.Remove(l.path))
		}
	})
	return err
}
