package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// mesh is real daemons on loopback.
type mesh struct {
	*devmesh.Mesh
	b      *bench
	leader int // the index of the leader's member
}

// start starts daemons, each with the declared cores, and returns when they take work.
func (b *bench) start(ctx context.Context, nodes int) (*mesh, error) {
	data, err := os.MkdirTemp(b.tmp, "m")
	if err != nil {
		return nil, err
	}
	dm, err := devmesh.Start(ctx, devmesh.Options{
		Exe: b.exe, Nodes: nodes, Cores: b.cores, Memory: 2 << 30, Data: data, Args: append([]string{"--log-level", "warn"}, b.args...),
	})
	if err != nil {
		return nil, err
	}
	m := &mesh{Mesh: dm, b: b}
	if err := m.findLeader(ctx); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

func (m *mesh) findLeader(ctx context.Context) error {
	for i, member := range m.Members {
		st, err := statusOf(ctx, member)
		if err != nil {
			return err
		}
		if st.Cells[0].Leader == st.Node {
			m.leader = i
			return nil
		}
	}
	return errors.New("no daemon says that it leads")
}

func statusOf(ctx context.Context, member *devmesh.Member) (*api.Status, error) {
	c, err := api.Dial(member.Socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx, true)
}

// follower is a client of a daemon that does not lead, where there is one: what
// is submitted there goes one way further.
func (m *mesh) follower() (*api.Client, error) {
	return api.Dial(m.Members[(m.leader+1)%len(m.Members)].Socket)
}

// cpu is what all daemons and their processes have used so far.
func (m *mesh) cpu() (sum time.Duration) {
	for _, member := range m.Members {
		sum += usageOf(member.PID).cpu
	}
	return sum
}

// profiled takes CPU profiles of every daemon while f runs, when profiles are
// wanted, and waits for them.
func (m *mesh) profiled(ctx context.Context, name string, f func() error) error {
	var taking sync.WaitGroup
	if m.b.profile != "" {
		for i, member := range m.Members {
			role := "follower"
			if i == m.leader {
				role = "leader"
			}
			file := filepath.Join(m.b.profile, fmt.Sprintf("%s-%s-%s.pprof", name, member.Name, role))
			taking.Go(func() {
				if err := takeProfile(ctx, member.Socket, file, m.b.profFor); err != nil {
					m.b.out.note("profile of %s: %v", member.Name, err)
				}
			})
		}
	}
	err := f()
	taking.Wait()
	return err
}

// profiledHere takes a CPU profile of this process while f runs, when profiles
// are wanted.
func (b *bench) profiledHere(name string, f func() error) error {
	if b.profile == "" {
		return f()
	}
	file, err := os.Create(filepath.Join(b.profile, name+"-all.pprof"))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

func takeProfile(ctx context.Context, socket, file string, seconds int) error {
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://perrin/debug/pprof/profile?seconds=%d", seconds), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, raw)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

// ended waits until a workload has, and fails when it has not succeeded.
func ended(ctx context.Context, c api.Backend, id workload.ID) (*api.Workload, error) {
	for {
		w, err := c.Wait(ctx, id, api.UntilEnd, 20*time.Second)
		if err != nil {
			return nil, err
		}
		if w.Phase.Ended() {
			if w.Phase != workload.Succeeded || w.Tasks.Done != w.Tasks.Total {
				return w, fmt.Errorf("workload %s: %s (%s), %d of %d tasks done", id.Short(), w.Phase, w.Reason, w.Tasks.Done, w.Tasks.Total)
			}
			return w, nil
		}
	}
}

// results fetches every task's result and checks that none is missing.
func results(ctx context.Context, c api.Backend, id workload.ID, count int) ([]workload.TaskResult, error) {
	out := make([]workload.TaskResult, 0, count)
	for len(out) < count {
		page, err := c.Tasks(ctx, id, uint32(len(out)), uint32(min(count-len(out), 4096)))
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("workload %s: %d of %d results are there", id.Short(), len(out), count)
		}
		for i := range page {
			if page[i].Result == nil || !page[i].Result.OK() {
				return nil, fmt.Errorf("workload %s: task %d has no result, or failed", id.Short(), page[i].Index)
			}
			out = append(out, *page[i].Result)
		}
	}
	return out, nil
}
