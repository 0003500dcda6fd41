// Package oci runs the programs of container images. An image is unpacked once
// on a node (workload/oci/unpack, workload/oci/roots), by a process in a sandbox
// of its own (workload/oci/unpack/unpacker), and shown to each attempt
// below an overlay of its own, in a sandbox like that of any native program
// (workload/process): the same limits, streams, inputs, outputs and ends.
//
// What a workload carries is the image's record (workload/oci/image) as its
// program, and one blob for each layer. The configuration's entry point, command,
// variables, user and working directory hold. An image runs as one user alone:
// inside it is the one that the configuration names, and owns every file of the
// image; outside it is one that owns nothing.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/gvisor"
	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/roots"
	"github.com/perrin-mesh/perrin/workload/process"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// Config is what a node says about its images.
type Config struct {
	Host *sandbox.Host
	// Dir keeps the images that were unpacked. Limit bounds the bytes of one, and
	// of all that nothing uses. Dir must lie on a disk that takes an overlay's
	// changes; the probe tells.
	Dir   string
	Limit int64
	// Room is how many bytes an image may unpack to now; nil is no bound but
	// unpack.DefaultLimits.
	Room   func() int64
	Logger *slog.Logger
}

// Runner runs images. It is safe for concurrent use.
type Runner struct {
	cfg   Config
	roots *roots.Cache
	run   *process.Runner
	seq   atomic.Int64 // of groups that unpack
	most  int64        // bytes of memory that unpacking an image may take

	turns, spareTurns chan struct{} // of unpacking
}

var _ runner.Runner = (*Runner)(nil)

// New opens the images in cfg.Dir.
func New(cfg Config) (*Runner, error) {
	cache, err := roots.Open(cfg.Dir, cfg.Limit, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, roots: cache, most: unpackMemory, run: process.New(cfg.Host, cfg.Logger),
		turns: make(chan struct{}, maxUnpacking), spareTurns: make(chan struct{}, maxSpareUnpacking)}, nil
}

// Kind returns workload.OCI.
func (r *Runner) Kind() workload.Kind { return workload.OCI }

// Available returns nil: an image travels with its workload.
func (r *Runner) Available(*workload.Spec) error { return nil }

// Probe runs the shim's self-test in a small image of its own, which lies where
// images do.
func (r *Runner) Probe(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp(r.cfg.Dir, "tmp-probe-")
	if err != nil {
		return "", fmt.Errorf("probe: %w", err)
	}
	defer sandbox.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", fmt.Errorf("probe: %w", err)
	}
	if err := r.cfg.Host.SelfTestRoot(ctx, dir); err != nil {
		return "", fmt.Errorf("oci: %w: %w", runner.ErrUnavailable, err)
	}
	return runner.WallNamespaces, nil
}

// Open unpacks the slot's image where that was not done yet, and prepares what
// its attempts share.
func (r *Runner) Open(ctx context.Context, slot runner.Slot) (runner.Session, error) {
	return r.open(ctx, slot, nil)
}

// open is Open; runtime is what runs the image's programs, nil is this machine.
func (r *Runner) open(ctx context.Context, slot runner.Slot, runtime *gvisor.Runtime) (runner.Session, error) {
	img, err := readRecord(slot)
	if err != nil {
		return nil, invalid(err)
	}
	path, release, err := r.roots.Get(ctx, img.Chain(), func(dir *os.Root) (int64, error) {
		return r.unpack(ctx, img, slot, dir)
	})
	if err != nil {
		return nil, invalid(fmt.Errorf("image %s: %w", img.Digest, err))
	}
	v, err := view(img, path)
	if err != nil {
		release()
		return nil, invalid(fmt.Errorf("image %s: %w", img.Digest, err))
	}
	v.Release, v.GVisor = release, runtime
	return r.run.OpenView(ctx, slot, v)
}

// Close keeps new images from being unpacked.
func (r *Runner) Close() error { return r.roots.Close() }

// Usage returns what the node keeps of images.
func (r *Runner) Usage() roots.Usage { return r.roots.Usage() }

// invalid says of an error of the image that the program is to blame.
func invalid(err error) error {
	if errors.Is(err, image.ErrInvalid) {
		return fmt.Errorf("%w: %w", runner.ErrProgramInvalid, err)
	}
	return err
}

// readRecord reads the slot's program and checks it against the spec.
func readRecord(slot runner.Slot) (*image.Image, error) {
	f, err := os.Open(slot.Program)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, image.MaxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	img, err := image.Decode(raw)
	if err != nil {
		return nil, err
	}
	if arch := img.Platform.Architecture; arch != "" && arch != runtime.GOARCH {
		return nil, fmt.Errorf("%w: it is for %.40q, this node is %s", image.ErrInvalid, arch, runtime.GOARCH)
	}
	layers := slot.Spec.Program.Layers
	if len(layers) != len(img.Layers) {
		return nil, fmt.Errorf("%w: its manifest has %d layers, the workload brings %d", image.ErrInvalid, len(img.Layers), len(layers))
	}
	for i, l := range img.Layers {
		if layers[i].Size != l.Size {
			return nil, fmt.Errorf("%w: layer %d has %d bytes, its manifest says %d", image.ErrInvalid, i+1, layers[i].Size, l.Size)
		}
	}
	return img, nil
}

// view says how programs of img start in its root.
func view(img *image.Image, path string) (process.View, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return process.View{}, err
	}
	defer root.Close()
	user, err := findUser(img, root)
	if err != nil {
		return process.View{}, err
	}
	dir, err := resolve(root, img.Config.WorkingDir)
	if err != nil {
		return process.View{}, err
	}
	return process.View{
		Root: path, Dir: dir, User: sandbox.User{UID: user.UID, GID: user.GID},
		Command: func(args []string) ([]string, error) {
			out, err := img.Command(args)
			if err != nil {
				return nil, invalid(err)
			}
			return out, nil
		},
		Environ: func(own []string) []string {
			env := img.Environ(own)
			if user.Home != "" && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
				env = append(env, "HOME="+user.Home)
			}
			return env
		},
	}, nil
}

// findUser reads the image's own lists of users and groups.
func findUser(img *image.Image, root *os.Root) (image.User, error) {
	open := func(name string) io.ReadCloser {
		f, err := openPlain(root, name)
		if err != nil {
			return io.NopCloser(strings.NewReader("")) // an image need have none
		}
		return f
	}
	passwd, group := open("etc/passwd"), open("etc/group")
	defer passwd.Close()
	defer group.Close()
	return img.FindUser(passwd, group)
}
