package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// embedded starts a mesh of one node in this process.
func embedded(ctx context.Context, kind workload.Kind) (api.Backend, func(), error) {
	n, stop, err := node.Embedded(ctx, buildVersion(), slog.New(slog.DiscardHandler), kind)
	if err != nil {
		return nil, nil, err
	}
	if why, lacking := n.Unoffered()[kind]; lacking {
		stop()
		return nil, nil, noMachines(kind, why)
	}
	return n.Backend(), stop, nil
}

// daemon implements Daemon with package node.
type daemon struct{}

// Init implements Daemon.
func (daemon) Init(_ context.Context, opt InitOptions) (*Identity, error) {
	f, err := node.Init(opt.Data, opt.Name)
	return identityOf(f, opt.Data, err)
}

// Join implements Daemon.
func (daemon) Join(ctx context.Context, opt JoinOptions) (*Identity, error) {
	f, err := node.Join(ctx, opt.Data, opt.Name, opt.Token)
	return identityOf(f, opt.Data, err)
}

func identityOf(f *node.Founded, data string, err error) (*Identity, error) {
	switch {
	case errors.Is(err, node.ErrHasIdentity):
		return nil, &failure{err: err, code: exitFailure, hint: "start it with `perrin up`, or name another folder with --data"}
	case err != nil:
		return nil, &failure{err: err, code: exitFailure, hint: node.StartHint(err)}
	}
	return &Identity{Mesh: f.Mesh, Node: f.Node, Name: f.Name, Data: data, ClockApart: int64(f.Apart.Seconds())}, nil
}

// garbage is how much a daemon's heap may grow between two collections, in
// percent of what lives: half of Go's default, since a node shares its machine
// with the work it sells. GOGC overrides it.
const garbage = 50

// Up implements Daemon.
func (daemon) Up(ctx context.Context, opt UpOptions) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	ctx, err := devmesh.Enter(ctx, opt.Data)
	if err != nil {
		return err
	}
	n, err := node.New(ctx, node.Config{
		Data: opt.Data, Socket: opt.Socket, Mode: opt.SocketMode, Name: opt.Name, Listen: opt.Listen, Labels: opt.Labels,
		Cores: opt.Cores, First: opt.FirstCore, Memory: opt.Memory, CellSize: opt.CellSize, BlobLimit: opt.BlobLimit,
		Measure: true, KeepCores: opt.KeepCores, KeepMemory: opt.KeepMemory, SpareOnly: opt.SpareOnly, Quiet: opt.Quiet,
		LeaseTTL: opt.LeaseTTL, MDNS: opt.MDNS, Loopback: opt.Loopback, Pprof: opt.Pprof, Version: opt.Version,
		Settings: opt.Settings, Log: opt.Log,
	})
	if err != nil {
		return upError(err)
	}
	go func() {
		select {
		case <-n.Ready():
			opt.Ready()
		case <-ctx.Done():
		}
	}()
	stopping := context.AfterFunc(ctx, opt.Stopping)
	defer stopping()
	return n.Run(ctx)
}

// upError adds what to do when a node does not start.
func upError(err error) error {
	if hint := node.StartHint(err); hint != "" {
		return &failure{err: err, code: exitFailure, hint: hint}
	}
	return err
}

// Dev implements Daemon.
func (daemon) Dev(ctx context.Context, opt DevOptions) (code int, err error) {
	data, remove, err := devFolder(opt.Data)
	if err != nil {
		return exitFailure, err
	}
	defer remove()
	exe, err := os.Executable()
	if err != nil {
		return exitFailure, err
	}
	hide, err := os.Getwd()
	if err != nil || !devmesh.Hideable(hide) {
		hide = ""
	}
	mesh, err := devmesh.Start(ctx, devmesh.Options{
		Exe: exe, Nodes: opt.Nodes, CellSize: opt.CellSize, Cores: opt.Cores, Memory: opt.Memory, Data: data, Hide: hide,
		Args: []string{"--log-level", opt.LogLevel.String()},
	})
	if err != nil {
		return exitFailure, err
	}
	defer mesh.Stop()
	about := DevMesh{Data: data}
	for _, m := range mesh.Members {
		about.Sockets = append(about.Sockets, m.Socket)
	}
	opt.Ready(about)
	if len(opt.Command) == 0 {
		<-ctx.Done()
		return 0, nil
	}
	return runCommand(ctx, opt, about)
}

// devFolder makes a temporary folder when none is named.
func devFolder(named string) (dir string, remove func(), err error) {
	if named != "" {
		dir, err = filepath.Abs(named)
		if err != nil {
			return "", nil, err
		}
		return dir, func() {}, os.MkdirAll(dir, 0o700)
	}
	dir, removeDir, err := sandbox.TempDir("perrin-dev-")
	return dir, func() { _ = removeDir() }, err
}

// runCommand runs the user's command against the mesh and returns its exit code.
func runCommand(ctx context.Context, opt DevOptions, mesh DevMesh) (int, error) {
	cmd := exec.CommandContext(ctx, opt.Command[0], opt.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = opt.Stdin, opt.Stdout, opt.Stderr
	cmd.Env = append(os.Environ(), "PERRIN_SOCKET="+mesh.Sockets[0], "PERRIN_DEV_DATA="+mesh.Data)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	signal.Ignore(os.Interrupt) // the terminal sends it to the command too
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case errors.As(err, &exit):
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal()), nil
	case err != nil:
		return exitFailure, fmt.Errorf("run %q: %w", opt.Command[0], err)
	}
	return 0, nil
}
