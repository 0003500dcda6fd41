package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/consensus/store"
)

// disks keeps one data folder for each server.
type disks struct {
	t      testing.TB
	dir    string
	stores map[int]*store.Store
}

func newDisks(t testing.TB) *disks {
	d := &disks{t: t, dir: t.TempDir(), stores: map[int]*store.Store{}}
	t.Cleanup(func() {
		for i := range d.stores {
			d.close(i)
		}
	})
	return d
}

func (d *disks) open(i int) Storage {
	d.t.Helper()
	opts := store.Default()
	opts.Reserve = 0
	s, err := store.Open(filepath.Join(d.dir, fmt.Sprint(i)), opts, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.stores[i] = s
	g, err := s.Group("cell")
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

func (d *disks) close(i int) {
	if err := d.stores[i].Close(); err != nil {
		d.t.Error(err)
	}
}

func (d *disks) wipe(i int) {
	d.close(i)
	if err := os.RemoveAll(filepath.Join(d.dir, fmt.Sprint(i))); err != nil {
		d.t.Fatal(err)
	}
}

func onDisk(d *disks) func(*cluster) {
	return func(c *cluster) { c.store = d.open }
}

func TestAllServersStopAndNothingIsLost(t *testing.T) {
	d := newDisks(t)
	c := newCluster(t, 3, 0, onDisk(d))
	want := c.propose(c.leader(), "before", 50)
	for i := range c.nodes {
		c.stop(i)
		d.close(i)
	}
	for i := range c.nodes {
		c.start(i)
	}
	want = append(want, c.propose(c.leader(), "after", 5)...)
	c.agree(want, c.nodes...)
	if err := c.nodes[0].group.Bootstrap(c.ctx); !errors.Is(err, ErrBootstrapped) {
		t.Errorf("second bootstrap = %v, want ErrBootstrapped", err)
	}
}

func TestWipedVoterCatchesUpFromASnapshot(t *testing.T) {
	d := newDisks(t)
	c := newCluster(t, 3, 0, onDisk(d), func(c *cluster) {
		c.tune = func(cfg *Config) {
			cfg.SnapshotEvery, cfg.Trailing, cfg.SnapshotCheck = 50, 10, 20*time.Millisecond
			cfg.MaxBatch = 200 // a few entries
		}
	})
	leader := c.leader()
	var want []string
	for round := 0; leader.group.Stats().SnapshotIndex < 100; round++ {
		want = append(want, c.propose(leader, fmt.Sprintf("round-%d", round), 20)...)
	}
	lost := slices.Index(c.nodes, c.others(leader)[0])
	c.stop(lost)
	d.wipe(lost)
	n := c.start(lost)
	if n.group.Servers().Index != 0 {
		t.Fatal("a wiped server knows a configuration")
	}
	if err := n.group.ServeConn(leader.id, &link{Conn: pipe(t), net: c.net}); !errors.Is(err, ErrNotServer) {
		t.Errorf("a peer that was not admitted got %v, want ErrNotServer", err)
	}
	n.group.Admit(leader.group.Servers().Voters()...)
	want = append(want, c.propose(leader, "after", 20)...)
	c.agree(want, c.nodes...)
	if got, want := n.group.Servers(), leader.group.Servers(); got.Index != want.Index || len(got.Servers) != 3 {
		t.Errorf("servers from the snapshot = %+v, want %+v", got, want)
	}
	// The snapshot and the log after it rebuild the same state.
	c.stop(lost)
	d.close(lost)
	n = c.start(lost)
	c.agree(want, n)
}

func TestLoneVoterOnDiskLeadsAtOnce(t *testing.T) {
	d := newDisks(t)
	c := newCluster(t, 1, 0, onDisk(d), func(c *cluster) { c.timing = Mesh() })
	want := c.propose(c.leader(), "before", 5)
	c.stop(0)
	d.close(0)
	begin := time.Now()
	n := c.start(0)
	c.leader()
	if took := time.Since(begin); took > Mesh().Heartbeat {
		t.Errorf("leads after %v, want less than a heartbeat timeout", took)
	}
	c.agree(append(want, c.propose(n, "after", 2)...), n)
}

// TestKilledProcessKeepsWhatItAcknowledged runs a lone voter in a process of its
// own, kills it while it works, several times, and reads its folder.
func TestKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	if dir := os.Getenv("PERRIN_TEST_VOTER"); dir != "" {
		runVoter(dir)
		return
	}
	dir := t.TempDir()
	var acked []string
	for range 3 {
		acked = append(acked, killVoter(t, dir, len(acked)+40)...)
	}
	st, group := openVoter(dir)
	n := newLedger()
	g, err := Open(voterConfig(group, n))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := g.awaitOffice(ctx); err != nil {
		t.Fatal(err)
	}
	got := n.list()
	for _, a := range acked {
		if !slices.Contains(got, a) {
			t.Errorf("%q was acknowledged and is gone", a)
		}
	}
	if err := errors.Join(g.Close(ctx), st.Close()); err != nil {
		t.Fatal(err)
	}
}

// killVoter runs the voter until it has acknowledged some entries and kills it.
func killVoter(t *testing.T, dir string, atLeast int) (acked []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcessKeepsWhatItAcknowledged$")
	cmd.Env = append(os.Environ(), "PERRIN_TEST_VOTER="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if entry, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			acked = append(acked, entry)
		}
		if len(acked) == atLeast {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(acked) < atLeast {
		t.Fatalf("the voter acknowledged %d entries, want %d", len(acked), atLeast)
	}
	return acked
}

func openVoter(dir string) (*store.Store, *store.Group) {
	opts := store.Default()
	opts.Reserve = 0
	s, err := store.Open(dir, opts, nil)
	if err != nil {
		panic(err)
	}
	g, err := s.Group("cell")
	if err != nil {
		panic(err)
	}
	return s, g
}

func voterConfig(g *store.Group, fsm FSM) Config {
	cfg := Default()
	cfg.Group, cfg.Self, cfg.Storage, cfg.FSM = "cell", peer(0), g, fsm
	cfg.Streams = newNetwork().from(peer(0))
	cfg.SnapshotEvery, cfg.Trailing, cfg.SnapshotCheck = 20, 5, 10*time.Millisecond
	return cfg
}

// runVoter proposes from eight goroutines until it is killed.
func runVoter(dir string) {
	_, group := openVoter(dir)
	g, err := Open(voterConfig(group, newLedger()))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := g.Bootstrap(ctx); err != nil && !errors.Is(err, ErrBootstrapped) {
		panic(err)
	}
	if err := g.awaitOffice(ctx); err != nil {
		panic(err)
	}
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				entry := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, _, err := g.Propose(ctx, []byte(entry)); err != nil {
					panic(err)
				}
				fmt.Println("acked " + entry)
			}
		}()
	}
	select {}
}
