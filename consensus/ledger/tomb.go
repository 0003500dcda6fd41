package ledger

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Tomb is what stays of a workload that was compacted: enough to say what
// became of it, and to know its spec again.
type Tomb struct {
	ID      workload.ID     `cbor:"1,keyasint" json:"id"`
	EndSeq  uint64          `cbor:"2,keyasint" json:"-"`
	Owner   workload.PeerID `cbor:"3,keyasint" json:"owner"`
	Created int64           `cbor:"4,keyasint" json:"created_ms"` // when its owner signed it
	Ended   int64           `cbor:"5,keyasint" json:"ended_ms"`
	Gone    int64           `cbor:"6,keyasint" json:"gone_ms"` // when it was compacted
	Phase   workload.Phase  `cbor:"7,keyasint" json:"phase" max:"16"`
	Done    uint32          `cbor:"8,keyasint" json:"done"`
	Failed  uint32          `cbor:"9,keyasint" json:"failed"`
	Cost    int64           `cbor:"10,keyasint" json:"cost"`
	Held    bool            `cbor:"11,keyasint" json:"-"`
	Digest  workload.Digest `cbor:"12,keyasint" json:"digest"` // of the record as it was
}

// String says what became of the workload.
func (t *Tomb) String() string {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 UTC") }
	return fmt.Sprintf("it ended as %s on %s, %d tasks done and %d failed; its record, results and outputs were released on %s",
		t.Phase, at(t.Ended), t.Done, t.Failed, at(t.Gone))
}

// Tomb returns what stays of a workload that was compacted; false when it was
// not, or is forgotten altogether.
func (s *State) Tomb(id workload.ID) (Tomb, bool) {
	if t := s.tombs[id]; t != nil {
		return *t, true
	}
	return Tomb{}, false
}

// compactable reports whether nothing needs l any more.
func (l *load) compactable() bool {
	return l.Phase.Ended() && len(l.slots) == 0 && l.pins == 0
}

// Compactable returns how many workloads a Compact would end now.
func (s *State) Compactable(now int64, rule *Compact) int { return len(s.due(now, rule)) }

// due lists what a Compact at now ends, oldest end first.
func (s *State) due(now int64, c *Compact) (due []*load) {
	rest, bytes := s.ended.n, s.bytes
	for l := range s.ended.from(0) {
		wanted := rest > int(c.Keep) || bytes > c.Bytes || l.Ended < now-c.For
		if !wanted || l.Ended > now-c.AtOnce || len(due) == MaxCompact {
			break
		}
		rest--
		if l.compactable() && l.Spec.Created <= now {
			bytes -= l.weight
			due = append(due, l)
		}
	}
	return due
}

// compact ends what the rule names, and drops the leases of nodes outside of
// the cell that hold nothing.
func (s *State) compact(e *entry, c *Compact) *Reject {
	for _, l := range s.due(e.at, c) {
		s.bury(e, l)
		e.res.Forgot = append(e.res.Forgot, l.ID)
	}
	for peer, n := range s.nodes {
		if len(n.slots) == 0 && s.members[peer] == nil {
			s.dropNode(peer, n)
		}
	}
	s.forgetCerts(e.at)
	s.forgetStandings(e.at)
	return nil
}

// bury replaces l by its tomb.
func (s *State) bury(e *entry, l *load) {
	s.entomb(&Tomb{
		ID: l.ID, EndSeq: l.EndSeq, Owner: l.owner(), Created: l.Spec.Created, Ended: l.Ended, Gone: e.at, Phase: l.Phase,
		Done: l.done.n, Failed: l.failed.n, Cost: l.Cost, Held: l.Held, Digest: l.digest(),
	})
	delete(s.loads, l.ID)
	delete(s.nonces, nonceKey{l.owner(), l.Spec.Nonce})
	s.all.remove(l.Seq)
	s.ended.remove(l.EndSeq)
	s.phases[l.Phase]--
	s.bytes -= l.weight
}

// entomb adds a tomb. The oldest of too many is forgotten: from then on its
// owner's specs signed up to that one's are refused, since the ledger could not
// tell one from a replay.
func (s *State) entomb(t *Tomb) {
	s.tombs[t.ID] = t
	s.graves.add(t.EndSeq, t)
	for s.graves.n > MaxTombs {
		var oldest *Tomb
		for oldest = range s.graves.from(0) {
			break
		}
		a := s.account(oldest.Owner)
		a.Forgot = max(a.Forgot, oldest.Created)
		s.graves.remove(oldest.EndSeq)
		delete(s.tombs, oldest.ID)
	}
}

// digest hashes the whole record.
func (l *load) digest() workload.Digest {
	h := hasher{sha: sha256.New()}
	h.value(reflect.ValueOf(l.snapshot()))
	return workload.Digest(h.sha.Sum(nil))
}
