// Package vm runs virtual machines: a Linux kernel and the parts of a root file
// system that an owner names, and in them a command, with the same inputs,
// outputs, streams, unit socket, limits and endings as every other program.
//
// A slot has one machine, which boots with its first attempt and serves the
// others one after another, each in a fresh view of the root (package guest).
// An attempt that is killed, by its owner or a limit, takes the machine with it.
// QEMU runs as an untrusted process in a sandbox like any program's
// (workload/sandbox): a guest that breaks out of its machine is there.
//
// The machine has a port to the node and, with a root file system, a disk that
// it can only read; no network, clock or console to type into. What a command
// writes is kept in the machine's memory, which Resources.Memory is the whole
// of. The program's limit on time counts from when the command runs, not from
// when the machine boots.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/vm/image"
)

// Config is what a node says about its virtual machines.
type Config struct {
	Host   *sandbox.Host
	Dir    string // for the self-test's scratch; "" is the system's
	Guest  []byte // the init of guests; nil is the one that this build carries
	Logger *slog.Logger
}

// hypervisor is what both runners share.
type hypervisor struct {
	host  *sandbox.Host
	dir   string
	guest []byte
	log   *slog.Logger
	seq   atomic.Uint64
	qemu  string // path, set by find

	bootWithin time.Duration // for a machine to be ready; 0 is the accel's

	mu     sync.Mutex // held while a self-test runs
	tested map[accel]error
}

// Runner runs virtual machines. It is safe for concurrent use.
type Runner struct {
	h    *hypervisor
	kind workload.Kind
}

var _ runner.Runner = (*Runner)(nil)

// New returns the runner of workload.VM, which needs KVM, and the one of
// workload.EmulatedVM, which uses KVM where that works and else emulates.
func New(cfg Config) (hardware, emulated *Runner) {
	left, _ := filepath.Glob(filepath.Join(cfg.Dir, probePrefix+"*")) // of a daemon that was killed; the folder is this one's alone
	for _, dir := range left {
		if err := sandbox.RemoveAll(dir); err != nil {
			cfg.Logger.Warn("remove what an earlier daemon left", "err", err)
		}
	}
	h := &hypervisor{host: cfg.Host, dir: cfg.Dir, guest: cfg.Guest, log: cfg.Logger, tested: map[accel]error{}}
	return &Runner{h, workload.VM}, &Runner{h, workload.EmulatedVM}
}

// Kind returns the kind that New made it for.
func (r *Runner) Kind() workload.Kind { return r.kind }

// Available returns nil: a virtual machine always travels with its workload.
func (r *Runner) Available(*workload.Spec) error { return nil }

// Probe boots a guest of our own in a machine like any attempt's.
func (r *Runner) Probe(ctx context.Context) (string, error) {
	a, err := r.accel(ctx)
	if err != nil {
		return "", err
	}
	return a.wall(), nil
}

// accel finds what the machine can do and returns how processors run.
func (r *Runner) accel(ctx context.Context) (accel, error) {
	if err := r.h.find(); err != nil {
		return "", err
	}
	err := r.h.proven(ctx, kvm)
	if err == nil || r.kind == workload.VM {
		return kvm, err
	}
	return tcg, r.h.proven(ctx, tcg)
}

// find looks for what every machine needs.
func (h *hypervisor) find() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.qemu != "" {
		return nil
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("virtual machines are for x86-64 in this version, not %s: %w", runtime.GOARCH, runner.ErrUnavailable)
	}
	if h.guest == nil {
		var err error
		if h.guest, err = embeddedGuest(); err != nil {
			return fmt.Errorf("no init for guests: %w: %w", err, runner.ErrUnavailable)
		}
	}
	var err error
	h.qemu, err = findQEMU()
	return err
}

// machineThreads is how many threads and processes QEMU may have beside its
// processors: its main loop, I/O workers and the sandbox's own.
const machineThreads = 96

// Open checks the parts and prepares the initial RAM disk, user and cgroups. The
// machine boots with the first attempt.
func (r *Runner) Open(ctx context.Context, slot runner.Slot) (runner.Session, error) {
	a, err := r.accel(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{h: r.h, slot: slot, accel: a, initrd: filepath.Join(slot.Dir, "vm-initrd"), memory: slot.Spec.Resources.Memory}
	archives, err := s.sort()
	if err != nil {
		return nil, fmt.Errorf("vm: %w: %w", runner.ErrProgramInvalid, err)
	}
	if err := writeInitrd(s.initrd, archives, r.h.guest); err != nil {
		return nil, errors.Join(fmt.Errorf("vm: initial RAM disk: %w", err), os.Remove(s.initrd))
	}
	res := slot.Spec.Resources
	s.group, err = r.h.host.NewGroup(fmt.Sprintf("%s-%d-%d", slot.Workload.Short(), slot.Slot, r.h.seq.Add(1)), sandbox.Limits{
		Memory: s.memory + a.overhead(), Pids: int64(machineThreads + processors(&slot)), CPUs: slot.CPUs, Nodes: slot.Nodes,
		Quota: res.Quota, Spare: res.Class == workload.Spare, Apart: res.Class != workload.Thread,
	})
	if err != nil {
		return nil, errors.Join(err, os.Remove(s.initrd))
	}
	return s, nil
}

// sort looks at the heads of kernel and parts, and tells the disk from archives.
func (s *session) sort() (archives []string, err error) {
	files := append([]string{s.slot.Program}, s.slot.Parts...)
	var heads [][]byte
	for _, f := range files {
		head, err := readHead(f)
		if err != nil {
			return nil, err
		}
		heads = append(heads, head)
	}
	parts, err := image.Check(heads)
	if err != nil {
		return nil, err
	}
	var unpacked int64
	for i, part := range parts {
		path := s.slot.Parts[i]
		if part == image.Disk {
			s.disk = path
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		unpacked += info.Size()
		archives = append(archives, path)
	}
	if unpacked > s.memory/2 {
		return nil, fmt.Errorf("archives of %d MiB do not fit into %d MiB of memory; ask for more, or make them a file system", unpacked>>20, s.memory>>20)
	}
	return archives, nil
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, image.HeadLen)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head[:n], nil
}
