// Package gossip spreads small hints over the mesh with gossipsub: above all
// the digests that cells publish of themselves.
//
// A message costs 5 to 6 KB on the wire for every node that gets it, so that
// nothing per workload goes this way, and nothing that must arrive. Messages
// are signed by their author (gossipsub's StrictSign), and only admitted peers
// carry them: the host closes gossipsub's protocols to everyone else. A topic's
// validator decides what a node passes on; a message that it refuses goes no
// further. Methods may be called from any goroutine.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/workload"
)

const (
	// MaxMessage bounds a message in bytes.
	MaxMessage = 2048
	// outboundQueue and validateQueue are gossipsub's queues: its defaults of
	// 32 lost a third of the messages of a dense mesh.
	outboundQueue = 256
	validateQueue = 1024
	receiveQueue  = 256
	// maxTopics bounds the topics that a peer may subscribe to at once.
	maxTopics = 64
	// maxRPC bounds what gossipsub reads at once.
	maxRPC = 256 << 10
	// maxRegion bounds the name of a region in bytes.
	maxRegion = 32
)

// ErrMessage is returned when a message is not one that its topic may carry.
var ErrMessage = errors.New("not a valid message")

// Config is what a Gossip needs beside its host. The zero value is complete.
type Config struct {
	// Rate and Burst bound the messages of one author that are passed on, in a
	// second and at once; 0 is 5 and 20.
	Rate  float64
	Burst int
	// Log receives what the package has to say; nil discards it.
	Log *slog.Logger
}

// Gossip is a node's part of the mesh's topics. Make one with New, end it with Close.
type Gossip struct {
	h      *mesh.Host
	log    *slog.Logger
	ps     *pubsub.PubSub
	rates  *rates
	cancel context.CancelFunc
	ctx    context.Context // ends with Close
	loops  sync.WaitGroup

	published, received, refused, throttled atomic.Uint64

	mu     sync.Mutex // guards the rest
	topics map[string]*topic
	closed bool
}

// topic is a topic that this node has joined.
type topic struct {
	t      *pubsub.Topic
	readBy int
}

// Stats counts messages since the start.
type Stats struct {
	Published uint64 `json:"published"`
	Received  uint64 `json:"received"`  // delivered to a subscriber
	Refused   uint64 `json:"refused"`   // by a topic's validator
	Throttled uint64 `json:"throttled"` // over their author's rate
}

// New joins the mesh's gossip through the peers that h is and will be connected to.
func New(h *mesh.Host, cfg Config) (*Gossip, error) {
	if cfg.Rate == 0 {
		cfg.Rate = 5
	}
	if cfg.Burst == 0 {
		cfg.Burst = 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gossip{h: h, log: cfg.Log.With("component", "gossip"), rates: newRates(cfg.Rate, cfg.Burst), topics: map[string]*topic{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	ours := regexp.MustCompile("^" + regexp.QuoteMeta(prefix(h.Mesh())))
	var err error
	g.ps, err = pubsub.NewGossipSub(g.ctx, h.Libp2p(),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithPeerOutboundQueueSize(outboundQueue), pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithMaxMessageSize(maxRPC), pubsub.WithPeerExchange(false), pubsub.WithPeerFilter(g.admitted),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewRegexpSubscriptionFilter(ours), maxTopics)),
	)
	if err != nil {
		g.cancel()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return g, nil
}

func (g *Gossip) admitted(id peer.ID, _ string) bool {
	who, err := workload.PeerIDFromBytes([]byte(id))
	if err != nil {
		return false
	}
	_, ok := g.h.Admitted(who)
	return ok
}

func prefix(id workload.MeshID) string { return "/perrin/" + id.String()[:12] + "/" }

// Topic names a topic of the mesh; name is 1 to 64 letters, digits, dashes, dots and slashes.
func Topic(id workload.MeshID, name string) (string, error) {
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, notName) {
		return "", fmt.Errorf("gossip: topic %.80q: want 1 to 64 letters, digits, '-', '.', '/'", name)
	}
	return prefix(id) + name, nil
}

func notName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '/')
}

// DigestTopic is where the cells of a region publish their digests; the
// region "" is "all".
func DigestTopic(id workload.MeshID, region string) (string, error) {
	if region == "" {
		region = "all"
	}
	if len(region) > maxRegion {
		return "", fmt.Errorf("gossip: region %.80q: at most %d bytes", region, maxRegion)
	}
	return Topic(id, "digest/"+region)
}

// Validator returns nil for a message that may be passed on. It must be quick
// and must not block; it runs for messages of others and of this node.
type Validator func(author workload.PeerID, data []byte) error

// Subscribe delivers each valid message of the topic to fn, one after another,
// messages of this node included, until the returned function is called. A
// topic has one validator: that of its first Subscribe. When fn is slow,
// messages are lost.
func (g *Gossip) Subscribe(name string, validate Validator, fn func(author workload.PeerID, data []byte)) (stop func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, err := g.join(name)
	if err != nil {
		return nil, err
	}
	if t.readBy == 0 {
		if err := g.ps.RegisterTopicValidator(name, g.validator(validate), pubsub.WithValidatorInline(true)); err != nil {
			return nil, fmt.Errorf("gossip: subscribe to %s: %w", name, err)
		}
	}
	sub, err := t.t.Subscribe(pubsub.WithBufferSize(receiveQueue))
	if err != nil {
		return nil, fmt.Errorf("gossip: subscribe to %s: %w", name, err)
	}
	t.readBy++
	g.loops.Go(func() { g.receive(sub, fn) })
	return sync.OnceFunc(func() { g.unsubscribe(name, sub) }), nil
}

// join returns the topic; the caller holds the lock.
func (g *Gossip) join(name string) (*topic, error) {
	if g.closed {
		return nil, errors.New("gossip: closed")
	}
	if t, ok := g.topics[name]; ok {
		return t, nil
	}
	t, err := g.ps.Join(name)
	if err != nil {
		return nil, fmt.Errorf("gossip: join %.120q: %w", name, err)
	}
	g.topics[name] = &topic{t: t}
	return g.topics[name], nil
}

func (g *Gossip) unsubscribe(name string, sub *pubsub.Subscription) {
	sub.Cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topics[name]
	if t.readBy--; t.readBy == 0 && !g.closed {
		_ = g.ps.UnregisterTopicValidator(name) // it is registered while readBy is not 0
	}
}

// validator is what gossipsub runs for each message, before it passes it on.
func (g *Gossip) validator(validate Validator) pubsub.ValidatorEx {
	return func(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		author, err := workload.PeerIDFromBytes([]byte(m.GetFrom()))
		if err != nil || len(m.GetData()) > MaxMessage || from != peer.ID(g.h.ID().Bytes()) && !g.admitted(from, "") {
			g.refused.Add(1)
			return pubsub.ValidationReject
		}
		if author != g.h.ID() && !g.rates.allow(author, time.Now()) {
			g.throttled.Add(1)
			return pubsub.ValidationIgnore
		}
		if err := validate(author, m.GetData()); err != nil {
			g.refused.Add(1)
			g.log.Debug("message refused", "topic", m.GetTopic(), "author", author, "reason", err)
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
}

func (g *Gossip) receive(sub *pubsub.Subscription, fn func(workload.PeerID, []byte)) {
	for {
		m, err := sub.Next(g.ctx)
		if err != nil {
			return // cancelled or closed
		}
		if author, err := workload.PeerIDFromBytes([]byte(m.GetFrom())); err == nil {
			g.received.Add(1)
			fn(author, m.GetData())
		}
	}
}

// Publish sends data, of at most MaxMessage bytes, to whoever subscribes to
// the topic. It returns when the message has left for this node's neighbours;
// that nobody listens is no error.
func (g *Gossip) Publish(ctx context.Context, name string, data []byte) error {
	if len(data) > MaxMessage {
		return fmt.Errorf("gossip: publish %d bytes to %s, at most %d: %w", len(data), name, MaxMessage, ErrMessage)
	}
	g.mu.Lock()
	t, err := g.join(name)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.t.Publish(ctx, data); err != nil {
		return fmt.Errorf("gossip: publish to %s: %w", name, err)
	}
	g.published.Add(1)
	return nil
}

// Neighbours is how many admitted peers are known to subscribe to the topic.
func (g *Gossip) Neighbours(name string) int { return len(g.ps.ListPeers(name)) }

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	return Stats{Published: g.published.Load(), Received: g.received.Load(), Refused: g.refused.Load(), Throttled: g.throttled.Load()}
}

// Close leaves every topic and waits for the deliveries that are under way.
func (g *Gossip) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.loops.Wait()
	return nil
}
