// Package directory is the mesh's rendezvous: a private kad-dht that holds
// signed node and cell records, and class keys at which nodes of one kind
// announce themselves.
//
// It answers "where is this node", "where is this cell" and "which nodes have
// this". It is never needed to place work: every call has a timeout, and a
// directory that finds nothing costs the caller that time and no more. Price
// is never in it. Provider records are unsigned hints; Find believes only the
// record that a node signed itself, with its certificates.
//
// The directory speaks to admitted peers only, because mesh.Host.Libp2p does.
// Its methods may be called from any goroutine.
package directory

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	kbucket "github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/workload"
)

// Timeouts of single operations. Callers with less patience pass a context.
const (
	PutTimeout  = 10 * time.Second
	GetTimeout  = 5 * time.Second
	FindTimeout = 10 * time.Second
)

const (
	provideValidity = 45 * time.Minute
	// republishEvery is a third of what records live for.
	republishEvery = RecordTTL / 3
	// settleEvery is how often a small mesh is looked at for newcomers.
	settleEvery = 2 * time.Second
	// smallMesh is the size of a k-bucket: up to it every node holds every
	// record, and a newcomer is a reason to publish again.
	smallMesh = 20
)

// ErrNotFound is returned when the directory holds no valid record in reach.
var ErrNotFound = errors.New("not in the directory")

// Config is what a Directory needs beside its host.
type Config struct {
	// Key signs the node's records: the node's own key.
	Key ed25519.PrivateKey
	// Client makes the node ask and publish without storing or answering: for
	// nodes that cannot be dialed.
	Client bool
	// Shards spreads each class over so many keys, so that none holds more
	// than about 128 nodes. All nodes of a mesh must agree; 0 is 1, enough for
	// meshes of some hundred nodes.
	Shards uint32
	// Log receives what goes wrong in the background; nil discards it.
	Log *slog.Logger
	// Now is the clock that records are judged by; nil is time.Now.
	Now func() time.Time
}

// Directory is a node's part of the DHT. Make one with New, end it with Close.
type Directory struct {
	h      *mesh.Host
	cfg    Config
	log    *slog.Logger
	dht    *dht.IpfsDHT
	judge  judge
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loop   sync.WaitGroup
	wake   chan struct{} // something new is to be published

	mu    sync.Mutex // guards the rest: what is published again and again
	node  *NodeRecord
	cells map[workload.CellID]CellRecord
	keys  []Key
	seq   uint64
	stats Stats
}

// Stats counts what a directory has done, and says how many peers it routes through.
type Stats struct {
	Routes    int    `json:"routes"`
	Published uint64 `json:"published"`
	Failed    uint64 `json:"failed"` // publications
	Lookups   uint64 `json:"lookups"`
}

// New joins the mesh's DHT through the peers that h is and will be connected to.
func New(h *mesh.Host, cfg Config) (*Directory, error) {
	if len(cfg.Key) != ed25519.PrivateKeySize || workload.PeerIDOf(cfg.Key.Public().(ed25519.PublicKey)) != h.ID() {
		return nil, errors.New("directory: Key: want the host's own key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Directory{
		h: h, cfg: cfg, log: cfg.Log.With("component", "directory"), judge: judge{h.Mesh(), cfg.Now},
		wake: make(chan struct{}, 1), cells: map[workload.CellID]CellRecord{},
	}
	var err error
	if d.dht, err = dht.New(h.Libp2p(), d.options()...); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	h.Handle(ProtoRecord, maxRecordRequest, d.serveRecord)
	h.SetResolver(d.resolve)
	d.loop.Go(d.run)
	return d, nil
}

func (d *Directory) options() []dht.Option {
	mode := dht.ModeServer
	if d.cfg.Client {
		mode = dht.ModeClient
	}
	name := d.h.Mesh().String()[:12]
	return []dht.Option{
		dht.ProtocolPrefix(protocol.ID("/perrin/" + name)), dht.Mode(mode),
		dht.Validator(record.NamespacedValidator{
			nodeNamespace: nodeValidator{d.judge}, cellNamespace: cellValidator{d.judge},
		}),
		dht.ValueDatastore(newCapped(maxValues)), dht.ProviderDatastore(newCapped(maxProviders)),
		dht.MaxRecordAge(RecordTTL), dht.ProviderManagerOpts(records.ProvideValidity(provideValidity)),
		dht.RoutingTableRefreshQueryTimeout(GetTimeout),
	}
}

// Close leaves the DHT and waits for the directory's goroutines.
func (d *Directory) Close() error {
	d.cancel()
	d.h.SetResolver(nil)
	err := d.dht.Close()
	d.loop.Wait()
	return err
}

// Stats returns the directory's counters.
func (d *Directory) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Routes = d.dht.RoutingTable().Size()
	return s
}

// run publishes what the node has to say: when it is new, every ten minutes,
// and in a small mesh also when someone has come.
func (d *Directory) run() {
	often, seldom := time.NewTicker(settleEvery), time.NewTicker(republishEvery)
	defer often.Stop()
	defer seldom.Stop()
	known := 0
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.wake:
		case <-seldom.C:
		case <-often.C:
			size := d.dht.RoutingTable().Size()
			grown := size > known && size <= smallMesh
			known = size
			if !grown {
				continue
			}
		}
		d.publish(d.ctx)
	}
}

// publish stores everything once more. What fails is tried again in its turn.
func (d *Directory) publish(ctx context.Context) {
	d.mu.Lock()
	node, keys := d.node, d.keys
	cells := make([]CellRecord, 0, len(d.cells))
	for _, c := range d.cells {
		cells = append(cells, c)
	}
	d.mu.Unlock()
	if node != nil {
		d.note(d.storeNode(ctx, *node))
	}
	for _, c := range cells {
		d.note(d.storeCell(ctx, c))
	}
	d.note(d.provide(ctx, keys))
}

func (d *Directory) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Published++
	if err != nil && d.ctx.Err() == nil {
		d.stats.Failed++
		d.log.Info("a record is not published; it will be tried again", "error", err)
	}
}

// kick wakes the loop.
func (d *Directory) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// nextSeq grows with the clock, and also if the clock does not.
func (d *Directory) nextSeq() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq = max(d.seq+1, uint64(d.cfg.Now().UnixMilli()))
	return d.seq
}

// put stores a value at the nodes closest to its key, and at this one.
func (d *Directory) put(ctx context.Context, key string, raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, PutTimeout)
	defer cancel()
	err := d.dht.PutValue(ctx, key, raw)
	if errors.Is(err, kbucket.ErrLookupFailure) {
		return nil // nobody else is there yet; this node holds it
	}
	return err
}

// get returns the best value that a quorum of holders gives in time.
func (d *Directory) get(ctx context.Context, key string, quorum int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, GetTimeout)
	defer cancel()
	d.mu.Lock()
	d.stats.Lookups++
	d.mu.Unlock()
	raw, err := d.dht.GetValue(ctx, key, dht.Quorum(quorum))
	if len(raw) > 0 {
		return raw, nil // the best so far, even if time ran out
	}
	return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
}
