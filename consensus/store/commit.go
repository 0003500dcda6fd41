package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// sequenceKey holds the number of the last commit (8 bytes) and how many groups
// there are (4 bytes), so that the newest write tells what older ones there were.
var sequenceKey = []byte("q")

const (
	maxQueue  = 1024    // requests that wait; who brings more waits too
	maxBatch  = 4096    // requests in one drain
	maxVolume = 8 << 20 // bytes in one drain
)

// op sets or, with a nil value, deletes a key.
type op struct{ key, value []byte }

// demand says how much room a request needs to be let through.
type demand int

const (
	demandNone   demand = iota // deletions, which make room: a sixteenth of the reserve
	demandSmall                // terms, votes, single facts: a quarter of the reserve
	demandAppend               // log entries: the whole reserve
)

// request is a list of writes that is answered once, after all are synced.
// It may be split over several transactions, in order, when it is too big for
// one; a crash may then leave a prefix of it.
type request struct {
	ops    []op
	demand demand
	groups int // how many groups it adds
	size   int
	done   chan error
}

// committer owns all writes to the raft database.
type committer struct {
	queue chan *request
	ended chan struct{}

	gate   sync.RWMutex // held for reading while a request is queued
	closed bool         // guarded by gate

	// What follows is owned by the run goroutine.
	db     *badger.DB
	room   func(need int64) error
	share  func(demand) int64
	acked  *marker
	tidy   *tidier
	number uint64
	groups int
	broken error
	log    *slog.Logger
}

func newCommitter(s *Store) (*committer, error) {
	number, groups, err := readSequence(s.raft)
	if err != nil {
		return nil, err
	}
	names, err := s.groupNumbers()
	if err != nil {
		return nil, err
	}
	acked, err := openMarker(s.path("ACKED"), number, s.log)
	if err != nil {
		return nil, err
	}
	if len(names) != groups {
		err := fmt.Errorf("%w: %d groups, should have %d", ErrCorrupt, len(names), groups)
		return nil, errors.Join(err, acked.close())
	}
	c := &committer{
		queue: make(chan *request, maxQueue), ended: make(chan struct{}),
		db: s.raft, room: s.room, share: s.share, acked: acked, tidy: s.tidy[0], number: number, groups: groups, log: s.log,
	}
	go c.run()
	return c, nil
}

func readSequence(db *badger.DB) (number uint64, groups int, err error) {
	err = view(db, sequenceKey, func(v []byte) error {
		if len(v) != 12 {
			return fmt.Errorf("%w: commit number of %d bytes", ErrCorrupt, len(v))
		}
		number, groups = binary.BigEndian.Uint64(v), int(binary.BigEndian.Uint32(v[8:]))
		return nil
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		err = nil
	}
	return number, groups, err
}

// do commits ops and returns once they are synced.
func (c *committer) do(d demand, ops []op) error { return c.doGroups(0, d, ops) }

// doGroups is do for ops that add or remove groups.
func (c *committer) doGroups(groups int, d demand, ops []op) error {
	r := &request{ops: ops, demand: d, groups: groups, done: make(chan error, 1)}
	for _, o := range ops {
		r.size += len(o.key) + len(o.value) + 32
	}
	c.gate.RLock()
	if c.closed {
		c.gate.RUnlock()
		return ErrClosed
	}
	c.queue <- r
	c.gate.RUnlock()
	return <-r.done
}

// close refuses new requests, answers those that wait and stops.
func (c *committer) close() error {
	c.gate.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.gate.Unlock()
	<-c.ended
	return c.acked.close()
}

func (c *committer) run() {
	defer close(c.ended)
	for first := range c.queue {
		c.commit(c.drain(first))
	}
}

// drain takes whatever waits behind first, without waiting for more.
func (c *committer) drain(first *request) []*request {
	batch, volume := []*request{first}, first.size
	for len(batch) < maxBatch && volume < maxVolume {
		select {
		case r, ok := <-c.queue:
			if !ok {
				return batch
			}
			batch, volume = append(batch, r), volume+r.size
		default:
			return batch
		}
	}
	return batch
}

func (c *committer) commit(batch []*request) {
	t := &transaction{c: c, txn: c.db.NewTransaction(true)}
	defer func() { t.txn.Discard() }() // while one is open, Badger keeps all that is deleted after it
	for _, r := range batch {
		if err := c.admit(r, t.volume); err != nil {
			r.done <- err
			continue
		}
		t.add(r)
	}
	t.flush()
}

func (c *committer) admit(r *request, queued int) error {
	if c.broken != nil {
		return c.broken
	}
	return c.room(c.share(r.demand) + 2*int64(r.size+queued))
}

// transaction gathers requests into as few Badger transactions as they fit in.
type transaction struct {
	c       *committer
	txn     *badger.Txn
	volume  int
	pending []*request // complete in txn, not answered
}

// add puts a request into the transaction. One that adds or removes a group
// starts a transaction, so that it is not split and the count fits.
func (t *transaction) add(r *request) {
	if r.groups != 0 {
		if err := t.flush(); err != nil {
			r.done <- err
			return
		}
	}
	for _, o := range r.ops {
		err := t.put(o)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err = t.flush(); err == nil {
				err = t.put(o)
			}
		}
		if err != nil {
			t.c.fail(err)
			r.done <- t.c.broken
			return
		}
	}
	t.volume += r.size
	t.c.groups += r.groups
	t.pending = append(t.pending, r)
}

func (t *transaction) put(o op) error {
	if o.value == nil {
		return t.txn.Delete(o.key)
	}
	return t.txn.Set(o.key, o.value)
}

// flush commits what was gathered, answers it and starts afresh.
func (t *transaction) flush() error {
	err := t.c.broken
	if err == nil {
		err = t.c.write(t.txn, t.volume)
	}
	for _, r := range t.pending {
		r.done <- err
	}
	t.txn.Discard()
	t.pending, t.volume, t.txn = nil, 0, t.c.db.NewTransaction(true)
	return err
}

// write numbers and commits one transaction.
func (c *committer) write(txn *badger.Txn, volume int) error {
	sequence := binary.BigEndian.AppendUint64(nil, c.number+1)
	sequence = binary.BigEndian.AppendUint32(sequence, uint32(c.groups))
	err := txn.Set(sequenceKey, sequence)
	if err == nil {
		err = txn.Commit()
	}
	if err != nil {
		return c.fail(err)
	}
	c.number++
	c.tidy.wrote(volume)
	c.acked.set(c.number)
	return nil
}

// fail refuses every later write. After a failed commit the write-ahead log may
// hold half a transaction, and Badger drops all that follows such a half when it
// opens; after a failed sync nothing is known about what reached the disk.
func (c *committer) fail(err error) error {
	if c.broken == nil {
		c.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		c.log.Error("the data folder takes no more writes until it is opened again", "error", err)
	}
	return c.broken
}
