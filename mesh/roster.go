package mesh

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// roster is who is connected and what became of the hello with each.
type roster struct {
	mu    sync.RWMutex
	peers map[peer.ID]*entry
	now   func() time.Time
}

// entry is one connected peer. The roster's lock guards all of it but the channel.
type entry struct {
	id       workload.PeerID
	settled  chan struct{} // closed once the peer is admitted or refused
	done     bool          // settled is closed
	admitted bool
	identity admission.Identity
	until    time.Time // when the identity counts no more
	err      error     // why it was refused
	conns    int
	streams  int // inbound streams that wait for the hello
	since    time.Time
}

func newRoster(now func() time.Time) *roster {
	return &roster{peers: map[peer.ID]*entry{}, now: now}
}

// add counts a connection and returns the peer's entry and whether it is new.
func (r *roster) add(id peer.ID, who workload.PeerID) (*entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.peers[id]
	if !ok {
		e = &entry{id: who, settled: make(chan struct{}), since: r.now()}
		r.peers[id] = e
	}
	e.conns++
	return e, !ok
}

// drop forgets the peer when its last connection is gone.
func (r *roster) drop(id peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.peers[id]
	if !ok {
		return
	}
	if e.conns--; e.conns > 0 {
		return
	}
	delete(r.peers, id)
	e.settle(fmt.Errorf("peer %s went away: %w", e.id.Short(), admission.ErrNotAdmitted))
}

// settle ends the wait for the hello; only the first reason counts.
func (e *entry) settle(err error) {
	if e.done {
		return
	}
	e.done, e.err = true, err
	close(e.settled)
}

// admit records that the peer has shown its certificates, which count until a
// time. It reports whether the peer was not admitted before.
func (r *roster) admit(id peer.ID, identity admission.Identity, until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.peers[id]
	if !ok {
		return false
	}
	fresh := !e.admitted
	e.admitted, e.identity, e.until, e.err = true, identity, until, nil
	e.settle(nil)
	return fresh
}

// refuse records that the peer is not admitted, or no longer.
func (r *roster) refuse(id peer.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.peers[id]; ok {
		e.admitted, e.err = false, err
		e.settle(err)
	}
}

// fail records that a hello broke off. It changes nothing for a peer that
// another connection has admitted.
func (r *roster) fail(id peer.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.peers[id]; ok {
		e.settle(err)
	}
}

// identity returns what an admitted peer has shown, while it is valid.
func (r *roster) identity(id peer.ID) (admission.Identity, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.peers[id]
	if !ok || !e.admitted || r.now().After(e.until.Add(admission.ClockSkew)) {
		return admission.Identity{}, false
	}
	return e.identity, true
}

// wait returns nil once the peer is admitted, why it was refused, or ctx's
// error. A peer that is not connected is not admitted.
func (r *roster) wait(ctx context.Context, id peer.ID) error {
	if _, ok := r.identity(id); ok {
		return nil
	}
	r.mu.RLock()
	e, ok := r.peers[id]
	r.mu.RUnlock()
	if !ok {
		return fmt.Errorf("peer is not connected: %w", admission.ErrNotAdmitted)
	}
	select {
	case <-e.settled:
	case <-ctx.Done():
		return fmt.Errorf("hello with %s: %w", e.id.Short(), ctx.Err())
	}
	if _, ok := r.identity(id); ok {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e.err != nil {
		return e.err
	}
	return fmt.Errorf("peer %s: %w", e.id.Short(), admission.ErrExpired)
}

// queue takes one of the places for streams that wait for the hello.
func (r *roster) queue(id peer.ID, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.peers[id]
	if !ok || e.streams >= limit {
		return false
	}
	e.streams++
	return true
}

func (r *roster) unqueue(id peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.peers[id]; ok {
		e.streams--
	}
}

// waiting is how many connected peers have not been settled.
func (r *roster) waiting() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, e := range r.peers {
		if !e.done {
			n++
		}
	}
	return n
}

// member is a snapshot of an admitted peer.
type member struct {
	id       peer.ID
	identity admission.Identity
	since    time.Time
}

// members returns the admitted peers whose identity counts.
func (r *roster) members() (valid []member) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	limit := r.now().Add(-admission.ClockSkew)
	for id, e := range r.peers {
		if e.admitted && !e.until.Before(limit) {
			valid = append(valid, member{id, e.identity, e.since})
		}
	}
	return valid
}

// reconsider asks again about every admitted peer: until when it counts, or why
// it does not any more. It returns those that are refused now.
func (r *roster) reconsider(judge func(admission.Identity) (time.Time, error)) (refused []member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, e := range r.peers {
		if !e.admitted {
			continue
		}
		until, err := judge(e.identity)
		if e.until = until; err == nil {
			continue
		}
		e.admitted, e.err = false, err
		refused = append(refused, member{id, e.identity, e.since})
	}
	return refused
}
