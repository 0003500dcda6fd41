package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/workload"
)

// prover implements leader.Prover: it asks for evidence, and remembers what was
// found of it for as long as specs allow. Its methods may be called from any
// goroutine.
type prover struct {
	n *Node

	mu    sync.Mutex
	known map[proofKey]*inquiry
}

// proofKey is what an appraisal may serve: any work, or one workload whose spec
// wants fresh evidence, for as long as the operator's rules are those it was made by.
type proofKey struct {
	rules workload.Digest // attestor.Rules
	node  workload.PeerID
	level workload.Level
	job   workload.ID
}

// inquiry is one question for evidence. What is below done is set once it is closed.
type inquiry struct {
	job   workload.ID        // what it is for alone; zero is any work
	award workload.AuctionID // of the job
	done  chan struct{}
	found *workload.Appraisal
	err   error
	at    time.Time
}

const (
	maxInquiries = 4096             // appraisals that are remembered
	askAgain     = 10 * time.Second // before a node that did not convince is asked again
)

// Prove implements leader.Prover. It does not wait longer than ctx; what comes
// after that serves who asks next.
func (p *prover) Prove(ctx context.Context, node workload.PeerID, job workload.ID, auction workload.AuctionID, r *workload.Require) (*workload.Proved, error) {
	rules, err := p.n.attestor.Rules()
	if err != nil {
		return nil, p.unruled(err)
	}
	key := proofKey{rules: rules, node: node, level: r.Level}
	question := attestor.Question{Kind: r.Level}
	if r.Fresh() {
		key.job, question.Job, question.Award = job, job, auction
	}
	q := p.inquire(key, question, r)
	select {
	case <-q.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if q.err != nil {
		return nil, q.err
	}
	if r.Fresh() {
		p.forget(key, q) // it has served its award
	}
	now := time.Now().UnixMilli()
	if err := q.found.Meet(r, now); err != nil {
		return nil, err
	}
	f := q.found
	return &workload.Proved{
		Workload: job, Auction: auction, Node: node, By: p.n.self, Level: f.Level, Status: f.Status, Evidence: f.Evidence,
		Appraisal: workload.DigestOf(wire.MustMarshal(f)), Binding: f.Binding, Instance: f.Instance, At: f.At, Used: now,
		For: q.award, Measurements: f.Named(r),
	}, nil
}

// inquire returns the question that serves a requirement: one that is being asked
// or was answered, or a new one.
func (p *prover) inquire(key proofKey, question attestor.Question, r *workload.Require) *inquiry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.known[key]; q != nil && q.serves(r, time.Now()) {
		return q
	}
	if p.known == nil || len(p.known) >= maxInquiries {
		p.known = map[proofKey]*inquiry{} // they are asked again
	}
	q := &inquiry{job: question.Job, award: question.Award, done: make(chan struct{})}
	p.known[key] = q
	go p.ask(q, key, question)
	return q
}

// serves reports whether an inquiry need not be made again.
func (q *inquiry) serves(r *workload.Require, now time.Time) bool {
	select {
	case <-q.done:
	default:
		return true
	}
	age := now.Sub(q.at)
	switch {
	case q.err != nil:
		return false
	case q.found.Meet(r, now.UnixMilli()) != nil:
		return age < askAgain
	case r.Fresh():
		return age < workload.FreshWithin
	}
	return q.found.Until == 0 || now.UnixMilli() < q.found.Until
}

// ask outlives who asked first: a slow chip's evidence serves the next auction.
func (p *prover) ask(q *inquiry, key proofKey, question attestor.Question) {
	defer close(q.done)
	proof, err := p.n.attestor.Ask(context.Background(), key.node, question)
	q.at = time.Now()
	rules, unread := p.n.attestor.Rules()
	switch err := cmp.Or(err, unread); {
	case errors.Is(err, attestor.ErrPolicy):
		q.err = p.unruled(err)
	case err != nil:
		q.err = err
	case rules != key.rules:
		q.err = fmt.Errorf("%w: the rules of the leader %s changed while it asked", workload.ErrNotProved, p.n.name)
	default:
		q.found = proof.Appraisal
	}
}

// unruled is the answer where the operator's folder does not read.
func (p *prover) unruled(err error) error {
	return fmt.Errorf("%w: the leader %s appraises nothing: %w", workload.ErrNotProved, p.n.name, err)
}

// forget drops an answer that may be used once.
func (p *prover) forget(key proofKey, q *inquiry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[key] == q {
		delete(p.known, key)
	}
}
