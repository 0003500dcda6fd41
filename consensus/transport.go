package consensus

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is the library's network transport with additions: heartbeats leave
// together, it notes when which follower answered, bounds the bytes in a message,
// checks what comes in, and lets a server vote for one whose promotion it missed.
type transport struct {
	*raft.NetworkTransport
	layer    *layer
	members  *membership
	contacts *contacts
	beat     *beat
	batch    int
	rpcs     chan raft.RPC
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(cfg *Config, members *membership, t Timing, log hclog.Logger) *transport {
	l := newLayer(cfg)
	tr := &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: l, MaxPool: 3, Timeout: t.RPC, Logger: log, MsgpackUseNewTimeFormat: true,
		}),
		layer: l, members: members, contacts: newContacts(), beat: newBeat(t.Heartbeat), batch: cfg.MaxBatch, rpcs: make(chan raft.RPC),
	}
	go tr.screen()
	return tr
}

// Consumer returns the requests that passed the checks.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

func (t *transport) screen() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if err := checkRequest(rpc.Command); err != nil {
				go refuse(rpc, err)
				continue
			}
			t.hear(rpc.Command)
			select {
			case t.rpcs <- rpc:
			case <-t.layer.ctx.Done():
				return
			}
		case <-t.layer.ctx.Done():
			return
		}
	}
}

// hear lets this server vote for one that it knows as a standby. A leader may die
// just after it gave a standby its vote, with the entry on the two of them alone:
// then only the new voter can win, and it needs this vote. Raft grants it (Ongaro,
// "Consensus: Bridging Theory and Practice", section 4.1: a server votes without
// a look at its own configuration); the library does not, so it is told of a voter
// that it knows. It reads the name for this check alone.
func (t *transport) hear(command any) {
	var candidate *[]byte
	switch req := command.(type) {
	case *raft.RequestVoteRequest:
		candidate = &req.ID
	case *raft.RequestPreVoteRequest:
		candidate = &req.ID
	default:
		return
	}
	servers := t.members.current()
	voters := servers.Voters()
	for _, s := range servers.Servers {
		if s.Suffrage == Nonvoter && string(*candidate) == string(serverID(s.ID)) && len(voters) > 0 {
			*candidate = []byte(serverID(voters[0]))
		}
	}
}

// refuse answers with an error once a snapshot that follows the request is read:
// the next request comes behind it. It ends when the connection does.
func refuse(rpc raft.RPC, why error) {
	if rpc.Reader != nil {
		_, _ = io.Copy(io.Discard, rpc.Reader)
	}
	rpc.Respond(nil, why)
}

// checkRequest refuses what the library would panic on. What is in an entry is
// checked when it is stored.
func checkRequest(command any) error {
	switch req := command.(type) {
	case *raft.AppendEntriesRequest:
		return checkEntries(req)
	case *raft.InstallSnapshotRequest:
		return checkSnapshot(req)
	}
	return nil
}

// checkEntries refuses entries that do not continue the one that the request
// names, one after the other: the library would store a log with a hole.
func checkEntries(req *raft.AppendEntriesRequest) error {
	index, term := req.PrevLogEntry, req.PrevLogTerm
	for _, e := range req.Entries {
		if index++; e == nil || e.Index != index || e.Term < term || e.Term > req.Term {
			return fmt.Errorf("%w: entry %d after entry %d of term %d does not continue it", ErrMalformed, index, req.PrevLogEntry, req.PrevLogTerm)
		}
		term = e.Term
	}
	return nil
}

// checkSnapshot refuses a snapshot whose configuration the library would panic on.
func checkSnapshot(req *raft.InstallSnapshotRequest) error {
	if req.ProtocolVersion != raft.ProtocolVersionMax {
		return fmt.Errorf("%w: raft protocol version %d", ErrMalformed, req.ProtocolVersion) // the library would refuse it and not read on
	}
	if req.SnapshotVersion < 1 || len(req.Configuration) > maxConfigBytes || req.Size < 0 {
		return fmt.Errorf("%w: snapshot of version %d, %d bytes, configuration of %d bytes",
			ErrMalformed, req.SnapshotVersion, req.Size, len(req.Configuration))
	}
	_, err := decodeConfiguration(req.ConfigurationIndex, req.Configuration)
	return err
}

// AppendEntries sends entries or a heartbeat and notes the answer.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse,
) error {
	t.trim(req)
	if isHeartbeat(req) {
		t.beat.wait(t.layer.ctx, id, t.atRest(id))
	}
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, to, req, resp); err != nil {
		return err
	}
	t.contacts.note(id, req.Term, sent, resp)
	return nil
}

// atRest reports whether a server can do with few heartbeats: a standby, whom no
// lease and no election counts, with nothing new in its log.
func (t *transport) atRest(id raft.ServerID) bool {
	standby := slices.ContainsFunc(t.members.current().Servers, func(s Server) bool {
		return s.Suffrage == Nonvoter && serverID(s.ID) == id
	})
	return standby && t.contacts.resting(id)
}

// AppendEntriesPipeline opens a pipeline whose messages are bounded too.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return newPipeline(p, t.trim), nil
}

// trim leaves out the entries that are too many bytes for one message, but at
// least one stays. The library goes on behind the last entry of the request.
func (t *transport) trim(req *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range req.Entries {
		if size += len(e.Data) + len(e.Extensions); size > t.batch && i > 0 {
			req.Entries = req.Entries[:i]
			return
		}
	}
}
