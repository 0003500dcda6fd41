package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/node/tenancy"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// rules are what the ledger needs of packages that it does not import.
func rules(memo *workload.Memo) ledger.Rules {
	return ledger.Rules{
		OpenSpec:   func(s workload.Signed) (workload.Spec, error) { return leader.OpenSpec(memo, s) },
		IDOf:       leader.IDOf,
		OpenBid:    func(s workload.Signed) (workload.Bid, error) { return leader.OpenBid(memo, s) },
		Replay:     func(a *ledger.Award) error { return notary.Replay(memo, a) },
		OpenResult: func(c *ledger.Close, node workload.PeerID) error { return openResult(memo, c, node) },
		Charge:     pricing.Charge,
		OpenCert:   openCert,

		OpenSuccession: admission.OpenSuccessor,
		Proposed: func(cell workload.CellID, c *ledger.Command, raw []byte) error {
			return leader.Proposed(memo, cell, c, raw)
		},
		Countersigned: func(cell workload.CellID, a *ledger.Award) error {
			_, _, err := leader.Countersigned(memo, cell, leader.ClearingOf(a), a.Countersigned)
			return err
		},
		OpenQuota: openQuota,
		OpenDraw: func(owner workload.PeerID, d *workload.Draw, sig []byte) error {
			return wire.OpenDraw(memo, owner, d, sig)
		},
		OpenProved: func(s workload.Signed) (workload.Proved, error) { return leader.OpenProved(memo, s) },
		OpenToken: func(mesh workload.MeshID, token []workload.Signed, holder workload.PeerID, at int64) (workload.PeerID, []workload.TokenLink, error) {
			g, err := tenancy.Judge{Mesh: mesh, Memo: memo}.Open(token)
			if err == nil {
				err = g.Allows(holder, rights.Submit, at)
			}
			if err != nil {
				return workload.PeerID{}, nil, err
			}
			return g.Subject, g.Bounds, nil
		},
	}
}

// openCert reads a node's chain of certificates, whatever its time.
func openCert(raw []byte) (ledger.Cert, error) {
	c, err := admission.OpenChain(raw)
	if err != nil {
		return ledger.Cert{}, err
	}
	return ledger.Cert{Node: c.Node, Raw: raw, From: c.From.UnixMilli(), To: c.To.UnixMilli(), Operator: c.Admitter}, nil
}

// openResult checks that a close carries its worker's signature over what it closes.
func openResult(memo *workload.Memo, c *ledger.Close, node workload.PeerID) error {
	var st wire.Statement
	if err := memo.Verify(workload.DomainResult, c.Sig); err != nil {
		return err
	}
	if err := wire.Unmarshal(c.Sig.Payload, &st); err != nil {
		return err
	}
	want := wire.Statement{Ref: wire.SlotRef{Workload: c.Workload, Slot: c.Slot, Fence: c.Fence}, Segment: c.Segment, Results: st.Results, Vote: c.Vote}
	if c.Sig.By != node || st != want {
		return errors.New("the signed statement is about something else")
	}
	return nil
}

// book is the cell's ledger as Raft's state machine.
type book struct {
	rules ledger.Rules
	// taken is told of each workload whose inputs the cell holds, and forgot of
	// each that is compacted; watch of each entry. Nil is nobody.
	taken  func(workload.ID, *workload.Spec)
	forgot func(workload.ID)
	watch  func(*ledger.Command, *ledger.Result)
	shelf  *shelf // where results lie that rode in the log
	log    *slog.Logger

	mu    sync.RWMutex // guards what follows
	state *ledger.State
	heads heads // of the chain
	wrong refusals
}

func newBook(r ledger.Rules, log *slog.Logger, shelf *shelf) *book {
	return &book{rules: r, state: ledger.New(r), log: log, shelf: shelf}
}

// Apply implements consensus.FSM.
func (b *book) Apply(term, index uint64, data []byte) any {
	p, err := leader.OpenCommand(data)
	if err != nil {
		b.log.Error("a log entry is not a command", "index", index, "err", err)
	}
	res := b.apply(term, index, p, data)
	if p != nil && p.Accept != nil && p.Accept.Held && res.Reject == nil && b.taken != nil {
		b.Read(func(s *ledger.State) {
			if v, _, ok := s.Outline(res.ID); ok {
				b.taken(res.ID, v.Spec)
			}
		})
	}
	if p != nil && b.watch != nil {
		b.watch(p, &res)
	}
	for _, id := range res.Forgot {
		if b.forgot != nil {
			b.forgot(id)
		}
	}
	return res
}

// apply changes the state. Results that ride in the entry lie on the shelf before
// anybody can read that they exist.
func (b *book) apply(term, index uint64, cmd *ledger.Command, data []byte) ledger.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	res := b.state.ApplyIn(term, index, cmd, data)
	if at, head := b.state.Head(); at == index {
		b.heads.push(at, head)
		b.wrong.note(cmd, &res, func() bool { return b.signed(cmd, data) })
	}
	if cmd != nil && cmd.Close != nil && res.Reject == nil {
		b.shelf.put(cmd.Close)
	}
	return res
}

// known reports whether the cell has not forgotten a workload.
func (b *book) known(id workload.ID) (known bool) {
	b.Read(func(s *ledger.State) { _, known = s.Phase(id) })
	return known
}

// Snapshot implements consensus.FSM.
func (b *book) Snapshot() (io.WriterTo, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return snapshot{b.state.Snapshot(), b, b.shelf.cut()}, nil
}

// Restore implements consensus.FSM.
func (b *book) Restore(r io.Reader) error {
	state := ledger.New(b.rules)
	if r != nil {
		snap, err := readSnapshot(r)
		if err != nil {
			return err
		}
		if state, err = ledger.Restore(b.rules, snap); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.heads, b.wrong = state, nil, nil
	if at, head := state.Head(); at > 0 {
		b.heads.push(at, head)
	}
	return nil
}

// Read lets f look at the ledger.
func (b *book) Read(f func(*ledger.State)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	f(b.state)
}

// cell is this node's server in its home cell's Raft group.
type cell struct {
	*book
	id    workload.CellID
	key   ed25519.PrivateKey // which signs what this node proposes
	memo  *workload.Memo
	group *consensus.Group
	room  func() error // of kind wire.NoSpace when the ledger's disk is full
}

func groupName(id workload.CellID) string { return "cell-" + id.String() }

// openCell opens the group of a cell. A node that is a plain member does not.
func openCell(self workload.PeerID, id workload.CellID, st *store.Store, streams consensus.Streams, b *book, founder bool, log *slog.Logger) (*cell, error) {
	storage, err := st.Group(groupName(id))
	if err != nil {
		return nil, err
	}
	cfg := consensus.Default()
	cfg.Group, cfg.Self, cfg.Storage, cfg.Streams, cfg.FSM = groupName(id), self, storage, streams, b
	cfg.Logger = log.With("part", "raft")
	if last, err := storage.LastIndex(); err == nil && last == 0 && founder {
		cfg.Timing = consensus.Solo()
	}
	group, err := consensus.Open(cfg)
	if err != nil {
		return nil, err
	}
	c := &cell{book: b, id: id, group: group, room: func() error { return nil }}
	return c, c.retimeAlone()
}

// retimeAlone gives a lone voter short timeouts: nobody else can vote.
func (c *cell) retimeAlone() error {
	if voters := c.group.Servers().Voters(); len(voters) != 1 || len(c.group.Servers().Servers) != 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.group.Retime(ctx, consensus.Solo())
}

// newCellID makes a cell's name.
func newCellID() (id workload.CellID) {
	_, _ = rand.Read(id[:]) // crypto/rand never fails since Go 1.24
	return id
}

// found bootstraps the group and commits its genesis.
func (c *cell) found(ctx context.Context, mesh workload.MeshID, size int, self workload.PeerID) error {
	if err := c.group.Bootstrap(ctx); err != nil && !errors.Is(err, consensus.ErrBootstrapped) {
		return err
	}
	if err := c.awaitLead(ctx); err != nil {
		return err
	}
	res, err := c.Propose(ctx, &ledger.Command{
		Version: ledger.CommandVersion, At: time.Now().UnixMilli(), Leader: self,
		Genesis: &ledger.Genesis{Mesh: mesh, Cell: c.id, Epoch: 1, MaxSize: uint32(size)},
	})
	if err == nil && res.Reject != nil && res.Reject.Code != ledger.Founded {
		err = res.Reject
	}
	return err
}

func (c *cell) awaitLead(ctx context.Context) error {
	changes := c.group.LeadershipChanges()
	for {
		select {
		case l, ok := <-changes:
			if !ok {
				return consensus.ErrStopped
			}
			if l.Leading {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ID implements leader.Cell.
func (c *cell) ID() workload.CellID { return c.id }

// Term implements leader.Cell.
func (c *cell) Term() uint64 { return c.group.Term() }

// Voters implements leader.Cell.
func (c *cell) Voters() []workload.PeerID { return c.group.Servers().Voters() }

// VerifyLeader implements leader.Cell.
func (c *cell) VerifyLeader(ctx context.Context) error {
	_, err := c.group.VerifyLeader(ctx)
	if err != nil {
		return c.wireError(err)
	}
	return nil
}

// Propose implements leader.Cell.
func (c *cell) Propose(ctx context.Context, cmd *ledger.Command) (ledger.Result, error) {
	if err := c.room(); err != nil {
		return ledger.Result{}, err
	}
	raw, err := c.seal(cmd)
	if err != nil {
		return ledger.Result{}, err
	}
	result, _, err := c.group.Propose(ctx, raw)
	if err != nil {
		return ledger.Result{}, c.wireError(err)
	}
	res, ok := result.(ledger.Result)
	if !ok {
		return ledger.Result{}, fmt.Errorf("cell: a command gave a %T", result)
	}
	return res, nil
}

// seal encodes a command, and signs one that judges.
func (c *cell) seal(cmd *ledger.Command) ([]byte, error) {
	if cmd.Judges() {
		seen := new(ledger.Seen)
		c.Read(func(s *ledger.State) { seen.Index, seen.Head = s.Head() })
		cmd.Term, cmd.Seen = c.group.Term(), seen
	}
	return leader.SealCommand(c.memo, c.key, c.id, cmd)
}

// wireError says in wire kinds why a proposal was not committed.
func (c *cell) wireError(err error) error {
	switch {
	case errors.Is(err, consensus.ErrUnknownOutcome):
		return wire.Errorf(wire.Unavailable, "%v", err)
	case errors.Is(err, consensus.ErrNotLeader):
		e := wire.Errorf(wire.NotLeader, "%v", err)
		e.Leader, _ = c.group.Leader()
		return e
	case errors.Is(err, consensus.ErrBusy):
		return wire.Errorf(wire.Busy, "%v", err)
	case errors.Is(err, consensus.ErrTooLarge):
		return wire.Errorf(wire.TooLarge, "%v", err)
	}
	return wire.Errorf(wire.Unavailable, "%v", err)
}

// raftStreams carries Raft between nodes on mesh streams, which begin with the
// group's name.
type raftStreams struct {
	open func(ctx context.Context, to workload.PeerID, proto string) (net.Conn, error)
}

// Dial implements consensus.Streams.
func (s raftStreams) Dial(ctx context.Context, to workload.PeerID, group string) (net.Conn, error) {
	conn, err := s.open(ctx, to, wire.ProtoRaft)
	if err != nil {
		return nil, err
	}
	if err := writeGroup(conn, group); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func writeGroup(conn net.Conn, group string) error {
	_, err := conn.Write(append([]byte{byte(len(group))}, group...))
	return err
}

// readGroup reads what writeGroup wrote; the length byte bounds it.
func readGroup(conn net.Conn) (string, error) {
	var n [1]byte
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return "", err
	}
	name := make([]byte, n[0])
	if _, err := io.ReadFull(conn, name); err != nil {
		return "", err
	}
	return string(name), conn.SetReadDeadline(time.Time{})
}
