// Package devmesh runs a local mesh for trying things out: several real
// daemons, each a process of its own with a data folder of its own, on
// loopback.
//
// The daemons share one machine, so each offers a declared capacity. Each runs
// in a private mount namespace in which the folder that work is submitted from
// is empty: what a workload finds there travelled with it.
package devmesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/consensus/cell"
	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
)

// Options say what to start.
type Options struct {
	Exe      string   // the perrin binary
	Nodes    int      // 1 to MaxNodes
	CellSize int      // members of a cell at most
	Cores    int      // declared by each node; 0 is 1
	Owners   bool     // each node has an owner of its own; otherwise all have the same
	Memory   int64    // declared by each node in bytes; 0 is 1 GiB
	Data     string   // an existing folder, which Stop leaves in place
	Hide     string   // a folder that the daemons are not to see; "" is none
	Args     []string // further arguments of `perrin up`
	// Each has further arguments of `perrin up` for single nodes, by index; nil is none.
	Each func(index int) []string
	// Net puts nodes into networks of their own; the zero one is loopback.
	Net Net
	Log io.Writer
}

// Net is where the nodes of a mesh live. The process that starts the mesh must
// reach their addresses.
type Net struct {
	// Address is the IPv4 address of the node with an index.
	Address func(index int) string
	// Enter calls start, which starts the node's process, from a thread that is
	// in the node's network, and returns what start does.
	Enter func(index int, start func() error) error
}

// port is that of every node in a network of its own.
const port = 4001

// MaxNodes bounds a local mesh.
const MaxNodes = 64

// Member is one daemon.
type Member struct {
	Name   string
	Data   string
	Socket string
	PID    int

	index int
	port  int // UDP; kept when the daemon is started again
	cmd   *exec.Cmd
	leash io.WriteCloser // its stdin: it ends when this process does
	done  chan struct{}  // closed when the process is gone
}

// Mesh is a local mesh that runs.
type Mesh struct {
	Members []*Member
	opt     Options
	token   string
}

// readyWithin bounds how long a mesh may take until it takes work.
const readyWithin = 90 * time.Second

// Start starts the daemons and returns when the mesh takes work: every node's
// offer is known, and every cell has its voters.
func Start(ctx context.Context, opt Options) (*Mesh, error) {
	if opt.Nodes < 1 || opt.Nodes > MaxNodes {
		return nil, fmt.Errorf("nodes: want 1 to %d, got %d", MaxNodes, opt.Nodes)
	}
	if opt.Cores == 0 {
		opt.Cores = 1
	}
	if opt.Memory == 0 {
		opt.Memory = 1 << 30
	}
	if opt.CellSize == 0 {
		opt.CellSize = node.DefaultCellSize
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	m := &Mesh{opt: opt}
	if err := m.start(ctx); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

func (m *Mesh) start(ctx context.Context) error {
	for range m.opt.Nodes {
		m.add()
	}
	for from := 0; from < len(m.Members); from += m.opt.CellSize {
		cellmates := m.Members[from:min(from+m.opt.CellSize, len(m.Members))]
		if err := m.startCell(ctx, cellmates, from); err != nil {
			return err
		}
	}
	return m.awaitWhole(ctx)
}

// add names one more member.
func (m *Mesh) add() *Member {
	index := len(m.Members)
	name := "node" + strconv.Itoa(index+1)
	data := filepath.Join(m.opt.Data, name)
	member := &Member{Name: name, Data: data, Socket: filepath.Join(data, "api.sock"), index: index}
	m.Members = append(m.Members, member)
	return member
}

// startCell starts a cell's founder, and then the others at once. It returns
// when all of them are members.
func (m *Mesh) startCell(ctx context.Context, members []*Member, index int) error {
	founder := members[0]
	if index == 0 {
		if _, err := node.Init(founder.Data, founder.Name); err != nil {
			return err
		}
	} else if err := m.join(ctx, founder); err != nil {
		return err
	}
	if err := m.launch(founder); err != nil {
		return err
	}
	if err := await(ctx, founder, func(st *api.Status) bool { return st.Ready }); err != nil {
		return err
	}
	if err := m.invite(ctx, index); err != nil {
		return err
	}
	group, joining := errgroup.WithContext(ctx)
	for _, member := range members[1:] {
		group.Go(func() error {
			if err := m.join(joining, member); err != nil {
				return err
			}
			return m.launch(member)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// The next cell is founded by a node that finds this one full.
	return await(ctx, founder, func(st *api.Status) bool { return st.Cells[0].Members == len(members) })
}

// invite makes the token that all others join with, and before a second cell
// is founded waits until the mesh knows of the first.
func (m *Mesh) invite(ctx context.Context, index int) error {
	first := m.Members[0]
	if index > 0 {
		cells := index/m.opt.CellSize + 1
		return await(ctx, first, func(st *api.Status) bool { return len(st.Cells) >= cells })
	}
	if len(m.Members) == 1 {
		return nil
	}
	return m.newToken(ctx, len(m.Members)-1)
}

// newToken has the mesh's first node make an invitation.
func (m *Mesh) newToken(ctx context.Context, uses int) error {
	c, err := api.Dial(m.Members[0].Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	v, err := c.Invite(ctx, uses, time.Hour)
	if err != nil {
		return err
	}
	m.token = v.Token
	return nil
}

func (m *Mesh) join(ctx context.Context, member *Member) error {
	if err := m.shareOwner(member); err != nil {
		return err
	}
	if _, err := node.Join(ctx, member.Data, member.Name, m.token); err != nil {
		return fmt.Errorf("%s: %w", member.Name, err)
	}
	return nil
}

// shareOwner gives a member the founder's owner key: whoever starts the mesh owns
// what is submitted on any node of it.
func (m *Mesh) shareOwner(member *Member) error {
	if m.opt.Owners {
		return nil
	}
	return node.ShareOwner(m.Members[0].Data, member.Data)
}

// launch starts a daemon as a process of its own.
func (m *Mesh) launch(member *Member) error {
	log, err := os.OpenFile(filepath.Join(member.Data, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	listen, err := m.listen(member)
	if err != nil {
		return err
	}
	args := append([]string{
		"up", "--data", member.Data, "--socket", member.Socket, "--listen", listen,
		"--cores", strconv.Itoa(m.opt.Cores), "--memory", strconv.FormatInt(m.opt.Memory, 10),
		"--cell-size", strconv.Itoa(m.opt.CellSize), "--first-core", strconv.Itoa(member.index),
	}, m.opt.Args...)
	if m.opt.Net.Address == nil {
		args = append(args, "--loopback")
	}
	if m.opt.Each != nil {
		args = append(args, m.opt.Each(member.index)...)
	}
	cmd := exec.Command(m.opt.Exe, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = member.Data
	cmd.Env = append(os.Environ(), envMember+"=1", envHide+"="+m.opt.Hide)
	if member.leash, err = cmd.StdinPipe(); err != nil {
		return err
	}
	cmd.SysProcAttr = namespaces(m.opt.Hide != "")
	start := cmd.Start
	if m.opt.Net.Enter != nil {
		start = func() error { return m.opt.Net.Enter(member.index, cmd.Start) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("%s: %w", member.Name, err)
	}
	done := make(chan struct{})
	member.cmd, member.PID, member.done = cmd, cmd.Process.Pid, done
	go func() {
		cmd.Wait() //nolint:errcheck // how it ended stands in its log
		close(done)
	}()
	return os.WriteFile(filepath.Join(member.Data, "pid"), []byte(strconv.Itoa(member.PID)), 0o644)
}

// listen is the address that a member keeps.
func (m *Mesh) listen(member *Member) (addr string, err error) {
	if m.opt.Net.Address != nil {
		return fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", m.opt.Net.Address(member.index), port), nil
	}
	if member.port == 0 {
		member.port, err = freePort()
	}
	return fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", member.port), err
}

// freePort finds a UDP port on loopback that nobody uses now.
func freePort() (int, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port, nil
}

// awaitWhole waits until every cell has its voters and every node's offer.
func (m *Mesh) awaitWhole(ctx context.Context) error {
	for from := 0; from < len(m.Members); from += m.opt.CellSize {
		size := min(m.opt.CellSize, len(m.Members)-from)
		voters := cell.DefaultLimits().Voters(size)
		whole := func(st *api.Status) bool {
			home := st.Cells[0]
			return st.Ready && home.Members == size && len(home.Voters) >= voters &&
				st.Capacity.Total.Cores == int32(size*m.opt.Cores)
		}
		if err := await(ctx, m.Members[from], whole); err != nil {
			return err
		}
	}
	return nil
}

// await asks a daemon for its status until it is as wanted.
func await(ctx context.Context, member *Member, ok func(*api.Status) bool) error {
	var last error
	for {
		c, err := api.Dial(member.Socket)
		if err == nil {
			var st *api.Status
			st, err = c.Status(ctx, false)
			c.Close()
			if err == nil && ok(st) {
				return nil
			}
			if err == nil {
				err = fmt.Errorf("ready: %t %s", st.Ready, st.Why)
			}
		}
		last = err
		select {
		case <-time.After(50 * time.Millisecond):
		case <-member.done:
			return fmt.Errorf("%s has ended; its log says why: %s", member.Name, tail(filepath.Join(member.Data, "log")))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", member.Name, last)
		}
	}
}

// tail returns the end of a log.
func tail(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-600):])
}

// stopWithin is how long a daemon may take to stop before it is killed.
const stopWithin = 10 * time.Second

// Stop stops every daemon and waits until they are gone.
func (m *Mesh) Stop() {
	var all sync.WaitGroup
	for _, member := range m.Members {
		if member.cmd == nil {
			continue
		}
		all.Go(func() {
			_ = member.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-member.done:
			case <-time.After(stopWithin):
				_ = member.cmd.Process.Kill()
				<-member.done
			}
		})
	}
	all.Wait()
}
