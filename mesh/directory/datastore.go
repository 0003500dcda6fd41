package directory

import (
	"context"
	"fmt"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
)

// What a node keeps of the DHT in memory. Provider records are unsigned and
// their keys are anyone's choice, so that only a cap bounds them.
const (
	maxValues    = 16 << 10 // node and cell records
	maxProviders = 64 << 10
)

// capped is a datastore in memory that takes no more than so many entries.
type capped struct {
	mu   sync.RWMutex
	data map[ds.Key][]byte
	max  int
}

var _ ds.Batching = (*capped)(nil)

func newCapped(limit int) *capped { return &capped{data: map[ds.Key][]byte{}, max: limit} }

// Put stores a copy-free value; a new key over the cap is refused.
func (c *capped) Put(_ context.Context, key ds.Key, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.data[key]; !ok && len(c.data) >= c.max {
		return fmt.Errorf("directory: store holds %d records, which is all it takes", len(c.data))
	}
	c.data[key] = value
	return nil
}

// Get returns the value or ds.ErrNotFound.
func (c *capped) Get(_ context.Context, key ds.Key) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if v, ok := c.data[key]; ok {
		return v, nil
	}
	return nil, ds.ErrNotFound
}

// Has reports whether the key is there.
func (c *capped) Has(_ context.Context, key ds.Key) (bool, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.data[key]
	return ok, nil
}

// GetSize returns the size of the value or ds.ErrNotFound.
func (c *capped) GetSize(ctx context.Context, key ds.Key) (int, error) {
	v, err := c.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(v), nil
}

// Delete removes the key if it is there.
func (c *capped) Delete(_ context.Context, key ds.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.data, key)
	return nil
}

// Query returns a snapshot of the entries that the query selects.
func (c *capped) Query(_ context.Context, q dsq.Query) (dsq.Results, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	entries := make([]dsq.Entry, 0, len(c.data))
	for k, v := range c.data {
		e := dsq.Entry{Key: k.String(), Size: len(v)}
		if !q.KeysOnly {
			e.Value = v
		}
		entries = append(entries, e)
	}
	return dsq.NaiveQueryApply(q, dsq.ResultsWithEntries(q, entries)), nil
}

// Batch collects operations and carries them out one by one.
func (c *capped) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(c), nil }

// Sync has nothing to do.
func (c *capped) Sync(context.Context, ds.Key) error { return nil }

// Close has nothing to do.
func (c *capped) Close() error { return nil }
