package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ProtoRecord asks a node for its own record.
const ProtoRecord = "/perrin/record/1"

const (
	maxRecordRequest = 16
	// askTimeout bounds the question to a node itself.
	askTimeout = 2 * time.Second
	// keysAtOnce bounds how many keys one Find asks at the same time.
	keysAtOnce = 5
	// recordsAtOnce bounds how many records one Find fetches at the same time.
	recordsAtOnce = 8
	// maxCandidates bounds the nodes that one Find looks at.
	maxCandidates = 256
	// cellQuorum is how many holders of a cell's record are heard before the
	// newest counts: one alone may have slept through an election.
	cellQuorum = 3
)

// serveRecord answers with the node's record, signed now.
func (d *Directory) serveRecord(context.Context, workload.PeerID, []byte) ([]byte, error) {
	r, ok := d.own()
	if !ok {
		return nil, wire.Errorf(wire.NotFound, "this node has not published itself yet")
	}
	return d.sealNode(r)
}

func (d *Directory) own() (NodeRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node == nil {
		return NodeRecord{}, false
	}
	return *d.node, true
}

// GetNode returns a node's record: the node's own answer when it is connected,
// else what the DHT holds. The error wraps ErrNotFound.
func (d *Directory) GetNode(ctx context.Context, id workload.PeerID) (*NodeRecord, error) {
	if _, ok := d.h.Admitted(id); ok {
		if r, err := d.askNode(ctx, id); err == nil {
			return r, nil
		}
	}
	raw, err := d.get(ctx, nodeKey(id), 1)
	if err != nil {
		return nil, fmt.Errorf("directory: node %s: %w", id.Short(), err)
	}
	return OpenNode(raw, d.h.Mesh(), d.cfg.Now())
}

func (d *Directory) askNode(ctx context.Context, id workload.PeerID) (*NodeRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := d.h.Call(ctx, id, ProtoRecord, nil, MaxRecord)
	if err != nil {
		return nil, err
	}
	r, err := OpenNode(raw, d.h.Mesh(), d.cfg.Now())
	if err == nil && r.Peer != id {
		return nil, fmt.Errorf("node %s answers with the record of %s: %w", id.Short(), r.Peer.Short(), ErrRecord)
	}
	return r, err
}

// GetCell returns the newest record of a cell that is in reach. The error
// wraps ErrNotFound.
func (d *Directory) GetCell(ctx context.Context, id workload.CellID) (*CellRecord, error) {
	raw, err := d.get(ctx, cellKey(id), cellQuorum)
	if err != nil {
		return nil, fmt.Errorf("directory: cell %s: %w", id, err)
	}
	return OpenCell(raw, d.h.Mesh(), d.cfg.Now())
}

// resolve is the host's mesh.Resolver.
func (d *Directory) resolve(ctx context.Context, id workload.PeerID) ([]string, error) {
	r, err := d.GetNode(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.Addrs, nil
}

// Find returns up to q.Limit nodes whose own records match q, ordered by peer
// ID. It asks few keys at a time, the best fitting first, and stops when it
// has enough or FindTimeout or ctx is over; then it returns what it has. The
// error wraps ErrNotFound when that is nothing.
func (d *Directory) Find(ctx context.Context, q Query) ([]NodeRecord, error) {
	if q.Limit == 0 {
		q.Limit = DefaultFind
	}
	if q.Limit < 0 || q.Limit > MaxFind {
		return nil, fmt.Errorf("directory: find: want 1 to %d records, asked for %d", MaxFind, q.Limit)
	}
	ctx, cancel := context.WithTimeout(ctx, FindTimeout)
	defer cancel()
	s := &search{d: d, q: q, seen: map[workload.PeerID]bool{}}
	for keys := range slices.Chunk(q.keys(d.cfg.Shards), keysAtOnce) {
		s.ask(ctx, keys)
		if len(s.found) >= q.Limit || ctx.Err() != nil {
			break
		}
	}
	if len(s.found) == 0 {
		return nil, fmt.Errorf("directory: find: none of %d candidates fits: %w", len(s.seen), errors.Join(ErrNotFound, ctx.Err()))
	}
	slices.SortFunc(s.found, func(a, b NodeRecord) int { return slices.Compare(a.Peer[:], b.Peer[:]) })
	return s.found, nil
}

// search is one Find.
type search struct {
	d *Directory
	q Query

	mu    sync.Mutex // guards the rest
	seen  map[workload.PeerID]bool
	found []NodeRecord
}

// ask looks at the providers of the keys, all at once.
func (s *search) ask(ctx context.Context, keys []Key) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	candidates := make(chan workload.PeerID)
	var fetch, look errgroup.Group
	for range recordsAtOnce {
		fetch.Go(func() error {
			for id := range candidates {
				if s.judge(ctx, id) {
					cancel()
				}
			}
			return nil
		})
	}
	for _, k := range keys {
		look.Go(func() error { return s.providers(ctx, k, candidates) })
	}
	_ = look.Wait()
	close(candidates)
	_ = fetch.Wait()
}

// providers sends each new provider of a key to candidates.
func (s *search) providers(ctx context.Context, k Key, candidates chan<- workload.PeerID) error {
	c, err := k.cid()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the DHT's query, whose channel must not be left unread before
	for pi := range s.d.dht.FindProvidersAsync(ctx, c, maxCandidates) {
		id, err := workload.PeerIDFromBytes([]byte(pi.ID))
		if err != nil || !s.isNew(id) {
			continue
		}
		select {
		case candidates <- id:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *search) isNew(id workload.PeerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id] || len(s.seen) >= maxCandidates {
		return false
	}
	s.seen[id] = true
	return true
}

// judge fetches a candidate's record and keeps it if it fits; it reports
// whether there are enough.
func (s *search) judge(ctx context.Context, id workload.PeerID) (enough bool) {
	r, err := s.record(ctx, id)
	fits := err == nil && s.q.matches(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if fits && len(s.found) < s.q.Limit {
		s.found = append(s.found, *r)
	}
	return len(s.found) >= s.q.Limit
}

func (s *search) record(ctx context.Context, id workload.PeerID) (*NodeRecord, error) {
	if id != s.d.h.ID() {
		return s.d.GetNode(ctx, id)
	}
	raw, err := s.d.serveRecord(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	return OpenNode(raw, s.d.h.Mesh(), s.d.cfg.Now())
}
