package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/gvisor"
	"github.com/perrin-mesh/perrin/workload/process"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// GVisor runs the same images by gVisor (workload/gvisor). It shares what is
// unpacked with its Runner and is closed with it. It is safe for concurrent use.
type GVisor struct {
	images  *Runner
	runtime atomic.Pointer[gvisor.Runtime] // once the probe has passed
}

var _ runner.Runner = (*GVisor)(nil)

// GVisor returns the runner of workload.GVisor on r's images.
func (r *Runner) GVisor() *GVisor { return &GVisor{images: r} }

// Kind returns workload.GVisor.
func (g *GVisor) Kind() workload.Kind { return workload.GVisor }

// Available returns nil: an image travels with its workload.
func (g *GVisor) Available(*workload.Spec) error { return nil }

// Open is Runner.Open, for programs that gVisor runs.
func (g *GVisor) Open(ctx context.Context, slot runner.Slot) (runner.Session, error) {
	runtime := g.runtime.Load()
	if runtime == nil {
		return nil, fmt.Errorf("gvisor: no self-test has passed: %w", runner.ErrUnavailable)
	}
	return g.images.open(ctx, slot, runtime)
}

// probeWithin bounds the self-test's program.
const probeWithin = 25 * time.Second

// Probe looks for runsc, and has it run the shim's self-test in an image of its own.
func (g *GVisor) Probe(ctx context.Context) (string, error) {
	if err := uncounted(g.images.cfg.Host); err != nil {
		return "", err
	}
	runtime, err := gvisor.Find(ctx)
	if err != nil {
		return "", err
	}
	if err := g.images.probeGVisor(ctx, runtime); err != nil {
		return "", fmt.Errorf("gvisor: %w: %w", runner.ErrUnavailable, err)
	}
	g.runtime.Store(runtime)
	return runner.WallGVisor, nil
}

// counter is what the cgroups of a machine count: a sandbox.Host.
type counter interface {
	CountsMemory() bool
	CountsThreads() bool
}

// uncounted returns what of gVisor's no cgroup would bound, as nothing else does.
func uncounted(host counter) error {
	switch {
	case !host.CountsMemory():
		return fmt.Errorf("gvisor: it keeps a program's memory in files, which only a memory cgroup counts, and this user may make none: %w", runner.ErrUnavailable)
	case !host.CountsThreads():
		return fmt.Errorf("gvisor: a program's threads are threads of this machine, which only a pids cgroup bounds here, and this user may make none: %w", runner.ErrUnavailable)
	}
	return nil
}

func (r *Runner) probeGVisor(ctx context.Context, runtime *gvisor.Runtime) (err error) {
	dir, err := os.MkdirTemp(r.cfg.Dir, "tmp-probe-")
	if err != nil {
		return err
	}
	defer sandbox.RemoveAll(dir)
	image, slot := filepath.Join(dir, "image"), filepath.Join(dir, "slot")
	err = errors.Join(os.Chmod(dir, 0o711), os.Mkdir(image, 0o755), os.Mkdir(slot, 0o700), copyShim(filepath.Join(image, inside.ShimName)))
	if err != nil {
		return err
	}
	v := process.View{Root: image, GVisor: runtime, Release: func() {},
		Command: func([]string) ([]string, error) { return []string{inside.ShimName, inside.RoleGVisor}, nil },
		Environ: func([]string) []string { return []string{"PATH=/"} },
	}
	if v.Mounts, err = linkerMounts(image); err != nil {
		return err
	}
	spec := workload.DefaultSpec()
	session, err := r.run.OpenView(ctx, runner.Slot{Spec: &spec, Dir: slot}, v)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	var said firstWords
	out, err := session.Run(ctx, runner.Attempt{Number: 1, Out: filepath.Join(slot, "out"), Stdout: io.Discard, Stderr: &said, Timeout: probeWithin})
	switch {
	case err != nil:
		return err
	case out.Exit != workload.Exited || out.Code != 0:
		return fmt.Errorf("a program inside ended as %s %d (%s): %s", out.Exit, out.Code, out.Detail, strings.ReplaceAll(strings.TrimSpace(said.String()), "\n", "; "))
	}
	return nil
}

// copyShim writes the program of the self-test.
func copyShim(to string) error {
	path, err := shim.Path()
	if err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Chmod(0o755), f.Close())
}

// linkerMounts shows a shim that is dynamically linked what it needs, of a build for
// development alone.
func linkerMounts(image string) (mounts []sandbox.Mount, err error) {
	if !shim.Dynamic() {
		return nil, nil
	}
	mounts = []sandbox.Mount{{Source: "/usr", Target: "/usr"}}
	for _, dir := range []string{"/lib", "/lib64"} {
		to, lerr := os.Readlink(dir)
		switch _, serr := os.Stat(dir); {
		case lerr == nil:
			err = errors.Join(err, os.Symlink(to, filepath.Join(image, dir)))
		case serr == nil:
			mounts = append(mounts, sandbox.Mount{Source: dir, Target: dir})
		}
	}
	return mounts, err
}

// firstWords keeps the first KiB.
type firstWords struct{ strings.Builder }

func (w *firstWords) Write(b []byte) (int, error) {
	w.Builder.Write(b[:min(len(b), 1024-w.Len())])
	return len(b), nil
}
