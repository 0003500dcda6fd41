package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
)

// SelfTest runs the shim in the given role inside a sandbox, with scratch in
// dir, and returns an error that wraps ErrUnavailable and says what it found
// unless it exits with 0.
func (h *Host) SelfTest(ctx context.Context, dir string, host bool, role string) (err error) {
	return h.selfTest(ctx, dir, Program{Host: host, Role: role})
}

// RootDirs are the folders that a Root must have, for what is mounted there.
var RootDirs = []string{"dev", "etc", "out", "perrin", "proc", "tmp", "work"}

// SelfTestRoot is SelfTest of a sandbox with a Root, which it makes in dir too.
func (h *Host) SelfTestRoot(ctx context.Context, dir string) error {
	lower, scratch := filepath.Join(dir, "lower"), filepath.Join(dir, "scratch")
	seed := filepath.Join(lower, inside.SeedFile)
	err := errors.Join(os.Mkdir(lower, 0o755), os.Mkdir(scratch, 0o755), os.WriteFile(seed, []byte("x"), 0o644))
	defer func() { _ = RemoveAll(scratch) }()
	for _, name := range RootDirs {
		err = errors.Join(err, os.Mkdir(filepath.Join(lower, name), 0o755))
	}
	if err != nil {
		return err
	}
	if err := h.selfTest(ctx, dir, Program{Root: &Root{Lower: lower, Scratch: scratch}, Role: inside.RoleRoot}); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(lower, "etc"))
	if _, serr := os.Stat(seed); serr != nil || err != nil || len(entries) > 0 {
		return fmt.Errorf("%w: a program changed the image that it runs in (%v)", ErrUnavailable, errors.Join(err, serr))
	}
	return nil
}

func (h *Host) selfTest(ctx context.Context, dir string, p Program) (err error) {
	p.Work = filepath.Join(dir, "work")
	if err := os.Mkdir(p.Work, 0o755); err != nil {
		return err
	}
	g, err := h.NewGroup("probe-"+filepath.Base(dir), Limits{Memory: 256 << 20, Pids: 64, Disk: 1 << 20})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	said, code, err := g.RunRole(ctx, p)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if code != 0 {
		return fmt.Errorf("%w: a program inside %s", ErrUnavailable, strings.Join(strings.Split(strings.TrimSpace(said), "\n"), "; "))
	}
	return nil
}

// maxSaid bounds what is kept of a self-test's words, in bytes.
const maxSaid = 4096

// ErrMemory is returned for a process that was killed for its memory.
var ErrMemory = errors.New("it took more memory than it may")

// RunRole runs p, a role of the shim that serves itself, to its end and returns
// the first 4 KiB that it said and its exit code. Cancelling ctx kills it.
func (g *Group) RunRole(ctx context.Context, p Program) (said string, code int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	p.Stdout, p.Stderr = w, w
	proc, err := g.Start(p, nil)
	w.Close()
	if err != nil {
		return "", 0, err
	}
	defer proc.Close()
	stop := context.AfterFunc(ctx, proc.Kill)
	defer stop()
	var buf bytes.Buffer
	_, _ = io.Copy(&buf, io.LimitReader(r, maxSaid))
	end, err := proc.Wait()
	if end.Signal != 0 && (end.Resident || g.Read().OOMKills > 0) {
		return buf.String(), 0, ErrMemory
	}
	if end.Signal != 0 {
		return buf.String(), 0, fmt.Errorf("it was killed (%s)", end.Signal)
	}
	return buf.String(), end.Code, err
}
