package attestor

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/appraise"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of what is kept in memory.
const (
	maxPairs = 4096 // pairs of keys that were activated
	KeepTold = 64   // times that this node proved something
	maxAsked = 16   // questions that this node answers at a time
)

// Patience bounds one exchange: a slow TPM takes some seconds for each key.
const Patience = 60 * time.Second

// Config of an Attestor.
type Config struct {
	Self    workload.PeerID
	Open    func(ctx context.Context, to workload.PeerID, proto string) (mesh.Stream, error)
	Machine *collect.Machine
	Policy  string // folder with the operator's certificates, revocation lists and keys of TPMs
	// Sealing returns the public key of a digest that this node made for an
	// attempt of a workload, or nil; evidence is bound to it.
	Sealing func(job workload.ID, key workload.Digest) []byte
	// Appraise says what evidence proves; nil is appraise.Appraise, and no production code
	// sets it.
	Appraise func(*attest.Evidence, *attest.Expect) *workload.Appraisal
	// History is the file that keeps to whom this node proved something; "" keeps it in
	// memory alone.
	History string
	Rand    io.Reader
	Now     func() time.Time
	Log     *slog.Logger
}

// Attestor answers and asks. Its methods may be called from any goroutine.
type Attestor struct {
	cfg   Config
	asked chan struct{}

	mu    sync.Mutex // guards the rest
	pairs map[attest.Pair]bool
	told  []Told
}

// Proof is an appraisal with the evidence that it is of.
type Proof struct {
	Appraisal *workload.Appraisal
	Binding   attest.Binding
	Evidence  []byte             // as it came; nil when there was none
	Sealing   []byte             // the public key that it is bound to
	Abilities []workload.Ability // what the node says it can prove
	SameRules bool               // the node says that it asks of machines what this one does
}

// New returns an attestor that asks and answers by cfg.
func New(cfg Config) *Attestor {
	if cfg.Appraise == nil {
		cfg.Appraise = appraise.Appraise
	}
	a := &Attestor{cfg: cfg, asked: make(chan struct{}, maxAsked), pairs: map[attest.Pair]bool{}}
	if cfg.History != "" {
		var err error
		if a.told, err = readHistory(cfg.History); err != nil {
			cfg.Log.Warn("whom this machine proved something to before is not known; it is written anew", "err", err)
		}
	}
	return a
}

// Abilities lists what this machine can prove, and why not more.
func (a *Attestor) Abilities() []workload.Ability { return a.cfg.Machine.Abilities() }

// Kinds lists what this machine can prove.
func (a *Attestor) Kinds() []string { return a.cfg.Machine.Kinds() }

func (a *Attestor) activated(p attest.Pair) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pairs[p]
}

func (a *Attestor) rememberPair(p attest.Pair) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pairs) >= maxPairs {
		clear(a.pairs)
	}
	a.pairs[p] = true
}

// writeMessage frames a message.
func writeMessage(w io.Writer, v any) error {
	body, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...))
	return err
}

// readMessage reads a framed message of at most max bytes.
func readMessage(r io.Reader, max uint32, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > max {
		return wire.Errorf(wire.TooLarge, "message of %d bytes, at most %d", n, max)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return wire.Unmarshal(body, v)
}

// Serve answers one stream of a peer, and ends it.
func (a *Attestor) Serve(ctx context.Context, from workload.PeerID, s mesh.Stream) {
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(Patience))
	if err := a.answer(ctx, from, s, mesh.ChannelOf(s)); err != nil {
		a.cfg.Log.Debug("evidence not given", "to", from.Short(), "err", err)
		_ = s.Reset()
	}
}

// answer speaks the answering side of the protocol.
func (a *Attestor) answer(ctx context.Context, from workload.PeerID, s io.ReadWriter, channel []byte) error {
	var m wire.AttestMsg
	if err := readMessage(s, wire.MaxSmall, &m); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	answer := &wire.AttestAnswer{Abilities: a.Abilities(), Policy: PolicyDigest(a.cfg.Policy)}
	b := &attest.Binding{Version: attest.Version, Nonce: m.Nonce, Asker: from, Node: a.cfg.Self, Channel: channel, Job: m.Job, Award: m.Award}
	if a.cfg.Sealing != nil && !m.Sealing.IsZero() {
		if answer.Sealing = a.cfg.Sealing(m.Job, m.Sealing); answer.Sealing != nil {
			b.Sealing = attest.SealingKey(answer.Sealing)
		}
	}
	if !a.enter() {
		return writeMessage(s, &wire.AttestAnswer{Error: wire.Errorf(wire.Busy, "too many ask for evidence at once")})
	}
	e, err := a.cfg.Machine.Collect(ctx, m.Kind, b)
	a.leave()
	if err != nil {
		a.cfg.Log.Debug("no evidence", "kind", m.Kind, "err", err)
		answer.Error = wire.Errorf(wire.NotFound, "%s", workload.Cut(err.Error(), 400))
		return writeMessage(s, answer)
	}
	answer.Evidence = e.Encode()
	a.note(from, e.Kind, m.Job)
	if err := writeMessage(s, answer); err != nil {
		return err
	}
	return a.activate(ctx, s)
}

// enter takes a place at the hardware, which is held while it works and not
// while a peer thinks; it reports whether there was one.
func (a *Attestor) enter() bool {
	select {
	case a.asked <- struct{}{}:
		return true
	default:
		return false
	}
}

func (a *Attestor) leave() { <-a.asked }

// activate opens the credential that the asker may still send.
func (a *Attestor) activate(ctx context.Context, s io.ReadWriter) error {
	var m wire.ActivateMsg
	switch err := readMessage(s, wire.MaxSmall, &m); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	if !a.enter() {
		return writeMessage(s, &wire.ActivateAnswer{Error: wire.Errorf(wire.Busy, "too many ask for evidence at once")})
	}
	secret, err := a.cfg.Machine.Activate(ctx, m.Credential, m.Encrypted)
	a.leave()
	if err != nil {
		return writeMessage(s, &wire.ActivateAnswer{Error: wire.Errorf(wire.Refused, "%s", workload.Cut(err.Error(), 400))})
	}
	return writeMessage(s, &wire.ActivateAnswer{Secret: secret})
}

// Question is what to ask a node.
type Question struct {
	Kind  workload.Level // none asks for the best there is
	Job   workload.ID
	Award workload.AuctionID
	// Sealing is the key, as attest.SealingKey has it, that the evidence is to
	// bind; whether it does the proof's Binding says.
	Sealing workload.Digest
}

// Ask gets fresh evidence of a node and appraises it. Evidence that proves
// nothing is no error: the appraisal says why. An error means that the node was
// not reached, or that the operator's own certificates do not read.
func (a *Attestor) Ask(ctx context.Context, to workload.PeerID, q Question) (Proof, error) {
	policy, err := LoadPolicy(a.cfg.Policy)
	if err != nil {
		return Proof{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	s, err := a.cfg.Open(ctx, to, wire.ProtoAttest)
	if err != nil {
		return Proof{}, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	proof, err := a.ask(s, mesh.ChannelOf(s), to, q, policy)
	if err != nil {
		return Proof{}, cmp.Or(ctx.Err(), fmt.Errorf("ask %s for evidence: %w", to.Short(), err))
	}
	return proof, nil
}
