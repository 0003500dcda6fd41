package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// FSM is the replicated state. All three methods are called from one goroutine
// at a time.
type FSM interface {
	// Apply applies a committed entry and returns what Propose shall return on
	// the leader. It must be deterministic and must not block on the group.
	// Indexes rise; those of entries that carry no command are left out. term is
	// the one in which the entry came into the log.
	Apply(term, index uint64, data []byte) any
	// Snapshot captures the state as of the last Apply. It has to return
	// quickly, for it holds up Apply; WriteTo is called at most once, later and
	// concurrently with Apply.
	Snapshot() (io.WriterTo, error)
	// Restore replaces the whole state by what a snapshot's WriteTo wrote, or by
	// the empty state when r is nil, as Open does first. On an error the
	// state must be what it was before.
	Restore(r io.Reader) error
}

// Streams opens connections to other servers of a group. The connection must
// support deadlines, and the peer on the far end must be authenticated.
type Streams interface {
	// Dial opens a stream to a peer, on which its ServeConn for that group is called.
	Dial(ctx context.Context, to workload.PeerID, group string) (net.Conn, error)
}

// Storage is where a server keeps its log, its term and vote, and its snapshots.
// *store.Group is the durable one, Memory the one for simulations. StoreLogs,
// DeleteRange and Set are synced when they return.
type Storage interface {
	raft.LogStore
	raft.StableStore
	Snapshots(hclog.Logger) (raft.SnapshotStore, error)
}

// Timing is the clockwork of a group. All servers should use the same.
type Timing struct {
	// Heartbeat is how long a follower goes without hearing from a leader
	// before it stands for election; the leader beats ten times in that time.
	// Shorter finds a dead leader sooner and takes a slow one for dead.
	Heartbeat time.Duration
	// Election is how long a candidate waits for votes; at least Heartbeat.
	Election time.Duration
	// Lease is how long a leader stays one without contact to a majority; at
	// most Heartbeat.
	Lease time.Duration
	// Commit is the longest time until an idle leader tells its followers what
	// is committed. It costs 2/Commit messages a second to each follower.
	Commit time.Duration
	// RPC bounds one exchange with a peer, dialling included.
	RPC time.Duration
}

// Solo is the timing of a lone first node on one machine.
func Solo() Timing {
	const t = 100 * time.Millisecond
	return Timing{Heartbeat: t, Election: t, Lease: t, Commit: 50 * time.Millisecond, RPC: 5 * time.Second}
}

// Mesh is the timing of servers on different machines: failover takes 2 to 4 s,
// and an idle group of three costs some 16 small messages a second.
func Mesh() Timing {
	return Timing{
		Heartbeat: time.Second, Election: time.Second, Lease: time.Second,
		Commit: time.Second, RPC: 10 * time.Second,
	}
}

// Validate reports the first duration that cannot work.
func (t Timing) Validate() error {
	switch {
	case t.Lease < 5*time.Millisecond:
		return fmt.Errorf("timing: lease %v: want at least 5ms", t.Lease)
	case t.Heartbeat < t.Lease:
		return fmt.Errorf("timing: heartbeat %v: want at least the lease of %v", t.Heartbeat, t.Lease)
	case t.Election < t.Heartbeat:
		return fmt.Errorf("timing: election %v: want at least the heartbeat of %v", t.Election, t.Heartbeat)
	case t.Commit < time.Millisecond:
		return fmt.Errorf("timing: commit %v: want at least 1ms", t.Commit)
	case t.RPC < t.Heartbeat/10:
		return fmt.Errorf("timing: rpc %v: want at least a tenth of the heartbeat of %v", t.RPC, t.Heartbeat)
	}
	return nil
}

// Config describes one server of one group. Start from Default.
type Config struct {
	Group   string          // names the group on streams, 1 to 64 bytes
	Self    workload.PeerID // this server
	Storage Storage
	Streams Streams
	FSM     FSM
	Timing  Timing
	Logger  *slog.Logger // nil discards

	// MaxEntry bounds the data of one proposal in bytes. Small entries keep
	// heartbeats and elections unharmed by replication.
	MaxEntry int
	// MaxPending bounds the proposals that wait at a time.
	MaxPending int
	// MaxBatch bounds the bytes of entries in one message to a follower; a
	// single larger entry still goes.
	MaxBatch int
	// MaxSnapshot bounds in bytes what a peer may send as one message, and so a
	// snapshot.
	MaxSnapshot int64
	// SnapshotEvery is how many entries after a snapshot make the next one due.
	SnapshotEvery uint64
	// Trailing is how many entries are kept behind a snapshot, so that a server
	// which was away for a moment needs no snapshot.
	Trailing uint64
	// SnapshotCheck is how often it is looked whether a snapshot is due; each
	// server adds a random part of it.
	SnapshotCheck time.Duration
	// MaxConns bounds the connections that one peer may hold here.
	MaxConns int
}

// MaxEntry is the default of Config.MaxEntry: a little under 1 MiB, so that no
// entry goes to a file of large values (see store.Options.MaxValue).
const MaxEntry = 1<<20 - 4096

// Default returns the settings of a cell with the timing of Mesh. Group, Self,
// Storage, Streams and FSM are the caller's.
func Default() Config {
	return Config{
		Timing: Mesh(), MaxEntry: MaxEntry, MaxPending: 8192, MaxBatch: 8 << 20, MaxSnapshot: 1 << 30,
		SnapshotEvery: 2048, Trailing: 1024, SnapshotCheck: 15 * time.Second, MaxConns: 16,
	}
}

// Validate reports the first setting that is missing or cannot work.
func (c Config) Validate() error {
	switch {
	case c.Group == "" || len(c.Group) > 64:
		return fmt.Errorf("group name %.80q: want 1 to 64 bytes", c.Group)
	case c.Self.IsZero():
		return errors.New("self: want a peer ID")
	case c.Storage == nil || c.Streams == nil || c.FSM == nil:
		return errors.New("want a storage, streams and a state machine")
	case c.MaxEntry < 1 || c.MaxPending < 1 || c.MaxBatch < 1 || c.MaxConns < 4:
		return errors.New("max entry, pending and batch: want at least 1; max conns: at least 4")
	case c.MaxSnapshot < int64(c.MaxBatch)+int64(c.MaxEntry):
		return fmt.Errorf("max snapshot %d: want at least the largest batch and entry, %d", c.MaxSnapshot, c.MaxBatch+c.MaxEntry)
	case c.SnapshotEvery < 1 || c.SnapshotCheck < 5*time.Millisecond:
		return errors.New("snapshot every: want at least 1; snapshot check: at least 5ms")
	}
	return c.Timing.Validate()
}

// raftConfig translates c for an instance. A restore from the snapshot on disk
// is wanted at the first opening only; later the state is ahead of it.
func (c Config) raftConfig(log hclog.Logger, t Timing, restore bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = serverID(c.Self)
	rc.Logger = log
	rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.Lease
	rc.CommitTimeout = t.Commit
	rc.MaxAppendEntries = 512
	rc.SnapshotThreshold, rc.TrailingLogs, rc.SnapshotInterval = c.SnapshotEvery, c.Trailing, c.SnapshotCheck
	rc.NoSnapshotRestoreOnStart = !restore
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	return rc
}

func serverID(p workload.PeerID) raft.ServerID           { return raft.ServerID(p.String()) }
func serverAddress(p workload.PeerID) raft.ServerAddress { return raft.ServerAddress(p.String()) }
