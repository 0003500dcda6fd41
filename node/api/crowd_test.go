package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestACrowdIsToldSo fills a socket's queue of connections. Who comes then waits
// a moment, and is told that the daemon is busy, not that there is none.
func TestACrowdIsToldSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := crowded(t, path)
	c := &Client{socket: path}
	_, err := Dial(path)
	if KindOf(err) != Busy || AsError(err).Hint != hintBusy || errors.Is(err, ErrNoDaemon) {
		t.Errorf("to a full queue: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		conn, err := c.dial(t.Context())
		if err == nil {
			conn.Close()
		}
		got <- err
	}()
	for range 2 { // there is room again
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := <-got; err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// crowded listens with the shortest queue there is, and fills it.
func crowded(t *testing.T, path string) net.Listener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	for range 1000 {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return ln
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a thousand connections did not fill it")
	return nil
}
