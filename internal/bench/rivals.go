package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/consensus/store"
)

// xargs starts a native no-op count times, two at once, and returns how many a
// second.
func xargs(ctx context.Context, b *bench, count int) (rate float64, err error) {
	program, _ := noopProgram()
	path := "/bin/true"
	if program != nil {
		path = filepath.Join(b.tmp, "noop")
		if err := os.WriteFile(path, program, 0o755); err != nil {
			return 0, err
		}
	}
	return xargsOf(ctx, path, count)
}

func xargsOf(ctx context.Context, path string, count int) (rate float64, err error) {
	var in strings.Builder
	for i := range count {
		in.WriteString(strconv.Itoa(i) + "\n")
	}
	cmd := exec.CommandContext(ctx, "xargs", "-P2", "-n1", path)
	cmd.Stdin = strings.NewReader(in.String())
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("xargs: %w: %s", err, out)
	}
	return float64(count) / time.Since(began).Seconds(), nil
}

// bareWazero instantiates the program count times in this process, two at once,
// and returns how many a second.
func bareWazero(ctx context.Context, count int) (float64, error) {
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return 0, err
	}
	module, err := r.CompileModule(ctx, wasmClock())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var group errgroup.Group
	for range 2 {
		group.Go(func() error {
			for range count / 2 {
				cfg := wazero.NewModuleConfig().WithName("").WithSysWalltime().WithStdout(io.Discard)
				instance, err := r.InstantiateModule(ctx, module, cfg)
				if err != nil {
					return err
				}
				if err := instance.Close(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(count/2*2) / time.Since(began).Seconds(), err
}

// plainRaft commits entries of 256 bytes to three voters of hashicorp/raft over
// TCP on loopback, with their logs in our store and an empty state machine, and
// returns how many a second.
func plainRaft(b *bench, appliers, count int) (float64, error) {
	c, err := startRaft(b)
	if err != nil {
		return 0, err
	}
	defer c.close()
	leader, err := c.leader()
	if err != nil {
		return 0, err
	}
	entry := make([]byte, 256)
	began := time.Now()
	var group errgroup.Group
	for range appliers {
		group.Go(func() error {
			for range count / appliers {
				if err := leader.Apply(entry, time.Minute).Error(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(count/appliers*appliers) / time.Since(began).Seconds(), err
}

// raftCluster is three voters in this process.
type raftCluster struct {
	voters []*raft.Raft
	closes []func() error
}

func startRaft(b *bench) (*raftCluster, error) {
	dir, err := os.MkdirTemp(b.tmp, "raft")
	if err != nil {
		return nil, err
	}
	c := &raftCluster{}
	var servers raft.Configuration
	for i := range 3 {
		address, err := c.add(filepath.Join(dir, strconv.Itoa(i)), i)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		servers.Servers = append(servers.Servers, raft.Server{ID: serverID(i), Address: address})
	}
	if err := c.voters[0].BootstrapCluster(servers).Error(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func serverID(i int) raft.ServerID { return raft.ServerID("voter" + strconv.Itoa(i)) }

func (c *raftCluster) add(dir string, i int) (raft.ServerAddress, error) {
	st, err := store.Open(dir, store.Default(), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	c.closes = append(c.closes, st.Close)
	group, err := st.Group("plain")
	if err != nil {
		return "", err
	}
	logs, err := raft.NewLogCache(512, group)
	if err != nil {
		return "", err
	}
	transport, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		return "", err
	}
	c.closes = append(c.closes, transport.Close)
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.MaxAppendEntries, cfg.Logger = serverID(i), 512, hclog.NewNullLogger()
	r, err := raft.NewRaft(cfg, emptyState{}, logs, group, raft.NewInmemSnapshotStore(), transport)
	if err != nil {
		return "", err
	}
	c.voters = append(c.voters, r)
	c.closes = append(c.closes, func() error { return r.Shutdown().Error() })
	return transport.LocalAddr(), nil
}

// leader waits for the one that is elected.
func (c *raftCluster) leader() (*raft.Raft, error) {
	deadline := time.After(20 * time.Second)
	for {
		for _, r := range c.voters {
			if r.State() == raft.Leader && r.Barrier(5*time.Second).Error() == nil {
				return r, nil
			}
		}
		select {
		case <-deadline:
			return nil, errors.New("plain Raft: nobody leads")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// close stops Raft before its transport, and that before its store.
func (c *raftCluster) close() (err error) {
	for i := len(c.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closes[i]())
	}
	return err
}

// emptyState is a state machine without state.
type emptyState struct{}

func (emptyState) Apply(*raft.Log) any                  { return nil }
func (emptyState) Snapshot() (raft.FSMSnapshot, error)  { return emptyState{}, nil }
func (emptyState) Restore(r io.ReadCloser) error        { return r.Close() }
func (emptyState) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (emptyState) Release()                             {}

// bareStarts adds what starting a process costs without us: fork and exec of
// the no-op, and the same by runc where that is installed.
func bareStarts(ctx context.Context, b *bench) error {
	program, name := noopProgram()
	path := "/bin/true"
	if program != nil {
		path = filepath.Join(b.tmp, "noop")
		if err := os.WriteFile(path, program, 0o755); err != nil {
			return err
		}
	}
	took, err := starts(ctx, b.sizes.submits, func(int) *exec.Cmd { return exec.CommandContext(ctx, path) })
	if err != nil {
		return err
	}
	b.out.spread("rival: fork and exec of "+name, took, 0, 0)
	if _, err := exec.LookPath("runc"); err != nil || program == nil {
		b.out.note("rival: runc is not installed")
		return nil
	}
	bundle, err := ociBundle(ctx, b, program)
	if err != nil {
		return err
	}
	took, err = starts(ctx, min(b.sizes.submits, 50), func(i int) *exec.Cmd {
		return exec.CommandContext(ctx, "runc", "run", "--bundle", bundle, fmt.Sprintf("perrin-bench-%d-%d", os.Getpid(), i))
	})
	if err != nil {
		b.out.note("rival: runc does not run here: %v", err)
		return nil
	}
	b.out.spread("rival: runc run of "+name+", to its end", took, 0, 0)
	return nil
}

func starts(ctx context.Context, count int, command func(int) *exec.Cmd) (took []float64, err error) {
	for i := range count {
		began := time.Now()
		if out, err := command(i).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %.300s", err, out)
		}
		took = append(took, millis(time.Since(began)))
	}
	return took, ctx.Err()
}

// ociBundle makes a folder that runc runs: a root with nothing but the program.
func ociBundle(ctx context.Context, b *bench, program []byte) (string, error) {
	bundle, err := os.MkdirTemp(b.tmp, "oci")
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(bundle, "rootfs", "noop"), program, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "runc", "spec", "--bundle", bundle).CombinedOutput(); err != nil {
		return "", fmt.Errorf("runc spec: %w: %s", err, out)
	}
	config := filepath.Join(bundle, "config.json")
	raw, err := os.ReadFile(config)
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", err
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return "", errors.New("runc spec: no process")
	}
	process["terminal"], process["args"] = false, []string{"/noop"}
	if raw, err = json.Marshal(spec); err != nil {
		return "", err
	}
	return bundle, os.WriteFile(config, raw, 0o644)
}
