package consensus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// pipe returns one end of a connection that nobody serves.
func pipe(t testing.TB) net.Conn {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return near
}

func TestStrangersAndCrowdsAreRefused(t *testing.T) {
	c := newCluster(t, 1, 1)
	g := c.nodes[0].group
	if err := g.ServeConn(peer(9), pipe(t)); !errors.Is(err, ErrNotServer) {
		t.Errorf("a stranger got %v, want ErrNotServer", err)
	}
	if err := g.ServeConn(c.nodes[0].id, pipe(t)); !errors.Is(err, ErrNotServer) {
		t.Errorf("a peer with our own name got %v, want ErrNotServer", err)
	}
	var crowd error
	for range g.cfg.MaxConns + 1 {
		crowd = g.ServeConn(c.nodes[1].id, pipe(t))
	}
	if crowd == nil {
		t.Errorf("a server may hold more than %d connections", g.cfg.MaxConns)
	}
	if got := g.Stats(); got.Refused < 3 || got.Inbound > g.cfg.MaxConns {
		t.Errorf("stats = %+v, want 3 refusals and at most %d connections", got, g.cfg.MaxConns)
	}
	c.propose(c.nodes[0], "still", 1)
}

func TestGarbageFromAServerEndsItsConnectionOnly(t *testing.T) {
	c := newCluster(t, 1, 1)
	g := c.nodes[0].group
	for _, garbage := range []string{"\xff", "\x00garbage", "\x02\xc1\xc1\xc1", strings.Repeat("\x01", 4096)} {
		near, far := net.Pipe()
		if err := g.ServeConn(c.nodes[1].id, far); err != nil {
			t.Fatal(err)
		}
		near.SetDeadline(time.Now().Add(10 * time.Second))
		go io.WriteString(newRepeat(near), garbage)
		if _, err := io.Copy(io.Discard, near); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %q the connection ended with %v, want it closed", garbage[:1], err)
		}
		near.Close()
	}
	c.propose(c.nodes[0], "still", 1)
}

func TestMessageOverTheBoundIsCutOff(t *testing.T) {
	cfg := &Config{Self: peer(0), MaxSnapshot: 1 << 10, MaxConns: 4}
	l := newLayer(cfg)
	defer l.Close()
	near, far := net.Pipe()
	go l.serve(context.Background(), peer(1), far)
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(newRepeat(near), bytes.NewReader(make([]byte, maxHeader+1<<11)))
	n, err := io.Copy(io.Discard, served)
	if !errors.Is(err, ErrTooLarge) || n > maxHeader+1<<10 {
		t.Errorf("read %d bytes, %v; want ErrTooLarge at %d", n, err, maxHeader+1<<10)
	}
}

func TestProposalsAreBounded(t *testing.T) {
	c := newCluster(t, 1, 0, func(c *cluster) {
		c.tune = func(cfg *Config) { cfg.MaxEntry, cfg.MaxPending = 10, 2 }
	})
	n := c.nodes[0]
	for _, size := range []int{0, 11} {
		if _, _, err := n.group.Propose(c.ctx, make([]byte, size)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a proposal of %d bytes = %v, want ErrTooLarge", size, err)
		}
	}
	hold := make(chan struct{})
	n.ledger.mu.Lock()
	n.ledger.hold = hold
	n.ledger.mu.Unlock()
	ctx, cancel := context.WithCancel(c.ctx)
	answers := make(chan error, 2)
	for range 2 {
		go func() {
			_, _, err := n.group.Propose(ctx, []byte("waits"))
			answers <- err
		}()
	}
	c.until("two proposals to wait", func() bool { return n.group.Stats().Pending == 2 }, ticking)
	if _, _, err := n.group.Propose(c.ctx, []byte("third")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third proposal = %v, want ErrBusy", err)
	}
	cancel()
	for range 2 {
		if err := <-answers; !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
			t.Errorf("a proposal given up = %v, want ErrUnknownOutcome", err)
		}
	}
	close(hold)
	n.ledger.await(t, c.ctx, 2)
}

func TestOldAnswersProveNothing(t *testing.T) {
	c := newContacts()
	self, a, b := peer(0), peer(1), peer(2)
	voters := []workload.PeerID{self, a, b}
	now := time.Now()
	ok := &raft.AppendEntriesResponse{Term: 7, Success: true, LastLog: 40}
	if _, found := c.majority(voters, self, 7, now); found {
		t.Error("a majority of one")
	}
	c.note(serverID(a), 7, now.Add(-time.Hour), ok)
	if at, found := c.majority(voters, self, 7, now); !found || !at.Equal(now.Add(-time.Hour)) {
		t.Errorf("majority at %v, %v; want the time of sending", at, found)
	}
	c.note(serverID(a), 7, now.Add(-2*time.Hour), ok)
	if at, _ := c.majority(voters, self, 7, now); !at.Equal(now.Add(-time.Hour)) {
		t.Errorf("an older answer moved the time to %v", at)
	}
	c.note(serverID(b), 7, now, &raft.AppendEntriesResponse{Term: 8, LastLog: 41})
	if at, _ := c.majority(voters, self, 7, now); !at.Equal(now.Add(-time.Hour)) {
		t.Errorf("a refusal moved the time to %v", at)
	}
	if c.of(b).last != 41 {
		t.Error("a refusal does not tell the follower's log")
	}
	if _, found := c.majority(voters, self, 8, now); found {
		t.Error("answers of another term count")
	}
}

// fullDisk is a stable store that fails until it has room.
type fullDisk struct {
	*Memory
	mu   sync.Mutex
	full bool
}

func (d *fullDisk) SetUint64(key []byte, v uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errors.New("no room")
	}
	return d.Memory.SetUint64(key, v)
}

func TestTermThatCannotBeStoredIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{Memory: NewMemory()}
		cut := make(chan struct{})
		s := &stable{StableStore: disk, cut: cut, log: slog.New(slog.DiscardHandler)}
		set := func(term uint64) chan error {
			done := make(chan error, 1)
			go func() { done <- s.SetUint64([]byte(termKey), term) }()
			synctest.Wait()
			return done
		}
		if err := <-set(3); err != nil {
			t.Fatal(err)
		}
		disk.full = true
		if err := <-set(3); err != nil {
			t.Errorf("storing the term that is stored = %v", err)
		}
		if err := s.SetUint64([]byte("LastVoteTerm"), 4); err == nil {
			t.Error("a vote that was not stored was reported as stored")
		}
		waiting := set(4)
		time.Sleep(3 * termRetry) // virtual time
		if len(waiting) != 0 {
			t.Error("returned without storing the term")
		}
		disk.mu.Lock()
		disk.full = false
		disk.mu.Unlock()
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if v, _ := disk.GetUint64([]byte(termKey)); v != 4 {
			t.Errorf("term = %d, want 4", v)
		}
		disk.full = true
		waiting = set(5)
		close(cut)
		if err := <-waiting; err != nil {
			t.Errorf("after the cut = %v, want nil", err)
		}
	})
}

func TestServerThatLostItsTermIsRefused(t *testing.T) {
	for name, lose := range map[string]func(*Memory){
		"gone": func(m *Memory) { m.SetUint64([]byte(termKey), 0) },
		"old":  func(m *Memory) { m.SetUint64([]byte(termKey), 1) },
	} {
		disk := NewMemory()
		c := newCluster(t, 1, 0, func(c *cluster) { c.store = func(int) Storage { return disk } })
		c.propose(c.nodes[0], "entry", 1)
		c.stop(0)
		lose(disk)
		cfg := c.nodes[0].group.cfg
		if _, err := Open(cfg); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: open = %v, want ErrMalformed", name, err)
		}
	}
}

func TestEntriesThatTheLibraryWouldPanicOnAreRefused(t *testing.T) {
	l := &logs{LogStore: NewMemory(), members: &membership{}, snaps: NewMemory().snaps}
	good := Configuration{Servers: []Server{{ID: peer(0), Suffrage: Voter}, {ID: peer(1), Suffrage: Nonvoter}}}
	if err := l.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: encodeConfiguration(good)}); err != nil {
		t.Fatal(err)
	}
	if got := l.members.current(); got.Index != 1 || !got.lone(peer(0)) || !l.members.knows(peer(1)) {
		t.Errorf("configuration = %+v", got)
	}
	wrong := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "x", Address: "x"}}})
	for name, e := range map[string]*raft.Log{
		"no configuration": {Index: 2, Type: raft.LogConfiguration, Data: []byte("junk")},
		"not a peer":       {Index: 2, Type: raft.LogConfiguration, Data: wrong},
		"no such type":     {Index: 2, Type: 99},
		"an old type":      {Index: 2, Type: raft.LogAddPeerDeprecated},
	} {
		if err := l.StoreLog(e); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	next := good
	next.Servers = next.Servers[:1]
	if err := l.StoreLog(&raft.Log{Index: 2, Term: 1, Type: raft.LogConfiguration, Data: encodeConfiguration(next)}); err != nil {
		t.Fatal(err)
	}
	if l.members.current().Index != 2 || !l.members.knows(peer(1)) {
		t.Error("a server of the committed configuration is unknown while the next one is not committed")
	}
	if err := l.DeleteRange(2, 2); err != nil || l.members.current().Index != 1 {
		t.Errorf("after the entry is replaced: %+v, %v", l.members.current(), err)
	}
}

func TestStateIsNotFiledUnderAnOldIndex(t *testing.T) {
	fsm := newLedger()
	m := &machine{fsm: fsm, members: &membership{}}
	entry := func(i uint64) *raft.Log {
		return &raft.Log{Index: i, Type: raft.LogCommand, Data: []byte{byte('a' + i)}}
	}
	m.ApplyBatch([]*raft.Log{entry(1), entry(2), entry(3)})
	early, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	m.replayed = 0 // a new instance replays
	m.Apply(entry(1))
	m.Apply(entry(2))
	if _, err := m.Snapshot(); err == nil {
		t.Error("took a snapshot at entry 2 of a state at entry 3")
	}
	m.Apply(entry(3))
	m.Apply(entry(4))
	if got := strings.Join(fsm.list(), ""); got != "bcde" {
		t.Errorf("state = %q, want each entry once", got)
	}
	if err := m.Restore(persist(t, early)); err != nil || len(fsm.list()) != 4 {
		t.Errorf("an older snapshot replaced a newer state: %q, %v", fsm.list(), err)
	}
	fresh := &machine{fsm: newLedger(), members: &membership{}}
	if err := fresh.Restore(persist(t, early)); err != nil || fresh.applied.Load() != 3 {
		t.Errorf("restored at %d, %v; want 3", fresh.applied.Load(), err)
	}
	broken := io.NopCloser(bytes.NewReader([]byte("PRSN\x01\x05\x00\x00")))
	if err := fresh.Restore(broken); !errors.Is(err, ErrMalformed) {
		t.Errorf("a broken snapshot = %v, want ErrMalformed", err)
	}
}

// persist writes a snapshot the way the library does and opens it.
func persist(t *testing.T, s raft.FSMSnapshot) io.ReadCloser {
	t.Helper()
	snaps := &snapshots{SnapshotStore: raft.NewInmemSnapshotStore(), limit: 1 << 20}
	sink, err := snaps.Create(1, 1, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Persist(sink); err != nil {
		t.Fatal(err)
	}
	_, rc, err := snaps.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func TestSnapshotOverTheBoundIsRefused(t *testing.T) {
	snaps := &snapshots{SnapshotStore: raft.NewInmemSnapshotStore(), limit: 4}
	sink, err := snaps.Create(1, 1, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sink.Write([]byte("1234")); n != 4 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if _, err := sink.Write([]byte("5")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("wrote over the bound: %v", err)
	}
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	tr := &transport{batch: 100}
	req := &raft.AppendEntriesRequest{}
	for _, size := range []int{300, 40, 40} {
		req.Entries = append(req.Entries, &raft.Log{Data: make([]byte, size)})
	}
	if tr.trim(req); len(req.Entries) != 1 {
		t.Errorf("%d entries, want the large one alone", len(req.Entries))
	}
	req.Entries = []*raft.Log{{Data: make([]byte, 40)}, {Data: make([]byte, 40)}, {Data: make([]byte, 40)}}
	if tr.trim(req); len(req.Entries) != 2 {
		t.Errorf("%d entries, want 2 of 40 bytes", len(req.Entries))
	}
}

func FuzzSnapshotHeader(f *testing.F) {
	f.Add(snapshotHeader(7, Configuration{Index: 3, Servers: []Server{{ID: peer(0)}}}))
	f.Add([]byte("PRSN\x01\x05\x00\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		applied, c, err := readSnapshotHeader(bufio.NewReader(bytes.NewReader(b)))
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v is no ErrMalformed", err)
		}
		if err != nil {
			return
		}
		again, c2, err := readSnapshotHeader(bufio.NewReader(bytes.NewReader(snapshotHeader(applied, c))))
		if err != nil || again != applied || c2.Index != c.Index || len(c2.Servers) != len(c.Servers) {
			t.Fatalf("%d %+v became %d %+v, %v", applied, c, again, c2, err)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add(encodeConfiguration(Configuration{Servers: []Server{{ID: peer(0)}, {ID: peer(1), Suffrage: Nonvoter}}}))
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeConfiguration(1, b); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v is no ErrMalformed", err)
		}
	})
}
