package store

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// KV is a small key-value space of one owner, which its name keeps apart from
// the others. Keys are 1 to 512 bytes, values up to Options.MaxValue.
type KV struct {
	db     *badger.DB
	prefix []byte
	limit  int
	write  func([]op) error
}

// Cache returns a space in the unsynced database: a crash may lose the latest
// writes, and damage empties all of it. It is for what can be had again.
func (s *Store) Cache(name string) *KV {
	return &KV{db: s.node, prefix: kvPrefix(name), limit: s.opts.MaxValue, write: s.writeCache}
}

// Durable returns a space in the synced database: a Put that returned survives
// a crash of the machine. It goes through the committer and shares its syncs.
func (s *Store) Durable(name string) *KV {
	return &KV{
		db: s.raft, prefix: append([]byte{keyFact}, kvPrefix(name)...), limit: s.opts.MaxValue,
		write: func(ops []op) error { return s.commit.do(demandSmall, ops) },
	}
}

// kvPrefix ends the name with a zero byte, so that no name is a prefix of another.
func kvPrefix(name string) []byte { return append([]byte(name), 0) }

func (s *Store) writeCache(ops []op) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := s.room(s.opts.Reserve); err != nil {
		return err
	}
	for _, o := range ops {
		s.tidy[1].wrote(len(o.key) + len(o.value))
	}
	return s.node.Update(func(txn *badger.Txn) error {
		for _, o := range ops {
			if err := o.put(txn); err != nil {
				return err
			}
		}
		return nil
	})
}

// put does one write in a transaction.
func (o op) put(txn *badger.Txn) error {
	if o.value == nil {
		return txn.Delete(o.key)
	}
	return txn.Set(o.key, o.value)
}

func (kv *KV) key(key string) ([]byte, error) {
	if key == "" || len(key) > 512 {
		return nil, fmt.Errorf("key %.40q: want 1 to 512 bytes", key)
	}
	return append(append([]byte{}, kv.prefix...), key...), nil
}

// Get returns a copy of the value, or false when there is none.
func (kv *KV) Get(key string) (value []byte, found bool, err error) {
	k, err := kv.key(key)
	if err != nil {
		return nil, false, err
	}
	err = view(kv.db, k, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// Put stores a value.
func (kv *KV) Put(key string, value []byte) error {
	k, err := kv.key(key)
	if err != nil {
		return err
	}
	if len(value) > kv.limit {
		return fmt.Errorf("put %.40q: %w: %d bytes of at most %d", key, ErrTooLarge, len(value), kv.limit)
	}
	if err := kv.write([]op{{k, append([]byte{}, value...)}}); err != nil {
		return fmt.Errorf("put %.40q: %w", key, err)
	}
	return nil
}

// Delete removes a key; it is no error when there is none.
func (kv *KV) Delete(key string) error {
	k, err := kv.key(key)
	if err != nil {
		return err
	}
	if err := kv.write([]op{{key: k}}); err != nil {
		return fmt.Errorf("delete %.40q: %w", key, err)
	}
	return nil
}

// Each calls fn for every key with that prefix, in order, on one consistent
// view, until fn returns an error. The value is valid during the call only.
func (kv *KV) Each(prefix string, fn func(key string, value []byte) error) error {
	full := append(append([]byte{}, kv.prefix...), prefix...)
	return each(kv.db, full, func(key, value []byte) error { return fn(prefix+string(key), value) })
}

// view reads one value. The error is badger.ErrKeyNotFound, ErrClosed or that of fn.
func view(db *badger.DB, key []byte, fn func([]byte) error) error {
	if db.IsClosed() {
		return ErrClosed
	}
	return db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		return item.Value(fn)
	})
}

// each calls fn with the rest of every key after prefix.
func each(db *badger.DB, prefix []byte, fn func(key, value []byte) error) error {
	if db.IsClosed() {
		return ErrClosed
	}
	return db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: true, PrefetchSize: 16})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			key := append([]byte{}, item.Key()[len(prefix):]...)
			if err := item.Value(func(v []byte) error { return fn(key, v) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachKey is each without the values, and without copying the keys.
func eachKey(db *badger.DB, prefix []byte, fn func(key []byte) error) error {
	if db.IsClosed() {
		return ErrClosed
	}
	return db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := fn(it.Item().Key()[len(prefix):]); err != nil {
				return err
			}
		}
		return nil
	})
}
