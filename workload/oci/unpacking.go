package oci

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/unpack"
	"github.com/perrin-mesh/perrin/workload/oci/unpack/unpacker"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/shim"
)

// How many images are unpacked at once: by slots that hold their CPUs, and by
// those that have idle time alone, which may take long and keep no other waiting.
const (
	maxUnpacking      = 2
	maxSpareUnpacking = 1
)

// What unpacking one image may take, beside the slot's CPUs and the disk that the
// image itself is given. The worker keeps the names of what it made.
const (
	unpackMemory = 512 << 20
	unpackPids   = 64
)

// files are what every program expects and many images lack.
var files = map[string]string{
	"etc/hosts": "127.0.0.1 localhost perrin\n::1 localhost perrin\n", "etc/hostname": "perrin\n", "etc/resolv.conf": "",
}

// unpack makes the root of img in dir, which is empty, and returns how many bytes
// it holds. A worker does it, in a sandbox of its own and on the slot's CPUs.
func (r *Runner) unpack(ctx context.Context, img *image.Image, slot runner.Slot, dir *os.Root) (int64, error) {
	turns := r.turns
	if slot.Spec.Resources.Class == workload.Spare {
		turns = r.spareTurns
	}
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	job := unpacker.Job{Limits: r.limits(), Layers: img.Layers, Folders: sandbox.RootDirs, Files: files}
	leftOut, err := r.work(ctx, &job, slot, dir.Name())
	if err != nil {
		return 0, err
	}
	if leftOut > 0 {
		r.cfg.Logger.Debug("an image's devices and pipes are left out", "image", img.Digest.String(), "count", leftOut)
	}
	return takeOver(dir.Name(), job.Limits)
}

func (r *Runner) limits() unpack.Limits {
	l := unpack.DefaultLimits()
	l.Bytes = min(l.Bytes, r.cfg.Limit)
	if r.cfg.Room != nil {
		l.Bytes = min(l.Bytes, r.cfg.Room())
	}
	return l
}

// work has a worker fill dir, and returns how many entries it left out.
func (r *Runner) work(ctx context.Context, job *unpacker.Job, slot runner.Slot, dir string) (leftOut int, err error) {
	res := slot.Spec.Resources
	g, err := r.cfg.Host.NewGroup(fmt.Sprintf("unpack-%s-%d-%d", slot.Workload.Short(), slot.Slot, r.seq.Add(1)), sandbox.Limits{
		Memory: r.most, Pids: unpackPids, Disk: max(job.Limits.Bytes, 1), CPUs: slot.CPUs, Nodes: slot.Nodes,
		Quota: res.Quota, Spare: res.Class == workload.Spare, Apart: res.Class != workload.Thread,
	})
	if err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	exe, err := shim.Unpacker()
	if err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	ours, theirs, err := packetPair()
	if err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	defer theirs.Close()
	b := bring(job, slot, ours)
	said, code, err := g.RunRole(ctx, sandbox.Program{
		Path: fmt.Sprintf("/proc/self/fd/%d", unpacker.ExecFD), Args: []string{inside.ShimName, unpacker.Role},
		Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", r.most/4*3)}, Dir: "/", Out: dir, Keep: []*os.File{exe, theirs},
	})
	ours.Close() // or what brings the layers could wait for room in it
	switch berr := b.end(); {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.Is(err, sandbox.ErrMemory):
		return 0, fmt.Errorf("%w: to unpack it takes more than %d MiB of memory", image.ErrInvalid, r.most>>20)
	case err != nil:
		return 0, fmt.Errorf("unpack: %w", err)
	case berr != nil && code != 0:
		return 0, berr
	}
	leftOut, err = unpacker.Result(said, code)
	return leftOut, err
}

// bringer gives a worker its job and its layers, as they come.
type bringer struct {
	layers *ahead
	done   chan struct{} // closed when nothing is brought any more
	err    error         // of a layer that could not be had; until done of the goroutine
}

func bring(job *unpacker.Job, slot runner.Slot, sock *os.File) *bringer {
	b := &bringer{layers: fetchAhead(slot, len(job.Layers)), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		if job.Send(sock) != nil {
			return // the worker is gone, and its end says why
		}
		for i := range job.Layers {
			path, err := b.layers.layer(i)
			if err != nil {
				b.err = fmt.Errorf("layer %d: %w", i+1, err)
				sock.Close() // the worker ends then
				return
			}
			if err := give(sock, path); err != nil {
				b.err = err
				return
			}
		}
	}()
	return b
}

func give(sock *os.File, path string) error {
	f, err := os.Open(path)
	if err != nil {
		sock.Close()
		return err
	}
	defer f.Close()
	_ = inside.SendRights(sock, []byte{0}, []int{int(f.Fd())}) // as above: a worker that is gone says why
	return nil
}

// end returns when nothing is brought any more, and why a layer was not.
func (b *bringer) end() error {
	b.layers.end()
	<-b.done
	return b.err
}

// packetPair returns two ends of a socket that keeps packets apart. Ours is
// polled, so that a goroutine waits for it and not a thread.
func packetPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "unpacker"), os.NewFile(uintptr(fds[1]), "node"), nil
}
